"""Making a bundle live, the gate before it, and the log of publications and refusals.

Here: the rule by which a new model may replace the live one, its enforcement, rollback, and the log. Not
here: comparing two models (`evaluation.gate`), or when to (orchestration).

The log is `publications.jsonl` next to ``CURRENT``: one JSON object per line, oldest first, rewritten
atomically.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.lake.seals import read_json, sealed_json, sealed_name
from tunegraph_pipeline.lake.storage import STAGING, remove_folder, write_text
from tunegraph_pipeline.recommend.bundle import CURRENT, Bundle, current_version, read_current, version_folder

LOG = "publications.jsonl"

Outcome = Literal["first", "same model", "accepted", "refused", "overridden", "rolled back"]


SETS, CONTINUATION = "sets", "continuation"
"""What the gate judges by: held-out likes among the others of a list; or, where most lists have an order and
are served by it, each held-out like by what was liked before it."""


@dataclass(frozen=True)
class Decision:
    """The comparison of a new model, the challenger, with the live one, the champion.

    ``champion`` and ``challenger`` are model versions, the first None where nothing was live; ``bundle`` is
    the challenger's bundle version, ``users`` the number of users compared. ``figures``: for every metric
    (``map@10``) the mean of ``champion`` and ``challenger`` and the bounds ``low`` and ``high`` of the
    interval of challenger - champion; null if not finite. ``settings`` of the gate; this module reads
    ``metric``, ``k``, ``margin`` and ``min_users``. ``objection``: why the challenger is refused regardless
    of its figures, or "". ``override``: why it should go live although refused, or "". ``counts``: what the
    comparison left out. ``protocol``: what was judged by.

    Whether the challenger may go live is not stored but derived, so that no record can claim it.
    """

    champion: str | None
    challenger: str
    bundle: str
    users: int
    figures: dict[str, dict[str, float | None]]
    settings: dict[str, Any]
    objection: str = ""
    override: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    protocol: str = SETS

    @property
    def metric(self) -> str:
        return f"{self.settings['metric']}@{self.settings['k']}"

    @property
    def refusal(self) -> str | None:
        """Why the gate refuses the challenger, None if it does not.

        The gate refuses a challenger that is clearly worse by more than the margin: the whole interval of
        challenger - champion, up to its *upper* bound, is below -margin x the champion's figure. The burden
        of proof is on the refusal, because a model trained on more likes should be better; with few held-out
        likes the interval is wide and refuses nothing. Below ``min_users`` users the interval is ignored,
        because resampling makes it too narrow (with one user it has no width). Figures that are not finite
        are refused.
        """
        if self.objection:
            return self.objection
        if self.users < self.settings["min_users"]:
            return None
        found = self.figures[self.metric]
        values = [found[name] for name in ("champion", "challenger", "low", "high")]
        finite = [value for value in values if value is not None and math.isfinite(value)]
        if len(finite) < len(values):
            return f"its {self.metric} or that of the live model is not a finite number"
        champion, challenger, low, high = finite
        allowed = -self.settings["margin"] * champion
        if high >= allowed:
            return None
        return (
            f"{self.metric} is {challenger:.4f} against {champion:.4f} of the live model; the difference is"
            f" between {low:+.4f} and {high:+.4f}, all below the allowed {allowed:+.4f}"
        )

    @property
    def goes_live(self) -> bool:
        return self.refusal is None or bool(self.override.strip())

    @property
    def winner(self) -> str | None:
        """The version of the model that should be live."""
        return self.challenger if self.goes_live else self.champion


@dataclass(frozen=True)
class Publication:
    """One line of the log: ``bundle`` of ``model`` became or stayed live, replacing the bundle ``replaced``
    of ``replaced_model`` (None if there was none)."""

    when: str
    outcome: Outcome
    bundle: str
    model: str
    replaced: str | None
    replaced_model: str | None
    reason: str
    decision: Decision | None


def publish(
    serving_folder: Path, bundle_version: str, decision: Decision | None = None, *, keep: int = 3
) -> Bundle:
    """Verify the bundle ``serving_folder/bundle_version`` and make it live, by one rename.

    The gate is enforced here, for all callers. A bundle of the live model (new likes, same weights) needs no
    ``decision``, nor does the first bundle of all. A bundle of any other model needs the decision that
    compares this bundle with the live model and accepts it. A decision that refused a challenger may be
    passed with a bundle of the champion, and is logged.

    Keeps the ``keep`` most recently written bundles, and the one that was live until now. Returns the open
    bundle. Raises BundleError, without changing ``CURRENT``, if the bundle does not match its manifest or may
    not go live.
    """
    bundle = Bundle.verified(version_folder(serving_folder, bundle_version))
    live = live_model(serving_folder)
    if decision is not None:
        _require_fitting(decision, bundle, live)
    elif live is not None and live != bundle.model_version:
        raise BundleError(
            f"bundle {bundle_version} is of model {bundle.model_version}, which was not compared with the"
            f" live model {live}; `tunegraph refresh` compares and publishes it"
        )
    outcome: Outcome
    if decision is None:
        outcome = "first" if live is None else "same model"
    elif not decision.goes_live:
        outcome = "refused"
    else:
        outcome = "accepted" if decision.refusal is None else "overridden"
    reason = "" if decision is None else (decision.override.strip() or decision.refusal or "")
    return _make_live(serving_folder, bundle, outcome, reason, decision, keep)


def _require_fitting(decision: Decision, bundle: Bundle, live: str | None) -> None:
    """Raise BundleError unless the decision makes this bundle replace the model ``live``."""
    if decision.champion != live:
        against = "no live model" if decision.champion is None else f"model {decision.champion}"
        raise BundleError(
            f"the decision about bundle {bundle.version} is against {against}, but the live"
            f" model is {live or 'none'}; `tunegraph refresh` compares them again"
        )
    if bundle.model_version == decision.challenger and not decision.goes_live:
        raise BundleError(
            f"bundle {bundle.version} was refused: {decision.refusal}; the live model stays, unless you run"
            ' `tunegraph publish --override "why"`'
        )
    judged = decision.bundle == bundle.version
    if bundle.model_version != decision.winner or (decision.goes_live and not judged):
        raise BundleError(
            f"the decision is about bundle {decision.bundle} of model {decision.challenger}, not about"
            f" {bundle.version} of model {bundle.model_version}; `tunegraph refresh` compares it"
        )


def roll_back(
    serving_folder: Path,
    bundle_version: str | None = None,
    reason: str = "",
    *,
    keep: int = 3,
    allowed: Callable[[Bundle], None] = lambda _: None,
) -> Bundle:
    """Make a bundle live again whose model was live before, without a comparison, and log it.

    Without a version, the bundle that was live before the current one; repeated, the one before that. The
    rollback lasts until a refresh publishes new likes with the same model, or a challenger that the gate
    accepts. ``allowed`` is called with the bundle and raises if it must not go live.

    Raises BundleError if there is no such bundle (the message lists those there are), or if the bundle is
    live, damaged, or of a model that was never live; to publish a model that the gate refused, use an
    override.
    """
    live = live_version(serving_folder)
    if bundle_version is None:
        bundle_version = _live_before(serving_folder, live)
    folder = version_folder(serving_folder, bundle_version)
    if bundle_version == live:
        raise BundleError(f"bundle {live} is already live; {_other_bundles(serving_folder, live)}")
    if not folder.is_dir():
        raise BundleError(f"there is no bundle {bundle_version}; {_other_bundles(serving_folder, live)}")
    bundle = Bundle.verified(folder)
    log = publications(serving_folder)
    once_live = (
        {one.model for one in log} | {one.replaced_model for one in log} | {live_model(serving_folder)}
    )
    if bundle.model_version not in once_live:
        raise BundleError(
            f"bundle {bundle_version} is of model {bundle.model_version}, which was never live; choose one"
            " of a model that was"
        )
    allowed(bundle)
    return _make_live(serving_folder, bundle, "rolled back", reason.strip(), None, keep)


def _live_before(serving_folder: Path, live: str | None) -> str:
    """The existing bundle that was live last before ``live``, except those that were rolled back from."""
    history: list[str] = []
    for one in publications(serving_folder):
        if one.outcome == "rolled back" and one.bundle in history:
            del history[history.index(one.bundle) + 1 :]
        elif not history or history[-1] != one.bundle:
            history.append(one.bundle)
    for version in reversed(history):
        if version != live and (serving_folder / version / MANIFEST).exists():
            return version
    raise BundleError(
        f"no bundle that was live before {live or 'this'} exists; {_other_bundles(serving_folder, live)}"
    )


def _other_bundles(serving_folder: Path, live: str | None) -> str:
    others = [
        f"{folder.name} of model {_model_of(folder)}"
        for folder in _by_age(serving_folder)[::-1]
        if folder.name != live and (folder / MANIFEST).exists()
    ]
    return f"others are {', '.join(others)}" if others else "there are no others"


def live_version(serving_folder: Path) -> str | None:
    """The version of the live bundle, None if nothing is live or the bundle does not exist."""
    try:
        return read_current(serving_folder).name
    except BundleError:
        return None


def live_model(serving_folder: Path) -> str | None:
    """The version of the live model, None if nothing was ever published.

    Read from the live bundle, in whatever format; if that is damaged or missing, from the log, so that losing
    a bundle does not open the gate.
    """
    log = publications(serving_folder)
    logged = log[-1].model if log else None
    try:
        return _model_of(version_folder(serving_folder, current_version(serving_folder))) or logged
    except BundleError:
        return logged


def needed_models(serving_folder: Path) -> set[str]:
    """The versions of the models that may still be served: the live one, even if its bundles are lost, and
    those of all existing bundles, since a rollback may make any of them live."""
    found = {_model_of(path.parent) for path in serving_folder.glob(f"[!.]*/{MANIFEST}")}
    return {model for model in (*found, live_model(serving_folder)) if model is not None}


def publications(serving_folder: Path) -> list[Publication]:
    """The log, oldest first. Raises BundleError naming the first line that cannot be read."""
    log = []
    for number, entry in _entries(serving_folder):
        if isinstance(entry, ValueError):
            raise BundleError(
                f"{serving_folder / LOG} line {number} is not a publication ({entry}); restore the file, or"
                " let `tunegraph verify --repair` drop the line"
            ) from entry
        log.append(entry)
    return log


def readable_lines(serving_folder: Path) -> tuple[list[Publication], list[int]]:
    """The lines of the log that can be read, and the numbers, from 1, of those that cannot."""
    entries = list(_entries(serving_folder))
    kept = [entry for _, entry in entries if isinstance(entry, Publication)]
    return kept, [number for number, entry in entries if isinstance(entry, ValueError)]


def write_log(serving_folder: Path, log: Sequence[Publication]) -> None:
    """Replace the log atomically."""
    lines = [f"{sealed_json(json.dumps(asdict(one), ensure_ascii=False, allow_nan=False))}\n" for one in log]
    write_text(serving_folder / LOG, "".join(lines), serving_folder / STAGING)


def _entries(serving_folder: Path) -> Iterator[tuple[int, Publication | ValueError]]:
    """The lines of the log with their numbers, from 1; an error for a line that cannot be read."""
    try:
        lines = (serving_folder / LOG).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        try:
            entry = read_json(line)
            decision = entry.pop("decision")
            yield number, Publication(**entry, decision=decision and Decision(**decision))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            yield number, ValueError(str(error))


def last_judged(serving_folder: Path) -> Publication | None:
    """The last publication with a decision, None if no challenger has been compared yet."""
    return next((one for one in reversed(publications(serving_folder)) if one.decision is not None), None)


def _make_live(
    serving_folder: Path, bundle: Bundle, outcome: Outcome, reason: str, decision: Decision | None, keep: int
) -> Bundle:
    replaced = live_version(serving_folder)
    log = publications(serving_folder)
    logged = bool(log) and log[-1].bundle == bundle.version == replaced
    if not logged or (decision is not None and log[-1].decision != decision):
        when = datetime.now(UTC).isoformat(timespec="seconds")
        before = live_model(serving_folder)
        entry = Publication(
            when, outcome, bundle.version, bundle.model_version, replaced, before, reason, decision
        )
        # Before CURRENT, so that a bundle is never live without the line that says why.
        write_log(serving_folder, [*log, entry])
    write_text(serving_folder / CURRENT, sealed_name(bundle.version), serving_folder / STAGING)
    prune(serving_folder, {bundle.version, replaced}, keep)
    return bundle


def _model_of(folder: Path) -> str | None:
    # Without opening the bundle, because one in an older format or with a truncated array has a model too.
    try:
        return str(read_json((folder / MANIFEST).read_bytes())["facts"]["model_version"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def prune(serving_folder: Path, spared: set[str | None], keep: int) -> int:
    """Remove all but the ``keep`` most recently written bundles and those ``spared``; returns how many.

    A reader that has one open keeps its files.
    """
    unneeded = [path for path in _by_age(serving_folder)[::-1][keep:] if path.name not in spared]
    for folder in unneeded:
        remove_folder(folder, serving_folder / STAGING)
    return len(unneeded)


def withdraw(serving_folder: Path) -> int:
    """Remove ``CURRENT`` and all bundles, when no users are left to serve; returns how many bundles there
    were. The log stays, so that a new model is compared with the one that was live."""
    (serving_folder / CURRENT).unlink(missing_ok=True)
    return prune(serving_folder, set(), 0)


def _by_age(serving_folder: Path) -> list[Path]:
    """The folders of all bundles, oldest first. Those that lost their manifest come first: they cannot be
    opened, but may still name users."""
    folders = {
        path.parent for what in (MANIFEST, "*.npy") for path in serving_folder.glob(f"[!.]*/{what}")
    }  # other folders are not bundles, and stay
    manifests = {path: path / MANIFEST for path in folders}
    return sorted(
        folders,
        key=lambda path: (manifests[path].stat().st_mtime_ns if manifests[path].exists() else 0, path),
    )
