"""The recordings of the invented dumps, the ways in which people write them, and the truth about both.

Here: recordings with their names and MusicBrainz ids, and *writings*: a recording as one client names it. A
writing that ListenBrainz has mapped shows MusicBrainz's names and id, whatever the client wrote; any other
shows what was written. Not here: who plays them (`listens`), or files (`archives`).

The songs, their artists and scenes are those of `simulator.catalogue`. To them come other recordings of the
same song (live, acoustic, remixed, ..., by another artist), which must stay apart, and other writings of the
same recording (in other letters, remastered, featuring a guest, ...), which belong together.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from tunegraph_pipeline.simulator.catalogue import Catalogue, make_catalogue
from tunegraph_pipeline.simulator.draws import SHARE_AFTER_A_YEAR, Bools, Floats, Ints, key_of
from tunegraph_pipeline.simulator.genres import GENRES, SCENE_GENRE, SCENES
from tunegraph_pipeline.simulator.names import Dice, Songbook, artist_name, song_title
from tunegraph_pipeline.song_ids import name_id

OTHER_RECORDINGS = ("live", "acoustic", "remix", "instrumental", "demo", "karaoke", "cover")
"""How a recording may differ from the first one of its song."""
OTHER_WRITINGS = ("renamed", "remastered", "featured", "transliterated", "misspelled", "second id")
"""How a writing may differ from the first one of its recording. "second id" has other MusicBrainz ids and the
same names; "misspelled" is not to be found by name."""

_SHARE_OF_SONGS = (0.08, 0.03, 0.03, 0.015, 0.015, 0.005, 0.02)  # that have such a recording
_POPULARITY = (0.25, 0.2, 0.3, 0.1, 0.08, 0.05, 0.3)  # of it, beside the first
_IN_OTHER_LETTERS = 0.06  # of artists
_UNKNOWN_TO_MUSICBRAINZ = 0.08  # of recordings
_PLACES = ("Paradiso", "the Roundhouse", "Red Rocks", "Budokan", "the Apollo", "Montreux")


class Letters(NamedTuple):
    """A script whose syllables every transliteration writes in the same way."""

    written: tuple[str, ...]
    latin: tuple[str, ...]


def _syllables(consonants: str, latin: str, vowels: str, latin_vowels: str) -> Letters:
    return Letters(
        tuple(c + v for c in consonants for v in vowels),
        tuple(c + v for c in latin for v in latin_vowels),
    )


_LETTERS = (
    _syllables("бвгдзклмнпрст", "bvgdzklmnprst", "аеиоу", "aeiou"),
    _syllables("γδκλμνπρστ", "gdklmnprst", "αεο", "aeo"),
    Letters(
        tuple("カキクケコサスセソタテトナニヌネノハヒヘホマミムメモラリルレロ"),
        tuple(re.findall("..", "kakikukekosasusesotatetonaninunenohahihehomamimumemorarirurero")),
    ),
)


@dataclass(frozen=True)
class Songs:
    """Recordings and their writings.

    Over recordings: ``scene``, ``weight`` (popularity, not normalised), ``song`` (the number of what it is a
    recording of), ``kind`` ("song" or one of `OTHER_RECORDINGS`), ``duration_ms``, ``isrc``, ``known`` (to
    MusicBrainz) and ``first``, the number of its first writing (one more entry than recordings).

    Over writings: ``recording``, ``writing_kind`` ("first" or one of `OTHER_WRITINGS`), ``until``, the
    number of its recording plus the share of those who write it so or in an earlier way, and ``shown``: the
    columns of a listen that a writing decides. ``canonical`` and ``redirects`` are MusicBrainz's canonical
    data.
    """

    scene: Ints
    weight: Floats
    song: Ints
    kind: list[str]
    duration_ms: Ints
    isrc: list[str]
    known: Bools
    first: Ints
    recording: Ints
    writing_kind: list[str]
    until: Floats
    shown: pa.Table
    canonical: pl.DataFrame
    redirects: pl.DataFrame

    @cached_property
    def truth(self) -> pl.DataFrame:
        """A row for every track id that a listen can have: that of its recording, or that of its names.

        Two ids are of one recording if ``recording`` is the same. ``recording_kind`` and ``writing_kind`` say
        what makes it hard, and ``duration_ms`` how long the recording is.
        """
        shown = self.shown.select(["recording_mbid", "artist_name", "recording_name"])
        columns = [column.to_pylist() for column in shown.columns]
        truth = pl.DataFrame(
            {
                "track_id": [
                    mbid or name_id(artist, title) for mbid, artist, title in zip(*columns, strict=True)
                ],
                "artist_name": columns[1],
                "recording_name": columns[2],
                "recording": self.recording,
                "recording_kind": [self.kind[i] for i in self.recording.tolist()],
                "writing_kind": self.writing_kind,
                "duration_ms": self.duration_ms[self.recording],
            },
            schema_overrides={"track_id": pl.String},
        )
        return truth.drop_nulls("track_id").unique("track_id", keep="first", maintain_order=True)


class _Names(NamedTuple):
    """A recording's names in MusicBrainz, and in Latin letters."""

    artist: str
    credit: str  # of all artists
    guest: str | None
    title: str
    latin_credit: str
    latin_title: str


