"""ListenBrainz: open data, no key. Follows lead to users; "loved" recordings are their likes.

Here: the calls and the meaning of their answers. Not here: rate limits, retries and storage (`api_session`),
or order and budgets (`crawl`). A track is a MusicBrainz recording and its id the recording's MBID; feedback
without a matched recording is counted and left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.song_ids import MBID
from tunegraph_pipeline.sources.api_session import ApiSession, RequestPolicy, base_url, fields
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import (
    FeatureProvider,
    Like,
    LikedList,
    Track,
    Unanswered,
    UserGone,
    UserPrivate,
    earlier,
    year_of,
)

_PAGE = 1000
_CEILING = 2.5  # requests a second; its headers say more exactly
_EARLIEST, _LATEST = 1_000_000_000, 4_000_000_000  # seconds; any other time is wrong

_COVER = ("caa_id", "caa_release_mbid")
KEEP = fields(
    "following",
    "followers",
    "total_count",
    feedback=fields(
        "created",
        "recording_mbid",
        track_metadata=fields(
            "track_name",
            "artist_name",
            "release_name",
            mbid_mapping=fields(
                "recording_mbid",
                "release_mbid",
                *_COVER,
                artists=fields("artist_mbid", "artist_credit_name"),
            ),
        ),
    ),
)
_METADATA = fields(
    recording=fields("name", "length", "isrcs"),
    artist=fields(artists=fields("artist_mbid", "name")),
    release=fields("mbid", "name", "year", *_COVER),
)


class ListenBrainzSettings(BaseModel):
    """Settings of the source, section ``listenbrainz`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_users: tuple[str, ...] = ()
    """Users the crawl starts from."""
    api_url: str = "https://api.listenbrainz.org/1"


class ListenBrainzSource:
    """ListenBrainz as a source. Threads may share it."""

    describe_size = 50

    def __init__(
        self,
        settings: ListenBrainzSettings,
        policy: RequestPolicy,
        frontier: Frontier,
        *,
        name: str = "listenbrainz",
        ceiling: float = _CEILING,
    ) -> None:
        self.name = name
        self.settings = settings
        self._url, origin = base_url(settings.api_url, "settings.listenbrainz.api_url")
        self.session = ApiSession("ListenBrainz", {origin}, frontier, policy, KEEP, ceiling)
        self._metadata = ApiSession(
            "ListenBrainz", {origin}, frontier, policy, {"*": _METADATA}, ceiling, self.session.limiter
        )
        self.session.check_not_before()

    def start_users(self) -> list[str]:
        if not self.settings.start_users:
            raise InputError(
                "a crawl of ListenBrainz starts from users you name: tunegraph refresh --source listenbrainz"
                " --start-user NAME (once; it is saved in lake.json)"
            )
        return list(self.settings.start_users)

    def discover(self, user_id: str) -> list[str]:
        found: dict[str, None] = {}
        for relation in ("following", "followers"):
            names = self._get(f"user/{quote(user_id, safe='')}/{relation}", user_id).get(relation)
            for name in names if isinstance(names, list) else []:
                if isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable() and name != user_id:
                    found[name] = None
        return list(found)

    def liked_list(self, user_id: str) -> LikedList:
        likes: dict[str, datetime | None] = {}
        described: dict[str, Track] = {}
        counts: Counter[str] = Counter()
        for value in self._feedback(user_id):
            entry = value if isinstance(value, dict) else {}
            metadata = _object(entry.get("track_metadata"))
            mapping = _object(metadata.get("mbid_mapping"))
            mbid = _mbid(entry.get("recording_mbid")) or _mbid(mapping.get("recording_mbid"))
            if mbid is None:
                counts["loved recordings without an MBID"] += 1
                continue
            likes[mbid] = earlier(_moment(entry.get("created")), likes.get(mbid))
            if _text(metadata.get("track_name")):
                described.setdefault(mbid, _track(mbid, metadata, mapping))
        return LikedList([Like(mbid, at) for mbid, at in likes.items()], list(described.values()), counts)

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        known = [track_id for track_id in track_ids if _mbid(track_id)]
        if not known:
            return []
        response = self._metadata.get(
            f"{self._url}/metadata/recording/",
            params={"recording_mbids": ",".join(known), "inc": "artist release"},
        )
        if response.status_code != 200:
            raise Unanswered(f"ListenBrainz answered with status {response.status_code}")
        answer = response.json()
        return [_described(mbid, answer[mbid]) for mbid in known if isinstance(answer.get(mbid), dict)]

    def feature_providers(self) -> list[FeatureProvider]:
        return []  # no known service has features by MBID; they can be imported

    def counts(self) -> Counter[str]:
        """What its sessions counted: requests, 429s, retries, stored answers, ..."""
        return self.session.counts + self._metadata.counts

    def close(self) -> None:
        self.session.close()
        self._metadata.close()

    def _feedback(self, user_id: str) -> Iterator[Any]:
        offset, before = 0, None
        while True:
            page = self._get(
                f"feedback/user/{quote(user_id, safe='')}/get-feedback",
                user_id,
                {"score": 1, "count": _PAGE, "offset": offset, "metadata": "true"},
            )
            feedback = page.get("feedback")
            if not isinstance(feedback, list):
                raise Unanswered("ListenBrainz answered with a listing that cannot be read")
            if feedback and feedback == before:
                raise Unanswered("ListenBrainz answered with the same page again and again")
            before = feedback
            yield from feedback
            offset += len(feedback)
            total = page.get("total_count")
            more = offset < total if isinstance(total, int) else len(feedback) == _PAGE
            if not feedback or not more:
                return

    def _get(self, path: str, user_id: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self.session.get(f"{self._url}/{path}", params=params)
        if response.status_code == 404:
            raise UserGone(user_id)
        if response.status_code in (401, 403):
            raise UserPrivate(user_id)
        if response.status_code != 200:
            raise Unanswered(f"ListenBrainz answered with status {response.status_code}")
        answer: dict[str, Any] = response.json()
        return answer


def _track(mbid: str, metadata: dict[str, Any], mapping: dict[str, Any]) -> Track:
    artists, ids = _artists(mapping.get("artists"), "artist_credit_name")
    credit = _text(metadata.get("artist_name"))
    return Track(
        track_id=mbid,
        name=metadata["track_name"],
        artists=artists or ([credit] if credit else None),
        artist_ids=ids or None,
        album_id=_mbid(mapping.get("release_mbid")),
        image_url=_cover(mapping),
        album=_text(metadata.get("release_name")),
    )


def _described(mbid: str, value: dict[str, Any]) -> Track:
    recording, release = _object(value.get("recording")), _object(value.get("release"))
    artists, ids = _artists(_object(value.get("artist")).get("artists"), "name")
    length, isrcs = recording.get("length"), recording.get("isrcs")
    codes = [code for code in isrcs if isinstance(code, str)] if isinstance(isrcs, list) else []
    plausible = isinstance(length, int) and not isinstance(length, bool) and 0 <= length < 2**40
    return Track(
        track_id=mbid,
        isrc=codes[0] if codes else None,
        name=_text(recording.get("name")),
        artists=artists or None,
        artist_ids=ids or None,
        album_id=_mbid(release.get("mbid")),
        image_url=_cover(release),
        duration_ms=length if plausible else None,
        album=_text(release.get("name")),
        year=year_of(release.get("year")),
    )


def _artists(values: Any, name: str) -> tuple[list[str], list[str]]:
    """Names and MBIDs of the artists that have both."""
    found = [_object(value) for value in (values if isinstance(values, list) else [])]
    pairs = [(_text(value.get(name)), _mbid(value.get("artist_mbid"))) for value in found]
    both = [(artist, mbid) for artist, mbid in pairs if artist and mbid]
    return [artist for artist, _ in both], [mbid for _, mbid in both]


def _cover(release: dict[str, Any]) -> str | None:
    """The front cover in the Cover Art Archive."""
    mbid, number = _mbid(release.get("caa_release_mbid")), release.get("caa_id")
    if mbid is None or not isinstance(number, int) or isinstance(number, bool) or number < 0:
        return None
    return f"https://coverartarchive.org/release/{mbid}/{number}-250.jpg"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _mbid(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(MBID, value) else None


def _moment(value: Any) -> datetime | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and _EARLIEST <= value <= _LATEST
    return datetime.fromtimestamp(int(value), UTC) if good else None
