"""Size, shape and profile of PSFs from their images, pixel included: many at once, in half a millisecond each.

The pixel is taken out first: an image is the PSF convolved with a square pixel, and its Fourier series, divided by the
pixel's transform, gives the PSF itself between the pixels too. All numbers are of moments under a Gaussian weight of
the PSF's own size and shape (`galsim.hsm`'s adaptive moments). Unlike a contour they hardly change with the place of
the centre within its pixel, where a PSF is two pixels wide.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.stamps.conventions import shear_from_distortion

Floats = NDArray[np.float64]

# Grid of the moments: half width and step [pixel].
_REACH, _STEP = 12.0, 0.5
# Each step of the adaptive moments leaves a quarter of the last one's error: 3e-5 of the FWHM after these.
_STEPS = 7
# FWHM over 2.3548 sigma as a polynomial in the kurtosis: within 1 % for Gaussian, Kolmogorov and Moffat profiles, with
# aberrations and without.
_FWHM_OVER_SIGMA = 2 * np.sqrt(2 * np.log(2)) * np.array([1.0, -0.60, -0.25])
# Limits for what has no moments: of the covariance [pixel²], and as a share of the image's side; of the light.
_LEAST, _MOST = 0.05, 0.3
_FAINTEST = 1e-6
_AT_ONCE = 64
# Numbers of the images that were measured last, some 10 MB of images.
_REMEMBERED = 1500
_lately: dict[bytes, Floats] = {}


class PSFNumbers(NamedTuple):
    """Of PSFs before the pixel, arrays of one shape; NaN for an image without light.

    Attributes:
        fwhm: [pixel], as `PSFShape.fwhm`.
        g1, g2: shear-type ellipticity, pixel frame.
        wings: minus the logarithm of twice the share of the light under the Gaussian weight: 0 for a Gaussian, 0.10 for
            Kolmogorov's profile, 0.07 to 0.26 for Moffat profiles of beta 5 to 2.
        kurtosis: mean of r^4 over the squared mean of r^2, less 2, under the weight, with r constant on its ellipses: 0
            for a Gaussian, 0.09 for Kolmogorov's profile, 0.10 to 0.26 for Moffat profiles of beta 5 to 2.
    """

    fwhm: Floats
    g1: Floats
    g2: Floats
    wings: Floats
    kurtosis: Floats


def measure_psf_images(images: NDArray[np.floating]) -> PSFNumbers:
    """Measure PSFs; an image that occurs several times, or was measured lately, is measured once.

    Args:
        images: (..., y, x), squares of an odd side [pixel], centred within a few pixels of the middle one.
    """
    shape, side = images.shape[:-2], images.shape[-1]
    keys = [image.tobytes() for image in images.reshape(-1, side, side)]
    known = {key: _lately[key] for key in keys if key in _lately}
    new = list(dict.fromkeys(key for key in keys if key not in known))
    for start in range(0, len(new), _AT_ONCE):
        part = new[start : start + _AT_ONCE]
        chosen = np.frombuffer(b"".join(part), dtype=images.dtype).reshape(-1, side, side).astype(np.float64)
        lit = np.isfinite(chosen).all(axis=(1, 2)) & (chosen.sum(axis=(1, 2)) > 0)
        found = np.full((len(part), len(PSFNumbers._fields)), np.nan)
        found[lit] = _measured(chosen[lit]).T
        known |= zip(part, found, strict=True)
    # The stamps of one field share their PSFs, and several steps of a measurement ask for them.
    _lately.update({key: known[key] for key in new[-_REMEMBERED:]})
    for key in list(_lately)[: max(0, len(_lately) - _REMEMBERED)]:
        _lately.pop(key, None)
    numbers = np.array([known[key] for key in keys]).reshape(-1, len(PSFNumbers._fields))
    return PSFNumbers(*np.moveaxis(numbers.reshape(*shape, numbers.shape[1]), -1, 0))


def forget() -> None:
    """Forget what was measured lately."""
    _lately.clear()


def _measured(images: Floats) -> Floats:
    """The numbers of (N, side, side), in their order, (5, N)."""
    side, total = images.shape[-1], images.sum(axis=(1, 2))
    half = int(min(_REACH, (side - 1) / 2) / _STEP)
    grid = _STEP * np.arange(-half, half + 1, dtype=np.float64)
    operator = _operator(side, tuple(grid.tolist()))
    light = (operator @ images @ operator.T) * (_STEP**2 / total)[:, None, None]
    row, column = np.unravel_index(images.reshape(len(images), -1).argmax(axis=1), images.shape[1:])
    x, y = np.asarray(column - (side - 1) / 2), np.asarray(row - (side - 1) / 2)
    # A Gaussian's peak is 1 / (2 pi sigma²) of its light.
    square = total / (2 * np.pi * images.max(axis=(1, 2)))
    covariance = _limited(np.stack([square, np.zeros_like(square), square], axis=1), side)
    for _ in range(_STEPS):
        weighted, _, share = _weighted(light, grid, x, y, covariance)
        mean_x, mean_y, second = _moments(weighted / share[:, None, None], grid, x, y)
        # Under a Gaussian weight of its own covariance a Gaussian has half of it, and half of the offset from the
        # weight's centre: the step is twice the residual, which for a Gaussian is Newton's.
        x = np.asarray(np.clip(x + 2 * mean_x, -side / 4, side / 4))
        y = np.asarray(np.clip(y + 2 * mean_y, -side / 4, side / 4))
        covariance = _limited(4 * second - covariance, side)
    weighted, square, share = _weighted(light, grid, x, y, covariance)
    # The mean of r² under the matched weight is 1.
    kurtosis = np.einsum("nyx,nyx,nyx->n", weighted, square, square) / share - 2
    xx, xy, yy = covariance.T
    g1, g2 = shear_from_distortion((xx - yy) / (xx + yy), 2 * xy / (xx + yy))
    fwhm = (xx * yy - xy**2) ** 0.25 * np.polynomial.polynomial.polyval(kurtosis, _FWHM_OVER_SIGMA)
    return np.stack([fwhm, g1, g2, -np.log(2 * share), kurtosis])


def _weighted(light: Floats, grid: Floats, x: Floats, y: Floats, covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Light under a Gaussian weight, r² in its ellipses, both (N, M, M), and the sum of the light, (N,).

    Args:
        light: (N, M, M), on a grid (M,).
        x, y, covariance: of the weight, (N,), (N,) and (N, 3: xx, xy, yy).
    """
    xx, xy, yy = (covariance / (covariance[:, 0] * covariance[:, 2] - covariance[:, 1] ** 2)[:, None]).T
    dx, dy = grid - x[:, None], grid - y[:, None]
    square = dy[:, :, None] * dx[:, None, :]
    square *= (-2 * xy)[:, None, None]
    square += (yy[:, None] * dx**2)[:, None, :]
    square += (xx[:, None] * dy**2)[:, :, None]
    weighted = np.exp(-0.5 * square)
    weighted *= light
    # What has no light under its weight, as noise may, has no moments.
    return weighted, square, np.maximum(weighted.sum(axis=(1, 2)), _FAINTEST)


