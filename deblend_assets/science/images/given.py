"""Observations of arrays, as a user has them: `da.Observation` takes what `ngmix.Observation` and GalSim call it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import galsim
import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.header_wcs import celestial_wcs, is_celestial, middle
from deblend_assets.science.images.noise_maps import require_weight
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.images.psfs.read import psf_of
from deblend_assets.science.images.user_arrays import plain_array, plain_pixels
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.mask_bits import MaskBit

# Bits of an integer mask that has no names.
_BITS = 31
# Keys of an ngmix meta that hold a zero point; the second is that of DES.
_ZERO_POINTS = ("zero_point", "magzp_ref")


def observation(
    image: ArrayLike | galsim.Image,
    weight: ArrayLike | None = None,
    *,
    zero_point: float | None = None,
    bmask: ArrayLike | None = None,
    psf: Any = None,
    wcs: Any = None,
    lost: int | None = None,
    where: str = "image",
) -> Observation:
    """One band of a field, from arrays.

    Args:
        image: (y, x), any real dtype [image unit]; pixels that are NaN, or masked in a masked array of numpy, are
            lost; a galsim Image brings its pixel scale too.
        weight: inverse variance of the sky's noise, (y, x); a number: the same everywhere; None: measured.
        zero_point: AB magnitude of one image unit.
        bmask: integers, (y, x).
        psf: a galsim object (before the pixel), an array or an ngmix Observation (a star as it appears on the pixels),
            a path, {fwhm, beta}; None: measured from the stars. See `psf_of`.
        wcs: a galsim or astropy WCS, an ngmix Jacobian, a FITS header, or the pixel scale [arcsec]: x west, y north.
        lost: bits of `bmask` that lose a pixel, together; None: all of them.
        where: name in messages.

    Raises:
        MismatchError: arrays of different shapes, a WCS that is none of these, no zero point, or a weight that the
            pixels' noise contradicts; see `require_weight`.
        MissingDataError: a header's WCS that cannot be read, or of no ICRS or FK5 coordinates.
        SettingsError: a PSF that cannot be right.
    """
    if wcs is None and isinstance(image, galsim.Image) and image.wcs is not None and image.wcs.isUniform():
        wcs = image.wcs.local()
    pixels = plain_pixels(image, where)
    if pixels.ndim != 2:
        raise MismatchError(f"an image of shape {pixels.shape}", where=where, remedy="give one image (y, x) a band")
    shape = (pixels.shape[0], pixels.shape[1])
    known = as_wcs(wcs, shape, where)
    scale = float(np.sqrt(known.pixelArea(middle(shape))))
    bits = (1 << _BITS) - 1 if lost is None else lost
    found = Observation(
        image=pixels,
        zero_point=_magnitude(zero_point, where),
        wcs=known,
        weight=_over(plain_array(weight).astype(np.float32), shape) if weight is not None else None,
        bmask=None if bmask is None else _integers(bmask, where),
        lost={1 << bit: MaskBit.BAD_COLUMN for bit in range(_BITS) if bits >> bit & 1},
        psf=psf_of(psf, known, shape, scale, "r", CATSIM_BANDS, where),
        where=where,
    )
    if found.weight is not None:
        require_weight(found.image, found.weight, where)
    return found


def of_ngmix(
    mbobs: Any, bands: Sequence[str] | None, zero_points: ArrayLike | None, where: str
) -> dict[str, Observation]:
    """The observations of an `ngmix.MultiBandObsList` by band; see `Field.from_ngmix`.

    Args:
        mbobs, bands, zero_points: as there.
        where: name in messages.

    Raises:
        MismatchError: not one observation a band, or one whose band or zero point is not known.
    """
    listed = list(mbobs)
    if any(len(of) != 1 for of in listed):
        raise MismatchError(
            f"{[len(of) for of in listed]} observations by band",
            where=where,
            remedy="give one coadd a band: a MultiBandObsList whose lists have one observation each",
        )
    of_each = [{**_meta(mbobs), **_meta(of), **_meta(of[0])} for of in listed]
    names: list[Any] = [meta.get("band") for meta in of_each] if bands is None else list(bands)
    if zero_points is None:
        zeros: list[Any] = [next((meta[key] for key in _ZERO_POINTS if key in meta), None) for meta in of_each]
    else:
        zeros = np.broadcast_to(np.asarray(zero_points, float), len(listed)).tolist()
    if len(names) != len(listed) or None in names or None in zeros:
        raise MismatchError(
            f"{len(listed)} bands, of names {names} and zero points {zeros}",
            where=where,
            remedy='write da.Field.from_ngmix(mbobs, "griz", [30.0, 30.0, 30.0, 30.0]), or set the keys band and '
            "zero_point of meta",
        )
    return {
        str(band): observation(
            seen.image,
            seen.weight,
            zero_point=float(zero),
            bmask=seen.bmask if seen.has_bmask() else None,
            psf=seen.psf if seen.has_psf() else None,
            wcs=seen.jacobian,
            where=f"{where}, {band}",
        )
        for band, (seen,), zero in zip(names, listed, zeros, strict=True)
    }


def _meta(of: Any) -> dict[str, Any]:
    """What a list or an observation of ngmix says of itself."""
    return dict(getattr(of, "meta", None) or {})


def as_wcs(value: Any, shape: tuple[int, int], where: str) -> galsim.BaseWCS:
    """GalSim's WCS, from pixels that count from 1.

    Args:
        value: see `observation`.
        shape: of the image, (y, x).
        where: name in messages.

    Raises:
        MismatchError: not a WCS.
        MissingDataError: as of `celestial_wcs`.
    """
    if isinstance(value, galsim.BaseWCS):
        return value
    if isinstance(value, Real) and float(value) > 0:
        return galsim.PixelScale(float(value))
    if hasattr(value, "get_galsim_wcs"):  # of ngmix
        return value.get_galsim_wcs()
    try:
        if hasattr(value, "wcs_pix2world"):
            return galsim.AstropyWCS(wcs=value)
        header = value if isinstance(value, fits.Header) else fits.Header(list(galsim.FitsHeader(value).items()))
        if not is_celestial(header):
            if "CDELT1" not in header and "GS_WCS" not in header:
                # Of which GalSim makes pixels of 1 arcsec.
                raise ValueError("no WCS")
            return galsim.FitsWCS(header=header, suppress_warning=True)
    except Exception as error:  # GalSim and astropy raise all kinds
        raise MismatchError(
            "wcs is None" if value is None else f"wcs is a {type(value).__name__} without a WCS",
            where=where,
            remedy="give a galsim or astropy WCS, a FITS header that has one, or the pixel scale in arcsec",
        ) from error
    return celestial_wcs(header, shape, where, warnings.warn)


def _magnitude(zero_point: Any, where: str) -> float:
    """A zero point as a number; Observation refuses NaN."""
    try:
        return float(zero_point)
    except (TypeError, ValueError) as error:
        raise MismatchError(
            f"zero_point is {zero_point!r}", where=where, remedy="give the AB magnitude of one image unit"
        ) from error


def _over(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.broadcast_to(values, shape) if values.ndim == 0 else values


def _integers(bmask: ArrayLike, where: str) -> NDArray[np.integer]:
    bits = np.asarray(bmask.array if isinstance(bmask, galsim.Image) else bmask)
    if bits.dtype == bool:
        return bits.astype(np.int32)
    if not np.issubdtype(bits.dtype, np.integer):
        raise MismatchError(f"bmask has dtype {bits.dtype}", where=where, remedy="give integers, or true where lost")
    return bits
