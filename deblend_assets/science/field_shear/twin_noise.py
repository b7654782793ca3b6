"""Noise of the twins of a field: in each image that of a survey, and yet it moves with the light.

Twins whose noise stays on its pixels differ by the shear and, since their galaxies lie on other pixels, by all of their
noise. Here the noise of a wave vector is carried along with the light. In each image alone it is exactly what a survey
has: stationary, Gaussian, of the asked correlation, and independent of the noise that a method adds. So m and c are the
same, and their errors are much smaller.

Under metadetection the image's noise and the added one change with the shear: one grows as much as the other falls. A
turn of the two into each other, which leaves both white and independent, makes the twins' noise change likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage

from deblend_assets.science.skies.noise import NoiseCorrelation
from deblend_assets.science.stamps.correlation import on_torus
from deblend_assets.science.stamps.resampling import TAPS, shear_matrix, sheared_images

Floats = NDArray[np.float64]

# Wave numbers up to the first are carried with the light, those beyond the second have noise of their own [Nyquist].
_ALL, _NONE = 0.6, 0.8
# Where the PSF or the noise passes less nothing is turned.
_LEAST_PASSED, _LEAST_POWER = 0.01, 1e-3


class TwinNoise(NamedTuple):
    """Noise of one image.

    Attributes:
        own: of the image, unit variance a pixel, of the bands' correlations, (band, y, x) float32.
        added: white, of unit variance, for methods that add noise, (band, y, x) float32.
    """

    own: NDArray[np.float32]
    added: NDArray[np.float32]


def twin_noise(
    correlations: Sequence[NoiseCorrelation],
    psf: NDArray[np.floating],
    shape: tuple[int, int],
    seed: Sequence[int],
    shear: complex,
    quarter_turns: int = 0,
) -> TwinNoise:
    """Noise of an image of a field; of the same seed and |shear| that of its twins.

    Args:
        correlations: of the noise of each band, before the turns.
        psf: somewhere in the image, pixel included, (band, y, x) of odd sides; the errors of m and c depend on it,
            they themselves do not.
        shape: (y, x) [pixel].
        seed: of everything random.
        shear: reduced shear g1 + i g2 of the light about the centre, pixel frame.
        quarter_turns: turns of light and noise by 90° from +x to +y, before the shear.
    """
    children = np.random.SeedSequence(list(seed)).spawn(len(correlations))
    both = []
    for correlation, image, child in zip(correlations, psf, children, strict=True):
        turned = NoiseCorrelation(np.rot90(correlation.values, -quarter_turns))
        both.append(_band(turned, image, shape, np.random.default_rng(child), shear, quarter_turns))
    return TwinNoise(*(np.stack([pair[k] for pair in both]).astype(np.float32) for k in (0, 1)))


def _band(
    correlation: NoiseCorrelation,
    psf: NDArray[np.floating],
    shape: tuple[int, int],
    rng: np.random.Generator,
    shear: complex,
    quarter_turns: int,
) -> tuple[Floats, Floats]:
    """Own and added noise of a band, (y, x) each."""
    # What a torus joins at its ends lies in the margin.
    margin = int(np.ceil(abs(shear) * max(shape))) + TAPS + correlation.reach
    grid = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    before = grid if quarter_turns % 2 == 0 else grid[::-1]
    white = np.stack([np.rot90(rng.standard_normal(before), -quarter_turns) for _ in range(4)])
    matrix = shear_matrix(shear.real, shear.imag, np.eye(2))
    smooth = fft.irfft2(fft.rfft2(white[:2]) * np.sqrt(_carried(grid, np.eye(2))), s=grid)
    inverse = shear_matrix(-shear.real, -shear.imag, np.eye(2))
    moved = fft.rfft2(sheared_images(torch.from_numpy(smooth), inverse).numpy())
    angle = _angle(correlation, psf, grid, matrix)
    turned = moved[0] * np.cos(angle) + moved[1] * np.sin(angle), moved[1] * np.cos(angle) - moved[0] * np.sin(angle)
    # Behind the shear a wave vector k has the power of (its matrix, symmetric) k before.
    rest = fft.rfft2(white[2:]) * np.sqrt(1 - _carried(grid, matrix))
    power = np.maximum(correlation.power(grid), 0.0)
    inner = slice(margin, -margin), slice(margin, -margin)
    own = fft.irfft2((turned[0] + rest[0]) * np.sqrt(power), s=grid)
    return own[inner], fft.irfft2(turned[1] + rest[1], s=grid)[inner]


def _frequencies(grid: tuple[int, int], matrix: Floats) -> Floats:
    """Matrix times the frequencies of `rfft2`, (x or y, ky, kx) [Nyquist]."""
    k = np.stack(np.meshgrid(2 * fft.rfftfreq(grid[1]), 2 * fft.fftfreq(grid[0])))
    return np.asarray(np.tensordot(matrix, k, axes=1))


def _carried(grid: tuple[int, int], matrix: Floats) -> Floats:
    """Share of the power at matrix · k that is carried."""
    radius = np.hypot(*_frequencies(grid, matrix))
    return np.asarray(np.cos(np.pi / 2 * np.clip((radius - _ALL) / (_NONE - _ALL), 0, 1)) ** 2)


def _angle(correlation: NoiseCorrelation, psf: NDArray[np.floating], grid: tuple[int, int], matrix: Floats) -> Floats:
    """Angle by which own and added noise are turned into each other, at the frequencies of `rfft2`.

    Behind an artificial shear the image's noise at k is that of matrix · k, over the PSF there. Behind a real one it is
    that of k over the PSF at k: the ratio of both is cos(angle) - sin(angle).
    """
    passed = np.abs(fft.fft2(on_torus(np.asarray(psf, np.float64) / psf.sum(), grid)))
    power = fft.fft2(on_torus(correlation.values, grid)).real
    whitened = passed / np.sqrt(np.maximum(power, _LEAST_POWER))
    x, y = (k * side / 2 for k, side in zip(_frequencies(grid, matrix), grid[::-1], strict=True))
    behind = ndimage.map_coordinates(whitened, [y, x], order=3, mode="grid-wrap")
    half = (slice(None), slice(grid[1] // 2 + 1))
    ratio = whitened[half] / np.maximum(behind, _LEAST_PASSED)
    known = (passed[half] > _LEAST_PASSED) & (power[half] > _LEAST_POWER)
    return np.where(known, 0.5 * np.arcsin(np.clip(1 - ratio**2, -1, 1)), 0.0)
