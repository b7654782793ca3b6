"""Fields in colour, and their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.reports.figures.style import new_figure

# Shown as red, green, blue: bands, and factors on their flux that make a galaxy of g - r = 0.6, r - i = 0.3 grey.
_COLOURS = {"i": 0.76, "r": 1.0, "g": 1.74}
_SOFTENING, _WHITE = 4.0, 80.0  # of the stretch, in σ of the mean of the three bands
_SKY = 2.0  # σ above black
_LOST = 0.35  # grey of a pixel that all three bands lost


@dataclass(frozen=True)
class ShownField:
    """Images of one field.

    Attributes:
        title: above it.
        bands: of the images.
        images: (band, y, x) [image unit].
        inverse_variance: 0 where lost, (band, y, x).
        zero_points: AB magnitude of one unit, (band,).
        pixel_scale: [arcsec].
    """

    title: str
    bands: Sequence[str]
    images: NDArray[np.float32]
    inverse_variance: NDArray[np.float32]
    zero_points: NDArray[np.float64]
    pixel_scale: float


def colour_image(field: ShownField) -> NDArray[np.float64]:
    """Red, green and blue in 0 to 1, (y, x, 3): i, r and g, or the bands nearest to them; lost pixels are grey.

    An asinh stretch of the mean of the three, by which all are multiplied; what is brighter than white keeps its colour
    (Lupton et al. 2004, PASP 116, 133).
    """
    rows = [_nearest(field.bands, band) for band in _COLOURS]
    factor = 10.0 ** (-0.4 * field.zero_points[rows]) * np.array(list(_COLOURS.values()))
    weight = field.inverse_variance[rows]
    seen = weight > 0
    sigma = (
        factor * np.array([np.median(plane[plane > 0]) if (plane > 0).any() else np.inf for plane in weight]) ** -0.5
    )
    noise = np.hypot.reduce(sigma) / len(rows)
    flux = np.where(seen, field.images[rows], 0.0) * factor[:, None, None] / noise
    mean = flux.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    flux = np.where(seen, flux, mean) + _SKY
    level = np.maximum(mean + _SKY, 0.1)
    colours = flux / level * np.arcsinh(level / _SOFTENING) / np.arcsinh(_WHITE / _SOFTENING)
    colours = colours / np.maximum(colours.max(axis=0), 1.0)
    colours = np.where(seen.any(axis=0), colours, _LOST)
    return np.asarray(np.clip(np.moveaxis(colours, 0, -1), 0.0, 1.0))


def shown_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Those of the bands that `colour_image` shows as red, green and blue; one may be shown as several."""
    return tuple(bands[_nearest(bands, band)] for band in _COLOURS)


def _nearest(bands: Sequence[str], band: str) -> int:
    order = "ugrizy"
    return int(np.argmin([abs(order.index(name) - order.index(band)) for name in bands]))


def fields_in_colour(fields: Mapping[str, ShownField], columns: int = 2) -> Figure:
    """Fields side by side, in colour."""
    rows = -(-len(fields) // columns)
    figure = new_figure(3.9 * columns, 4.1 * rows)
    for axis, field in zip(figure.subplots(rows, columns, squeeze=False).ravel(), fields.values(), strict=False):
        side = field.images.shape[-1] * field.pixel_scale
        axis.imshow(colour_image(field), origin="lower", extent=(0, side, 0, side), interpolation="nearest")
        axis.set_title(field.title)
        axis.set_xlabel("x [arcsec]")
        axis.set_ylabel("y [arcsec]")
    return figure