def _moments(weighted: Floats, grid: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean offsets in x and y from (x, y), (N,) each, and second moments about the mean, (N, 3: xx, xy, yy)."""
    along_x, along_y = weighted.sum(axis=1), weighted.sum(axis=2)
    dx, dy = grid - x[:, None], grid - y[:, None]
    mean_x, mean_y = (along_x * dx).sum(axis=1), (along_y * dy).sum(axis=1)
    second = [
        (along_x * dx**2).sum(axis=1) - mean_x**2,
        ((weighted @ dx[:, :, None])[:, :, 0] * dy).sum(axis=1) - mean_x * mean_y,
        (along_y * dy**2).sum(axis=1) - mean_y**2,
    ]
    return mean_x, mean_y, np.stack(second, axis=1)


def _limited(covariance: Floats, side: int) -> Floats:
    """Within the limits of what an image can show, (N, 3: xx, xy, yy)."""
    xx, yy = (np.clip(covariance[:, k], _LEAST, (_MOST * side) ** 2) for k in (0, 2))
    most = 0.9 * np.sqrt(xx * yy)
    return np.stack([xx, np.clip(covariance[:, 1], -most, most), yy], axis=1)


@functools.lru_cache(maxsize=8)
def _operator(side: int, grid: tuple[float, ...]) -> Floats:
    """Values on a grid, by the Fourier series of the samples of an axis over the transform of a pixel, (M, side)."""
    frequency = np.arange(1, (side + 1) // 2) / side
    apart = np.asarray(grid)[:, None] - (np.arange(side) - (side - 1) / 2)
    waves = np.cos(2 * np.pi * apart[:, :, None] * frequency) / np.sinc(frequency)
    return np.asarray((1 + 2 * waves.sum(axis=2)) / side)
