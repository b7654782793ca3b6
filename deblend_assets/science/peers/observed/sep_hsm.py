"""SEP and HSM on observed stamps: masks, apertures and REGAUSS with the stamp's own PSF, in the reference band.

As for the report's blends (`peers.sep_hsm`), with the local sky subtracted and lost pixels left out. A target that SEP
does not find in the one band is measured at the position given, and flagged. Flags follow the cuts of the HSC shear
catalogue (Mandelbaum et al. 2018, 1705.06745): resolution at least 0.3, shape error at most 0.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.peers.observed.presence import Presence, presence
from deblend_assets.science.peers.observed.segmentation import segmented
from deblend_assets.science.peers.sep_hsm import MATCH, AutoAperture, nearest, regauss_shapes, regauss_stamp
from deblend_assets.science.stamps.correlation import growth
from deblend_assets.science.stamps.estimates import Estimates
from deblend_assets.science.stamps.observed import ObservedStamps

LEAST_RESOLUTION, MOST_SHAPE_ERROR = 0.3, 0.4
# SEP's flags: pixels of the object on the stamp's edge; of the aperture off the stamp.
_BAD_SEGMENT, _BAD_APERTURE = 2, 16
# Share of the aperture that may be lost.
_MOST_LOST = 0.05
# A first guess of the size of what SEP did not find, of PSF and galaxy [pixel].
_GUESS = 2.0

Floats = NDArray[np.float64]


def measure(stamps: ObservedStamps, positions: Sequence[Floats]) -> pd.DataFrame:
    """Estimates (`ESTIMATE_COLUMNS`).

    Errors of g are HSM's, of a round Gaussian as large as the galaxy; those of e by the same formula without the PSF.
    Errors of fluxes are those of the aperture and of the local sky. All take the correlation of the noise into account.

    Args:
        stamps: of which the noise is that of the sky.
        positions: x and y on each stamp, the target's first; the other ones are not used.
    """
    found = Estimates.nothing(len(stamps), stamps.bands)
    for there in presence(stamps):
        _measure_one(found, stamps, there, positions[there.stamp][0])
    return found.table()


def _measure_one(found: Estimates, stamps: ObservedStamps, there: Presence, position: Floats) -> None:
    n, k = there.stamp, there.reference
    images, noise, sky_error, lost, rows, segments = segmented(stamps, there)
    image, correlation = images[k], stamps.noise_correlation[n, k]
    own, apart = nearest(rows, *position)
    detected = apart * stamps.pixel_scale[n] < MATCH
    row: Mapping[str, float] | np.void = rows[own] if detected else _point(position)
    # A target without a detection of its own is part of what covers it, or of the sky.
    column, line = np.clip(np.rint(position), 0, stamps.side - 1).astype(int)
    number = own + 1 if detected else int(segments[line, column]) or len(rows) + 1
    found.flag[n] = not detected or bool(rows[own]["flag"] & _BAD_SEGMENT)

    aperture = AutoAperture(image, row, segments, number, lost[k])
    for band in there.bands:
        flux, error, flags = aperture.flux(images[band], noise[band], lost[band])
        grown = correlated_aperture(aperture.area, stamps.noise_correlation[n, band])
        found.flux[n, band] = flux
        found.flux_err[n, band] = np.hypot(error * grown, aperture.area * sky_error[band])
        found.flag[n] |= band == k and bool(flags & _BAD_APERTURE)
    found.flag[n] |= _lost_share(lost[k], row, aperture.area) > _MOST_LOST

    good = ~lost[k] & ((segments == 0) | (segments == number))
    shape = regauss_stamp(
        image,
        galsim.Image(stamps.psf[n, k].astype(np.float64)),
        good,
        sky_var=float(np.median(noise[k]) ** 2),
        guess_centroid=galsim.PositionD(row["x"] + 1, row["y"] + 1),
        guess_sig_gal=float(np.sqrt(row["a"] * row["b"])),
        guess_sig_PSF=_GUESS,
    )
    found.g[n], found.e[n] = regauss_shapes(shape)
    if shape.moments_status == 0 and shape.moments_amp > 0:
        grown = correlated_shape(shape.moments_sigma, correlation)
        error = 2 * np.sqrt(4 * np.pi) * np.median(noise[k]) * shape.moments_sigma / shape.moments_amp
        found.e_err[n], found.g_err[n] = error * grown, shape.corrected_shape_err * grown
    found.flag[n] |= is_unresolved(shape) or shape.corrected_shape_err > MOST_SHAPE_ERROR


def is_unresolved(shape: galsim.hsm.ShapeData) -> bool:
    """Whether the galaxy is too small beside the PSF for its shape to be used."""
    return bool(shape.resolution_factor < LEAST_RESOLUTION)


def _lost_share(lost: NDArray[np.bool_], row: Mapping[str, float] | np.void, area: float) -> float:
    """Share of lost pixels in a circle of an area [pixel] around an object, of those on the stamp."""
    y, x = np.indices(lost.shape)
    inside = np.pi * ((x - row["x"]) ** 2 + (y - row["y"]) ** 2) <= area
    return float(lost[inside].mean()) if inside.any() else 1.0


def _point(position: Floats) -> dict[str, float]:
    return {"x": float(position[0]), "y": float(position[1]), "a": _GUESS, "b": _GUESS, "theta": 0.0}


def correlated_aperture(area: float, correlation: NDArray) -> float:
    """Error of the sum over a round aperture of so many pixels, over that of white noise of the same σ a pixel."""
    radius = np.sqrt(area / np.pi)
    return growth(_radius_squared(radius) < radius**2, correlation)


def correlated_shape(sigma: float, correlation: NDArray) -> float:
    """Error of a shape by moments of a Gaussian of this σ [pixel], over that of white noise of the same σ a pixel."""
    squared = _radius_squared(4 * sigma)
    half = len(squared) // 2
    axis = np.arange(-half, half + 1)
    return growth(np.exp(-0.5 * squared / sigma**2) * (axis**2 - axis[:, None] ** 2), correlation)


def _radius_squared(reach: float) -> Floats:
    half = int(np.ceil(reach))
    axis = np.arange(-half, half + 1, dtype=np.float64) ** 2
    return np.asarray(axis + axis[:, None])
