"""The settings of Spotify as a source.

Here: section `spotify` of `lake.json`. Not here: an app's credentials, which come from the environment alone
and are read by `spotify_login`.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Mode(StrEnum):
    AUTO = "auto"
    EXTENDED = "extended"
    DEVELOPMENT = "development"


class SpotifySettings(BaseModel):
    """Settings of the source, section ``spotify`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_users: tuple[str, ...] = ()
    """Users a crawl with extended quota starts from."""
    mode: Mode = Mode.AUTO
    """Which generation of the API this app has; found out by one request unless named."""
    api_url: str = "https://api.spotify.com/v1"
    accounts_url: str = "https://accounts.spotify.com"
    reccobeats: bool = True
    """Whether ReccoBeats is asked for features that Spotify does not give."""
