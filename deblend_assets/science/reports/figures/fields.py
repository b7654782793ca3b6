"""Fields in colour, and their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from deblend_assets.science.reports.figures.style import new_figure

# Shown as red, green and blue.
_COLOURS = "irg"
# Factors on the flux in each band that make a galaxy grey whose g - r is 0.6 and r - i 0.3, u - g 0.9, i - z 0.2.
_GREY = {"u": 3.98, "g": 1.74, "r": 1.0, "i": 0.76, "z": 0.63, "y": 0.58}
_SOFTENING, _WHITE = 4.0, 80.0  # of the stretch, in σ of the mean of the three bands
_SKY = 2.0  # σ above black
_LOST = 0.35  # grey of a pixel that all three bands lost
# Side of the square that the color of a lost pixel is from [pixel], and the light below which it is grey [σ].
_AROUND, _FAINT = 9, 1.0


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
    rows = _rows(field.bands)
    factor = 10.0 ** (-0.4 * field.zero_points[rows]) * np.array([_GREY[field.bands[row]] for row in rows])
    weight = field.inverse_variance[rows]
    seen = weight > 0
    sigma = (
        factor * np.array([np.median(plane[plane > 0]) if (plane > 0).any() else np.inf for plane in weight]) ** -0.5
    )
    noise = np.hypot.reduce(sigma) / len(rows)
    flux = np.where(seen, field.images[rows], 0.0) * factor[:, None, None] / noise
    flux = np.where(seen, flux, _filled(flux, seen)) + _SKY
    level = np.maximum(flux.mean(axis=0), 0.1)
    colours = flux / level * np.arcsinh(level / _SOFTENING) / np.arcsinh(_WHITE / _SOFTENING)
    colours = colours / np.maximum(colours.max(axis=0), 1.0)
    colours = np.where(seen.any(axis=0), colours, _LOST)
    return np.asarray(np.clip(np.moveaxis(colours, 0, -1), 0.0, 1.0))


def _filled(flux: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean of the bands that are seen, with the color of the pixels around, (band, y, x).

    Args:
        flux: 0 where lost, (band, y, x) [σ of the mean].
        seen: where it is not, (band, y, x).
    """
    mean = flux.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    whole = seen.all(axis=0)
    around, of_mean = (
        uniform_filter(np.clip(np.where(whole, values, 0.0), 0.0, None), (0, _AROUND, _AROUND)) + _FAINT
        for values in (flux, mean[None])
    )
    # The mean of the bands that are seen, over the mean of all, by the color around.
    color = around / of_mean
    share = (color * seen).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.asarray(color * np.where(share > 0, mean / np.maximum(share, 0.05), 0.0))


def shown_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Those of the bands that `colour_image` shows as red, green and blue; of one or two, some are shown twice."""
    return tuple(bands[row] for row in _rows(bands))


def _rows(bands: Sequence[str]) -> list[int]:
    """Numbers of the bands for red, green and blue: of three or more, those that are together nearest to i, r and g."""
    order = {name: "ugrizy".index(name) for name in bands}
    wanted = ["ugrizy".index(band) for band in _COLOURS]
    names = sorted(order, key=order.__getitem__, reverse=True)
    if len(names) >= 3:
        triples = list(combinations(names, 3))
        chosen = min(triples, key=lambda t: sum(abs(order[n] - w) for n, w in zip(t, wanted, strict=True)))
    else:
        chosen = (names[0], names[0], names[-1])
    return [list(bands).index(name) for name in chosen]


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
