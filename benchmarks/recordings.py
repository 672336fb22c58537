"""How long it takes to find which track ids are one recording, and what memory, in a large catalogue.

    python benchmarks/recordings.py [--tracks 2000000]

The songs are invented: artists with 1 to 200 songs, titles of one to four words, one word
in thirteen in Cyrillic. A third of the ids repeat a song of another id, as another service writes it: the
same, with a remark on the issue, with a guest, or as a live take.
"""

import argparse
import resource
import time
from itertools import product

import numpy as np
import polars as pl

from tunegraph_pipeline.graph.recordings import find_recordings

_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ra",
    "ne",
    "to",
    "su",
    "vi",
    "da",
    "el",
    "or",
    "an",
    "in",
    "sha",
    "ber",
    "ly",
)
_CYRILLIC = ("ка", "ло", "ми", "ра", "не", "то", "су", "ви")
_REWRITTEN = ("{}", "{} - Remastered 2011", "{} (feat. Ida Quist)", "{} (Live)", "{} (Deluxe Edition)")


def invented(tracks: int, seed: int = 7) -> pl.DataFrame:
    """The columns that `find_recordings` reads, of this many tracks."""
    dice = np.random.default_rng(seed)
    songs = tracks * 2 // 3
    latin = ["".join(some) for some in product(_SYLLABLES, _SYLLABLES, ("", "na", "th"))]
    cyrillic = ["".join(some) for some in product(_CYRILLIC, _CYRILLIC)]
    words = np.array(latin + cyrillic, dtype=object)
    artist = np.minimum(dice.zipf(1.4, songs), 10**7) % (songs // 8 + 1)
    shown = words[dice.integers(0, len(words), (songs, 4))]
    lengths = dice.integers(1, 5, songs)
    titles = np.array(
        [" ".join(row[:n]).title() for row, n in zip(shown, lengths, strict=True)], dtype=object
    )
    numbers = dice.integers(0, 400, songs)
    again = dice.integers(0, songs, tracks - songs)
    way = dice.integers(0, len(_REWRITTEN), tracks - songs)
    of = np.concatenate([np.arange(songs), again])
    names = [f"{titles[song]} {numbers[song]}" for song in range(songs)]
    names += [_REWRITTEN[how].format(names[song]) for song, how in zip(again, way, strict=True)]
    length = 120_000 + (of * 7919) % 200_000
    known = dice.random(tracks) < 0.5
    return pl.DataFrame(
        {
            "track_id": [f"t{number}" for number in range(tracks)],
            "isrc": pl.repeat(None, tracks, dtype=pl.String, eager=True),
            "duration_ms": pl.select(pl.when(pl.Series(known)).then(pl.Series(length))).to_series(),
            "name": names,
            "artists": pl.Series([[f"The {words[one % len(words)].title()} {one}"] for one in artist[of]]),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=int, default=2_000_000)
    tracks = invented(parser.parse_args().tracks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, spent = time.perf_counter(), time.process_time()
    found = find_recordings(tracks["track_id"], tracks)
    seconds, busy = time.perf_counter() - began, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(tracks):,} tracks in {seconds:.1f} s, {busy:.1f} s of them computing;"
        f" peak {peak:,.0f} MiB, {before:,.0f} before"
    )
    for what, count in found.facts().items():
        print(f"  {what.replace('_', ' ')}: {count:,}")


if __name__ == "__main__":
    main()
