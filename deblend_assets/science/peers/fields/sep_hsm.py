"""SEP and REGAUSS on the sum of the bands of a field: an estimate for metadetection.

SEP with the settings of metadetect's detection (sxdes: 0.8 σ after a 7 × 7 Gaussian of FWHM 3 pixels, at least 4
pixels, 64 thresholds, contrast 1e-5). REGAUSS (Hirata & Seljak 2003) as in GalSim with other detections' pixels left
out, and the cuts of the HSC shear catalogue (Mandelbaum et al. 2018, 1705.06745): resolution at least 0.3, shape error
at most 0.4.
"""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.peers.fields.summed import Summed, summed
from deblend_assets.science.peers.observed.sep_hsm import (
    LEAST_RESOLUTION,
    MOST_SHAPE_ERROR,
    correlated_aperture,
    correlated_shape,
)
from deblend_assets.science.peers.sep_hsm import AutoAperture, regauss_shapes, regauss_stamp
from deblend_assets.science.simulation.galaxies import NANOJANSKY_ZERO_POINT
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.cutting import ObservedImage

_THRESHOLD, _LEAST_PIXELS, _LEVELS, _CONTRAST = 0.8, 4, 64, 1e-5
_KERNEL_FWHM, _KERNEL_SIDE = 3.0, 7
_HALF = 24  # of a stamp [pixel]


def estimate(image: ObservedImage, fwhm: tuple[float, ...]) -> pd.DataFrame:
    """Detect and measure, as `metadetection.catalogs.Estimate`.

    Args:
        image: its bands have one PSF, the same all over the image, as after metadetection with one Gaussian for all.
        fwhm: of each band's PSF [pixel].

    Returns:
        One row a detection: `x`, `y` [pixel], `g1`, `g2` (shear-type, NaN: failed), `snr` of FLUX_AUTO, `magnitude`,
        `size` (σ of the galaxy before the PSF over the PSF's), `good` (HSC's cuts).
    """
    whole = summed(image)
    found, segments = _detected(whole)
    rows = [_measured(whole, found[k], segments, k + 1, fwhm[0]) for k in range(len(found))]
    columns = ("x", "y", "g1", "g2", "snr", "magnitude", "size", "good")
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype(dict.fromkeys(columns[:-1], float) | {"good": bool})


def _detected(whole: Summed) -> tuple[np.ndarray, NDArray[np.int32]]:
    import sep

    pixels = np.ascontiguousarray(whole.pixels, dtype=np.float32)
    found: tuple[np.ndarray, NDArray[np.int32]] = sep.extract(
        pixels,
        _THRESHOLD,
        err=whole.noise,
        mask=whole.lost,
        minarea=_LEAST_PIXELS,
        filter_kernel=_kernel(),
        filter_type="conv",
        deblend_nthresh=_LEVELS,
        deblend_cont=_CONTRAST,
        segmentation_map=True,
    )
    return found


def _kernel() -> NDArray[np.float32]:
    axis = np.arange(_KERNEL_SIDE) - (_KERNEL_SIDE - 1) / 2
    squared = axis**2 + axis[:, None] ** 2
    kernel = np.exp(-0.5 * squared * (FWHM_OVER_SIGMA / _KERNEL_FWHM) ** 2)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def _measured(whole: Summed, row: np.void, segments: NDArray[np.int32], number: int, fwhm: float) -> tuple[Any, ...]:
    x, y = float(row["x"]), float(row["y"])
    height, width = whole.lost.shape
    left, low = (max(round(at) - _HALF, 0) for at in (x, y))
    there = (slice(low, min(round(y) + _HALF + 1, height)), slice(left, min(round(x) + _HALF + 1, width)))
    # SEP takes arrays without gaps.
    image = np.ascontiguousarray(whole.pixels[there])
    own, lost = np.ascontiguousarray(segments[there]), np.ascontiguousarray(whole.lost[there])
    here = {name: row[name] for name in ("a", "b", "theta")} | {"x": x - left, "y": y - low}
    aperture = AutoAperture(image, here, own, number, lost)
    flux, error, _ = aperture.flux(image, np.full(image.shape, whole.noise), lost)
    snr = flux / (error * correlated_aperture(aperture.area, whole.correlation)) if error > 0 else np.nan
    shape = regauss_stamp(
        image,
        galsim.Image(whole.psf),
        ~lost & ((own == 0) | (own == number)),
        sky_var=whole.noise**2,
        guess_centroid=galsim.PositionD(here["x"] + 1, here["y"] + 1),
        guess_sig_gal=float(np.sqrt(row["a"] * row["b"])),
        guess_sig_PSF=fwhm / FWHM_OVER_SIGMA,
    )
    g, _ = regauss_shapes(shape)
    # Resolution is 1 - T(PSF) / T(observed).
    resolution = float(np.clip(shape.resolution_factor, 0.0, 0.999))
    error = shape.corrected_shape_err
    if shape.moments_status == 0 and shape.moments_sigma > 0:
        error *= correlated_shape(shape.moments_sigma, whole.correlation)
    good = resolution >= LEAST_RESOLUTION and error <= MOST_SHAPE_ERROR
    magnitude = NANOJANSKY_ZERO_POINT - 2.5 * np.log10(flux) if flux > 0 else np.nan
    return x, y, *g, snr, magnitude, np.sqrt(resolution / (1 - resolution)), good
