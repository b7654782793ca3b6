"""Images sheared about their middle, by interpolation along one axis after the other.

A matrix of determinant 1 is a shift along x that changes with y, with a change of scale, and one along y that changes
with x. Each is a windowed sinc of `TAPS` pixels. Near the middle, where shifts are small, an error of the interpolant's
slope is one of the shear: it is below 1e-4 where the images have no power above 0.6 of the Nyquist frequency, as those
behind a Gaussian of 1.7 pixels or more.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TAPS = 20
"""Pixels of the interpolation along one axis."""
# Of the Kaiser window.
_BETA = 12.0


def sheared_images(images: Tensor, inverse: NDArray[np.float64]) -> Tensor:
    """Images whose value at p' is that of the given ones at c + inverse (p' - c), c the middle of the image.

    Args:
        images: (..., y, x); pixels beyond the edge count as those of the edge.
        inverse: (2, 2), of determinant 1, close to the identity; x first.
    """
    (_, b), (c, d) = inverse.tolist()
    height, width = images.shape[-2:]
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    at_x = (x[None] / d + (b / d) * y[:, None]) + (width - 1) / 2
    at_y = (c * x[None] + d * y[:, None]) + (height - 1) / 2
    return _along(_along(images, at_x, -1), at_y, -2)


def sheared_map(values: NDArray, inverse: NDArray[np.float64]) -> NDArray:
    """The same with the nearest pixel's value, for masks and maps of the noise, (..., y, x)."""
    height, width = values.shape[-2:]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    x, y = np.meshgrid(np.arange(width) - centre[0], np.arange(height) - centre[1])
    at = np.tensordot(inverse, np.stack([x, y]), axes=1) + centre[:, None, None]
    column, row = (
        np.clip(np.floor(place + 0.5), 0, side - 1).astype(np.int64)
        for place, side in zip(at, (width, height), strict=True)
    )
    return np.asarray(values[..., row, column])


def _along(images: Tensor, at: Tensor, axis: int) -> Tensor:
    """Values at positions along an axis, which each row has, or each column; (y, x) of them [pixel]."""
    first = torch.floor(at)
    fraction = at - first
    steps = torch.arange(TAPS, dtype=torch.float64) - (TAPS // 2 - 1)
    away = fraction[None] - steps[:, None, None]
    window = torch.special.i0(_BETA * torch.sqrt(torch.clamp(1 - (2 * away / TAPS) ** 2, min=0)))
    weights = torch.sinc(away) * window / float(np.i0(_BETA))
    weights = (weights / weights.sum(dim=0)).to(images.dtype)
    found = torch.zeros_like(images)
    for step, weight in zip(steps.tolist(), weights, strict=True):
        place = (first + step).clamp(0, images.shape[axis] - 1).long()
        found += weight * torch.gather(images, axis, place.expand(images.shape))
    return found


def shear_matrix(g1: float, g2: float, jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a shear on the sky does to pixels, (2, 2): x, y from the middle become matrix · (x, y).

    Args:
        g1, g2: reduced shear, sky frame (u west, v north).
        jacobian: d(u, v)/d(x, y), (2, 2).
    """
    on_sky = np.array([[1 + g1, g2], [g2, 1 - g1]]) / math.sqrt(1 - g1**2 - g2**2)
    return np.asarray(np.linalg.solve(jacobian, on_sky @ jacobian))
