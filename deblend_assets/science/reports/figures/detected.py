"""What was detected in a field: where, and how many by S/N."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.reports.figures.style import BLUE, new_figure

# More points than a figure of this size can show.
_MOST = 5_000


def detections_figure(x: NDArray[np.float64], y: NDArray[np.float64], snr: NDArray[np.float64]) -> Figure:
    """Positions of N detections, and their numbers above each S/N.

    Args:
        x, y: (N,) [pixel]; of more than some thousands a part is shown, spread evenly.
        snr: (N,).
    """
    figure = new_figure(7.6, 3.6)
    places, counts = figure.subplots(1, 2)
    shown = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST)).astype(int)) if len(x) else np.zeros(0, int)
    places.scatter(x[shown], y[shown], s=4, color=BLUE, linewidths=0)
    places.set_aspect("equal")
    places.set_xlabel("x [pixel]")
    places.set_ylabel("y [pixel]")
    places.set_title(f"{len(x):,} detections" if len(shown) == len(x) else f"{len(shown):,} of {len(x):,} detections")
    ordered = np.sort(snr[np.isfinite(snr) & (snr > 0)])
    if len(ordered):
        counts.step(ordered, np.arange(len(ordered), 0, -1), where="post", color=BLUE)
        counts.set_xscale("log")
        counts.set_yscale("log")
    counts.set_xlabel("S/N over all bands")
    counts.set_ylabel("detections of at least this S/N")
    return figure
