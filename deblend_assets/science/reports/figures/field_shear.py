"""Mean shapes of a field's galaxies: around bright stars, by position and by the PSF's shape."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from deblend_assets.science.evaluation.field_shear import LEAST, BinnedShear, Slope
from deblend_assets.science.reports.figures.style import BLACK, BLUE, ORANGE, legend_below, new_figure, only_words, say
from deblend_assets.science.statistics.format import format_measure

LEAST_CENTRES = 3
"""Fewest bright stars around which a mean is shown."""


def shear_around_stars(found: BinnedShear, centres: int) -> Figure:
    """Tangential and cross component of g of good galaxies around bright stars.

    Args:
        found: of `shear_around`.
        centres: number of the stars.
    """
    if centres < LEAST_CENTRES or len(found.at) < 2:
        return only_words(
            f"too few: {centres} bright stars, {len(found.at)} rings of {LEAST} pairs; "
            f"{LEAST_CENTRES} stars and 2 rings are needed"
        )
    figure = new_figure(8.4, 4.2)
    axis = figure.subplots()
    for k, (colour, marker, label) in enumerate(
        ((BLUE, "o", "tangential: 0 without a lens"), (ORANGE, "s", "cross: 0 always"))
    ):
        axis.errorbar(
            found.at * (1 + 0.03 * k), found.mean[:, k], yerr=found.error[:, k], fmt=marker, color=colour, label=label
        )
    axis.axhline(0, color=BLACK, linewidth=0.8)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(_of_2_3_5)
    axis.set(xlabel="distance from the star [arcsec]", ylabel="mean of g")
    axis.set_title(f"{centres} stars, {int(found.number.sum()):,} pairs", fontsize=10)
    legend_below(figure)
    return figure


def mean_shear(
    panels: dict[str, tuple[BinnedShear, tuple[Slope, Slope]]],
    mean: tuple[Slope, Slope],
    number: int,
    why: dict[str, str],
) -> Figure:
    """Mean g of good galaxies in bins of several quantities, with the slopes on them.

    Args:
        panels: by the quantity's name and unit, its bins and the slopes of both components.
        mean: of all galaxies, and its errors.
        number: of the galaxies.
        why: what is said of a quantity without bins, by its name.
    """
    if not any(len(found.at) for found, _ in panels.values()):
        return only_words("; ".join(dict.fromkeys(why.values())))
    figure = new_figure(8.4, 6.4)
    axes = figure.subplots(2, 2).ravel()
    for axis, (name, (found, slopes)) in zip(axes, panels.items(), strict=True):
        if not len(found.at):
            say(axis, f"{name}:\n{why[name]}")
            continue
        _panel(axis, name, found, slopes)
    words = ", ".join(f"⟨g{k}⟩ = {format_measure(part._asdict())}" for k, part in enumerate(mean, start=1))
    figure.suptitle(f"{number:,} galaxies good for shapes: {words}", fontsize=10)
    legend_below(figure)
    return figure


def _panel(axis: Axes, name: str, found: BinnedShear, slopes: tuple[Slope, Slope]) -> None:
    width = np.ptp(found.at) or 1.0
    for k, (colour, marker) in enumerate(((BLUE, "o"), (ORANGE, "s"))):
        axis.errorbar(
            found.at + 0.008 * width * (2 * k - 1),
            found.mean[:, k],
            yerr=found.error[:, k],
            fmt=marker,
            color=colour,
            label=f"g{k + 1}",
        )
    axis.axhline(0, color=BLACK, linewidth=0.8)
    axis.set(xlabel=name, ylabel="mean of g")
    words = "; ".join(f"g{k}: {format_measure(slope._asdict())}" for k, slope in enumerate(slopes, start=1))
    axis.set_title(f"slope of {words}", fontsize=9)


def _of_2_3_5(value: float, _: float) -> str:
    """Labels of small ticks: 2, 3 and 5 times a power of ten. No lambda: figures are sent to other processes."""
    return f"{value:g}" if f"{value:.0e}"[0] in "235" else ""
