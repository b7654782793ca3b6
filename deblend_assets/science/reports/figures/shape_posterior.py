"""Figures of the shape posterior: estimates against truth, errors beside the floor, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.evaluation.shapes import KINDS, Kind, true_labels
from deblend_assets.science.reports.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    legend_below,
    new_figure,
    plain_log_ticks,
)
from deblend_assets.science.shapes.heads import COLUMNS
from deblend_assets.science.statistics.accuracy import Evaluation

_KIND_WORDS: dict[Kind, str] = {
    "e": "distortion e, observed, label band",
    "g": "shear-type g, intrinsic",
}
_QUANTITY_WORDS = {
    "g1": r"$g_1$",
    "g2": r"$g_2$",
    "e1": r"$e_1$",
    "e2": r"$e_2$",
    "ln_size": "ln size",
    "ln_flux": "ln flux",
}
_BINS = 15


def calibration(table: pd.DataFrame) -> Figure:
    """Median estimate in bins of the truth, both components together: posterior mean and likelihood-only estimate.

    Args:
        table: see `evaluation.evaluate_shapes`.
    """
    figure = new_figure(8.4, 4.7)
    for axis, kind in zip(figure.subplots(1, 2), KINDS, strict=True):
        truth = _pooled(table, kind, "")
        axis.plot([-0.8, 0.8], [-0.8, 0.8], color="0.6", linewidth=0.8, label="estimate = truth")
        for suffix, words, colour, marker in (
            ("_posterior", "posterior mean", ORANGE, "s"),
            ("_likelihood", "likelihood-only estimate (prior divided out)", BLUE, "o"),
        ):
            found = _pooled(table, kind, suffix)
            good = np.isfinite(found)
            at, middle, low, high = _binned(truth[good], found[good])
            axis.errorbar(
                at, middle, [middle - low, high - middle], fmt=marker, color=colour, markersize=4, label=words
            )
        axis.set(xlabel=f"true {_KIND_WORDS[kind]}", ylabel="estimate", xlim=(-0.8, 0.8), ylim=(-0.8, 0.8))
        axis.set_aspect("equal")
    legend_below(figure, title="median and 16–84 % of the galaxies")
    return figure


def expected_errors(table: pd.DataFrame) -> Figure:
    """Actual RMS error in bins of the expected one, and both beside the Fisher floor, by S/N.

    Args:
        table: with the floor's columns.
    """
    figure = new_figure(8.4, 7.6)
    for row, kind in zip(figure.subplots(2, 2), KINDS, strict=True):
        off = _pooled(table, kind, "_posterior") - _pooled(table, kind, "")
        expected, floor = _pooled(table, kind, "_posterior_err"), _pooled(table, kind, "_floor")
        left, right = row
        at, actual = _rms_in_bins(expected, off)
        left.loglog(at, at, color="0.6", linewidth=0.8, label="actual = expected")
        left.loglog(at, actual, "o", color=BLUE, markersize=4, label="posterior mean")
        left.set(xlabel=f"expected error of {kind}, a component", ylabel="actual RMS error")
        plain_log_ticks(left)
        snr = np.tile(table["snr"].to_numpy(float), 2)
        for values, words, colour, style in (
            (off, "actual RMS error", BLUE, "o-"),
            (expected, "expected RMS error", ORANGE, "s--"),
            (floor, "Fisher floor (RMS, no prior)", GREEN, "^:"),
        ):
            place, size = _rms_in_bins(snr, values)
            right.loglog(place, size, style, color=colour, markersize=4, label=words)
        right.set(xlabel="S/N of the target alone, all bands", ylabel=f"error of {kind}, a component")
        plain_log_ticks(right)
    legend_below(figure, columns=3)
    return figure


def errors_by_group(evaluation: Evaluation) -> Figure:
    """RMS error over the floor in every group, with bootstrap errors.

    Args:
        evaluation: of `evaluate_shapes`.
    """
    names = list(evaluation["groups"])
    # Two lines of text a group.
    figure = new_figure(8.4, 1.4 + 0.34 * len(names))
    at = np.arange(len(names))
    for axis, kind in zip(figure.subplots(1, 2, sharey=True), KINDS, strict=True):
        for measure, words, colour, marker, shift in (
            ("rms_over_floor", "RMS / Fisher floor", BLUE, "o", -0.18),
            ("robust_over_floor", "robust σ / that of the floor", ORANGE, "s", 0.0),
            ("rms_over_floor_with_population", "RMS / floor with the population", GREEN, "^", 0.18),
        ):
            found = [evaluation["groups"][name][kind].get(measure) or {"value": None, "error": None} for name in names]
            value, error = (np.array([f[key] for f in found], dtype=float) for key in ("value", "error"))
            axis.errorbar(value, at + shift, xerr=error, fmt=marker, color=colour, markersize=4, label=words)
        axis.axvline(1.0, color="0.6", linewidth=0.8)
        axis.axvline(1.25, color=VERMILION, linewidth=0.8, linestyle=":", label="1.25 × the floor")
        axis.set_xlabel(f"error over the floor:\n{_KIND_WORDS[kind]}", fontsize=9)
    figure.axes[0].set_yticks(at, [f"{name}\nN = {evaluation['groups'][name]['n']:,}" for name in names], fontsize=8)
    figure.axes[0].invert_yaxis()
    legend_below(figure)
    return figure


def coverage(table: pd.DataFrame, evaluation: Evaluation) -> Figure:
    """Histograms of the truth's rank in the posterior (PIT), and coverage by group.

    Args:
        table: with the columns `{quantity}_pit`.
        evaluation: of `evaluate_shapes`.
    """
    figure = new_figure(8.4, 5.0 + 0.24 * len(evaluation["groups"]))
    halves: Any = figure.subfigures(2, 1, height_ratios=(4.2, 0.8 + 0.24 * len(evaluation["groups"])))
    upper, lower = halves
    grid = upper.subplots(2, 3)
    for axis, (name, words) in zip(grid.flat, _QUANTITY_WORDS.items(), strict=True):
        axis.hist(table[f"{name}_pit"], bins=20, range=(0, 1), density=True, color=BLUE, alpha=0.7)
        axis.axhline(1.0, color="0.3", linewidth=0.8)
        axis.set(xlabel=f"rank of the true {words}", xlim=(0, 1))
    for axis in grid[:, 0]:
        axis.set_ylabel("density")
    names = list(evaluation["groups"])
    at = np.arange(len(names))
    panels = lower.subplots(1, 2, sharey=True)
    for axis, level in zip(panels, (68, 95), strict=True):
        _coverage_panel(axis, evaluation, names, at, level)
    panels[0].set_yticks(at, names, fontsize=8)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    lower.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure


def neighbours(table: pd.DataFrame) -> Figure:
    """Share of galaxies with a neighbour against the predicted probability.

    Args:
        table: see `evaluation.evaluate_shapes`.
    """
    figure = new_figure(4.2 * len(COLUMNS), 4.7)
    axes = figure.subplots(1, len(COLUMNS), squeeze=False)[0]
    for axis, (name, true) in zip(axes, true_labels(table).items(), strict=True):
        head, column = COLUMNS[name]
        chance = table[name].to_numpy(float)
        parts = _bins(chance)
        at, share = (np.array([v[part].mean() for part in parts]) for v in (chance, true))
        # Binomial errors after one more galaxy with and one without: an empty count is not certain.
        spread = [np.sqrt((true[p].sum() + 1) * ((~true)[p].sum() + 1) / (p.sum() + 2) ** 3) for p in parts]
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="share = probability")
        axis.errorbar(at, share, spread, fmt="o", color=BLUE, markersize=4, label="galaxies, in bins of equal number")
        label = head.criteria[column.criterion]
        axis.set(xlabel=f"probability: {label}", ylabel="share of galaxies for which it is true")
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    legend_below(figure)
    return figure


def _coverage_panel(axis: Axes, evaluation: Evaluation, names: list[str], at: NDArray[np.int_], level: int) -> None:
    for shift, (quantity, colour) in enumerate((("g1", BLUE), ("g2", BLUE), ("e1", ORANGE), ("e2", ORANGE))):
        found = [evaluation["groups"][name]["coverage"][f"{quantity}_{level}%"] for name in names]
        value, error = (100 * np.array([f[key] for f in found], dtype=float) for key in ("value", "error"))
        marker = "o" if quantity.endswith("1") else "s"
        axis.errorbar(
            value,
            at + 0.18 * (shift - 1.5),
            xerr=error,
            fmt=marker,
            color=colour,
            markersize=3,
            label=_QUANTITY_WORDS[quantity],
        )
    axis.axvline(level, color="0.3", linewidth=0.8)
    axis.axvspan(level - 3, level + 3, color="0.9", zorder=0)
    axis.set_xlabel(f"galaxies with the truth in the central {level} % [%]", fontsize=9)


def _pooled(table: pd.DataFrame, kind: Kind, suffix: str) -> NDArray[np.float64]:
    return np.concatenate([table[f"{kind}{k}{suffix}"].to_numpy(float) for k in (1, 2)])


def _bins(x: NDArray[np.float64]) -> list[NDArray[np.bool_]]:
    """Which values lie in each bin of equal number, the lowest first; of few values, those that have any."""
    edges = np.quantile(x, np.linspace(0, 1, _BINS + 1))
    which = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, _BINS - 1)
    return [which == k for k in np.unique(which)]


def _binned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Bins of equal number in x: median of x; median, 16 and 84 % of y."""
    rows = [np.concatenate([[np.median(x[part])], np.percentile(y[part], [50, 16, 84])]) for part in _bins(x)]
    return tuple(np.array(sorted(rows, key=lambda row: float(row[0]))).T)


def _rms_in_bins(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bins of equal number in x: RMS of x and of y."""
    rows = [[np.sqrt(np.nanmean(np.square(v[part]))) for v in (x, y)] for part in _bins(x)]
    at, size = np.array(rows).T
    return at, size
