"""The figure of the calibration of the network for every sky: coverage by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deblend_assets.science.reports.figures.style import BAND_COLOURS, legend_below, new_figure

_MARKERS = "osD^vP"


def coverage_by_group(found: Mapping[str, Mapping[str, Any]], names: Sequence[str], levels: Sequence[float]) -> Figure:
    """Share of the validation galaxies within the calibrated intervals, a panel each; bars are one binomial error.

    Args:
        found: by group, `n` and by level, such as "68%", the shares of the quantities.
        names: of the quantities.
        levels: of the intervals.
    """
    figure = new_figure(8.4, 1.6 + 0.3 * len(found))
    at = np.arange(len(found))
    panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    for axis, level in zip(panels, levels, strict=True):
        errors = [np.sqrt(level * (1 - level) / group["n"]) for group in found.values()]
        axis.axvline(level, color="0.3", linewidth=0.8)
        for k, name in enumerate(names):
            shares = [group[f"{level:.0%}"][name] for group in found.values()]
            axis.errorbar(
                shares,
                at + 0.1 * (k - (len(names) - 1) / 2),
                xerr=errors,
                fmt=_MARKERS[k],
                color=BAND_COLOURS[k],
                markersize=4,
                linewidth=0.8,
                label=name.replace("_", " "),
            )
        axis.set_xlabel(f"share of the galaxies in the {level:.0%} interval")
        axis.grid(axis="y", color="0.9")
    panels[0].set_yticks(at, [f"{name}, {group['n']:,}" for name, group in found.items()], fontsize=8)
    panels[0].set_ylabel("group, galaxies")
    panels[0].invert_yaxis()
    legend_below(figure)
    return figure
