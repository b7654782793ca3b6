"""Figures of a tile's shapes against im3shape's and against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deblend_assets.science.evaluation.against_im3shape import COMPARISONS, COMPONENTS
from deblend_assets.science.evaluation.against_truth import PULL_LIMIT, TRUTH_KINDS
from deblend_assets.science.measuring.sky_columns import ID
from deblend_assets.science.reports.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    legend_above,
    legend_below,
    new_figure,
)
from deblend_assets.science.reports.tile_text import tile_label
from deblend_assets.science.statistics.accuracy import Evaluation, bin_label, values
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.science.statistics.metrics import Floats

_SHOWN_POINTS = 3_000
_ROWS = (
    ("shear", "g", "the same quantity"),
    ("distortion", "e", "the report's comparison"),
)


def shapes_against_im3shape(
    shapes: pd.DataFrame, reference: pd.DataFrame, evaluation: Evaluation, *, tile: str, simulated: bool
) -> Figure:
    """Ours against im3shape's with both lines (the report's Fig. 17): g, the same quantity, and e as in the report.

    At most 3,000 galaxies are shown as points, evenly spaced in the table.

    Args:
        shapes: the shape catalogue.
        reference: im3shape after the cuts.
        evaluation: of `evaluate_tile` on both.
        tile, simulated: which it is.
    """
    rows = shapes.merge(reference[[ID, "e_1", "e_2"]], on=ID)
    figure = new_figure(8.4, 7.2)
    axes = figure.subplots(2, 3)
    theirs = (values(rows, "e_1"), values(rows, "e_2"))
    for row, (name, letter, words) in zip(axes, _ROWS, strict=True):
        ours = tuple(values(rows, column) for column in COMPARISONS[name])
        reach = _reach(*theirs, *(ours if name == "shear" else ()))
        for k, (axis, component) in enumerate(zip(row, COMPONENTS, strict=True)):
            x, y = (np.hypot(*pair) if k == 2 else pair[k] for pair in (theirs, ours))
            low, high = (0.0, 1.2 * reach) if k == 2 else (-reach, reach)
            _points_and_lines(axis, x, y, evaluation["im3shape"][name][component], low, high)
            sign = (f"{letter}{k + 1}", f"e_{k + 1}") if k < 2 else (f"|{letter}|", "|e|")
            kind = "intrinsic, shear-type" if letter == "g" else "observed distortion"
            axis.set(xlabel=f"im3shape {sign[1]} (shear-type)", ylabel=f"our {sign[0]} ({kind})")
            axis.set_title(_slopes(evaluation["im3shape"][name][component]), fontsize=9)
        row[0].annotate(words, (0, 1), (0, 34), xycoords="axes fraction", textcoords="offset points", fontsize=10)
    found = evaluation["im3shape"]["shear"]
    legend_below(figure)
    figure.suptitle(
        f"Shapes against im3shape, sky frame, N = {found['n'] - found['failures']:,}: {tile_label(tile, simulated)}",
        fontsize=11,
    )
    return figure


def _points_and_lines(axis: Axes, x: Floats, y: Floats, found: Evaluation, low: float, high: float) -> None:
    worked = np.isfinite(x) & np.isfinite(y)
    every = max(1, -(-int(worked.sum()) // _SHOWN_POINTS))
    size, alpha = (7, 0.6) if worked.sum() < 500 else (4, 0.3)
    axis.plot(
        x[worked][::every], y[worked][::every], ".", color="0.45", markersize=size, alpha=alpha, markeredgewidth=0
    )
    axis.plot([low, high], [low, high], color=BLACK, linewidth=1.0, linestyle=":", label="ours = im3shape")
    ends = np.array([low, high])
    for prefix, name, colour, style in (
        ("", "least squares", BLUE, "-"),
        ("eiv_", "errors in variables", VERMILION, "--"),
    ):
        slope, intercept = found[f"{prefix}slope"], found[f"{prefix}intercept"]["value"]
        if slope["value"] is not None:
            axis.plot(ends, slope["value"] * ends + intercept, color=colour, linestyle=style, linewidth=1.8, label=name)
    axis.set(xlim=(low, high), ylim=(low, high))


def _slopes(found: Evaluation) -> str:
    """The slopes of a panel, for its title."""
    lines = [f"slope {format_measure(found['slope'])}"]
    if found["eiv_slope"]["value"] is not None:
        lines.append(f"errors in variables {format_measure(found['eiv_slope'])}")
    return "\n".join(lines)


def shape_distributions(shapes: pd.DataFrame, reference: pd.DataFrame, *, tile: str, simulated: bool) -> Figure:
    """Distributions of both components, ours and im3shape's (the report's Fig. 18).

    Args:
        shapes, reference: as for `shapes_against_im3shape`.
        tile, simulated: which it is.
    """
    rows = shapes.merge(reference[[ID, "e_1", "e_2"]], on=ID)
    figure = new_figure(8.4, 4.6)
    for k, axis in enumerate(figure.subplots(1, 2, sharey=True), start=1):
        looks: list[tuple[str, str, dict[str, Any]]] = [
            (f"e_{k}", f"im3shape e_{k} (shear-type)", {"color": BLACK, "histtype": "stepfilled", "alpha": 0.2}),
            (f"g{k}", f"our g{k} (shear-type)", {"color": BLUE, "histtype": "step", "linewidth": 1.8}),
            (
                f"e{k}",
                f"our e{k} (observed distortion)",
                {"color": ORANGE, "histtype": "step", "linewidth": 1.6, "linestyle": "--"},
            ),
        ]
        reach = _reach(values(rows, f"e_{k}"), values(rows, f"g{k}"))
        edges = np.linspace(-reach, reach, 42)
        for column, label, look in looks:
            found = values(rows, column)
            found = found[np.isfinite(found)]
            share = np.histogram(found, edges)[0] / max(len(found), 1) / (edges[1] - edges[0])
            spread = f"σ = {found.std():.3f}" if len(found) else "none"
            axis.hist(edges[:-1], edges.tolist(), weights=share, label=f"{label}: {spread}", **look)
        axis.axvline(0, color="0.6", linewidth=0.8, linestyle=":")
        axis.set(xlabel=f"component {k}, sky frame", xlim=(-reach, reach))
        legend_above(axis)
    figure.axes[0].set_ylabel("probability density")
    figure.suptitle(f"Shapes, N = {len(rows):,}: {tile_label(tile, simulated)}", fontsize=11)
    return figure


def binned_slopes(evaluation: Evaluation, *, tile: str, simulated: bool) -> Figure:
    """Slopes of our g on im3shape's in the bins of the evaluation."""
    figure = new_figure(8.4, 4.6)
    meanings = {"snr_w": "im3shape's snr_w (terciles)", "blendedness": "blendedness of the scene"}
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (quantity, meaning) in zip(axes, meanings.items(), strict=True):
        bins = evaluation["bins"][quantity]
        at = np.arange(len(bins))
        for measure, name, colour, marker, shift in (
            ("slope", "least squares", BLUE, "o", -0.12),
            ("eiv_slope", "errors in variables", VERMILION, "s", 0.12),
        ):
            for k, fill in ((1, colour), (2, "white")):
                found = [b[f"component{k}"][measure] for b in bins]
                _errorbars(axis, at + shift + 0.1 * (k - 1.5), found, colour, marker, f"{name}, g{k}", fill)
        axis.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
        axis.set_xlim(-0.5, len(bins) - 0.5)
        axis.set_xticks(at, [f"{bin_label(b)}\nN = {b['n']:,}" if len(bins) > 1 else "none" for b in bins])
        axis.set_xlabel(meaning)
    axes[0].set_ylabel("slope of our g on im3shape's")
    legend_below(figure)
    figure.suptitle(f"Slopes by S/N and blendedness: {tile_label(tile, simulated)}", fontsize=11)
    return figure


