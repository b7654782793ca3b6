"""The noise of source-free pixels against what is said of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.images.field_checks.report import Check
from deblend_assets.science.statistics.metrics import MEDIAN_ERROR, robust_sigma

# Pixels nearer to a detection's segment than this hold its light [FWHM].
_HALO = 1.5
# Side of the blocks that noise is measured in [pixel], and the least share of good pixels of one.
_BLOCK, _LEAST_GOOD = 40, 0.25
_LEAST_BLOCKS = 10

Floats = NDArray[np.float64]


def source_free(apart: Floats, seen: NDArray[np.bool_], fwhm: float) -> NDArray[np.bool_]:
    """Pixels that are known and away from all detections, (y, x).

    Args:
        apart: from the nearest segment, (y, x), as `apart_from` has it [pixel].
        seen: pixels with a weight, (y, x).
        fwhm: of the PSF [pixel].
    """
    return np.asarray(seen & (apart > _HALO * fwhm))


def check_noise(
    sky_free: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    free: NDArray[np.bool_],
    correlation: Floats,
    band: str,
) -> list[Check]:
    """Variance and correlation of next pixels, medians over blocks of the image.

    Light of what was not detected and artefacts that no mask has are in few blocks, or small.

    Args:
        sky_free: pixels of a band without the sky, (y, x).
        inverse_variance: that was given, (y, x).
        free: pixels without a source, (y, x).
        correlation: that was given, (lag_y, lag_x), 1 in the middle.
        band: name of the band.
    """
    noise = np.where(free, sky_free * np.sqrt(inverse_variance), 0.0)
    number = _in_blocks(free)
    good = number >= _LEAST_GOOD * _BLOCK**2
    reason = f"{int(number[good].sum()):,} pixels without a source"
    if good.sum() < _LEAST_BLOCKS:
        return [Check.untestable(name, band, reason) for name in ("noise_level", "noise_correlation")]
    variance = _in_blocks(noise**2)[good] / number[good]
    pairs = [_in_blocks(_beside(values, axis))[good] for values in (noise, free) for axis in (0, 1)]
    covariance = (pairs[0] + pairs[1]) / np.maximum(pairs[2] + pairs[3], 1)
    middle_y, middle_x = (side // 2 for side in correlation.shape)
    given = np.pad(correlation, 1)[[middle_y + 2, middle_y + 1], [middle_x + 1, middle_x + 2]].mean()
    measured = covariance / variance
    error = [MEDIAN_ERROR * float(robust_sigma(v)) / len(v) ** 0.5 for v in (np.log(variance), measured)]
    return [
        Check.of("noise_level", band, float(np.median(np.log(variance))), error[0], reason),
        Check.of("noise_correlation", band, float(np.median(measured) - given), error[1], reason),
    ]


def _beside(values: NDArray, axis: int) -> Floats:
    """Each pixel times its next one along an axis, 0 in the last ones."""
    product = np.zeros(values.shape)
    here, there = (tuple(part if k == axis else slice(None) for k in (0, 1)) for part in (slice(-1), slice(1, None)))
    product[here] = values[here].astype(np.float64) * values[there]
    return product


def _in_blocks(values: NDArray) -> Floats:
    """Sums over whole blocks, one number a block."""
    height, width = (side // _BLOCK for side in values.shape)
    whole = values[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK)
    return np.asarray(whole.sum(axis=(1, 3), dtype=np.float64).ravel())