class _Writing(NamedTuple):
    kind: str
    artist: str
    title: str
    share: float


def make_songs(n_songs: int, start: date, seed: int, mapped_share: float) -> Songs:
    """Draw ``n_songs`` songs, their other recordings and all writings.

    ``mapped_share`` is about the share of listens that show a MusicBrainz id.
    """
    songs = make_catalogue(max(round(n_songs * SHARE_AFTER_A_YEAR), 1), start, _generator(seed, "songs"))
    rng = _generator(seed, "recordings")
    n = len(songs.track_ids)
    song, number = np.nonzero(rng.random((n, len(OTHER_RECORDINGS))) < _SHARE_OF_SONGS)
    base = np.concatenate([np.arange(n), song])
    kinds = ["song"] * n + [OTHER_RECORDINGS[i] for i in number]
    weight = songs.weight[base] * np.concatenate([np.ones(n), np.take(_POPULARITY, number)])
    change = np.where(np.arange(len(base)) < n, 0, rng.integers(15_000, 60_000, len(base)))
    names = _recording_names(songs, base, kinds, _generator(seed, "names"))
    known = (rng.random(len(base)) >= _UNKNOWN_TO_MUSICBRAINZ) & (np.array(kinds) != "karaoke")

    dice = Dice(_generator(seed, "writings"))
    years = np.minimum(
        (np.datetime64(start, "D") + songs.released).astype("datetime64[Y]").astype(np.int64) + 1970,
        start.year,
    )
    writings = [
        _writings(names[i], kinds[i], int(years[base[i]]), start.year, bool(known[i]), dice)
        for i in range(len(base))
    ]
    counts = np.array([len(ways) for ways in writings])
    recording = np.repeat(np.arange(len(base)), counts)
    flat = [way for ways in writings for way in ways]
    share = np.array([way.share for way in flat])
    first = np.concatenate([[0], np.cumsum(counts)])
    running = np.cumsum(share)
    # The share of those who write it so or before, within its recording.
    until = recording + running - np.concatenate([[0.0], running])[first[recording]]
    until[first[1:] - 1] = np.arange(1, len(base) + 1)

    mapped = _mapped(weight[recording] * share, flat, known[recording], mapped_share, rng)
    shown, canonical, redirects = _published(songs, base, names, known, recording, flat, mapped, rng)
    return Songs(
        scene=songs.scene[base],
        weight=weight,
        song=base,
        kind=kinds,
        duration_ms=songs.duration_ms[base] + change,
        isrc=[songs.isrc[i] for i in base.tolist()],
        known=known,
        first=first,
        recording=recording,
        writing_kind=[way.kind for way in flat],
        until=until,
        shown=shown,
        canonical=canonical,
        redirects=redirects,
    )


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(np.frombuffer(key_of(seed, "dumps", purpose), np.uint32))


