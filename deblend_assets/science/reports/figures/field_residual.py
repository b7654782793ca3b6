"""Data, model and residual of a part of a field."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.reports.figures.field_image import Ground, show_colour
from deblend_assets.science.reports.figures.fields import shown_bands
from deblend_assets.science.reports.figures.style import new_figure

MOST_SIGMA = 5.0
"""Of the residual's scale [σ of a pixel]."""


def data_model_residual(
    field: Field,
    box: Box,
    pixels: NDArray[np.float32],
    model: NDArray[np.float32],
    residual: NDArray[np.float32],
    band: str,
) -> Figure:
    """Data, model and their difference in colour, and the residual of one band in units of its noise.

    Args:
        field: with bands and zero points.
        box: the part that is shown.
        pixels, model: (band, y, x) [image unit].
        residual: (band, y, x), the sky taken off [σ of a pixel]; NaN where a pixel is lost.
        band: whose residual is shown.
    """
    bands = shown_bands(field.names)
    rows = [field.names.index(name) for name in bands]
    known = np.isfinite(residual[rows]).astype(np.float32)
    figure = new_figure(8.4, 6.9 * min((box.y1 - box.y0) / (box.x1 - box.x0), 1.5) + 0.9)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    grounds = show_colour(axes[0, 0], field, bands, pixels[rows], known, box)
    dark = [Ground(0.0, ground.sigma) for ground in grounds]
    show_colour(axes[0, 1], field, bands, model[rows], np.ones_like(known), box, dark)
    show_colour(axes[1, 0], field, bands, (pixels - model)[rows], known, box, grounds)
    for axis, title in zip(axes.ravel(), ("image", "model", "image − model"), strict=False):
        axis.set_title(title, fontsize=10)
    last = axes[1, 1]
    extent = (box.x0 - 0.5, box.x1 - 0.5, box.y0 - 0.5, box.y1 - 0.5)
    drawn = last.imshow(
        residual[field.names.index(band)],
        origin="lower",
        extent=extent,
        cmap="RdBu_r",
        vmin=-MOST_SIGMA,
        vmax=MOST_SIGMA,
        interpolation="antialiased",
    )
    last.set_facecolor("0.6")
    last.set(title=f"image − model, {band}; grey: lost", xlabel="x [pixel]", ylabel="y [pixel]")
    last.title.set_fontsize(10)
    figure.colorbar(drawn, ax=last, label="residual [σ of a pixel]", fraction=0.046, pad=0.02)
    for axis in axes.ravel():
        axis.label_outer()
    return figure
