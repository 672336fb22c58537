"""The stages of the pipeline, in order: what each writes and what it is built from.

Here: the one list that assets, jobs, verify and forgetting read. Not here: the stages themselves;
each is a module beside this one whose function ``run(lake, ...)`` returns a `StageResult`.

To add a stage: write its module, put it into `STAGES` after its inputs, and give it an asset.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.pipeline.kept_figures import with_kept_figures
from tunegraph_pipeline.pipeline.stage_result import StageResult

Domain = Literal["listening", "catalogue", "model", "serving"]
"""What a result is about: who likes what, what is known of songs, what was learnt, or what is answered."""


@dataclass(frozen=True)
class Stage:
    """A stage: ``name`` is that of its asset, ``inputs`` are the names of the stages it is built from.

    ``module``, beside this one, is imported when the stage runs: training loads torch, which readers of the
    list do not need. Its function ``run`` is called with ``options``. ``tables`` are those it writes, the
    main one first; ``folder`` is the one whose ``CURRENT`` it sets. ``code`` is the version of its code;
    raise it when the same inputs give another output. ``daily``: it runs once for each day. ``holds_users``:
    what it wrote is removed when a user is forgotten, and rebuilt from the daily tables. ``in_refresh``: a
    refresh runs it; what it does not run is research, from which nothing is served. ``guide`` is the page of
    `docs/` that explains it.
    """

    name: str
    module: str
    inputs: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    folder: str | None = None
    code: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    daily: bool = False
    holds_users: bool = False
    in_refresh: bool = True
    domain: Domain = field(kw_only=True)
    guide: str = "architecture.md"

    def __post_init__(self) -> None:
        if unknown := set(self.tables) - TABLES.keys():
            raise ValueError(f"stage {self.name} writes {', '.join(unknown)}: declare it in lake/schemas.py")

    def run(self, lake: Lake, **options: Any) -> StageResult:
        """Run the stage; ``options`` are those of the function ``run`` of its module. A version that is
        reused has the figures and plots of when it was made."""
        module = import_module(f"{__package__}.{self.module}")
        return with_kept_figures(lake, self.name, module.run(lake, **self.options, **options))


def _daily(
    name: str, inputs: tuple[str, ...], tables: tuple[str, ...], domain: Domain, guide: str, code: int = 1
) -> Stage:
    options = {"tables": tables}
    return Stage(
        name,
        "daily_tables",
        inputs,
        tables,
        code=code,
        options=options,
        daily=True,
        domain=domain,
        guide=guide,
    )


def _generation(name: str) -> Stage:
    model = f"{name}_model"
    options = {"name": name}
    return Stage(
        model,
        "generations",
        ("like_graph",),
        folder=model,
        options=options,
        in_refresh=False,
        domain="model",
        guide="generations.md",
    )


STAGES = (
    Stage("forgotten_users", "forgetting", domain="listening", guide="forgetting.md"),
    _daily("crawled_users", ("forgotten_users",), ("users",), "listening", "crawl.md", code=3),
    _daily("liked_lists", ("crawled_users",), ("likes", "observations"), "listening", "your_data.md"),
    _daily("tracks", ("crawled_users",), ("tracks",), "catalogue", "your_data.md", code=2),
    _daily("audio_features", ("crawled_users",), ("audio_features",), "catalogue", "your_data.md"),
    _daily("redirects", ("crawled_users",), ("redirects",), "catalogue", "songs.md"),
    _daily("feedback", ("crawled_users",), ("feedback",), "listening", "service.md"),
    _daily("plays", ("crawled_users",), ("plays",), "listening", "plays.md"),
    Stage(
        "likes_from_plays",
        "likes_from_plays",
        ("forgotten_users", "plays"),
        tables=("likes_from_plays", "changed_listeners"),
        holds_users=True,
        domain="listening",
        guide="plays.md",
    ),
    Stage(
        "current_likes",
        "current_likes",
        ("forgotten_users", "liked_lists", "likes_from_plays", "feedback", "tracks", "redirects"),
        tables=("current_likes", "current_dislikes", "changed_users", "last_observations"),
        folder="current_likes",
        code=2,
        holds_users=True,
        domain="listening",
    ),
    Stage(
        "track_ids",
        "track_ids",
        ("current_likes", "tracks", "audio_features"),
        tables=("track_ids",),
        domain="catalogue",
    ),
    Stage(
        "catalogue",
        "catalogue",
        ("track_ids", "tracks", "audio_features", "redirects"),
        tables=("catalogue",),
        folder="catalogue",
        code=3,
        domain="catalogue",
    ),
    # The lists as well, by which verify knows a graph that is older than they are.
    Stage(
        "like_graph",
        "like_graph",
        ("current_likes", "catalogue"),
        folder="like_graph",
        code=4,
        holds_users=True,
        domain="model",
    ),
    Stage(
        "co_like_matrix",
        "co_like_matrix",
        ("like_graph",),
        folder="co_like",
        code=3,
        holds_users=True,
        domain="model",
        guide="co_like.md",
    ),
    Stage(
        "trained_model",
        "trained_model",
        ("co_like_matrix",),
        folder="models",
        code=4,
        domain="model",
        guide="warm_start.md",
    ),
    Stage(
        "track_embeddings",
        "track_embeddings",
        ("trained_model",),
        tables=("track_embeddings",),
        domain="model",
    ),
    # The graph as well, by which a run without training comes to it in order.
    Stage(
        "serving_bundle",
        "publish",
        ("track_embeddings", "like_graph"),
        folder="serving",
        code=10,
        domain="serving",
    ),
    Stage(
        "user_recommendations",
        "user_recommendations",
        ("serving_bundle",),
        tables=("user_recommendations",),
        domain="serving",
    ),
    Stage("evaluation", "evaluate", ("serving_bundle",), tables=("evaluation",), domain="serving"),
    Stage(
        "retention",
        "retention",
        ("serving_bundle", "user_recommendations", "evaluation"),
        domain="serving",
        guide="forgetting.md",
    ),
    Stage(
        "model_comparison",
        "compare",
        ("like_graph",),
        tables=("evaluation",),
        in_refresh=False,
        domain="model",
    ),
    _generation("v1"),
    _generation("v2"),
    _generation("v3_seed"),
)


def stage(name: str) -> Stage:
    """The stage of this name. Raises KeyError."""
    if name not in _BY_NAME:
        raise KeyError(f"{name} is not in STAGES of pipeline/stages.py")
    return _BY_NAME[name]


def array_stages() -> dict[str, str]:
    """The folders of versions of arrays, the bundles apart, with the names of their stages."""
    return {
        one.folder: one.name for one in STAGES if one.folder and not one.tables and one.folder != "serving"
    }


def table_stages() -> dict[str, str]:
    """The tables, with the name of the first stage that writes each."""
    return {table: one.name for one in reversed(STAGES) for table in one.tables}


def folders_before(folder: str) -> set[str]:
    """The folders with a ``CURRENT`` that the stage of ``folder`` is built from, past stages without one."""
    (made,) = (one for one in STAGES if one.folder == folder)
    found: set[str] = set()
    waiting = list(made.inputs)
    while waiting:
        before = stage(waiting.pop())
        if before.folder:
            found.add(before.folder)
        else:
            waiting += before.inputs
    return found


_BY_NAME = {one.name: one for one in STAGES}
