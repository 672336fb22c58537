"""The approximate ranking of a large catalogue, beside the libraries that the index was chosen among.

    python benchmarks/ann.py [--tracks 1000000] [--world DIR] [--quick]
    python benchmarks/ann.py --compare [--tracks 100000] [--world DIR] [--json FILE] [--plot FILE]
    python benchmarks/ann.py --hardness LAKE... [--tracks 100000] [--world DIR]

One core, everything in one run, twenty queries of each in turn, ratios first; the exit code is 1 when a
target is missed. Peers return the 50 tracks of the highest inner product with a stored user's direction, at
the smallest `ef` with a recall@50 of 0.99. Ours answers the whole query: it computes the direction from the
liked tracks, adds neighbours and priors, leaves out liked tracks and scores by the embeddings; its recall@50
is against the exact ranking.

The world is a simulated one, its embeddings trained by the project's own training from likes of all tracks:
``World(n_tracks=0.8 N, n_users=N / 5, likes_per_user=40)`` has N songs and about 17 likes a song, and is
trained at d=128 without the graph encoder, so that a million tracks take an hour and 8 GB. ``--world`` keeps
it, and the peers, for the next run. ``--hardness`` compares it with embeddings of real lakes, to show that it
is not easier to search. ``--quick`` makes a small one, for which only recall has a target.

``--compare`` measures every library, number format and kind of index at one size, as
docs/large_catalogues.md shows.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.serving import Figure, say, seconds, show
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, read_current, write_bundle
from tunegraph_pipeline.recommend.index import CandidateIndex, Probes, Storage, library, read_index
from tunegraph_pipeline.recommend.indexing import add_index, recall_of, write_index
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker
from tunegraph_pipeline.recommend.recommender import Recommender

K = 50
DIMENSION = 128
LARGE = 300_000  # tracks from which --compare leaves out what takes a quarter of an hour each to build
IN_A_ROW = 20  # queries of each, before the next one's turn
STEPS = 250  # of training: after these the embeddings are as hard to search as real ones
RECALL = 0.99
SPEEDUP_TARGET, MS_TARGET, PEER_TARGET = 25.0, 1.0, 1.0
EFS = (50, 64, 80, 100, 128, 160, 200, 256, 320, 400, 512, 640, 800, 1024, 1280, 1600)
PROBES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
CONNECTIONS, CONSTRUCTION = 32, 200  # of the graphs of all peers

Floats = NDArray[np.float32]
Search = Callable[[Floats], NDArray[Any]]
"""Given one direction, the positions found, best first."""


# --- the world ---


def world(folder: Path, n_tracks: int) -> Bundle:
    """The bundle of a trained simulated world of so many songs; made unless it is in the folder already."""
    home = folder / f"world-{n_tracks}"
    if not (home / "manifest.json").exists():
        say(f"making a world of {n_tracks:,} songs in {home}: minutes, an hour for a million")
        write_bundle(home, trained_content(n_tracks, home.name))
    return Bundle.open(home)


def trained_content(n_tracks: int, version: str) -> BundleContent:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.simulator.world import World, WorldConfig
    from tunegraph_pipeline.training.alignment import on_principal_axes
    from tunegraph_pipeline.training.train import TrainingConfig, TrainingData, train

    simulated = World(
        WorldConfig(n_tracks=n_tracks * 4 // 5, n_users=max(n_tracks // 5, 2_000), likes_per_user=40)
    )
    user, track = simulated.lifetime_likes()
    ones = np.ones(len(user), dtype=np.float32)
    likes = csr_matrix((ones, (user, track)), shape=(int(user.max()) + 1, len(simulated.recording_ids())))
    del simulated, user, track, ones
    n_users, n_tracks = likes.shape
    say(f"{likes.nnz:,} likes of {n_tracks:,} songs by {n_users:,} users")
    # One like in twenty of some users is held out, to choose the blend by as every training does.
    rng = np.random.default_rng(0)
    judged = rng.choice(n_users, min(4_000, n_users // 2), replace=False)
    row = np.repeat(np.arange(n_users), np.diff(likes.indptr))
    held_out = rng.random(likes.nnz) < 0.05
    held_out &= np.isin(row, judged)

    def only(some: NDArray[np.bool_]) -> csr_matrix:
        return csr_matrix((likes.data[some], (row[some], likes.indices[some])), shape=likes.shape)

    config = TrainingConfig(
        encoder="none",
        dimension=DIMENSION,
        use_features=False,
        use_tags=False,
        validation_users=500,
    )
    steps = n_users / config.batch_for(n_users)
    config = config.model_copy(update={"epochs": max(1, round(STEPS / steps))})
    known, hidden = only(~held_out), only(held_out)
    model = train(
        TrainingData(
            train=known,
            context=known[judged],
            targets=hidden[judged],
            features=np.full((n_tracks, 11), np.nan, dtype=np.float32),
            track_artists=csr_matrix(np.zeros((n_tracks, 0), dtype=np.bool_)),
            album=np.full(n_tracks, -1, dtype=np.int32),
        ),
        config,
        progress=_Telling(),
    )
    likes.sort_indices()
    nothing = [""] * n_tracks
    return BundleContent(
        track_ids=[f"{track:022x}" for track in range(n_tracks)],
        embeddings=on_principal_axes(model.embeddings),
        pooling_weight=model.pooling_weight,
        popularity=np.bincount(likes.indices, minlength=n_tracks).astype(np.int32),
        recommendable=model.recommendable,
        prior=model.prior,
        neighbour_indptr=model.neighbour_indptr,
        neighbour_indices=model.neighbour_indices,
        neighbour_weight=model.neighbour_weight,
        user_ids=[f"user {user}" for user in range(n_users)],
        user_indptr=likes.indptr.astype(np.int64),
        user_tracks=likes.indices.astype(np.int32),
        names=[f"Song {track}" for track in range(n_tracks)],
        artists=nothing,
        image_urls=nothing,
        preview_urls=nothing,
        facts={"bundle_version": version, "model_version": "trained", "blend": asdict(model.blend)},
    )


class _Telling:
    """Says every half a minute how far the training is."""

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            say(f"  {what}: {done:,} of {total:,}")


class Embedded(NamedTuple):
    """What of a bundle, of any format, says how it is to search."""

    embeddings: Floats
    pooling_weight: Floats
    user_indptr: NDArray[np.int64]
    user_tracks: NDArray[np.int32]

    @classmethod
    def of(cls, folder: Path) -> Self:
        parts = ArrayFolder.open(folder)
        return cls(*(parts[name] for name in cls._fields))


def stored_lists(bundle: Bundle | Embedded, m: int, rng: np.random.Generator) -> list[NDArray[np.int32]]:
    """The lists of m users who like five songs or more."""
    indptr = bundle.user_indptr
    users = rng.choice(np.flatnonzero(np.diff(indptr) >= 5), m, replace=False)
    return [bundle.user_tracks[indptr[user] : indptr[user + 1]] for user in users.tolist()]


def directions(bundle: Bundle | Embedded, lists: Sequence[NDArray[np.int32]]) -> Floats:
    """What each list asks with, of unit length."""
    pooled = np.stack([bundle.pooling_weight[liked] @ bundle.embeddings[liked] for liked in lists])
    unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return unit


def nearest(vectors: Floats, asked: Floats, k: int = K) -> list[NDArray[np.int32]]:
    """The k rows of the highest inner product with each of the directions, exact."""
    found: list[NDArray[np.int32]] = []
    for start in range(0, len(asked), 50):
        scores = asked[start : start + 50] @ vectors.T
        found += list(np.argpartition(-scores, k, axis=1)[:, :k].astype(np.int32))
    return found


# --- the peers ---


@dataclass
class Peer:
    """An index of some library: how it is searched, what it took to build, and how large it is."""

    name: str
    kind: str
    numbers: str
    search: Callable[[int], Search]  # given its knob, how wide it looks
    knobs: tuple[int, ...]
    build_seconds: float
    mib: float


@dataclass
class Point:
    """A peer at one setting."""

    name: str
    kind: str
    numbers: str
    knob: int
    recall: float
    p50_ms: float
    build_seconds: float
    mib: float


def faiss_graph(vectors: Floats, numbers: str, cache: Path) -> Peer:
    faiss = library()
    inner, scalar = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer
    if numbers == "float32":
        index = faiss.IndexHNSWFlat(vectors.shape[1], CONNECTIONS, inner)
    else:
        kind = {"float16": scalar.QT_fp16, "int8": scalar.QT_8bit}[numbers]
        index = faiss.IndexHNSWSQ(vectors.shape[1], kind, CONNECTIONS, inner)

    def build() -> None:
        index.hnsw.efConstruction = CONSTRUCTION
        index.train(vectors)
        index.add(vectors)

    took, path = _built(cache, f"faiss-{numbers}", build, lambda path: faiss.write_index(index, str(path)))
    index = faiss.read_index(str(path))

    def search(ef: int) -> Search:
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        return _rescored(vectors, numbers, lambda q, m: index.search(q[None], m, params=parameters)[1][0])

    return Peer("faiss", "HNSW", numbers, search, EFS, took, _mib(path))


def usearch_graph(vectors: Floats, numbers: str, cache: Path) -> Peer:
    graph = import_module("usearch.index").Index
    kind = {"float32": "f32", "float16": "f16", "int8": "i8"}[numbers]
    index = graph(
        ndim=vectors.shape[1],
        metric="cos" if numbers == "int8" else "ip",  # it has no inner product of 8-bit numbers
        dtype=kind,
        connectivity=CONNECTIONS,
        expansion_add=CONSTRUCTION,
    )
    took, path = _built(
        cache,
        f"usearch-{numbers}",
        lambda: index.add(np.arange(len(vectors)), vectors, threads=1),
        lambda path: index.save(str(path)),
    )
    index = graph.restore(str(path))

    def search(ef: int) -> Search:
        index.expansion_search = ef
        return _rescored(vectors, numbers, lambda q, m: index.search(q, m, threads=1).keys)

    return Peer("usearch", "HNSW", numbers, search, EFS, took, _mib(path))


def voyager_graph(vectors: Floats, numbers: str, cache: Path) -> Peer:
    voyager = import_module("voyager")
    kinds = voyager.StorageDataType
    kind = {"float32": kinds.Float32, "float8": kinds.E4M3, "int8": kinds.Float8}[numbers]
    index = voyager.Index(
        voyager.Space.InnerProduct,
        vectors.shape[1],
        M=CONNECTIONS,
        ef_construction=CONSTRUCTION,
        max_elements=len(vectors),
        storage_data_type=kind,
    )
    took, path = _built(
        cache,
        f"voyager-{numbers}",
        lambda: index.add_items(vectors, num_threads=1),
        lambda path: index.save(str(path)),
    )
    index = voyager.Index.load(str(path))

    def search(ef: int) -> Search:
        return _rescored(
            vectors,
            numbers,
            lambda q, m: index.query(q, k=m, query_ef=max(ef, m), num_threads=1)[0].astype(np.int64),
        )

    return Peer("voyager", "HNSW", numbers, search, EFS, took, _mib(path))


def faiss_lists(vectors: Floats, numbers: str, cache: Path) -> Peer:
    """An inverted file of as many lists as ours has; ``numbers`` may be 4-bit product codes or RaBitQ."""
    faiss = library()
    d = vectors.shape[1]
    n_lists = int(4 * len(vectors) ** 0.5)
    codes = {
        "float32": "Flat",
        "float16": "SQfp16",
        "int8": "SQ8",
        "4-bit codes": f"PQ{d // 2}x4fs",
        "1 bit": "RaBitQfs",
    }
    index = faiss.index_factory(d, f"IVF{n_lists},{codes[numbers]}", faiss.METRIC_INNER_PRODUCT)

    def build() -> None:
        index.cp.seed, index.cp.max_points_per_centroid = 1, 64
        index.train(vectors)
        index.add(vectors)

    name = f"faiss-lists-{numbers.replace(' ', '-')}"
    took, path = _built(cache, name, build, lambda path: faiss.write_index(index, str(path)))
    index = faiss.read_index(str(path))

    def search(probes: int) -> Search:
        index.nprobe = probes
        return _rescored(vectors, numbers, lambda q, m: index.search(q[None], m)[1][0])

    return Peer("faiss", "lists", numbers, search, PROBES, took, _mib(path))


def _built(
    cache: Path, name: str, build: Callable[[], object], save: Callable[[Path], object]
) -> tuple[float, Path]:
    """Build and save an index unless it is cached; how long that took once, and where it is."""
    cache.mkdir(parents=True, exist_ok=True)
    path, note = cache / name, cache / f"{name}.json"
    if not note.exists():
        say(f"building {name}")
        took = seconds(build)
        save(path)
        note.write_text(json.dumps(took))
    return float(json.loads(note.read_text())), path


def _rescored(vectors: Floats, numbers: str, search: Callable[[Floats, int], NDArray[Any]]) -> Search:
    """Where numbers are coarse, twice as many are asked for and ordered by their exact products."""
    if numbers in ("float32", "float16"):
        return lambda q: search(q, K)
    wider = 8 if numbers == "1 bit" else 4 if numbers == "4-bit codes" else 2

    def rescored(q: Floats) -> NDArray[Any]:
        found = search(q, wider * K)
        found = found[found >= 0] if found.dtype.kind == "i" else found.astype(np.int64)
        exact = vectors[found] @ q
        return found[np.argpartition(-exact, K)[:K]] if len(found) > K else found

    return rescored


def _mib(path: Path) -> float:
    return path.stat().st_size / 2**20


BEST: dict[Callable[[Floats, str, Path], Peer], tuple[str, ...]] = {
    faiss_graph: ("float32",),
    usearch_graph: ("float16",),
    voyager_graph: ("float32",),
}
"""The number format in which each library is quickest at a recall of 0.99, as --compare found."""


def points(peer: Peer, asked: Floats, truth: list[NDArray[np.int32]], until: float) -> list[Point]:
    """The peer at every setting up to the first whose recall is ``until``."""
    some: list[Point] = []
    for knob in peer.knobs:
        search = peer.search(knob)
        for q in asked[:50]:
            search(q)
        took, found = [], []
        for q in asked:
            began = time.perf_counter()
            one = search(q)
            took.append(time.perf_counter() - began)
            found.append(one.astype(np.int32))
        recall, p50 = recall_of(found, truth), float(np.median(took)) * 1e3
        some.append(
            Point(peer.name, peer.kind, peer.numbers, knob, recall, p50, peer.build_seconds, peer.mib)
        )
        if recall >= until:
            break
    return some


# --- the approximate ranking ---


def approximate(folder: Path, n_tracks: int, rounds: int = 400, *, enforce: bool = True) -> list[Figure]:
    """Ours beside its own exact ranking, ``E @ q``, and the peers of equal recall."""
    faiss = library()
    exact_bundle = world(folder, n_tracks)
    indexed = indexed_bundle(folder, exact_bundle)
    faiss.omp_set_num_threads(1)
    index = CandidateIndex.open(indexed)
    assert index is not None, "the index found too little, and was left out"
    rng = np.random.default_rng(23)
    lists = stored_lists(indexed, rounds, rng)
    few = [np.sort(rng.permutation(liked)[:3]) for liked in lists]
    tracks = np.flatnonzero(indexed.recommendable)
    vectors = np.ascontiguousarray(indexed.embeddings[tracks])
    asked = directions(indexed, lists)
    ours, exact = Ranker(indexed, index=index), Ranker(indexed)
    recommender = Recommender(indexed)
    ids = [[indexed.tracks[track] for track in liked.tolist()] for liked in lists]

    with threadpool_limits(1):
        truth = nearest(vectors, asked)
        peers: list[tuple[Point, Search]] = []
        cache = folder / f"peers-{n_tracks}"
        for build, (numbers,) in BEST.items():
            peer = build(vectors, numbers, cache)
            last = points(peer, asked, truth, RECALL)[-1]
            peers.append((last, peer.search(last.knob)))
        everything = np.array(indexed.embeddings)

        def rank(ranker: Ranker, liked: NDArray[np.int32], k: int = K) -> NDArray[np.int32]:
            return ranker.answer([QuerySpec(liked)], [k], explain=False)[0].indices

        recalls = {
            "stored lists": recall_of(
                [rank(ours, one) for one in lists], [rank(exact, one) for one in lists]
            ),
            "lists of three": recall_of([rank(ours, one) for one in few], [rank(exact, one) for one in few]),
        }
        calls: dict[str, Callable[[int], object]] = {
            "ours": lambda at: rank(ours, lists[at]),
            "ours, lists of three": lambda at: rank(ours, few[at]),
            "ours, ten songs in words with reasons": lambda at: recommender.recommend(ids[at], 10),
            "exact": lambda at: rank(exact, lists[at]),
            "E @ q": lambda at: everything @ asked[at],
        }
        for point, search in peers:
            calls[f"{point.name} {point.kind} {point.numbers}"] = partial(_ask, search, asked)
        took: dict[str, list[float]] = {name: [] for name in calls}
        for start in range(0, rounds, IN_A_ROW):
            for name, call in calls.items():
                call(start - 1)  # what others left in the caches is not what this one would find there
                took[name] += [seconds(partial(call, turn)) for turn in range(start, start + IN_A_ROW)]
    p50 = {name: float(np.median(times)) * 1e3 for name, times in took.items()}
    best = min(p50[f"{point.name} {point.kind} {point.numbers}"] for point, _ in peers)
    facts = indexed.facts["index"]
    mean = float(np.mean([len(liked) for liked in lists]))

    def aim(target: float) -> float | None:
        return target if enforce else None

    return [
        Figure("ours / best peer", p50["ours"] / best, aim(PEER_TARGET)),
        Figure("exact / ours", p50["exact"] / p50["ours"], aim(SPEEDUP_TARGET), at_least=True),
        Figure("E @ q / ours", p50["E @ q"] / p50["ours"]),
        *(
            Figure(
                f"ours: recall@{K} of the exact ranking, {kind}",
                100 * recall,
                100 * RECALL,
                at_least=True,
                unit="%",
            )
            for kind, recall in recalls.items()
        ),
        Figure("ours, p50", p50["ours"], aim(MS_TARGET), unit="ms"),
        *(Figure(f"  {name}, p50", value, unit="ms") for name, value in p50.items() if name != "ours"),
        Figure("  ours, p99", float(np.percentile(took["ours"], 99)) * 1e3, unit="ms"),
        *(
            Figure(
                f"  {point.name}: recall@{K} of the inner product, ef={point.knob}",
                100 * point.recall,
                unit="%",
            )
            for point, _ in peers
        ),
        Figure(f"  likes a list; {facts['lists']:,} lists of {facts['storage']}", mean),
        Figure("  index built and measured in", facts["seconds"], unit="s"),
        *(Figure(f"  {point.name} built in", point.build_seconds, unit="s") for point, _ in peers),
        Figure("  index", facts["bytes"] / 2**20, unit="MiB"),
        *(Figure(f"  {point.name}", point.mib, unit="MiB") for point, _ in peers),
    ]


def _ask(search: Search, asked: Floats, at: int) -> NDArray[Any]:
    return search(asked[at])


def indexed_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """The same bundle with an index; its other parts are links to those of the first."""
    home = folder / f"{bundle.folder.name}-indexed"
    if not (home / "manifest.json").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        for path in bundle.folder.iterdir():
            (home / path.name).hardlink_to(path)
        facts = {**bundle.facts, "index": add_index(home)}
        (home / "manifest.json").unlink()
        write_arrays(home, {}, facts)
    return Bundle.open(home)


# --- the comparison ---


def compare(folder: Path, n_tracks: int, rounds: int = 400) -> list[Point]:
    """Every library, kind and number format, over a range of recalls."""
    faiss = library()
    bundle = world(folder, n_tracks)
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(23)
    tracks = np.flatnonzero(bundle.recommendable)
    vectors = np.ascontiguousarray(bundle.embeddings[tracks])
    lists = stored_lists(bundle, rounds, rng)
    asked = directions(bundle, lists)
    cache = folder / f"peers-{n_tracks}"
    some: list[Point] = []
    with threadpool_limits(1):
        truth = nearest(vectors, asked)
        graphs: dict[Callable[[Floats, str, Path], Peer], tuple[str, ...]] = {
            faiss_graph: ("float32", "float16", "int8"),
            usearch_graph: ("float32", "float16", "int8"),
            voyager_graph: ("float32", "int8", "float8"),
            faiss_lists: ("float32", "float16", "int8", "4-bit codes", "1 bit"),
        }
        if n_tracks > LARGE:
            graphs = {**BEST, faiss_lists: ("float32", "float16", "int8")}
        for build, numbers in ((build, numbers) for build, all_of in graphs.items() for numbers in all_of):
            some += points(build(vectors, numbers, cache), asked, truth, 0.999)
            say(f"  {some[-1]}")
        some += ours_compared(bundle, lists)
    return some


def ours_compared(bundle: Bundle, lists: list[NDArray[np.int32]]) -> list[Point]:
    """The whole blended query, in each storage, at some numbers of probed lists."""
    exact = Ranker(bundle)

    def rank(ranker: Ranker, liked: NDArray[np.int32]) -> NDArray[np.int32]:
        return ranker.answer([QuerySpec(liked)], [K], explain=False)[0].indices

    truth = [rank(exact, liked) for liked in lists]
    some = []
    with tempfile.TemporaryDirectory() as scratch:
        storages: tuple[Storage, ...] = ("float32", "float16", "int8")
        for storage in storages:
            path = Path(scratch) / storage
            began = time.perf_counter()
            form = write_index(bundle, path, storage)
            built = time.perf_counter() - began
            opened = CandidateIndex(read_index(path), form, Probes((), (), None))
            for probes in PROBES:
                ranker = Ranker(bundle, index=opened.with_probes(Probes.everywhere(probes)))
                for liked in lists[:50]:
                    rank(ranker, liked)
                took, found = [], []
                for liked in lists:
                    began = time.perf_counter()
                    found.append(rank(ranker, liked))
                    took.append(time.perf_counter() - began)
                p50 = float(np.median(took)) * 1e3
                recall = recall_of(found, truth)
                some.append(
                    Point("TuneGraph", "whole query", storage, probes, recall, p50, built, _mib(path))
                )
                if recall >= 0.999:
                    break
    return some


def tell(some: Sequence[Point]) -> None:
    """The comparison as a table: of each index the first setting that finds enough, or else the last."""
    rows: dict[tuple[str, str, str], Point] = {}
    for point in some:
        key = (point.name, point.kind, point.numbers)
        if key not in rows or rows[key].recall < RECALL:
            rows[key] = point
    head = ["library", "kind", "numbers", f"recall@{K}", "p50, ms", "build, s", "MiB"]
    cells = [
        [*key, f"{point.recall:.4f}", f"{point.p50_ms:.3f}", f"{point.build_seconds:.0f}", f"{point.mib:.0f}"]
        for key, point in rows.items()
    ]
    print(markdown_table(head, cells, words=3))


COLOURS = {"TuneGraph": "#c1121f", "faiss": "#1b6ca8", "usearch": "#3a7d44", "voyager": "#8a5a9e"}
MARKS = {"float32": "o", "float16": "s", "int8": "^", "float8": "v", "4-bit codes": "D", "1 bit": "P"}


def draw(some: Sequence[Point], title: str, target: Path) -> None:
    """The share of missed tracks against the time of a query; lower left is better."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "index"})
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    figure.patch.set_facecolor("white")  # legible on a dark page too
    lines: dict[tuple[str, str, str], list[Point]] = {}
    for point in some:
        lines.setdefault((point.name, point.kind, point.numbers), []).append(point)
    for (name, kind, numbers), points in lines.items():
        axes.plot(
            [point.p50_ms for point in points],
            [1 - point.recall for point in points],
            color=COLOURS[name],
            marker=MARKS[numbers],
            linestyle="--" if kind == "lists" else "-",
            linewidth=2.2 if name == "TuneGraph" else 1.0,
            markersize=5,
            label=f"{name}, {kind}, {numbers}",
        )
    axes.axhline(1 - RECALL, color="#777777", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="p50 of a query, ms", title=title)
    axes.set_ylabel(f"share of the best {K} that is overlooked")
    axes.legend(fontsize=8, ncols=2, loc="lower left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, metadata={"Date": None})


# --- how hard the world is ---


def hardness(name: str, bundle: Embedded, sample: int = 20_000) -> list[str]:
    """A row of the table: how stored users' directions and tracks lie among 20,000 of the tracks.

    Local intrinsic dimension by maximum likelihood over 100 neighbours (Levina and Bickel 2005), contrast of
    the mean distance to that of the 50th neighbour, and recall@50 of a graph at equal `ef`.
    """
    faiss = library()
    rng = np.random.default_rng(1)
    m = min(500, int((np.diff(bundle.user_indptr) >= 5).sum()))
    lists = stored_lists(bundle, m, rng)
    n_tracks, dimension = bundle.embeddings.shape
    tracks = rng.choice(n_tracks, min(sample, n_tracks), replace=False)
    vectors = np.ascontiguousarray(bundle.embeddings[np.sort(tracks)])
    graph = faiss.IndexHNSWFlat(vectors.shape[1], CONNECTIONS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = CONSTRUCTION
    graph.add(vectors)
    cells = [name, f"{n_tracks:,}", str(dimension)]
    for asked in (directions(bundle, lists), bundle.embeddings[rng.choice(n_tracks, 500)]):
        cosines = asked @ vectors.T
        highest = -np.partition(-cosines, 101, axis=1)[:, :102]
        highest = -np.sort(-highest, axis=1)[:, :101]
        distance = np.sqrt(np.maximum(2 - 2 * highest, 1e-9))
        ratios = np.minimum(distance[:, 1:100] / distance[:, 100:101], 1 - 1e-6)
        local = float(np.median(-1 / np.mean(np.log(ratios), axis=1)))
        contrast = float(np.sqrt(2 - 2 * cosines.mean()) / distance[:, 49].mean())
        truth = nearest(vectors, asked)
        recalls = []
        for ef in (50, 100):
            graph.hnsw.efSearch = ef
            recalls.append(recall_of(list(graph.search(asked, K)[1].astype(np.int32)), truth))
        cells += [f"{local:.1f}", f"{contrast:.2f}", *(f"{recall:.4f}" for recall in recalls)]
    return cells


def tell_hardness(folder: Path, n_tracks: int, lakes: Sequence[Path]) -> None:
    head = ["world", "tracks", "d"]
    for kind in ("lists", "tracks"):
        head += [f"{kind}: local dimension", "contrast", "recall, ef=50", "ef=100"]
    with threadpool_limits(1):
        rows = [hardness(lake.name, Embedded.of(read_current(lake / "serving"))) for lake in lakes]
        rows.append(hardness("simulated", Embedded.of(world(folder, n_tracks).folder)))
    print(markdown_table(head, rows))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=int, default=1_000_000, help="size of the catalogue")
    parser.add_argument("--world", type=Path, help="where worlds and peers are kept (default: nowhere)")
    parser.add_argument("--rounds", type=int, default=400, help="queries timed, in twenties")
    parser.add_argument("--quick", action="store_true", help="60,000 tracks, and no targets but recall")
    parser.add_argument("--compare", action="store_true", help="all libraries and number formats")
    parser.add_argument("--json", type=Path, help="a file that --compare writes its points to")
    parser.add_argument("--plot", type=Path, help="a picture that --compare draws of them")
    parser.add_argument("--hardness", type=Path, nargs="+", metavar="LAKE", help="beside real lakes")
    options = parser.parse_args()
    n_tracks = 60_000 if options.quick else options.tracks
    missed = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.world or Path(scratch)
        if options.hardness:
            tell_hardness(folder, n_tracks, options.hardness)
        elif options.compare:
            some = compare(folder, n_tracks, options.rounds)
            tell(some)
            if options.json:
                options.json.write_text(json.dumps([asdict(point) for point in some], indent=1) + "\n")
            if options.plot:
                draw(some, f"{n_tracks:,} tracks, one core", options.plot)
        else:
            title = f"approximate, {n_tracks:,} songs, the best {K}, one core"
            missed = show(title, approximate(folder, n_tracks, options.rounds, enforce=not options.quick))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
