"""The number of galaxies brighter than a magnitude against published counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from deblend_assets.science.images.field_checks.report import Check
from deblend_assets.science.images.field_checks.sources import LEAST_SNR, BandSources
from deblend_assets.science.images.field_checks.stars import size_error, stellar_locus
from deblend_assets.science.simulation.counts import measured_density
from deblend_assets.science.simulation.placement import correlation_asked
from deblend_assets.science.stamps.cutting import ObservedImage

# The flux limit over that of a star of `LEAST_SNR`: galaxies, which are larger, are found at it.
_ABOVE = 2.0
# Galaxies larger than the stars by so many of a star's errors are counted.
_RESOLVED = 2.5
# Median of band less i of the simulated population, at these magnitudes in i [mag].
_I_OF_COLOURS = np.array([21.0, 22.8, 24.3, 25.8])
_BAND_MINUS_I = {
    "u": (1.51, 1.10, 0.87, 0.76),
    "g": (1.11, 0.82, 0.70, 0.54),
    "r": (0.42, 0.38, 0.33, 0.28),
    "i": (0.0, 0.0, 0.0, 0.0),
    "z": (-0.19, -0.22, -0.20, -0.20),
    "y": (-0.31, -0.37, -0.35, -0.35),
}
# Fewer galaxies, both found and expected, say nothing.
_LEAST = 15
_BRIGHTEST, _STEP = 16.0, 0.02
# Limits of images beyond these are of a wrong zero point, whatever is found [AB mag].
_LIMITS = (14.0, 33.0)
# Of a square's side: the distance at which the galaxies' correlation is its mean over the square.
_MEAN_DISTANCE = 0.4

Floats = NDArray[np.float64]


def check_counts(image: ObservedImage, band: int, sources: BandSources, free_of_edge: int) -> Check:
    """The number of resolved sources above a flux, over the number that COSMOS2020 has at its magnitude.

    Args:
        image: of the field.
        band: its number.
        sources: of the band.
        free_of_edge: width of the image's rim on which no source is measured [pixel].

    Returns:
        Value: ln of the ratio; of a limit that no image has, how far it lies beyond those of images [mag].
    """
    name = image.bands[band]
    height, width = image.pixels.shape[1:]
    inner = image.inverse_variance[band][free_of_edge : height - free_of_edge, free_of_edge : width - free_of_edge]
    weight = inner[inner > 0]
    scale = float(np.sqrt(abs(np.linalg.det(image.jacobian((width - 1) / 2, (height - 1) / 2)))))
    area = weight.size * scale**2 / 3600
    if not weight.size:
        return Check.untestable("counts", name, "no pixel has a weight")
    psf = image.psf((width - 1) / 2, (height - 1) / 2)[band].astype(np.float64)
    limit = _ABOVE * LEAST_SNR * star_flux_error(psf, image.noise_correlation[band]) / np.sqrt(np.median(weight))
    magnitude = float(image.zero_point[band] - 2.5 * np.log10(limit))
    i_limit = magnitude_in_i(magnitude, name)
    expected = area * published_count(i_limit)
    locus = np.nan_to_num(stellar_locus(sources))
    # Blends that have no moments are counted.
    resolved = ~(sources.ln_size - locus < _RESOLVED * size_error(sources.snr))
    found = int((resolved & (sources.flux > limit)).sum())
    clustering = float(correlation_asked(np.array([_MEAN_DISTANCE * 60 * area**0.5]), i_limit)[0])
    error = float(np.sqrt(1 / max(found, expected, 1.0) + clustering))
    reason = f"{found} galaxies to {name} = {magnitude:.1f} on {area:.1f} square arcmin, {expected:.0f} expected"
    if not _LIMITS[0] <= magnitude <= _LIMITS[1]:
        beyond = magnitude - float(np.clip(magnitude, *_LIMITS))
        return Check.of("counts", name, beyond, 0.0, f"{reason}: a limit of no image")
    if max(found, expected) < _LEAST:
        return Check.untestable("counts", name, f"{reason}: fewer than {_LEAST}")
    return Check.of("counts", name, float(np.log((found + 0.5) / (expected + 0.5))), error, reason)


def magnitude_in_i(magnitude: float, band: str) -> float:
    """AB magnitude in i of a typical galaxy of this one in a band of ugrizy."""
    colours = np.array(_BAND_MINUS_I[band])
    return magnitude - float(np.interp(magnitude, _I_OF_COLOURS + colours, colours))


def star_flux_error(psf: Floats, correlation: Floats) -> float:
    """Error of a star's flux, over σ of a pixel, when fitted with the PSF as weights.

    Args:
        psf: its image, of unit sum, (y, x).
        correlation: of the noise, (lag_y, lag_x), 1 in the middle.
    """
    return float(np.sqrt((psf * fftconvolve(psf, correlation, mode="same")).sum()) / (psf * psf).sum())


def published_count(i_limit: float) -> float:
    """Galaxies a square arcmin brighter than a magnitude in i, by `simulation.counts`."""
    grid = np.arange(_BRIGHTEST, max(i_limit, _BRIGHTEST), _STEP) + 0.5 * _STEP
    return float(measured_density(grid).sum() * _STEP)
