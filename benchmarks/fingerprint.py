"""Print a fingerprint of what a lake holds: tables by content, arrays by bytes.

Two lakes that received the same print the same lines, whichever version of TuneGraph made them:

    python benchmarks/fingerprint.py data_lake/demo
    python benchmarks/fingerprint.py data_lake/demo --against OTHER_LAKE    # exit code 1 if they differ

It reads the files of a lake directly, without the code that wrote them, so it also compares lakes of two
versions. Left out are names of versions, and who led a crawl to a user, which depends on the order in which
requests return.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

CURRENT_TABLES = ("current_likes", "current_dislikes")
DAILY_TABLES = ("users", "observations", "likes", "tracks", "audio_features", "feedback")
ARRAYS = ("like_graph", "co_like", "models", "serving")


def fingerprint(lake: Path) -> dict[str, str]:
    """What each part of the lake holds, as a hash of 16 hex digits."""
    found: dict[str, str] = {}
    for table in DAILY_TABLES:
        for path in sorted((lake / table).glob("dt=*/*.parquet")):
            rows = pl.read_parquet(path, hive_partitioning=False)
            found[f"{table} {path.parent.name}"] = _rows(rows.drop("discovered_from", "depth", strict=False))
    cut_off = _current(lake / "current_likes")
    for table in CURRENT_TABLES:
        for path in sorted((lake / table / f"cut_off={cut_off}").glob("*.parquet")):
            found[f"{table} {cut_off}"] = _rows(pl.read_parquet(path, hive_partitioning=False))
    for kind in ARRAYS:
        for path in sorted((lake / kind / _current(lake / kind)).glob("*.npy")):
            found[f"{kind} {path.stem}"] = _array(np.load(path, mmap_mode="r"))
    bundle = _current(lake / "serving")
    for path in sorted((lake / "user_recommendations").glob(f"*={bundle}/*.parquet")):
        rows = pl.read_parquet(path, hive_partitioning=False)
        found["user_recommendations"] = _rows(rows.drop("model_version", "bundle_version", strict=False))
    return found


def _current(folder: Path) -> str:
    return (folder / "CURRENT").read_text().strip()


def _rows(frame: pl.DataFrame) -> str:
    rows = frame.select(sorted(frame.columns)).sort(pl.all(), nulls_last=True) if len(frame) else frame
    return hashlib.sha256(rows.write_ndjson().encode()).hexdigest()[:16] + f"  {len(frame):,} rows"


def _array(array: NDArray[Any]) -> str:
    content = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{content.dtype} {content.shape} ".encode() + content.tobytes()).hexdigest()
    return f"{digest[:16]}  {content.dtype} {content.shape}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Print a fingerprint of what a lake holds.")
    parser.add_argument("lake", type=Path)
    parser.add_argument("--against", type=Path, help="another lake to compare with")
    options = parser.parse_args()
    found = fingerprint(options.lake)
    for what, digest in found.items():
        print(f"{what:40} {digest}")
    if options.against is None:
        return 0
    other = fingerprint(options.against)
    different = sorted(what for what in found.keys() | other.keys() if found.get(what) != other.get(what))
    for what in different:
        print(f"differs: {what}: {found.get(what)} against {other.get(what)}")
    print(f"{len(found) - len(different)} of {len(found.keys() | other.keys())} parts are equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
