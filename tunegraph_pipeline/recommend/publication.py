"""Making a bundle the live one, the gate in front of it, and the record of what was published and refused.

Here: the rule by which a new model may replace the live one, its enforcement, roll-back, and the log. Not
here: how two models are compared (`evaluation.gate`), or when (the orchestration decides).

`publications.jsonl` lies beside ``CURRENT``: a JSON object a line, oldest first, rewritten atomically.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.lake.storage import STAGING, remove_folder, write_text
from tunegraph_pipeline.recommend.bundle import CURRENT, Bundle, current_version, read_current, version_folder

LOG = "publications.jsonl"

Outcome = Literal["first", "same model", "accepted", "refused", "overridden", "rolled back"]


@dataclass(frozen=True)
class Decision:
    """What was found when a refreshed model, the challenger, was judged against the live one, the champion.

    ``champion`` and ``challenger`` are model versions, ``bundle`` is the challenger's bundle version.
    ``users`` were judged. ``figures``: for every metric (``map@10``) the mean of ``champion`` and
    ``challenger`` and the bounds ``low`` and ``high`` of the interval of challenger - champion; null where
    not finite. ``settings``: those of the gate; read here are ``metric``, ``k``, ``margin`` and
    ``min_users``. ``objection``: why the challenger was refused whatever its figures, "" where it was not.
    ``override``: why it is to go live although refused, "" where it is not. ``counts``: what was left out of
    the comparison.

    Whether it may go live is not stored but follows from these, so that no record can claim it.
    """

    champion: str
    challenger: str
    bundle: str
    users: int
    figures: dict[str, dict[str, float | None]]
    settings: dict[str, Any]
    objection: str = ""
    override: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        return f"{self.settings['metric']}@{self.settings['k']}"

    @property
    def refusal(self) -> str | None:
        """Why the gate refuses the challenger, None where it does not.

        Refused is a challenger that is worse by more than the margin beyond reasonable doubt: the whole
        interval of challenger - champion, its *upper* bound included, lies below -margin x the champion's
        figure. The burden of proof is on the refusal, because a model that saw more likes is expected to be
        the better one; where few likes are held out the interval is wide and refuses nothing. Below
        ``min_users`` users an interval by resampling is too narrow to be believed (of one user it has no
        width), and is not looked at. A figure that is not finite is refused.
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
            f"{self.metric} is {challenger:.4f} against {champion:.4f} of the live model; the difference lies"
            f" between {low:+.4f} and {high:+.4f}, all of it below the allowed {allowed:+.4f}"
        )

    @property
    def goes_live(self) -> bool:
        return self.refusal is None or bool(self.override.strip())

    @property
    def winner(self) -> str:
        """The version of the model that is to be live."""
        return self.challenger if self.goes_live else self.champion


@dataclass(frozen=True)
class Publication:
    """One line of the log: ``bundle`` of ``model`` became or stayed the live one, in the place of
    ``replaced``, a bundle of ``replaced_model`` (None where there was none)."""

    when: str
    outcome: Outcome
    bundle: str
    model: str
    replaced: str | None
    replaced_model: str | None
    reason: str
    decision: Decision | None

    def line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)


