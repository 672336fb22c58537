"""The settings of a service, in a form that is passed to its workers.

Here: the settings, and what follows from them (whether the address is public, which rate limit applies). Not
here: the API key, which stays in the environment and is read only by `access`, or the limits that the Lambda
function has too (`limits`).
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.serve.limits import MOST_BODY_BYTES, MOST_HEAD_BYTES
from tunegraph_pipeline.words import in_plain_words

ENVIRONMENT = "TUNEGRAPH_SERVICE"
"""The variable that passes the settings to the workers."""

Shape = Literal["spotify", "lastfm", "listenbrainz", "subsonic", "lidarr"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
"""The APIs of others that the service may also speak (`shapes`)."""

PlaylistService = Literal["listenbrainz", "spotify"]
PLAYLIST_SERVICES: tuple[PlaylistService, ...] = get_args(PlaylistService)
"""The services that may be asked for a playlist by its link (`matches`)."""

Name = TypeVar("Name", bound=str)

DEFAULT_PUBLIC_RATE = 50.0
DEFAULT_CONNECTIONS_PER_CLIENT = 100
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?", re.IGNORECASE)


class Limits(BaseModel):
    """What a client may cost, each by its name in ``--limit NAME=VALUE``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head_bytes: int = Field(default=MOST_HEAD_BYTES, ge=1_024, le=2**20)
    """Of the address and the headers of a request together; also of its trailers."""
    body_bytes: int = Field(default=MOST_BODY_BYTES, ge=1_024, le=2**24)
    """Of a body."""
    head_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Until the headers of a request have arrived, from its first byte; for a first request from the opening
    of the connection."""
    body_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Until the body has arrived, from the end of the headers."""
    write_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """For which a client may take nothing of an answer."""
    idle_seconds: int = Field(default=75, ge=1)
    """For which a connection stays open without a request: longer than with proxies, so that they close a
    connection first."""
    refused_seconds: float = Field(default=0.5, ge=0, le=10)
    """For which a client over its rate waits for the answer that says so."""
    pipelined: int = Field(default=16, ge=1)
    """Requests that wait on one connection for the answer to an earlier one."""
    connections: int = Field(default=4_096, ge=1)
    """Open connections of a worker, of which each takes a few KiB and a file; fewer where the system allows a
    process fewer files."""
    unfinished_bytes: int = Field(default=2**25, ge=2**20)
    """Of all requests together that have begun to arrive."""
    connections_per_client: int | None = Field(default=None, ge=0)
    """Open connections of one client; 0 for no limit, None for the default of the address."""
    feedback_bytes: int = Field(default=MOST_BODY_BYTES, ge=1_024)
    """On disk, of the events of one request."""
    file_bytes: int = Field(default=2**26, ge=1_024, le=2**32)
    """Of a file of songs that somebody brings."""
    file_seconds: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    """Until that file has arrived, from the end of the headers."""
    reading_seconds: float = Field(default=60.0, gt=0, le=3_600)
    """For which that file is read."""
    reading_mib: int = Field(default=2_048, ge=256)
    """Memory of the process that reads it."""


class ServiceSettings(BaseModel):
    """How one service runs; the same for all of its workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lake: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    reload_seconds: float = Field(default=1.0, gt=0)
    """How often to look for a newly published bundle."""
    rate_limit: float | None = Field(default=None, ge=0)
    """Requests per second and client; 0 for no limit, None for the default of the address."""
    proxies: int = Field(default=0, ge=0)
    """The number of own proxies in front of the service; as many last X-Forwarded-For entries are trusted."""
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    """Host names, besides loopback ones, under which a service on loopback is asked."""
    limits: Limits = Limits()
    blocklist: Path | None = None
    shapes: tuple[Shape, ...] = ()
    """APIs of others that the service also speaks."""
    operator: bool = False
    """Whether the operator page is served, which needs a key."""
    playlists: tuple[PlaylistService, ...] = ()
    """Services that are asked for a playlist when somebody gives its link; none unless named."""
    access_log: bool = True
    run_folder: Path | None = None
    """Shared by the workers: their metrics, and the version they serve. None with a single worker."""

    @property
    def serving(self) -> Path:
        return self.lake / "serving"

    @property
    def public(self) -> bool:
        """Whether other machines can reach the service, directly or through a proxy."""
        return self.proxies > 0 or not is_loopback(self.host)

    @property
    def requests_per_second(self) -> float | None:
        """The rate limit of one client, None without a limit."""
        if self.rate_limit is None:
            return DEFAULT_PUBLIC_RATE if self.public else None
        return self.rate_limit or None

    @property
    def connections_per_client(self) -> int | None:
        """Open connections of one client, None without a limit. The connections of a proxy are not one
        client's, and who can reach loopback is trusted."""
        if self.limits.connections_per_client is None:
            return DEFAULT_CONNECTIONS_PER_CLIENT if self.public and not self.proxies else None
        return self.limits.connections_per_client or None

    @classmethod
    def of_environment(cls) -> Self:
        return cls.model_validate_json(os.environ[ENVIRONMENT])


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is only this machine: all of its addresses are loopback."""
    try:
        addresses = [str(entry[4][0]) for entry in socket.getaddrinfo(host, None)] if host else []
    except OSError:
        return False
    return bool(addresses) and all(
        ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses
    )


def check_origin(origin: str) -> str:
    """The origin as browsers send it. Raises InputError if it cannot be an origin."""
    if origin != "*" and _ORIGIN.fullmatch(origin) is None:
        raise InputError(
            f"--cors-origin {origin}: an origin is scheme and host, as in https://music.example.org, or *"
        )
    return origin.lower()


def check_host(name: str) -> str:
    """The host name without a port, in lower case. Raises InputError if it cannot be one."""
    if _HOST.fullmatch(name) is None:
        raise InputError(f"--allowed-host {name}: give a host name without scheme and port, as in music.lan")
    return name.lower().rstrip(".")


def check_shapes(given: str) -> tuple[Shape, ...]:
    """The names of a list with commas, each once. Raises InputError for one that is not of `SHAPES`."""
    return _names_in(given, SHAPES, "--shapes", "there is no such API; choose of")


def check_playlists(given: str) -> tuple[PlaylistService, ...]:
    """The names of a list with commas, each once. Raises InputError for one not of `PLAYLIST_SERVICES`."""
    return _names_in(given, PLAYLIST_SERVICES, "--playlists", "playlists can be had of")


def _names_in(given: str, known: tuple[Name, ...], option: str, otherwise: str) -> tuple[Name, ...]:
    names = [name.strip().lower() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(f"{option} {name}: {otherwise} {', '.join(known)}")
    return tuple(name for name in known if name in names)


def limits_of(given: Iterable[str]) -> Limits:
    """The limits, changed by ``NAME=VALUE``. Raises InputError for an unknown name or a wrong value."""
    values = dict(part.partition("=")[::2] for part in given)
    try:
        return Limits.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        if name not in Limits.model_fields:
            raise InputError(
                f"--limit {name}: there is no such limit; the limits are {', '.join(Limits.model_fields)}"
            ) from None
        raise InputError(f"--limit {name}={values[name]}: {in_plain_words(problem['msg'])}") from None
