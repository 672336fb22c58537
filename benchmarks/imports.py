"""How long imports of large files take, beside reading the same file with polars and nothing else.

    python benchmarks/imports.py [--pairs 1.2] [--plays 20] [--rounds N]

The files: ``--pairs`` million likes as Spotify URIs, and ``--plays`` million plays with times as text, both
as CSV, generated anew for each run. Each is read by `sources.files.import_files`, up to the raw batch, and by
`polars.read_csv`, each in a process of its own, so that peak memory (the whole process, interpreter included)
is measured separately; they take turns, and the best round counts.

Targets: 1.2 million pairs in under 5 seconds; 20 million plays in under 60 seconds and 4 GB. Exits 1 when one
is missed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGETS = {"pairs": (5.0, 4.0), "plays": (60.0, 4.0)}
"""What is read -> the most seconds and GB, at 1.2 million pairs and 20 million plays."""


def write(path: Path, what: str, rows: int) -> None:
    """Write the file, the same for the same number of rows."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(1)
    users = rng.integers(0, max(1, rows // 24), rows)
    if what == "pairs":
        uris = pl.Series([f"spotify:track:{number:022d}" for number in range(max(1, rows // 4))])
        tracks = uris.gather((rng.beta(0.5, 3, rows) * len(uris)).astype(np.int64))
        frame = pl.DataFrame({"user_id": [f"u{user}" for user in users.tolist()], "track_uri": tracks})
    else:
        times = pl.Series(rng.integers(1_400_000_000, 1_700_000_000, rows))
        frame = pl.DataFrame(
            {
                "user_id": users,
                "track_id": rng.integers(0, max(1, rows // 20), rows),
                "played_at": pl.from_epoch(times).dt.strftime("%Y-%m-%d %H:%M:%S"),
            }
        )
    frame.write_csv(path)


def measure(reader: str, path: Path, what: str) -> None:
    """Read the file in this process, and print the seconds and the peak of its memory in GB as JSON."""
    if reader == "polars":
        import polars as pl

        start = time.perf_counter()
        pl.read_csv(path)
    else:
        from tunegraph_pipeline.sources.files import import_files

        start = time.perf_counter()
        import_files([path], min_plays=None if what == "pairs" else 2)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))


def in_process(reader: str, path: Path, what: str) -> tuple[float, float]:
    """The seconds and GB that a process of its own prints."""
    command = [sys.executable, __file__, "--measure", reader, str(path), what]
    seconds, memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(seconds), float(memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=float, default=1.2, help="million likes")
    parser.add_argument("--plays", type=float, default=20, help="million plays")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", nargs=3, metavar=("READER", "FILE", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        reader, path, what = options.measure
        measure(reader, Path(path), what)
        return 0
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for what, millions in (("pairs", options.pairs), ("plays", options.plays)):
            path = Path(folder) / f"{what}.csv"
            write(path, what, round(millions * 1e6))
            best = {
                reader: min(in_process(reader, path, what) for _ in range(options.rounds))
                for reader in ("polars", "tunegraph")
            }
            seconds, memory = best["tunegraph"]
            most_seconds, most_memory = TARGETS[what]
            ratio = seconds / best["polars"][0]
            print(
                f"{millions:g} million {what}, {path.stat().st_size / 1e6:,.0f} MB: {seconds:.1f} s,"
                f" {memory:.1f} GB;"
                f" {ratio:.0f} times polars.read_csv ({best['polars'][0]:.2f} s, {best['polars'][1]:.1f} GB)"
            )
            missed |= seconds > most_seconds or memory > most_memory
    print("a target is missed" if missed else "every target is met")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
