"""Figures of im3shape's catalogue of a tile: what the cuts cost and what they leave."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from deblend_assets.science.reports.figures.style import BLUE, ORANGE, new_figure
from deblend_assets.science.reports.tile_text import tile_label
from deblend_assets.science.statistics.accuracy import values
from deblend_assets.science.statistics.format import format_number
from deblend_assets.science.statistics.metrics import Floats


def catalog_distributions(kept: pd.DataFrame, *, tile: str, simulated: bool) -> Figure:
    """im3shape's ellipticity, S/N and size after the cuts (the report's Fig. 5).

    Args:
        kept: `e_1`, `e_2` (shear-type, sky frame), `snr_w`, `radius` [arcsec].
        tile, simulated: which it is.
    """
    figure = new_figure(8.4, 6.2)
    axes = figure.subplots(2, 3)
    # Only the radius can still be NaN: no cut is made on it.
    e1, e2, snr = (values(kept, name) for name in ("e_1", "e_2", "snr_w"))
    radius = values(kept, "radius")
    radius = radius[np.isfinite(radius)]
    components = np.linspace(-1, 1, 41)
    for axis, column, edges, name in (
        (axes[0, 0], e1, components, "e_1, shear-type, sky frame"),
        (axes[0, 1], e2, components, "e_2, shear-type, sky frame"),
        (axes[0, 2], np.hypot(e1, e2), np.linspace(0, 1, 41), "|e|, shear-type"),
        (axes[1, 0], snr, _logarithmic(snr), "signal-to-noise ratio snr_w"),
        (axes[1, 1], radius, _linear(radius), "radius of the fit [arcsec]"),
    ):
        axis.hist(column, edges.tolist(), color=BLUE, alpha=0.3)
        axis.hist(column, edges.tolist(), color=BLUE, histtype="step", linewidth=1.5)
        if len(column):
            middle = float(np.median(column))
            axis.axvline(middle, color=ORANGE, linewidth=1.8)
            axis.set_title(f"median {format_number(middle, 3)}, σ {column.std():.3g}", fontsize=9)
        axis.set_xlabel(name)
    axes[1, 0].set_xscale("log")
    axes[1, 0].xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes[1, 0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[1, 0].xaxis.set_minor_formatter(NullFormatter())
    for axis in axes[:, 0]:
        axis.set_ylabel("galaxies per bin")
    axes[1, 2].set_axis_off()
    figure.suptitle(f"im3shape after all cuts, {len(kept):,} galaxies: {tile_label(tile, simulated)}", fontsize=11)
    return figure


def attrition(table: pd.DataFrame, *, tile: str, simulated: bool) -> Figure:
    """Galaxies left after each cut.

    Args:
        table: `cut`, `removed`, `left`, in order.
        tile, simulated: which it is.
    """
    figure = new_figure(8.4, 0.9 + 0.42 * len(table))
    axis = figure.subplots()
    at = np.arange(len(table))
    axis.barh(at, table["left"], color=BLUE, alpha=0.6, label="left")
    axis.barh(at, table["removed"], left=table["left"], color=ORANGE, alpha=0.9, label="removed by this cut")
    most = float(max(table["left"].max(), 1))
    for k, (removed, left) in enumerate(zip(table["removed"], table["left"], strict=True)):
        axis.text(left + removed + 0.01 * most, k, f"{left:,} (−{removed:,})" if removed else f"{left:,}", va="center")
    axis.set_yticks(at, table["cut"].tolist())
    axis.invert_yaxis()
    axis.set(xlabel="galaxies", xlim=(0, 1.2 * most))
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(f"What each cut costs: {tile_label(tile, simulated)}", fontsize=11)
    return figure


def _logarithmic(column: Floats) -> Floats:
    above = column[column > 0]
    if not len(above):
        return np.geomspace(1.0, 10.0, 41)
    return np.geomspace(float(above.min()), 1.01 * float(above.max()), 41)


def _linear(column: Floats) -> Floats:
    # A few fits diverge in size: the last edge leaves them out, so that the others stay readable.
    return np.linspace(0.0, (float(np.quantile(column, 0.995)) or 1.0) if len(column) else 1.0, 41)