def publish(
    serving_folder: Path, bundle_version: str, decision: Decision | None = None, *, keep: int = 3
) -> Bundle:
    """Verify the bundle ``serving_folder/bundle_version`` and make it the live one, by one rename.

    This is where the gate is enforced, whoever calls. A bundle of the live model, fresh likes with the same
    weights, needs no ``decision``, and where there is no live model neither does the first. A bundle of any
    other model needs the decision about this very bundle against the live model, by which it goes live. A
    decision that refused a challenger may be given along with a bundle of the champion, and is recorded.

    Of all bundles the ``keep`` most recently written stay, and always the one that was live until now.
    Returns the bundle, open. Raises BundleError, and leaves ``CURRENT`` as it was, where the bundle does not
    match its manifest, or may not go live.
    """
    bundle = Bundle.verified(version_folder(serving_folder, bundle_version))
    live = live_model(serving_folder)
    if decision is not None:
        decision_fits(decision, bundle, live)
    elif live is not None and live != bundle.model_version:
        raise BundleError(
            f"bundle {bundle_version} is of model {bundle.model_version}, which was not judged against the"
            f" live model {live}; `tunegraph refresh` judges and publishes it"
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


def decision_fits(decision: Decision, bundle: Bundle, live: str | None) -> None:
    """Raise BundleError unless by this decision this bundle is to be live after the model ``live``."""
    if decision.champion != live:
        raise BundleError(
            f"the decision about bundle {bundle.version} is against model {decision.champion}, and live is"
            f" {live or 'none'}; `tunegraph refresh` judges it anew"
        )
    if bundle.model_version == decision.challenger and not decision.goes_live:
        raise BundleError(
            f"bundle {bundle.version} was refused: {decision.refusal}; the live model stays, unless"
            ' `tunegraph publish --override "why"` says otherwise'
        )
    judged = decision.bundle == bundle.version
    if bundle.model_version != decision.winner or (decision.goes_live and not judged):
        raise BundleError(
            f"the decision is about bundle {decision.bundle} of model {decision.challenger}, not about"
            f" {bundle.version} of model {bundle.model_version}; `tunegraph refresh` judges it"
        )


def roll_back(
    serving_folder: Path,
    bundle_version: str | None = None,
    reason: str = "",
    *,
    keep: int = 3,
    allowed: Callable[[Bundle], None] = lambda _: None,
) -> Bundle:
    """Make a bundle live again whose model was live before, without a comparison; the log says so.

    Without a version, the one that was live before the present one; a second time, the one before that. It
    holds until a refresh has fresh likes of its model, or a challenger that the gate accepts. Raises
    BundleError, naming the bundles at hand, where there is none to go back to; where the bundle is live, is
    damaged, or its model never was live: that a person wants one the gate refused is said by an override.
    ``allowed`` is asked about the bundle before it goes live, and raises where it may not.
    """
    live = live_version(serving_folder)
    if bundle_version is None:
        bundle_version = _live_before(serving_folder, live)
    folder = version_folder(serving_folder, bundle_version)
    if bundle_version == live:
        raise BundleError(f"bundle {live} is live already; {_at_hand(serving_folder, live)}")
    if not folder.is_dir():
        raise BundleError(f"there is no bundle {bundle_version}; {_at_hand(serving_folder, live)}")
    bundle = Bundle.verified(folder)
    if bundle.model_version not in _models_once_live(serving_folder):
        raise BundleError(
            f"bundle {bundle_version} is of model {bundle.model_version}, which was never live; a roll-back"
            " is to one that was"
        )
    allowed(bundle)
    return _make_live(serving_folder, bundle, "rolled back", reason.strip(), None, keep)


def _live_before(serving_folder: Path, live: str | None) -> str:
    """The bundle at hand that was live last before ``live``; what was rolled back from does not count."""
    course: list[str] = []
    for one in publications(serving_folder):
        if one.outcome == "rolled back" and one.bundle in course:
            del course[course.index(one.bundle) + 1 :]
        elif not course or course[-1] != one.bundle:
            course.append(one.bundle)
    for version in reversed(course):
        if version != live and (serving_folder / version / MANIFEST).exists():
            return version
    raise BundleError(
        f"no bundle that was live before {live or 'this'} is at hand; {_at_hand(serving_folder, live)}"
    )


def _at_hand(serving_folder: Path, live: str | None) -> str:
    others = [
        f"{folder.name} of model {_model_of(folder)}"
        for folder in _by_age(serving_folder)[::-1]
        if folder.name != live and (folder / MANIFEST).exists()
    ]
    return f"at hand: {', '.join(others)}" if others else "there is no other one"


def live_version(serving_folder: Path) -> str | None:
    """The name of the live bundle, None where nothing is live or ``CURRENT`` names none that is there."""
    try:
        return read_current(serving_folder).name
    except BundleError:
        return None


def live_model(serving_folder: Path) -> str | None:
    """The version of the model that is live, None where nothing was ever published.

    Asked of the live bundle, whatever its format; where that is damaged or gone, of the log, so that losing
    a bundle does not open the gate.
    """
    log = publications(serving_folder)
    logged = log[-1].model if log else None
    try:
        return _model_of(version_folder(serving_folder, current_version(serving_folder))) or logged
    except BundleError:
        return logged


def needed_models(serving_folder: Path) -> set[str]:
    """The versions of the models that may be served on: the live one, also where its bundles are lost, and
    those the bundles at hand are of, since a roll-back may make any of them live."""
    found = {_model_of(path.parent) for path in serving_folder.glob(f"[!.]*/{MANIFEST}")}
    return {model for model in (*found, live_model(serving_folder)) if model is not None}


def publications(serving_folder: Path) -> list[Publication]:
    """The log, oldest first. Raises BundleError naming the line that cannot be read."""
    log = []
    for number, line in enumerate(_lines(serving_folder), 1):
        try:
            log.append(_publication(line))
        except ValueError as error:
            raise BundleError(
                f"{serving_folder / LOG} line {number} is no publication ({error}); restore the file, or let"
                " `tunegraph verify --repair` drop the line"
            ) from error
    return log


def readable_lines(serving_folder: Path) -> tuple[list[Publication], list[int]]:
    """The lines of the log that can be read, and the numbers, from 1, of those that cannot."""
    kept: list[Publication] = []
    damaged: list[int] = []
    for number, line in enumerate(_lines(serving_folder), 1):
        try:
            kept.append(_publication(line))
        except ValueError:
            damaged.append(number)
    return kept, damaged


def write_log(serving_folder: Path, log: Sequence[Publication]) -> None:
    """Replace the log atomically."""
    text = "".join(one.line() + "\n" for one in log)
    write_text(serving_folder / LOG, text, serving_folder / STAGING)


def _lines(serving_folder: Path) -> list[bytes]:
    try:
        return (serving_folder / LOG).read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _publication(line: bytes) -> Publication:
    """Raises ValueError with the reason where the line is none."""
    try:
        entry = json.loads(line)
        decision = entry.pop("decision")
        return Publication(**entry, decision=decision and Decision(**decision))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def last_judged(serving_folder: Path) -> Publication | None:
    """The last publication with a decision, None where no challenger has been judged yet."""
    return next((one for one in reversed(publications(serving_folder)) if one.decision is not None), None)


def _make_live(
    serving_folder: Path, bundle: Bundle, outcome: Outcome, reason: str, decision: Decision | None, keep: int
) -> Bundle:
    replaced = live_version(serving_folder)
    log = publications(serving_folder)
    told = bool(log) and log[-1].bundle == bundle.version == replaced
    if not told or (decision is not None and log[-1].decision != decision):
        when = datetime.now(UTC).isoformat(timespec="seconds")
        before = live_model(serving_folder)
        entry = Publication(
            when, outcome, bundle.version, bundle.model_version, replaced, before, reason, decision
        )
        # Before CURRENT: a bundle is never live without the line that says why.
        write_log(serving_folder, [*log, entry])
    write_text(serving_folder / CURRENT, bundle.version + "\n", serving_folder / STAGING)
    prune(serving_folder, {bundle.version, replaced}, keep)
    return bundle


def _models_once_live(serving_folder: Path) -> set[str | None]:
    log = publications(serving_folder)
    return {one.model for one in log} | {one.replaced_model for one in log} | {live_model(serving_folder)}


def _model_of(folder: Path) -> str | None:
    # Not by opening the bundle: one of an older format, or with a part cut short, still says whose it is.
    try:
        return str(json.loads((folder / MANIFEST).read_text())["facts"]["model_version"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def prune(serving_folder: Path, spared: set[str | None], keep: int) -> int:
    """Remove all but the ``keep`` most recently written bundles and those ``spared``; returns how many went.

    A reader that has one open keeps its files.
    """
    doomed = [path for path in _by_age(serving_folder)[::-1][keep:] if path.name not in spared]
    for folder in doomed:
        remove_folder(folder, serving_folder / STAGING)
    return len(doomed)


def withdraw(serving_folder: Path) -> int:
    """Make no bundle the live one and remove them all, where there is nobody left to serve; returns how many
    there were. The log stays, so that a new model is judged against the one that was live."""
    (serving_folder / CURRENT).unlink(missing_ok=True)
    return prune(serving_folder, set(), 0)


def _by_age(serving_folder: Path) -> list[Path]:
    """The folders of all bundles, the one written last at the end; those that lost their manifest, which no
    one can open and which may name users all the same, at the beginning."""
    folders = {
        path.parent for what in (MANIFEST, "*.npy") for path in serving_folder.glob(f"[!.]*/{what}")
    }  # anything else is somebody's, and stays
    manifests = {path: path / MANIFEST for path in folders}
    return sorted(
        folders,
        key=lambda path: (manifests[path].stat().st_mtime_ns if manifests[path].exists() else 0, path),
    )
