"""Figures of the response to shear: m, c, and the two routes to the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, StrMethodFormatter

from deblend_assets.science.evaluation.shear import METHODS, with_image_response
from deblend_assets.science.reports.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    legend_below,
    new_figure,
)
from deblend_assets.science.shear.calibration import REQUIRED_C, REQUIRED_M

_COLOURS = {
    "hsm": ORANGE, "report": PURPLE, "posterior": BLUE, "free": GREEN, "sky": VERMILION, "sky_free": BLACK,
}  # fmt: skip
# The largest |m| and |c| that are shown: an estimate with m = -1 has no signal left.
_WIDEST = 1.5
_TICKS = (-1.0, -0.5, -0.2, -0.1, -0.08, -0.06, -0.04, -0.02, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.5, 1.0)
# Routes to the response of a method's posterior mean.
_ROUTES = {"pairs": "pairs of simulated images under ± g", "images": "sheared images, no truth used"}
Evaluation = Mapping[str, Any]


def biases(evaluation: Evaluation) -> Figure:
    """m and c of every method, as it comes and calibrated on other galaxies."""
    rows = [
        (method, which, calibrated)
        for method, found in evaluation["methods"].items()
        for which, calibrated in _calibrations(found).items()
    ]
    figure = new_figure(8.4, 1.6 + 0.4 * len(rows))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, quantity, required, scale in zip(axes, "mc", (REQUIRED_M, REQUIRED_C), (1e-3, 1e-4), strict=True):
        for place, (method, which, found) in enumerate(rows):
            for k, marker in ((1, "o"), (2, "s")):
                value, error = _numbers(found[f"{quantity}{k}"])
                axis.errorbar(
                    value / scale,
                    -place - 0.18 * (k - 1.5),
                    xerr=error / scale,
                    fmt=marker,
                    color=_COLOURS[method],
                    mfc="white" if which == "uncalibrated" else _COLOURS[method],
                )
        axis.axvspan(-required / scale, required / scale, color=SKY, alpha=0.3)
        axis.axvline(0, color=BLACK, lw=0.8)
        # Linear within the requirement and logarithmic beyond: both the band and every point can be read.
        axis.set_xscale("symlog", linthresh=required / scale, linscale=0.8)
        reach = min(max(4 * required, 1.3 * _furthest([found for _, _, found in rows], quantity)), _WIDEST) / scale
        axis.set_xlim(-reach, reach)
        steps = [step for step in (3, 10, 30, 100, 300, 1000, 3000, 10000) if step <= reach]
        # On a wide axis fewer steps, so that the numbers stand apart.
        while len(steps) > 3:
            steps = steps[::2]
        axis.xaxis.set_major_locator(FixedLocator([*(-step for step in reversed(steps)), 0, *steps]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", "−")))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlabel(f"{quantity} [10$^{{{round(np.log10(scale))}}}$]")
    axes[0].set_yticks([-k for k in range(len(rows))], [f"{METHODS[m]}\n{which}" for m, which, _ in rows], fontsize=8)
    figure.legend(
        handles=[
            Line2D([], [], marker="o", ls="", color="0.3", label="component 1"),
            Line2D([], [], marker="s", ls="", color="0.3", label="component 2"),
            Patch(color=SKY, alpha=0.3, label=f"required: |m| < {REQUIRED_M:g}, |c| < {REQUIRED_C:g}"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    return figure


def _calibrations(found: Evaluation) -> dict[str, Evaluation]:
    """The biases of a method by how it is calibrated."""
    by_images = {"by its own images": found["image_response"]["calibrated"]} if "image_response" in found else {}
    return {which: found[which] for which in ("uncalibrated", "calibrated")} | by_images


def _furthest(shown: list[Evaluation], quantity: str) -> float:
    """The largest |value| + error of m or c that the figure shows."""
    known = np.array([_numbers(each[f"{quantity}{k}"]) for each in shown for k in (1, 2)])
    return float(np.nanmax([0.0, *(np.abs(known[:, 0]) + known[:, 1])]))


def groups(evaluation: Evaluation) -> Figure:
    """m of the calibrated methods by S/N, size, blendedness and redshift."""
    methods = evaluation["methods"]
    names = list(next(iter(methods.values()))["groups"])
    figure = new_figure(8.4, 4.8)
    axis = figure.subplots()
    for number, method in enumerate(methods):
        values = [methods[method]["groups"][name]["m"] for name in names]
        at = np.arange(len(names)) + 0.8 / len(methods) * (number - (len(methods) - 1) / 2)
        _points(axis, at, values, _COLOURS[method], METHODS[method])
    _named(figure, axis, names)
    if not names:
        axis.text(0.5, 0.6, "too few galaxies in every third", transform=axis.transAxes, ha="center")
    axis.axhline(0, color=BLACK, lw=0.8)
    axis.set_ylabel("m, one response for all galaxies")
    axis.set_yscale("symlog", linthresh=0.1)
    # The default ticks are powers of ten, too coarse for m within 0.1.
    axis.yaxis.set_major_locator(FixedLocator(_TICKS))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return figure


def responses(evaluation: Evaluation) -> Figure:
    """Response from pairs of simulations (open) and from the images alone (filled), by the same groups."""
    found = {method: evaluation["methods"][method]["image_response"] for method in with_image_response(evaluation)}
    names = list(next(iter(found.values()))["groups"])
    figure = new_figure(8.4, 4.8)
    axis = figure.subplots()
    series = [(method, key) for method in found for key in _ROUTES]
    for number, (method, key) in enumerate(series):
        values = [found[method]["groups"][name][key] for name in names]
        at = np.arange(len(names)) + 0.2 * (number - (len(series) - 1) / 2)
        _points(axis, at, values, _COLOURS[method], f"{METHODS[method]}\n{_ROUTES[key]}", hollow=key == "pairs")
    _named(figure, axis, names)
    axis.set_ylabel("response of the posterior mean of g")
    return figure


def _numbers(measure: Mapping[str, float | None]) -> tuple[float, float]:
    """Value and error; NaN, which is not drawn, for what is not known."""
    value, error = (np.nan if (v := measure[key]) is None else v for key in ("value", "error"))
    return value, error


def _points(
    axis: Axes,
    at: np.ndarray,
    values: list[Mapping[str, float | None]],
    colour: str,
    label: str,
    *,
    hollow: bool = False,
) -> None:
    known = np.array([_numbers(v) for v in values]).reshape(-1, 2)
    inside = "white" if hollow else colour
    axis.errorbar(at, known[:, 0], yerr=known[:, 1], fmt="o", ms=4, color=colour, mfc=inside, label=label)


def _named(figure: Figure, axis: Axes, names: list[str]) -> None:
    axis.set_xticks(
        range(len(names)),
        [name.replace(", ", "\n").replace(" third", "") for name in names],
        fontsize=8,
        rotation=45,
        ha="right",
    )
    for edge in range(3, len(names), 3):
        axis.axvline(edge - 0.5, color="0.8", lw=0.8)
    axis.set_xlabel("thirds of the test galaxies by their true properties")
    legend_below(figure, columns=min(2, len(axis.get_legend_handles_labels()[1])))