def uuids(rng: np.random.Generator, n: int) -> list[str]:
    """``n`` random UUIDs of version 4."""
    text = rng.bytes(16 * n).hex()
    return [
        f"{text[i : i + 8]}-{text[i + 8 : i + 12]}-4{text[i + 13 : i + 16]}-a{text[i + 17 : i + 20]}"
        f"-{text[i + 20 : i + 32]}"
        for i in range(0, 32 * n, 32)
    ]


def _recording_names(
    songs: Catalogue, base: Ints, kinds: list[str], rng: np.random.Generator
) -> list[_Names]:
    """The names of every recording, those of songs first."""
    dice = Dice(rng)
    taken: set[str] = set()
    artists = [artist_name(GENRES[SCENE_GENRE[scene]].name, dice, taken) for scene in songs.artist_scene]
    latin = list(artists)
    letters: dict[int, Letters] = {}
    for number in range(len(artists)):
        if dice.roll() < _IN_OTHER_LETTERS:
            letters[number] = dice.choice(_LETTERS)
            artists[number], latin[number] = _words(letters[number], 2, dice, taken)
    books = [Songbook() for _ in artists]
    found: list[_Names] = []
    for i, kind in zip(base.tolist(), kinds, strict=True):
        artist, guest_number = int(songs.artist[i]), int(songs.guest[i])
        if kind == "song":
            genre, scene_name = SCENES[int(songs.scene[i])]
            if artist in letters:
                title, latin_title = _words(letters[artist], 3, dice, books[artist].titles)
            else:
                title = latin_title = song_title(GENRES[genre].name, scene_name, dice, books[artist])
            guest = artists[guest_number] if guest_number >= 0 else None
            credit, latin_credit = artists[artist], latin[artist]
            if guest:
                credit, latin_credit = (
                    f"{credit} feat. {guest}",
                    f"{latin_credit} feat. {latin[guest_number]}",
                )
            found.append(_Names(artists[artist], credit, guest, title, latin_credit, latin_title))
            continue
        form = _other_title(kind, dice)
        title, latin_title = form.format(found[i].title), form.format(found[i].latin_title)
        by, latin_by = artists[artist], latin[artist]
        if kind == "karaoke":
            by = latin_by = "The Singalong Studio"
            title, latin_title = f"{title}, as {artists[artist]}", f"{latin_title}, as {latin[artist]}"
        elif kind == "cover":
            other = int(dice.roll() * len(artists))
            if other != artist and title.casefold() not in books[other].titles:
                by, latin_by = artists[other], latin[other]
                books[other].titles.add(title.casefold())
            else:
                by = latin_by = "The Tribute Collective"
                title, latin_title = f"{title}, by {artists[artist]}", f"{latin_title}, by {latin[artist]}"
        found.append(_Names(by, by, None, title, latin_by, latin_title))
    return found


def _words(letters: Letters, most: int, dice: Dice, taken: set[str]) -> tuple[str, str]:
    """One to ``most`` invented words that are not in ``taken``, to which they are added; as written, and in
    Latin letters."""
    while True:
        written, latin = [], []
        for _ in range(1 + int(dice.roll() * most)):
            chosen = [int(dice.roll() * len(letters.written)) for _ in range(2 + int(dice.roll() * 3))]
            written.append("".join(letters.written[i] for i in chosen).capitalize())
            latin.append("".join(letters.latin[i] for i in chosen).capitalize())
        name = " ".join(latin)
        if name.casefold() not in taken:
            taken.add(name.casefold())
            return " ".join(written), name


