"""Figures of the detection: its figures of merit by S/N, magnitude and separation, and what was found on an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from deblend_assets.science.reports.figures.style import BLACK, BLUE, GREEN, ORANGE, legend_below, new_figure

_ROWS = (
    ("completeness", "completeness"),
    ("purity", "purity"),
    ("unrecognized", "unrecognised blends"),
    ("centroid", "centroid error [pixel]"),
)
_COLUMNS = (
    ("snr", "S/N (completeness: true)"),
    ("magnitude", "magnitude of the source"),
    ("separation", "distance of the next source [FWHM]"),
)
_TICKS = {"snr": (5, 10, 20, 50, 100), "separation": (0.5, 1, 2, 4)}
_COLOURS = (BLUE, ORANGE, GREEN, BLACK)
_MARKS = ("o", "s", "^", "D")
# Bins with fewer rows are not drawn.
_LEAST = 5


def detection_performance(evaluations: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Each figure of merit (a row) against S/N, magnitude and separation (a column), with errors.

    Args:
        evaluations: of `detection.performance`, by the method's name; four at most.
    """
    figure = new_figure(8.4, 8.4)
    axes = figure.subplots(len(_ROWS), len(_COLUMNS), sharex="col", sharey="row")
    for row, (merit, title) in zip(axes, _ROWS, strict=True):
        for axis, (by, _) in zip(row, _COLUMNS, strict=True):
            for number, (name, evaluation) in enumerate(evaluations.items()):
                _points(axis, by, evaluation[merit][by], number, name)
            axis.grid(alpha=0.3)
        row[0].set_ylabel(title, fontsize=9)
        if merit in ("completeness", "purity"):
            row[0].set_ylim(top=1.02)
        else:
            row[0].set_ylim(bottom=0)
    for axis, (by, title) in zip(axes[-1], _COLUMNS, strict=True):
        axis.set_xlabel(title, fontsize=9)
        if by in _TICKS:
            axis.set_xscale("log")
            axis.set_xticks(_TICKS[by], [f"{tick:g}" for tick in _TICKS[by]])
            axis.minorticks_off()
    legend_below(figure)
    return figure


def _points(axis: Axes, by: str, bins: Sequence[Mapping[str, Any]], number: int, name: str) -> None:
    shown = [b for b in bins if b["value"] is not None and b["n"] >= _LEAST]
    places = [_middle(by, b["low"], b["high"]) for b in shown]
    axis.errorbar(
        places,
        [b["value"] for b in shown],
        [b["error"] for b in shown],
        marker=_MARKS[number],
        markersize=4,
        color=_COLOURS[number],
        linewidth=1,
        label=name,
    )


def _middle(by: str, low: float | None, high: float | None) -> float:
    """Where a bin is drawn: its middle; an open one, or one from 0 on a logarithmic axis, just beside its edge."""
    if by == "magnitude":
        low, high = (high or 0) - 1 if low is None else low, (low or 0) + 1 if high is None else high
        return 0.5 * (low + high)
    if not low:
        return 0.75 * (high or 0)
    return 1.3 * low if high is None else float(np.sqrt(low * high))


def detections_on_image(
    image: NDArray[np.float32],
    noise: float,
    x: ArrayLike,
    y: ArrayLike,
    *,
    lost: NDArray[np.bool_] | None = None,
    title: str = "",
    unit: str = "sky σ",
) -> Figure:
    """An image in units of its noise, asinh stretch, with a circle at each detection.

    Args:
        image: (y, x).
        noise: standard deviation of a sky pixel.
        x, y: of the detections [pixel].
        lost: pixels without weight, drawn white.
        title: above the image.
        unit: of the colour scale.
    """
    height, width = image.shape
    figure = new_figure(7.0, 0.8 + 6.0 * height / width)
    axis = figure.subplots()
    values = np.asarray(image, dtype=np.float64) / noise
    if lost is not None:
        values = np.where(lost, np.nan, values)
    top = max(10.0, float(np.nanquantile(values, 0.999)))
    shown = axis.imshow(values, origin="lower", cmap="gray_r", norm=AsinhNorm(3.0, vmin=-3.0, vmax=top))
    axis.plot(np.asarray(x), np.asarray(y), "o", color=ORANGE, markerfacecolor="none", markersize=8)
    axis.set(xlabel="x [pixel]", ylabel="y [pixel]", title=title)
    figure.colorbar(shown, ax=axis, label=unit, shrink=0.8)
    return figure
