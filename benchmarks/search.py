"""How well and how fast songs are found by what is typed, errors included, compared with SQLite's full text.

    python benchmarks/search.py [--lake DIR] [--songs 1000000] [--queries 400]

The names are those of the lake's live bundle, or of a simulated world of 20,000 songs without one; then the
same plus invented ones up to ``--songs``. Random songs are typed with one or two errors (two letters swapped,
one dropped, doubled or wrong), by name alone and followed by the artist. A search succeeds with the song
itself or another of the same name. The peer is FTS5 with its trigram tokenizer over the same normalised text:
any of the query's trigrams, the ten best by bm25. The exit code is 1 when a target is missed.
"""

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, read_current, write_bundle
from tunegraph_pipeline.recommend.search import TrackSearch
from tunegraph_pipeline.recommend.search_index import normalise

FOUND_TARGET = 0.95  # of songs typed with one error, among the first ten
FASTER_TARGET = 5.0  # times full text, at the larger number of songs
SHORTEST = 4  # letters of a name that is typed: of "Hm" no error leaves anything
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYLLABLES = ("ka", "lo", "mi", "ra", "ne", "to", "su", "vi", "da", "el", "or", "an", "in", "sha", "ber", "ly")

Find = Callable[[str], list[int]]
"""At most ten tracks for what was typed, best first."""


def names_of(lake: Path | None) -> tuple[list[str], list[str], list[int]]:
    """Names, artists and how often each song is liked."""
    if lake is not None:
        bundle = Bundle.open(read_current(lake / "serving"))
        return bundle.names.tolist(), bundle.artists.tolist(), bundle.popularity.tolist()
    from tunegraph_pipeline.simulator.world import World, WorldConfig

    batch = World(WorldConfig(n_users=200, n_tracks=20_000)).crawl(date(2026, 12, 31))
    rows = batch.tracks.select("name", "artists").to_dicts()
    return (
        [row["name"] or "" for row in rows],
        [", ".join(row["artists"] or []) for row in rows],
        list(range(len(rows))),
    )


def enlarged(
    names: list[str], artists: list[str], likes: list[int], n: int
) -> tuple[list[str], list[str], list[int]]:
    """The same songs and as many made-up ones as are missing: of known words, and four in ten invented."""
    dice = random.Random(1)
    known = [word for text in names + artists for word in text.split()]
    invented = ["".join(dice.choices(SYLLABLES, k=dice.randint(2, 4))) for _ in range(200_000)]

    def text() -> str:
        words = (known if dice.random() < 0.6 else invented for _ in range(dice.randint(1, 5)))
        return " ".join(dice.choice(of) for of in words)

    missing = max(0, n - len(names))
    return (
        names + [text() for _ in range(missing)],
        artists + [text() for _ in range(missing)],
        likes + [int(dice.paretovariate(1)) for _ in range(missing)],
    )


def indexed(folder: Path, names: Sequence[str], artists: Sequence[str], likes: Sequence[int]) -> TrackSearch:
    n = len(names)
    makers = [[maker for maker in text.split(", ") if maker] for text in artists]
    content = BundleContent(
        track_ids=[f"t{track}" for track in range(n)],
        embeddings=np.ones((n, 1), dtype=np.float32),
        pooling_weight=np.ones(n, dtype=np.float32),
        popularity=np.array(likes, dtype=np.int32),
        recommendable=np.ones(n, dtype=np.bool_),
        prior=np.zeros(n, dtype=np.float32),
        neighbour_indptr=np.zeros(n + 1, dtype=np.int64),
        neighbour_indices=np.zeros(0, dtype=np.int32),
        neighbour_weight=np.zeros(0, dtype=np.float32),
        user_ids=[],
        user_indptr=np.zeros(1, dtype=np.int64),
        user_tracks=np.zeros(0, dtype=np.int32),
        names=names,
        artists=artists,
        image_urls=[""] * n,
        preview_urls=[""] * n,
        facts={
            "bundle_version": folder.name,
            "model_version": "none",
            "blend": {"embedding": 1.0, "neighbour": 0.0, "length_exponent": 1.0},
        },
        by=Artists.of_lists(makers, makers),
    )
    write_bundle(folder, content)
    return TrackSearch(Bundle.open(folder))


