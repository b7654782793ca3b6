"""All checks of a field."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import Detections
from deblend_assets.science.images.field_checks.counts import check_counts
from deblend_assets.science.images.field_checks.noise import check_noise, source_free
from deblend_assets.science.images.field_checks.psf import check_psf
from deblend_assets.science.images.field_checks.report import Check, FieldReport
from deblend_assets.science.images.field_checks.sources import measure_sources
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.stamps.cutting import ObservedImage

# Mesh of the sky that is subtracted [pixel].
_MESH = 64


def check_field(image: ObservedImage, found: Detections) -> FieldReport:
    """Whether a whole field shows that its PSF, units or noise are not what was given.

    Args:
        image: pixels of all bands and all that was given for them.
        found: what `detect` found in it, with the same weights, PSFs and correlations.
    """
    return FieldReport(tuple(check for band in range(len(image.bands)) for check in check_band(image, band, found)))


def check_band(image: ObservedImage, band: int, found: Detections) -> list[Check]:
    """The checks of one band.

    Args:
        image, found: see `check_field`.
        band: number of the band.
    """
    height, width = image.pixels.shape[1:]
    weight = image.inverse_variance[band]
    psf = image.psf((width - 1) / 2, (height - 1) / 2)[band]
    free = source_free(found.apart, weight > 0, float(measure_psf_images(psf).fwhm))
    sky_free = without_sky(image.pixels[band], free)
    sources = measure_sources(image, sky_free, band, found)
    return [
        *check_psf(sources, image.bands[band]),
        *check_noise(sky_free, weight, free, image.noise_correlation[band], image.bands[band]),
        check_counts(image, band, sources, psf.shape[-1] // 2),
    ]


def without_sky(pixels: NDArray[np.float32], free: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A band less SEP's background of its source-free pixels, (y, x) float32.

    Args:
        pixels: (y, x).
        free: pixels without a source, (y, x).
    """
    if not free.any():
        return pixels
    values = np.ascontiguousarray(np.where(free, pixels, 0.0), np.float32)
    return np.asarray(pixels - sep.Background(values, mask=~free, bw=_MESH, bh=_MESH).back(), np.float32)
