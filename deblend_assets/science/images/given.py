"""Observations of arrays, as a user has them: `da.Observation` takes what `ngmix.Observation` and GalSim call it."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.images.psfs.read import psf_of
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.mask_bits import MaskBit

# Bits of an integer mask that has no names.
_BITS = 31


def observation(
    image: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    zero_point: float,
    bmask: ArrayLike | None = None,
    psf: Any = None,
    wcs: Any = None,
    lost: int | None = None,
    where: str = "image",
) -> Observation:
    """One band of a field, from arrays.

    Args:
        image: (y, x), any numeric dtype [image unit].
        weight: inverse variance of the sky's noise, (y, x); a number: the same everywhere; None: measured.
        zero_point: AB magnitude of one image unit.
        bmask: integers, (y, x).
        psf: a galsim object (before the pixel), an array or an ngmix Observation (a star as it appears on the pixels),
            a path, {fwhm, beta}; None: measured from the stars. See `psf_of`.
        wcs: a galsim or astropy WCS, an ngmix Jacobian, a FITS header, or the pixel scale [arcsec]: x west, y north.
        lost: bits of `bmask` that lose a pixel, together; None: all of them.
        where: name in messages.

    Raises:
        MismatchError: arrays of different shapes, or a WCS that is none of these.
        SettingsError: a PSF that cannot be right.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 2:
        raise MismatchError(f"an image of shape {pixels.shape}", where=where, remedy="give one image (y, x) a band")
    shape = (pixels.shape[0], pixels.shape[1])
    known = as_wcs(wcs, where)
    middle = galsim.PositionD((shape[1] + 1) / 2, (shape[0] + 1) / 2)
    scale = float(np.sqrt(known.pixelArea(middle)))
    bits = (1 << _BITS) - 1 if lost is None else lost
    return Observation(
        image=pixels,
        zero_point=float(zero_point),
        wcs=known,
        weight=None if weight is None else np.broadcast_to(np.asarray(weight, np.float32), shape),
        bmask=None if bmask is None else _integers(bmask, where),
        lost={1 << bit: MaskBit.BAD_COLUMN for bit in range(_BITS) if bits >> bit & 1},
        psf=psf_of(psf, known, shape, scale, "r", CATSIM_BANDS, where),
        where=where,
    )


def field_from_ngmix(mbobs: Any, bands: str, zero_points: ArrayLike, name: str = "field") -> Field:
    """A field of an `ngmix.MultiBandObsList` with one observation a band.

    Args:
        mbobs: one `ObsList` a band.
        bands: their names, as "griz".
        zero_points: AB magnitude of one image unit, by band.
        name: of the field.

    Raises:
        MismatchError: not one observation a band.
    """
    listed, zeros = list(mbobs), np.broadcast_to(np.asarray(zero_points, float), len(bands))
    if len(listed) != len(bands) or any(len(of) != 1 for of in listed):
        raise MismatchError(
            f"{[len(of) for of in listed]} observations in the bands {bands}",
            where=name,
            remedy="give one coadd a band: a MultiBandObsList whose lists have one observation each",
        )
    found: dict[str, Observation] = {}
    for band, (seen,), zero in zip(bands, listed, zeros, strict=True):
        found[band] = observation(
            seen.image,
            seen.weight,
            zero_point=float(zero),
            bmask=seen.bmask if seen.has_bmask() else None,
            psf=seen.psf if seen.has_psf() else None,
            wcs=seen.jacobian,
            where=f"{name}, {band}",
        )
    return Field(found, name)


def as_wcs(value: Any, where: str) -> galsim.BaseWCS:
    """GalSim's WCS, from pixels that count from 1.

    Args:
        value: see `observation`.
        where: name in messages.

    Raises:
        MismatchError: not a WCS.
    """
    if isinstance(value, galsim.BaseWCS):
        return value
    if isinstance(value, int | float) and value > 0:
        return galsim.PixelScale(float(value))
    if hasattr(value, "get_galsim_wcs"):  # of ngmix
        return value.get_galsim_wcs()
    try:
        if hasattr(value, "wcs_pix2world"):
            return galsim.AstropyWCS(wcs=value)
        return galsim.FitsWCS(header=galsim.FitsHeader(value), suppress_warning=True)
    except Exception as error:  # GalSim and astropy raise all kinds
        raise MismatchError(
            f"wcs is {type(value).__name__}",
            where=where,
            remedy="give a galsim or astropy WCS, a FITS header, or the pixel scale in arcsec",
        ) from error


def _integers(bmask: ArrayLike, where: str) -> NDArray[np.integer]:
    bits = np.asarray(bmask)
    if bits.dtype == bool:
        return bits.astype(np.int32)
    if not np.issubdtype(bits.dtype, np.integer):
        raise MismatchError(f"bmask has dtype {bits.dtype}", where=where, remedy="give integers, or true where lost")
    return bits