def truth_slopes(evaluation: Evaluation, *, tile: str) -> Figure:
    """Slopes of estimate on truth on a simulated tile and RMS pulls, of all rows and of those without a flag.

    Args:
        evaluation: of `evaluate_tile` with a truth.
        tile: which it is.
    """
    truth = evaluation["truth"]
    figure = new_figure(8.4, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for part, count, label, colour, marker, shift in (
        (truth, truth["labelled"], "all rows", BLUE, "o", -0.1),
        (truth["trusted"], truth["trusted"]["n"], "without a flag", GREEN, "s", 0.1),
    ):
        label = f"{label}, N = {count:,}"
        slopes = [part["shapes"][kind[0]][kind]["slope"] for kind in TRUTH_KINDS]
        _errorbars(left, np.arange(len(slopes)) + shift, slopes, colour, marker, label, colour)
        pulls = [found["pull"] for found in part["pulls"].values()]
        _errorbars(right, np.arange(len(pulls)) + shift, pulls, colour, marker, label, colour)
    left.set(ylabel="slope of estimate on truth", xlabel="g: intrinsic, e: observed")
    right.set(ylabel="RMS of error over expected error", xlabel="both components")
    right.axhspan(1 - PULL_LIMIT, 1 + PULL_LIMIT, color="0.93", zorder=0, label="limit")
    for axis, names in ((left, TRUTH_KINDS), (right, tuple(truth["pulls"]))):
        axis.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
        axis.set_xticks(np.arange(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
    legend_below(figure, columns=3)
    figure.suptitle(f"Against the truth, S/N > {evaluation['snr_min']:g}: {tile_label(tile, True)}", fontsize=11)
    return figure


def _errorbars(
    axis: Axes, at: np.ndarray, measures: list[Evaluation], colour: str, marker: str, label: str, fill: str
) -> None:
    found, errors = ([np.nan if m[key] is None else m[key] for m in measures] for key in ("value", "error"))
    axis.errorbar(at, found, errors, fmt=marker, color=colour, markerfacecolor=fill, capsize=3, label=label)


def _reach(*columns: Floats) -> float:
    together = np.abs(np.concatenate(columns))
    together = together[np.isfinite(together)]
    return 1.1 * float(np.quantile(together, 0.995)) if len(together) and together.any() else 1.0
