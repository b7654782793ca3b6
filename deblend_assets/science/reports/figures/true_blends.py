"""The figure of strongly blended scenes: blend, truth, deblended target and residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deblend_assets.science.reports.figures.style import new_figure

_TITLES = ("blend", "target alone (truth)", "deblended target", "deblended − truth")
_TARGET: dict[str, Any] = {
    "marker": "o",
    "color": "red",
    "markerfacecolor": "none",
    "markersize": 9,
    "markeredgewidth": 1.2,
}
_NEIGHBOUR: dict[str, Any] = {"marker": "x", "color": "white", "markersize": 6, "markeredgewidth": 1.4}
_RESIDUAL = 3.0  # end of the residuals' scale [sky σ]


def true_blends(
    blended: np.ndarray,
    isolated: np.ndarray,
    deblended: np.ndarray,
    positions: Sequence[np.ndarray],
    labels: Sequence[str],
    *,
    band: str,
    pixel_scale: float,
    sky_sigma: float,
) -> Figure:
    """Blend, truth, deblended target and residual, a scene a row; all in units of the sky's noise in a pixel.

    One asinh scale holds for all images, and one linear scale for all residuals.

    Args:
        blended, isolated, deblended: (N, y, x) [electron].
        positions: of each scene's galaxies, (galaxies, 2): x and y from the stamp's centre [arcsec], the target first.
        labels: of each scene.
        band: name of the band.
        pixel_scale: [arcsec/pixel].
        sky_sigma: standard deviation of the sky's noise in a pixel [electron].
    """
    figure = new_figure(8.4, 0.9 + 1.9 * len(blended))
    axes = figure.subplots(len(blended), 4, squeeze=False, sharex=True, sharey=True)
    half = 0.5 * pixel_scale * blended.shape[-1]
    ticks = [tick for tick in (-4, -2, 0, 2, 4) if abs(tick) < half]
    axes[0, 0].set(xticks=ticks, yticks=ticks)
    stacks = [np.asarray(stack, float) / sky_sigma for stack in (blended, isolated, deblended)]
    stacks.append(stacks[2] - stacks[1])
    light = AsinhNorm(3.0, vmin=-3.0, vmax=float(max(stack.max() for stack in stacks[:3])))
    rest = Normalize(-_RESIDUAL, _RESIDUAL)
    for axis, title in zip(axes[0], _TITLES, strict=True):
        axis.set_title(title, fontsize=10)
    for number, (row, label, places) in enumerate(zip(axes, labels, positions, strict=True)):
        row[0].set_ylabel(f"{label}\ny [arcsec]", fontsize=9)
        for column, (axis, stack) in enumerate(zip(row, stacks, strict=True)):
            look = (light, "viridis") if column < 3 else (rest, "RdBu_r")
            shown = axis.imshow(
                stack[number], origin="lower", extent=(-half, half, -half, half), norm=look[0], cmap=look[1]
            )
            _mark(axis, places, neighbours=column in (0, 3), dark=column == 3)
            if number == len(blended) - 1:
                axis.set_xlabel("x [arcsec]")
                if column == 2:
                    bar = figure.colorbar(
                        shown, ax=axes[:, :3].ravel().tolist(), location="bottom", aspect=50, shrink=0.9, pad=0.01
                    )
                    bar.set_label(f"light in band {band} [σ of the sky in a pixel], asinh scale")
                    bar.set_ticks([t for t in (0, 3, 10, 30, 100, 300, 1000) if t < (light.vmax or 0)])
                    bar.minorticks_off()
                    bar.ax.xaxis.set_major_formatter("{x:g}")
                if column == 3:
                    bar = figure.colorbar(
                        shown, ax=axes[:, 3].tolist(), location="bottom", aspect=16, extend="both", pad=0.01
                    )
                    bar.set_label("residual [sky σ]")
    figure.legend(
        handles=[
            Line2D([], [], linestyle="", label="target", **_TARGET),
            Line2D([], [], linestyle="", label="neighbour", **_NEIGHBOUR | {"color": "0.3"}),
        ],
        loc="outside upper center",
        ncols=2,
        fontsize=9,
        frameon=False,
    )
    return figure


def _mark(axis: Axes, places: np.ndarray, *, neighbours: bool, dark: bool) -> None:
    axis.plot(*places[0], linestyle="", **_TARGET)
    if neighbours:
        look = _NEIGHBOUR | ({"color": "0.3"} if dark else {})
        axis.plot(places[1:, 0], places[1:, 1], linestyle="", **look)
