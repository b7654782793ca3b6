"""A stamp as SEP's users see it: the local sky subtracted in every band, objects found in the reference band."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.peers.observed.presence import Presence
from deblend_assets.science.peers.sep_hsm import detect
from deblend_assets.science.stamps.correlation import growth
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.statistics.metrics import MEDIAN_ERROR

Floats = NDArray[np.float64]

# SEP's filter, and the fewest pixels of an object.
_FILTER = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])
_LEAST_AREA = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
# Of the sky's level: clipping in σ of a pixel and its rounds; fewer pixels without an object are not enough.
_CLIP, _ROUNDS, _LEAST_PIXELS = 3.0, 5, 100


class Segmented(NamedTuple):
    """One stamp.

    Attributes:
        images: (band, y, x) float32, without the local sky.
        noise: standard deviation of each pixel, (band, y, x); of a lost one that of the band's median pixel.
        sky_error: standard error of the sky's level, (band,).
        lost: (band, y, x).
        rows, segments: of SEP in the reference band, see `sep_hsm.detect`.
    """

    images: NDArray[np.float32]
    noise: NDArray[np.float32]
    sky_error: Floats
    lost: NDArray[np.bool_]
    rows: np.ndarray
    segments: NDArray[np.int32]


def segmented(stamps: ObservedStamps, there: Presence) -> Segmented:
    """Of one stamp of which a band is present.

    The sky of a band is the clipped median of the pixels without an object: what the subtraction of a wide sky leaves
    is, in the aperture of a faint galaxy of a deep coadd, as bright as that galaxy.
    """
    n, k = there.stamp, there.reference
    weight, correlation = stamps.inverse_variance[n], stamps.noise_correlation[n]
    lost, noise = weight == 0, _pixel_noise(weight)
    threshold = noise[k] * np.float32(growth(_FILTER, correlation[k]) * growth(_LEAST_AREA, correlation[k]))
    reference = stamps.pixels[n, k]
    first, _ = _sky(reference, ~lost[k], noise[k])
    _, segments = detect(reference - np.float32(first), threshold, lost[k])
    images, errors = stamps.pixels[n].copy(), np.zeros(len(weight))
    for band in there.bands:
        free = ~lost[band] & (segments == 0)
        if np.count_nonzero(free) < _LEAST_PIXELS:
            free = ~lost[band]
        level, pixels = _sky(images[band], free, noise[band])
        images[band] -= np.float32(level)
        area = max(float(correlation[band].sum()), 0.0)
        errors[band] = MEDIAN_ERROR * np.median(noise[band]) * np.sqrt(area / max(pixels, 1))
    images[lost] = 0
    rows, segments = detect(images[k], threshold, lost[k])
    return Segmented(images, noise, errors, lost, rows, segments)


def _sky(image: NDArray[np.float32], free: NDArray[np.bool_], noise: NDArray[np.float32]) -> tuple[float, int]:
    """Clipped median of the free pixels, and how many of them were left."""
    values, sigma = image[free], float(np.median(noise))
    level = float(np.median(values)) if len(values) else 0.0
    for _ in range(_ROUNDS):
        kept = values[np.abs(values - level) < _CLIP * sigma]
        if not len(kept):
            break
        level = float(np.median(kept))
    return level, int(np.count_nonzero(np.abs(values - level) < _CLIP * sigma))


def _pixel_noise(inverse_variance: NDArray) -> NDArray[np.float32]:
    """See `Segmented.noise`; 1 in a band without a pixel."""
    noise = np.ones(inverse_variance.shape, dtype=np.float32)
    for plane, weight in zip(noise, inverse_variance, strict=True):
        seen = weight > 0
        if seen.any():
            plane[:] = 1 / np.sqrt(np.median(weight[seen]))
            plane[seen] = 1 / np.sqrt(weight[seen])
    return noise
