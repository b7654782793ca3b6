"""Positions on the sky as pixels of a field, and pixels as positions on the plane that touches the sky."""

from __future__ import annotations

import galsim
import numpy as np
from astropy.wcs import NoConvergence
from numpy.typing import NDArray

from deblend_assets.science.images.field import Field

Floats = NDArray[np.float64]

# Positions beyond so many times the distance of a field's corners from its centre have no pixels: distortions are
# fitted to the image alone, and a tangential projection shows the antipode of its centre as the centre.
_REACH = 2.0
# A position that a distortion folds back comes back elsewhere [pixel].
_RETURNS_WITHIN = 0.01
_ARCSEC = np.degrees(1) * 3600


def sky_to_field(field: Field, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Pixels of ICRS positions [deg], (N,) each, from 0; NaN far from a celestial field and where undefined."""
    height, width = field.shape
    x = np.array([(width - 1) / 2, -0.5, width - 0.5, -0.5, width - 0.5])
    y = np.array([(height - 1) / 2, -0.5, -0.5, height - 0.5, height - 0.5])
    centre, *corners = _unit_vectors(*field.sky(x, y))
    reach = _REACH * np.nanmax([np.linalg.norm(corner - centre) for corner in corners])
    near = np.flatnonzero((np.abs(dec) <= 90) & (np.linalg.norm(_unit_vectors(ra, dec) - centre, axis=1) <= reach))
    found = np.full((2, len(ra)), np.nan)
    found[:, near] = _invert(field.wcs, ra[near], dec[near])
    x, y = found
    again = np.full((2, len(ra)), np.nan)
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    again[:, known] = field.sky(x[known], y[known])
    apart = np.linalg.norm(_unit_vectors(*again) - _unit_vectors(ra, dec), axis=1)
    found[:, ~(np.rad2deg(apart) * 3600 <= _RETURNS_WITHIN * field.pixel_scale)] = np.nan
    return found[0], found[1]


def sky_errors(field: Field, x: Floats, y: Floats, x_err: Floats, y_err: Floats) -> tuple[Floats, Floats]:
    """Standard errors of ra, times cos(dec), and of dec, (N,) each [arcsec]; NaN without celestial coordinates.

    Args:
        field: whose WCS counts.
        x, y: positions, (N,), from 0.
        x_err, y_err: their standard errors, independent of each other, (N,) [pixel].
    """
    _, dec = field.sky(x, y)
    variances = np.zeros((2, len(x)))
    for dx, dy, error in ((0.5, 0.0, x_err), (0.0, 0.5, y_err)):
        (ra1, dec1), (ra0, dec0) = field.sky(x + dx, y + dy), field.sky(x - dx, y - dy)
        across = ((ra1 - ra0 + 180) % 360 - 180) * np.cos(np.radians(dec))
        variances += (3600 * error * np.stack([across, dec1 - dec0])) ** 2
    ra_err, dec_err = np.sqrt(variances)
    return ra_err, dec_err


def sky_plane(field: Field, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Positions on the tangent plane of the field's middle, u west and v north, (N,) each [arcsec].

    Without celestial coordinates they are those of the WCS.
    """
    height, width = field.shape
    middle = np.array([(width - 1) / 2]), np.array([(height - 1) / 2])
    if not field.wcs.isCelestial():
        jacobian = field.jacobian(float(middle[0][0]), float(middle[1][0]))
        u, v = jacobian @ np.stack([x - middle[0], y - middle[1]])
        return u, v
    (ra0,), (dec0,) = (np.radians(part) for part in field.sky(*middle))
    ra, dec = (np.radians(part) for part in field.sky(x, y))
    towards = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    u = -np.cos(dec) * np.sin(ra - ra0) / towards
    v = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / towards
    return u * _ARCSEC, v * _ARCSEC


def _invert(wcs: galsim.BaseWCS, ra: Floats, dec: Floats) -> Floats:
    """(2, N) pixels from 0; NaN where the inversion fails."""
    if not len(ra):
        return np.empty((2, 0))
    try:
        return np.stack(wcs.radecToxy(ra.copy(), dec.copy(), units="degrees")) - 1
    except (galsim.GalSimError, NoConvergence, ValueError):
        # One position that fails takes all of its call with it.
        if len(ra) == 1:
            return np.full((2, 1), np.nan)
        half = len(ra) // 2
        return np.concatenate([_invert(wcs, ra[part], dec[part]) for part in (slice(half), slice(half, None))], axis=1)


def _unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """(N, 3); NaN where a position is not finite."""
    with np.errstate(invalid="ignore"):
        longitude, latitude = np.radians(ra), np.radians(dec)
        flat = np.cos(latitude)
        return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=-1)