def _other_title(kind: str, dice: Dice) -> str:
    """How another recording of a song is called, with braces for the title."""
    place = dice.choice(_PLACES)
    forms: dict[str, tuple[str, ...]] = {
        "live": ("{} (Live)", f"{{}} - Live at {place}", f"{{}} (Live at {place})", "{} [Live]"),
        "acoustic": ("{} (Acoustic)", "{} - Acoustic Version", "{} (Acoustic Version)"),
        "remix": ("{} (Night Bus Remix)", "{} - Harbour Remix", "{} (Club Mix)"),
        "instrumental": ("{} (Instrumental)", "{} - Instrumental"),
        "demo": ("{} (Demo)", "{} - Early Demo"),
        "karaoke": ("{} (Karaoke Version)",),
        "cover": ("{}",),
    }
    return dice.choice(forms[kind])


def _writings(names: _Names, kind: str, year: int, latest: int, known: bool, dice: Dice) -> list[_Writing]:
    """The ways in which a recording is written, MusicBrainz's first; the shares add up to 1."""
    others: list[tuple[str, str, str]] = []
    title = names.title
    latin = (names.latin_credit, names.latin_title) == (names.credit, title)
    if not latin:
        others.append(("transliterated", names.latin_credit, names.latin_title))
    elif dice.roll() < 0.25:
        others.append(("renamed", names.credit, _in_other_letters(title, dice)))
    if names.guest is not None and latin:
        form = dice.choice(("{} (feat. {})", "{} ft. {}", "{} (with {})", "{} [feat. {}]"))
        others.append(("featured", names.artist, form.format(title, names.guest)))
    if kind == "song" and dice.roll() < 0.12:
        again = year + int(dice.roll() * (latest + 1 - year))
        forms = (
            f"{title} - Remastered {again}",
            f"{title} - {again} Remaster",
            f"{title} (Remastered)",
            f"{title} (Remastered {again})",
            f"{title} - Mono",
            f"{title} (Deluxe Edition)",
        )
        others.append(("remastered", names.credit, dice.choice(forms)))
    if kind == "song" and dice.roll() < 0.01 and len(title) > 6:
        at = 2 + int(dice.roll() * (len(title) - 4))
        others.append(("misspelled", names.credit, title[:at] + title[at + 1 :]))
    if known and kind == "song" and dice.roll() < 0.04:
        others.append(("second id", names.credit, title))
    written = {(names.credit, title)}
    kept = []
    for other in others:
        if other[0] == "second id" or other[1:] not in written:
            written.add(other[1:])
            kept.append(other)
    share = 0.3 / len(kept) if kept else 0.0
    return [
        _Writing("first", names.credit, title, 1 - share * len(kept)),
        *(_Writing(*other, share) for other in kept),
    ]


def _in_other_letters(title: str, dice: Dice) -> str:
    """The same title with other case, punctuation or accents, so that its key is the same."""
    changes: tuple[Callable[[str], str], ...] = (
        str.lower,
        str.upper,
        lambda text: text.replace("'", "\u2019"),
        lambda text: text.replace("'", "").replace(",", ""),
        lambda text: f"{text}!",
        lambda text: text.replace(" ", " - ", 1) if " " in text else f"{text}.",
        _without_accents,
    )
    return dice.choice(changes)(title)


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _mapped(
    expected: Floats, writings: list[_Writing], known: Bools, share: float, rng: np.random.Generator
) -> Bools:
    """Which writings ListenBrainz has mapped, so that they are ``share`` of the ``expected`` listens."""
    bonus = {"first": 0.35, "misspelled": -0.5, "second id": 1.0}
    luck = rng.random(len(writings)) + np.array([bonus.get(way.kind, 0.0) for way in writings])
    luck[~known] = -np.inf
    order = np.argsort(-luck, kind="stable")
    reached = np.cumsum(expected[order]) <= share * expected.sum()
    mapped = np.zeros(len(writings), bool)
    mapped[order[reached]] = True
    return mapped & known


