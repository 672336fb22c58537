"""The plots that a run keeps, as PNG bytes.

Here: pure functions from arrays to a picture, in one style. Not here: computing what is shown, and where
pictures go. Figures are made directly, without pyplot, so none is left open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from textwrap import fill, shorten
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.evaluation.bootstrap import intervals, wilson_interval
from tunegraph_pipeline.evaluation.metrics import BANDS, USER_METRICS
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tunegraph_pipeline.evaluation.compare import Outcome
    from tunegraph_pipeline.evaluation.evaluate import Evaluation
    from tunegraph_pipeline.training.calibration import Band, Calibration, ReliabilityPoint

_INK, _FAINT, _GRID = "#1f2933", "#9aa5b1", "#e4e7eb"
_COLOURS = ("#2563eb", "#f97316", "#059669", "#a21caf", "#dc2626", "#0891b2", "#ca8a04", "#64748b")
"""In order of use: blue and orange, which differ for any colour vision, come first."""
_STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_DPI = 110
_STYLED = Lock()
_MANY_TIMES = 20
"""Values that differ by more than this factor are drawn on a logarithmic axis."""
_FEW_EPOCHS = 10
"""Up to so many epochs, each has its tick."""


def _picture(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """Let ``draw`` fill a figure of this size in inches; the same input gives the same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The style is matplotlib's global state for as long as it is set.
    with _STYLED, mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        png = BytesIO()
        # savefig would lay the figure out and draw it twice.
        canvas.print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return png.getvalue()


def _note(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[int, int], *, size: float = 10
) -> None:
    axes.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        ha="center",
        fontsize=size,
        # Readable also where a line passes behind it.
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def degree_distribution(user_degrees: NDArray[np.integer], track_degrees: NDArray[np.integer]) -> bytes:
    """The distributions of likes per user and per track, on logarithmic axes.

    ``user_degrees`` int[U] and ``track_degrees`` int[N]. Each is drawn as the share with at least that many
    likes, which needs no bins and stays readable in the long tail. Zeros are counted in the legend.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        drawn = (("users", user_degrees, "o"), ("tracks", track_degrees, "s"))
        for (name, degrees, marker), colour in zip(drawn, _COLOURS, strict=False):
            liked = degrees[degrees > 0]
            values, counts = np.unique(liked, return_counts=True)
            at_least = np.cumsum(counts[::-1])[::-1] / max(1, liked.size)
            label = f"{liked.size:,} {name}"
            if liked.size:
                label += f", median {np.median(liked):,.0f}, most {values[-1]:,}"
            if liked.size < degrees.size:
                label += f"\n({degrees.size - liked.size:,} without a like)"
            axes.plot(values, at_least, marker=marker, ms=3, lw=1.2, color=colour, label=label)
        most = max(10, int(user_degrees.max(initial=0)), int(track_degrees.max(initial=0)))
        longest = max(10, user_degrees.size, track_degrees.size)
        axes.set(xscale="log", yscale="log", xlim=(0.9, 1.3 * most), ylim=(0.6 / longest, 1.6))
        axes.set(title="Likes per user and per track")
        axes.set(xlabel="likes", ylabel="share with at least that many likes")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4%}".rstrip("0%").rstrip(".") + " %")
        axes.legend(loc="best")

    return _picture(draw, 7, 4.5)


def training_curves(loss: Sequence[float], validation: Mapping[str, Sequence[float]]) -> bytes:
    """Training loss and validation metrics by epoch, with the epoch where the first of the metrics is best.

    ``loss``: one figure an epoch, in nats. ``validation``: name -> one figure an epoch, greater is
    better, NaN where nothing was held out.
    """

    first = np.asarray(next(iter(validation.values()), ()), dtype=np.float64)
    best = int(np.nanargmax(first)) if np.isfinite(first).any() else None

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        epochs = np.arange(1, len(loss) + 1)
        marker = "o" if len(loss) <= 40 else None
        left.plot(epochs, loss, marker=marker, ms=4, color=_COLOURS[0])
        left.set(title="Training loss", xlabel="epoch", ylabel="loss, nats")
        for (name, values), colour in zip(validation.items(), _COLOURS, strict=False):
            right.plot(np.arange(1, len(values) + 1), values, marker=marker, ms=4, color=colour, label=name)
        names = " and ".join(validation)
        right.set(title="Validation: nothing was held out", xlabel="epoch", ylabel=names)
        if best is None:
            right.set_yticks([])
        else:
            right.set_title(f"Validation: best {first[best]:.4f}, in epoch {best + 1}")
            for axes in (left, right):
                axes.axvline(best + 1, color=_FAINT, lw=1, ls=":")
            if len(validation) > 1:
                right.legend(loc="best")
        for axes in (left, right):
            axes.set_xlim(0.5, max(1, len(loss)) + 0.5)
            if len(loss) <= _FEW_EPOCHS:
                axes.set_xticks(epochs)
            else:
                axes.locator_params(axis="x", integer=True)

    return _picture(draw, 9, 3.6)


def drift_histogram(cosines: NDArray[np.floating]) -> bytes:
    """How far tracks have moved since an earlier model, by the cosine of each one's vectors then and now, in
    aligned spaces."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        # From what moved most: a day moves tracks by thousandths, another space by all of it.
        low = min(float(cosines.min(initial=1.0)), 0.999)
        axes.hist(cosines, bins=np.linspace(low, 1, 41).tolist(), color=_COLOURS[0])
        mean = float(cosines.mean()) if cosines.size else 1.0
        axes.axvline(mean, color=_COLOURS[1], label=f"mean {mean:.4f}")
        axes.ticklabel_format(useOffset=False)
        axes.set(title=f"Drift of {cosines.size:,} tracks since the earlier model")
        axes.set(xlabel="cosine of a track's vectors then and now; 1 where it did not move", ylabel="tracks")
        axes.locator_params(axis="y", integer=True)
        axes.legend(loc="best")

    return _picture(draw, 7, 4)


