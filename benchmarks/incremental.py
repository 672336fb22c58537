"""The cost of a day compared with rebuilding everything from scratch: lists, like graph and co-like matrix.

    python benchmarks/incremental.py [--sizes 0.1,1,10] [--plot FILE]   simulated likes, in millions
    python benchmarks/incremental.py --likes train.parquet              your own likes
    python benchmarks/incremental.py --choose                           when an update of B pays

A lake receives all lists on one day, and on each of the next three the whole lists of the users who changed:
each of these lists loses and gains some songs, a tenth belong to new users, and some become empty. The stages
of the pipeline update everything to each day; then everything is rebuilt, and has to be equal.
`benchmarks/warm_start.py` does the same for the model.

Target: a day that changes 1 % of the users costs at most a fifth of building the like graph and the co-like
matrix from scratch, at 10 million likes. For the plot the same number of users changes at every size, 1 % of
those at a million likes. Exits 1 when the target is missed or anything differs.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.likes import LIKES_PER_USER, generate_likes

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.lake.lake import Lake

FIRST = date(2026, 2, 1)
DAYS = 3
TARGET, TARGET_AT = 0.2, 10.0  # of a rebuild, at this many million likes
SHARE = 0.01
PARTS = ("daily tables", "current_likes", "track_ids", "catalogue", "like_graph", "co_like_matrix")
GRAPH = ("like_graph", "co_like_matrix")


def changed_lists(likes: "csr_matrix", users: int, seed: int) -> "tuple[np.ndarray[Any, Any], csr_matrix]":
    """The lists of ``users`` users after a day: their rows, and csr users x tracks. Rows beyond those of
    ``likes`` are new users."""
    import numpy as np
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(seed)
    new = users // 10
    known = np.sort(rng.choice(likes.shape[0], users - new, replace=False))
    of = likes[np.concatenate([known, rng.choice(likes.shape[0], new)])]
    lengths = np.diff(of.indptr)
    row = np.repeat(np.arange(users), lengths)
    stays = rng.random(of.nnz) > 0.03
    stays[np.isin(row, rng.choice(users, max(1, users // 50)))] = False  # these empty their list
    more = np.repeat(np.arange(users), 1 + rng.poisson(0.08 * lengths))
    found = likes.indices[rng.integers(0, likes.nnz, len(more))]  # by how much they are liked
    lists = csr_matrix(
        (
            np.ones(stays.sum() + len(more), dtype=np.float32),
            (np.concatenate([row[stays], more]), np.concatenate([of.indices[stays], found])),
        ),
        shape=of.shape,
    )
    lists.data[:] = 1
    return np.concatenate([known, likes.shape[0] + np.arange(new)]), lists


def replaced(likes: "csr_matrix", rows: "np.ndarray[Any, Any]", lists: "csr_matrix") -> "csr_matrix":
    """The likes of everyone after a day of :func:`changed_lists`."""
    import numpy as np
    from scipy.sparse import csr_matrix, vstack

    grown = max(likes.shape[0], int(rows.max()) + 1)
    both = vstack([likes, csr_matrix((grown - likes.shape[0], likes.shape[1])), lists]).tocsr()
    order = np.arange(grown)
    order[rows] = grown + np.arange(len(rows))
    return csr_matrix(both[order])


def receive(lake: "Lake", day: date, rows: "np.ndarray[Any, Any]", lists: "csr_matrix") -> None:
    """Keep whole lists as a raw batch of a day."""
    import numpy as np
    import polars as pl

    from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch

    users = "user" + pl.Series("user_id", rows).cast(pl.String).str.zfill(9)
    names = "track" + pl.Series("track_id", np.arange(lists.shape[1])).cast(pl.String).str.zfill(9)
    likes = pl.DataFrame(
        {
            "user_id": users.gather(np.repeat(np.arange(len(rows)), np.diff(lists.indptr))),
            "track_id": names.gather(lists.indices),
        }
    ).with_columns(liked_at=pl.lit(None, pl.Datetime("us", "UTC")), position=pl.lit(None, pl.Int32))
    seen = pl.DataFrame({"user_id": users}).with_columns(
        discovered_from=pl.lit(None, pl.String), depth=pl.lit(0, pl.Int32), state=pl.lit("listed")
    )
    batch = RawBatch("files", "benchmark", users=seen, likes=likes)
    assert batch.likes.schema == empty_frame("likes").schema
    write_batch(lake.raw, day, batch)


def update_to(lake: "Lake", day: date) -> tuple[dict[str, float], dict[str, str]]:
    """Run the stages up to the co-like matrix for a day: seconds of each part, and how it was made."""
    from tunegraph_pipeline.pipeline.stages import STAGES, stage

    start = time.perf_counter()
    for daily in (one for one in STAGES if one.daily):
        daily.run(lake, day=day)
    took = {"daily tables": time.perf_counter() - start}
    made: dict[str, str] = {}
    for name in PARTS[1:]:
        result = stage(name).run(lake)
        took[name] = result.cost.seconds
        made[name] = result.how or ""
    return took, made


def differences(folder: Path, lake: "Lake") -> list[str]:
    """How the updated A and B in ``folder`` differ from those that the lake rebuilt."""
    import numpy as np

    from tunegraph_pipeline.graph.co_like import CoLike
    from tunegraph_pipeline.lake.arrays import ArrayFolder

    wrong = []
    old, new = ArrayFolder.open(folder / "like_graph"), ArrayFolder.open(lake.current_folder("like_graph"))
    names = ("indptr", "indices", "fold", "calibration", "judge", "canonical", "user_ids.bytes")
    wrong += [f"like graph: {name}" for name in names if not np.array_equal(old[name], new[name])]
    before, after = CoLike.open(folder / "co_like"), CoLike.open(lake.current_folder("co_like"))
    if not np.array_equal(before.degrees, after.degrees):
        wrong.append("co-likes: degrees")
    for track in np.unique(np.linspace(0, after.n_tracks - 1, 500).astype(int)).tolist():
        rows = zip(before.neighbours(track), after.neighbours(track), strict=True)
        if not all(np.array_equal(one, other) for one, other in rows):
            wrong.append(f"co-likes: row {track}")
    return wrong


def measure(name: str, likes: "csr_matrix", users: int, room: Path) -> dict[str, Any]:
    """The median day and the rebuild of one lake, in seconds by part."""
    import numpy as np

    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.pipeline.stale_versions import remove_built

    lake = Lake.open_or_create(room / "lake")
    lake.admit_source("files")
    receive(lake, FIRST, np.arange(likes.shape[0]), likes)
    update_to(lake, FIRST)
    days, ways = [], []
    for number in range(1, DAYS + 1):
        rows, lists = changed_lists(likes, users, seed=number)
        likes = replaced(likes, rows, lists)
        day = FIRST + timedelta(days=number)
        receive(lake, day, rows, lists)
        took, made = update_to(lake, day)
        days.append(took)
        ways.append(made)
    kept = room / "kept"
    kept.mkdir()
    for kind in ("like_graph", "co_like"):
        lake.current_folder(kind).rename(kept / kind)
    remove_built(lake)
    full, _ = update_to(lake, FIRST + timedelta(days=DAYS))
    wrong = differences(kept, lake)
    median = {part: float(np.median([day[part] for day in days])) for part in PARTS}
    ratio = sum(median[part] for part in GRAPH) / sum(full[part] for part in GRAPH)
    return {
        "name": name,
        "likes": int(likes.nnz),
        "tracks": int(likes.shape[1]),
        "users": int(likes.shape[0]),
        "changed": users,
        "day": median,
        "full": full,
        "made": ways[-1],
        "ratio": ratio,
        "wrong": wrong,
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"\n{found['name']}: {found['likes']:,} likes of {found['users']:,} users,"
        f" {found['changed']:,} users ({found['changed'] / found['users']:.2%}) change a day"
    )
    print(f"  {'part':16s} {'a day':>9s} {'rebuild':>9s} {'ratio':>7s}  result")
    for part in PARTS:
        day, full = found["day"][part], found["full"][part]
        how = found["made"].get(part, "")
        print(f"  {part:16s} {day:8.2f}s {full:8.2f}s {day / max(full, 1e-9):7.1%}  {how}")
    print(f"  like graph and co-like matrix: {found['ratio']:.1%} of rebuilding them")
    for line in found["wrong"]:
        print(f"  DIFFERS: {line}")


@contextmanager
def room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tunegraph-incremental-") as folder:
        yield Path(folder)


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Stacked bars: a day beside a rebuild, by the size of the lake."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(3.2 * len(found), 4.2), layout="constrained")
    colours = ["#c9ced6", "#9fb8d8", "#7fb08f", "#c7b46a", "#e0a458", "#b5546a"]
    for axis, one in zip(axes if len(found) > 1 else [axes], found, strict=True):
        for place, column in enumerate(("day", "full")):
            bottom = 0.0
            for part, colour in zip(PARTS, colours, strict=True):
                seconds = one[column][part]
                axis.bar(
                    place, seconds, bottom=bottom, color=colour, width=0.65, label=part if not place else None
                )
                bottom += seconds
            axis.text(place, bottom, f"{bottom:.1f} s", ha="center", va="bottom", fontsize=9)
        axis.set_xticks([0, 1], ["a day", "rebuild"])
        axis.set_title(f"{one['likes'] / 1e6:.1f} million likes", fontsize=10)
        axis.margins(y=0.1)
        axis.spines[["top", "right"]].set_visible(False)
    first = axes[0] if len(found) > 1 else axes
    first.set_ylabel("seconds")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle(f"The day on which {found[0]['changed']:,} users change, as the lake grows", fontsize=11)
    figure.savefig(path, dpi=130)
    print(f"plot: {path}")


def choose(sizes: list[float]) -> list[str]:
    """Update against build of B alone, by size and share of users that change: is the choice a good one."""
    import numpy as np
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.graph.co_like import CoLike, build_co_like
    from tunegraph_pipeline.graph.co_like_update import update_co_like, update_pays

    poor = []
    print(f"{'likes':>12s} {'changed':>8s} {'build':>8s} {'update':>8s} {'ratio':>7s}  chosen")
    for millions in sizes:
        likes = generate_likes(round(millions * 1e6))
        with room() as folder:
            start = time.perf_counter()
            build_co_like(likes, folder / "base", memory_mib=1024)
            build = time.perf_counter() - start
            for share in (0.001, 0.01, 0.05, 0.2):
                users = max(10, round(share * likes.shape[0]))
                rows, lists = changed_lists(likes, users, seed=1)
                after = replaced(likes, rows, lists)
                before = csr_matrix(
                    (
                        likes.data,
                        likes.indices,
                        np.append(likes.indptr, np.repeat(likes.indptr[-1], after.shape[0] - likes.shape[0])),
                    ),
                    shape=after.shape,
                )
                change = (after - before).astype(np.int8)
                change.eliminate_zeros()
                moved = np.flatnonzero(np.diff(change.indptr))
                pays = update_pays(after, before[moved], change[moved])
                start = time.perf_counter()
                update_co_like(
                    CoLike.open(folder / "base"), before[moved], change[moved], folder / f"{share}"
                )
                update = time.perf_counter() - start
                shutil.rmtree(folder / f"{share}")
                chosen = "update" if pays else "build"
                took = f"{build:7.2f}s {update:7.2f}s {update / build:7.1%}"
                print(f"{likes.nnz:12,} {share:8.1%} {took}  {chosen}", flush=True)
                # Near the line either is as good.
                if (pays and update > 1.25 * build) or (not pays and update < 0.5 * build and build > 2):
                    poor.append(f"{likes.nnz:,} likes, {share:.1%} changed: {chosen} was chosen")
    return poor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="0.1,1,10", help="millions of likes, with commas between them")
    parser.add_argument("--likes", type=Path, help="a file of likes to use instead of simulated ones")
    parser.add_argument("--plot", type=Path, help="where to put the picture")
    parser.add_argument("--json", type=Path, help="where to put the figures")
    parser.add_argument("--choose", action="store_true", help="update against build, by size and share")
    options = parser.parse_args()
    sizes = [float(size) for size in options.sizes.split(",")]
    missed = choose(sizes) if options.choose else run(sizes, options.likes, options.plot, options.json)
    for line in missed:
        print(f"MISSED: {line}")
    sys.exit(1 if missed else 0)


def run(sizes: list[float], file: Path | None, picture: Path | None, figures: Path | None) -> list[str]:
    found = []
    if file is not None:
        likes = read_likes(file)
        with room() as folder:
            found.append(measure(file.name, likes, round(SHARE * likes.shape[0]), folder))
        show(found[-1])
        return [f"{one['name']}: {line}" for one in found for line in one["wrong"]]
    same = round(SHARE * 1e6 / LIKES_PER_USER)
    grown = []
    for millions in sizes:
        likes = generate_likes(round(millions * 1e6))
        with room() as folder:
            grown.append(measure(f"{millions:g} million simulated likes", likes, same, folder))
        show(grown[-1])
    missed = []
    for millions in (size for size in sizes if size >= TARGET_AT):
        likes = generate_likes(round(millions * 1e6))
        with room() as folder:
            found.append(
                measure(f"{millions:g} million, 1 % a day", likes, round(SHARE * likes.shape[0]), folder)
            )
        show(found[-1])
        if found[-1]["ratio"] > TARGET:
            missed.append(f"{found[-1]['name']}: {found[-1]['ratio']:.1%}, target {TARGET:.0%}")
    if picture is not None:
        plot(grown, picture)
    if figures is not None:
        figures.write_text(json.dumps([*grown, *found], indent=1) + "\n")
    return missed + [f"{one['name']}: {line}" for one in (*grown, *found) for line in one["wrong"]]


def read_likes(file: Path) -> "csr_matrix":
    """A file of likes as csr users x tracks, both in the order of their ids."""
    import numpy as np
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.sources.files import read_files

    (batch,) = read_files([file], kind="likes")
    codes = batch.likes.select(*(_codes(batch.likes, name).alias(name) for name in ("user_id", "track_id")))
    user, track = codes["user_id"].to_numpy(), codes["track_id"].to_numpy()
    likes = csr_matrix((np.ones(len(codes), dtype=np.float32), (user, track)))
    likes.data[:] = 1
    return likes


def _codes(likes: "pl.DataFrame", column: str) -> "pl.Series":
    import polars as pl

    values = likes[column].unique().sort()
    return likes[column].replace_strict(values, pl.arange(len(values), eager=True), return_dtype=pl.Int64)


if __name__ == "__main__":
    main()