def full_text(path: Path, names: Sequence[str], artists: Sequence[str]) -> Find:
    database = sqlite3.connect(path)
    database.execute("CREATE VIRTUAL TABLE songs USING fts5(text, tokenize='trigram', content='')")
    database.executemany(
        "INSERT INTO songs (rowid, text) VALUES (?, ?)",
        (
            (track, normalise(f"{name} {by}"))
            for track, (name, by) in enumerate(zip(names, artists, strict=True))
        ),
    )
    database.execute("INSERT INTO songs (songs) VALUES ('optimize')")
    database.commit()

    def find(typed: str) -> list[int]:
        text = normalise(typed)
        trigrams = sorted({text[at : at + 3] for at in range(len(text) - 2)})
        if not trigrams:
            return []
        wanted = " OR ".join(f'"{trigram}"' for trigram in trigrams)
        rows = database.execute(
            "SELECT rowid FROM songs WHERE songs MATCH ? ORDER BY rank LIMIT 10", (wanted,)
        )
        return [row[0] for row in rows]

    return find


def with_error(text: str, dice: random.Random) -> str:
    letters = [at for at, letter in enumerate(text) if letter.isalnum()]
    at = dice.choice(letters)
    kind = dice.choice(["swap", "drop", "double", "wrong"])
    if kind == "swap" and at + 1 < len(text):
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == "drop":
        return text[:at] + text[at + 1 :]
    if kind == "double":
        return text[: at + 1] + text[at:]
    return text[:at] + dice.choice(LETTERS) + text[at + 1 :]


def judge(
    find: Find, names: Sequence[str], artists: Sequence[str], n_known: int, errors: int, by: bool, n: int
) -> tuple[float, float, float, float]:
    """The shares found first and in ten, and the milliseconds a query takes: the median, and of the 99th."""
    dice = random.Random(7)
    first = ten = 0
    took: list[float] = []
    while len(took) < n:
        track = dice.randrange(n_known)
        if len(normalise(names[track])) < SHORTEST:
            continue
        typed = f"{names[track]} {artists[track]}" if by else names[track]
        for _ in range(errors):
            typed = with_error(typed, dice)
        start = time.perf_counter()
        found = find(typed)
        took.append(time.perf_counter() - start)
        right = [
            normalise(names[other]) == normalise(names[track])
            and (not by or normalise(artists[other]) == normalise(artists[track]))
            for other in found
        ]
        first += right[:1] == [True]
        ten += any(right)
    median, slow = np.percentile(np.array(took) * 1000, [50, 99])
    return first / n, ten / n, float(median), float(slow)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lake", type=Path, help="a lake whose live bundle has names")
    parser.add_argument("--songs", type=int, default=1_000_000, help="made-up songs fill up to so many")
    parser.add_argument("--queries", type=int, default=400, help="of each kind")
    options = parser.parse_args()
    known = names_of(options.lake)
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for size in sorted({len(known[0]), max(len(known[0]), options.songs)}):
            names, artists, likes = enlarged(*known, size)
            ours = indexed(Path(folder) / f"v{size}", names, artists, likes)
            peer = full_text(Path(folder) / f"{size}.sqlite", names, artists)
            print(f"\n{size:,} songs\n{'':<28}{'first':>8}{'in ten':>8}{'median ms':>11}{'p99 ms':>9}")
            for by in (False, True):
                for errors in (0, 1, 2):
                    what = f"{'name and artist' if by else 'name'}, {errors} error{'s' * (errors != 1)}"
                    figures = []
                    for find, who in ((ours.find, what), (peer, "  full text")):
                        first, ten, median, slow = judge(
                            find, names, artists, len(known[0]), errors, by, options.queries
                        )
                        figures.append((ten, median))
                        print(f"{who:<28}{first:8.1%}{ten:8.1%}{median:11.2f}{slow:9.2f}", flush=True)
                    if errors == 1:
                        (ten, median), (_, theirs) = figures
                        real = size == len(known[0])
                        bad = ten < FOUND_TARGET if real else theirs / median < FASTER_TARGET
                        missed |= bad
                        print(
                            f"  {theirs / median:.1f} times as fast"
                            + (
                                f"; at least {FOUND_TARGET:.0%} in ten"
                                if real
                                else f"; at least {FASTER_TARGET:g}"
                            )
                            + (": missed" if bad else "")
                        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