def _published(
    songs: Catalogue,
    base: Ints,
    names: list[_Names],
    known: Bools,
    recording: Ints,
    writings: list[_Writing],
    mapped: Bools,
    rng: np.random.Generator,
) -> tuple[pa.Table, pl.DataFrame, pl.DataFrame]:
    """What a listen shows of each writing; and MusicBrainz's canonical data: names, and redirects."""
    n = len(base)
    recording_ids = uuids(rng, n)
    artist_ids = uuids(rng, len(songs.artist_weight))
    _, album = np.unique(songs.album_ids, return_inverse=True)
    release_ids = uuids(rng, int(album.max()) + 1)
    release_names: dict[int, str] = {}
    for i in range(len(songs.track_ids)):
        release_names.setdefault(int(album[i]), names[i].title)
    by_name: dict[str, str] = {
        names[i].artist: artist_ids[int(songs.artist[base[i]])] for i in range(len(songs.track_ids))
    }
    outsiders = {name.artist for name in names if name.artist not in by_name}
    by_name.update(zip(sorted(outsiders), uuids(rng, len(outsiders)), strict=True))
    credit_number: dict[str, int] = {}
    numbers = [credit_number.setdefault(name.credit, len(credit_number) + 1) for name in names]
    credited = [
        [by_name[name.artist], *([by_name[name.guest]] if name.guest in by_name else [])] for name in names
    ]
    of = album[base]

    second = iter(uuids(rng, sum(way.kind == "second id" for way in writings)))
    redirects: list[tuple[str, str, str]] = []
    rows: dict[str, list[object]] = {name: [] for name in _SHOWN.names}
    seen = uuids(rng, len(writings))
    without_release = rng.random(len(writings)) < 0.1
    for number, (r, way) in enumerate(zip(recording.tolist(), writings, strict=True)):
        release = int(of[r])
        mbid: str | None = recording_ids[r]
        if way.kind == "second id":
            mbid = next(second)
            redirects.append((mbid, recording_ids[r], release_ids[release]))
        shown: tuple[object, ...]
        if mapped[number]:
            shown = (
                *(names[r].credit, numbers[r], release_names[release], release_ids[release]),
                *(names[r].title, mbid, credited[r]),
            )
        else:
            album_name = None if without_release[number] else release_names[release]
            shown = (way.artist, None, album_name, None, way.title, None, None)
        for name, value in zip(_SHOWN.names, (seen[number], *shown), strict=True):
            rows[name].append(value)
    at = np.flatnonzero(known).tolist()
    canonical = pl.DataFrame(
        {
            "id": range(1, len(at) + 1),
            "artist_credit_id": [numbers[r] for r in at],
            "artist_mbids": [",".join(credited[r]) for r in at],
            "artist_credit_name": [names[r].credit for r in at],
            "release_mbid": [release_ids[int(of[r])] for r in at],
            "release_name": [release_names[int(of[r])] for r in at],
            "recording_mbid": [recording_ids[r] for r in at],
            "recording_name": [names[r].title for r in at],
            "combined_lookup": [_lookup(names[r].latin_credit + names[r].latin_title) for r in at],
            "score": (rng.permutation(len(at)) + 1).tolist(),
        }
    )
    columns = ["recording_mbid", "canonical_recording_mbid", "canonical_release_mbid"]
    schema = dict.fromkeys(columns, pl.String)
    return pa.table(rows, schema=_SHOWN), canonical, pl.DataFrame(redirects, schema=schema, orient="row")


_COLUMNS: "list[pa.Field[Any]]" = [
    pa.field("recording_msid", pa.string()),
    pa.field("artist_name", pa.string()),
    pa.field("artist_credit_id", pa.int64()),
    pa.field("release_name", pa.string()),
    pa.field("release_mbid", pa.string()),
    pa.field("recording_name", pa.string()),
    pa.field("recording_mbid", pa.string()),
    pa.field("artist_credit_mbids", pa.list_(pa.string())),
]
_SHOWN = pa.schema(_COLUMNS)


def _lookup(names: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _without_accents(names).lower())