def calibration_diagram(calibration: Calibration) -> bytes:
    """Predicted probability against the share that were neighbours, in all and by popularity.

    Each point has its 95 % interval. Below each curve, how many pairs a point stands for. For a calibration
    that was not fitted, the reason.
    """

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
        figure.suptitle(_calibration_title(calibration), x=0.01, ha="left", fontsize=10)
        base_rate = calibration.judged_neighbours / calibration.judged_pairs
        curves = [("all pairs", calibration.reliability, _COLOURS[0])]
        by_band = [
            (_band_label(band, calibration.served), band.reliability, colour)
            for band, colour in zip(calibration.bands, _COLOURS[1:], strict=False)
        ]
        every = [point for _, points, _ in (*curves, *by_band) for point in points]
        shares = [value for point in every for value in (point.predicted, point.observed) if value > 0]
        # Logarithmic where the shares differ by orders of magnitude.
        wide = max(shares) > _MANY_TIMES * min(shares)
        low, high = (min(shares) / 1.5, max(shares) * 1.5) if wide else (0.0, max(shares) * 1.15)
        scale, ends = "log" if wide else "linear", (low, min(1.0, high))
        for column, (title, group) in enumerate((("All pairs", curves), ("By popularity", by_band))):
            top, below = panels[0, column], panels[1, column]
            top.plot(ends, ends, color=_FAINT, lw=1, ls="--", label="as predicted")
            top.axhline(base_rate, color=_FAINT, lw=1, ls=":", label=f"share of all pairs, {base_rate:.3g}")
            for name, points, colour in group:
                _reliability_curve(top, below, name, points, colour)
            top.set(title=title, xscale=scale, yscale=scale, xlim=ends, ylim=ends)
            most = max(point.n_pairs for _, points, _ in group for point in points)
            below.set(xlabel="predicted probability", ylim=(0, 1.1 * most))
            below.locator_params(axis="y", nbins=3, integer=True)
            for axis in (top.xaxis, top.yaxis, below.xaxis):
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter("")
            below.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        panels[0, 0].set_ylabel("share that were neighbours")
        panels[1, 0].set_ylabel("pairs")
        entries = [axes.get_legend_handles_labels() for axes in panels[0]]
        by_name = {name: line for lines, names in entries for line, name in zip(lines, names, strict=True)}
        figure.legend(by_name.values(), by_name.keys(), loc="outside lower center", ncols=2, fontsize=9)

    def say_why(figure: Figure) -> None:
        figure.suptitle("Neighbour probability", x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.text(0.5, 0.5, fill(calibration.status, 90), ha="center", va="center")

    return _picture(draw, 10, 6.6) if calibration.reliability else _picture(say_why, 8, 2.8)


def _band_label(band: Band, served: str) -> str:
    told = f"error {band.calibration_error:.3g}"
    if band.judgements:
        told += f", AUC {band.judgements[served].auc:.3f}"
    return f"{band.name} ({told})"


def _calibration_title(calibration: Calibration) -> str:
    served = calibration.judgements[calibration.served]
    reference = calibration.judgements["popularity"]
    return (
        f"Neighbour probability from {calibration.served.replace('_', ' ')}: Brier skill {served.skill:.3f}, "
        f"AUC {served.auc:.3f}   (popularity alone: {reference.skill:.3f}, {reference.auc:.3f})   "
        f"{'passes' if calibration.passes else 'does not pass'}\n"
        f"judged on {calibration.judged_pairs:,} pairs of {calibration.panel_users:,} users "
        "no model was trained on; bars are 95 % intervals"
    )


def _reliability_curve(
    top: Axes, below: Axes, name: str, points: Sequence[ReliabilityPoint], colour: str
) -> None:
    predicted = np.array([point.predicted for point in points])
    observed = np.array([point.observed for point in points])
    pairs = np.array([point.n_pairs for point in points])
    low, high = wilson_interval(observed, pairs)
    top.vlines(predicted, low, high, color=colour, lw=1, alpha=0.5)
    top.plot(predicted, np.where(observed > 0, observed, np.nan), "o-", ms=4, lw=1, color=colour, label=name)
    below.plot(predicted, pairs, drawstyle="steps-mid", color=colour)


_MAP_COLOURS = (*_COLOURS[:-1], "#84cc16", "#db2777", "#92400e", "#0f172a", "#67c5f0")


def embedding_map(
    layout: NDArray[np.floating],
    popularity: NDArray[np.integer],
    genres: Sequence[str | None],
    *,
    n_most: int = 2000,
) -> bytes:
    """The most liked tracks on the map, larger where more liked, coloured by genre where known.

    ``layout`` float[N, 2] of `training.song_map`; ``popularity`` int[N]; ``genres`` of the same tracks, None
    or "" where unknown. The most frequent genres get a colour; the others, and unknown ones, are grey.
    """
    tracks = np.argsort(-popularity, kind="stable")[:n_most]
    tracks = tracks[popularity[tracks] > 0]
    points, likes = layout[tracks], popularity[tracks]
    genre = [genres[track] or "" for track in tracks.tolist()]
    names, counts = np.unique([name for name in genre if name], return_counts=True)
    shown = names[np.argsort(-counts, kind="stable")][: len(_MAP_COLOURS)].tolist()
    label = np.array([name if name in shown else "" for name in genre])
    size = 4 + 46 * np.sqrt(likes / max(1, int(likes.max(initial=1))))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(visible=False)
        which = "most liked" if len(points) < np.count_nonzero(popularity) else "liked"
        axes.set(title=f"The {len(points):,} {which} tracks in the embedding space")
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
        rest = "other or unknown" if shown else "genre unknown"
        for name, colour in (("", _FAINT if shown else _COLOURS[0]), *zip(shown, _MAP_COLOURS, strict=False)):
            inside = label == name
            if inside.any():
                axes.scatter(
                    points[inside, 0],
                    points[inside, 1],
                    s=size[inside],
                    color=colour,
                    alpha=0.75 if name or not shown else 0.35,
                    linewidths=0,
                    label=f"{shorten(name or rest, 26, placeholder='…')} ({int(inside.sum()):,})",
                )
        note = "t-SNE of the cosine: near is alike, far says little; larger is more liked"
        figure.text(0.01, 0.005, note, fontsize=8.5)
        if len(points):
            for handle in figure.legend(loc="outside right center").legend_handles:
                handle.set_sizes([40])  # type: ignore[union-attr]

    return _picture(draw, 9, 6.6)


def metric_bars(evaluations: Sequence[Evaluation]) -> bytes:
    """The served model beside the baselines: a group per metric, a bar per model, each with its value and its
    95 % interval over the users."""
    n_users = max((len(figures) for one in evaluations for figures in one.per_user.values()), default=0)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / max(1, len(evaluations))
        places = np.arange(len(USER_METRICS))
        for number, (one, colour) in enumerate(zip(evaluations, _COLOURS, strict=False)):
            values = [one.values[name] for name in USER_METRICS]
            at = places + (number - (len(evaluations) - 1) / 2) * width
            axes.bar(at, values, width * 0.92, color=colour, label=one.model)
            tops = values
            if n_users:
                sure = intervals(np.stack([one.per_user[name] for name in USER_METRICS]))
                tops = [found.high for found in sure]
                lows = [found.low for found in sure]
                axes.vlines(at, lows, tops, color="white", lw=3.5)  # a rim, on bars of any colour
                axes.vlines(at, lows, tops, color=_INK, lw=1.5)
            for place, value, top in zip(at, values, tops, strict=True):
                _note(axes, f"{value:.3f}".removeprefix("0"), (place, top), (0, 3), size=8.5)
        axes.set_xticks(places, [f"{name}@{evaluations[0].k}" for name in USER_METRICS])
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        who = f"mean over {counted(n_users, 'user')} and its 95 % interval" if n_users else "mean over users"
        axes.set_title(f"Held-out likes found, {who}")
        axes.set_ylabel("from 0 to 1, higher is better")
        axes.margins(y=0.12)
        figure.legend(loc="outside lower center", ncols=len(evaluations))

    return _picture(draw, 9, 4.4)


def paired_intervals(figures: Mapping[str, Mapping[str, float | None]], margin: float, n_users: int) -> bytes:
    """How far a new model is from the live one, one line per metric, in percent of the live model's value.

    ``figures``: metric -> ``champion``, ``challenger``, ``low`` and ``high`` as in a decision of the gate; a
    metric that is not finite, or zero for the live model, is named and has no line. ``margin``: the share of
    the first metric's value that may be lost; a model whose whole interval is left of it is refused.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, one in enumerate(figures.values()):
            champion, challenger, low, high = (
                one[name] for name in ("champion", "challenger", "low", "high")
            )
            if not champion or challenger is None or low is None or high is None:
                continue
            middle = 100 * (challenger / champion - 1)
            axes.plot([100 * low / champion, 100 * high / champion], [place, place], lw=3, color=_COLOURS[0])
            axes.plot([middle], [place], "o", ms=8, color=_COLOURS[0])
            _note(axes, f"{challenger:.4f} against {champion:.4f}", (middle, place), (0, 9))
        axes.axvline(0, color=_FAINT, lw=1)
        axes.axvline(-100 * margin, color=_COLOURS[1], lw=1.5, ls="--", label="what may be lost")
        axes.set_yticks(range(len(figures)), list(figures))
        axes.set_ylim(len(figures) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set(title=f"Challenger and champion, {counted(n_users, 'user')}")
        axes.set(xlabel="new model against the live one, %; the line is the interval of the difference")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)

    return _picture(draw, 8, 3.4)


def comparison_chart(outcomes: Sequence[Outcome]) -> bytes:
    """Models side by side on one protocol: MAP with its interval, and recall by popularity band.

    Only the first seed of a model is shown.
    """
    first = [one for one in outcomes if one.seed == outcomes[0].seed]
    sure = intervals(np.stack([one.per_user["map"] for one in first]))

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(first))
        for place, found in zip(places, sure, strict=True):
            colour = _COLOURS[0] if place == 0 else _FAINT
            left.plot([found.low, found.high], [place, place], color=colour, lw=3, solid_capstyle="round")
            left.plot([found.mean], [place], "o", color=colour, ms=8)
            _note(left, f"{found.mean:.4f}", (found.mean, float(place)), (0, 8))
        left.set_yticks(places, [one.model for one in first])
        left.set_ylim(len(first) - 0.5, -0.6)
        n_users = counted(len(first[0].per_user["map"]), "user")
        left.set(title=f"MAP@{first[0].k}, {first[0].protocol}")
        left.set(xlabel=f"mean over {n_users} and its 95 % interval")
        left.grid(visible=False, axis="y")
        for band, colour, marker in zip(BANDS, _COLOURS, "os^", strict=False):
            right.plot([one.bands[band] for one in first], places, marker, color=colour, ms=7, label=band)
        right.set(title=f"Recall@{first[0].k} by popularity", xlabel="share of the held-out likes found")
        figure.legend(loc="outside lower right", ncols=len(BANDS))

    return _picture(draw, 10, 2.0 + 0.5 * max(3, len(first)))
