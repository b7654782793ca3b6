"""The PSF of a band from whatever a user gives for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np

from deblend_assets.errors import MismatchError, SettingsError
from deblend_assets.science.images.psfs.sky_psf import SkyPSF
from deblend_assets.science.skies.image_psf import ImagePSF
from deblend_assets.science.skies.limits import FWHM_ARCSEC, PIXEL_SCALE, fwhm_limits
from deblend_assets.science.skies.psf import PSF, PSFModel
from deblend_assets.science.skies.psf_files import read_psf
from deblend_assets.science.skies.psf_shape import measure_psf

_IMAGE_KEYS = {"path", "image", "plane", "oversampling", "pixel"}
_PROFILE_KEYS = {"fwhm", "beta", "profile"}
_FORMS = (
    'give a file of PSFEx, Piff or an image, {path = …, oversampling = …, plane = …}, {fwhm = …, beta = …}, "measure", '
    "an array, or a galsim object before the pixel"
)
# By which a FWHM may lie outside of the training's range, as a share: HSC's best seeing is 0.46 arcsec.
_MARGIN = 0.15
# Pixels of two images are the same to this share: a WCS may be of another place.
_SAME_PIXELS = 0.05


@dataclass(frozen=True)
class _Given:
    """What comes with a PSF; see `psf_of`."""

    wcs: galsim.BaseWCS
    pixel_scale: float
    band: str
    bands: Sequence[str]
    where: str


def psf_of(
    value: Any,
    wcs: galsim.BaseWCS,
    shape: tuple[int, int],
    pixel_scale: float,
    band: str,
    bands: Sequence[str],
    where: str,
) -> PSF | None:
    """The PSF of a band, centred and of unit flux; None where it is to be measured from the stars.

    Every PSF is centred on its adaptive moments, so that a position is that of a star's centroid whatever the offset
    of the given image. Its flux is that of its whole image or profile.

    Args:
        value: one of
            * None or "measure": from the stars of the image;
            * a path of a FITS file (`read_psf`): PSFEx, Piff, an image, a cube with one plane a band, images in
              extensions; with `[EXT]` at its end that extension alone;
            * {path or image, oversampling, plane, pixel}: the same with what the file does not say, see `read_psf`;
            * {fwhm, beta, profile}: round on the sky; FWHM [arcsec]; profile "moffat" where there is a beta, otherwise
              "kolmogorov" unless it says "gaussian";
            * an array (y, x), a `galsim.Image`, or an object with such an `image`, as `ngmix.Observation`: a star as
              it appears on the pixels of the image, pixel included;
            * a galsim object: before the pixel, in GalSim's sky frame [arcsec];
            * a `PSF`, taken as it is.
        wcs: of the image, GalSim's, from pixels that count from 1.
        shape: of the image, (y, x) [pixel].
        pixel_scale: in the middle of the image [arcsec].
        band: u, g, r, i, z or y.
        bands: of the field, in the order of a cube's planes.
        where: name of the band's image, for messages.

    Raises:
        SettingsError: none of these, or a FWHM outside of the range that the project measures (`limits`).
        CorruptDataError, MismatchError: see `read_psf`.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() == "measure"):
        return None
    given = _Given(wcs, pixel_scale, band, bands, f"{where}, psf of {band}")
    psf = _psf(value, given)
    _require_range(psf, shape, given)
    return psf


def _psf(value: Any, given: _Given) -> PSF:
    if isinstance(value, str | os.PathLike):
        return read_psf(os.fspath(value), given.pixel_scale, band=given.band, bands=given.bands)
    if isinstance(value, Mapping):
        return _of_keys(value, given)
    if isinstance(value, galsim.GSObject):
        return SkyPSF.of(value, given.wcs, given.pixel_scale, given.where)
    if isinstance(value, np.ndarray | galsim.Image):
        return _of_image(value, given)
    if hasattr(value, "image"):
        _require_pixels(getattr(getattr(value, "jacobian", None), "scale", None), given)
        return _of_image(value.image, given)
    if callable(getattr(value, "at", None)):
        return value
    raise SettingsError(f"a PSF of type {type(value).__name__}", where=given.where, remedy=_FORMS)


def _of_keys(value: Mapping[str, Any], given: _Given) -> PSF:
    """A PSF of named values."""
    keys = set(value)
    if keys <= _PROFILE_KEYS and "fwhm" in keys:
        return _of_profile(value, given)
    if keys <= _IMAGE_KEYS and len(keys & {"path", "image"}) == 1:
        how = {key: value[key] for key in ("oversampling", "pixel") if key in value}
        wrong = [
            key
            for key, kinds in (("oversampling", int | float), ("pixel", bool), ("plane", int))
            if key in value and (not isinstance(value[key], kinds) or isinstance(value[key], bool) != (kinds is bool))
        ]
        if wrong:
            raise SettingsError(
                f"{wrong[0]} is {value[wrong[0]]!r}",
                where=given.where,
                remedy="give oversampling as a number, plane as a whole number from 0, pixel as true or false",
            )
        if "path" in keys:
            path, plane = os.fspath(value["path"]), value.get("plane")
            return read_psf(path, given.pixel_scale, band=given.band, bands=given.bands, plane=plane, **how)
        if "plane" not in keys:
            return _of_image(value["image"], given, **how)
    raise SettingsError(f"psf has the keys {', '.join(map(str, value))}", where=given.where, remedy=_FORMS)


def _of_profile(value: Mapping[str, Any], given: _Given) -> PSF:
    """A profile that is round on the sky; without a beta the atmosphere's, Kolmogorov's."""
    beta = value.get("beta")
    name = value.get("profile", "kolmogorov" if beta is None else "moffat")
    numbers = [value["fwhm"], *([] if beta is None else [beta])]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise SettingsError(
            f"fwhm is {value['fwhm']!r}, beta {beta!r}", where=given.where, remedy="give numbers, fwhm in arcsec"
        )
    fwhm = float(value["fwhm"])
    least, most = FWHM_ARCSEC.low * (1 - _MARGIN), FWHM_ARCSEC.high * (1 + _MARGIN)
    if not least <= fwhm <= most:
        raise SettingsError(
            f"fwhm is {fwhm:g}, outside of {least:.2f} to {most:.2f} arcsec",
            where=given.where,
            remedy="give the FWHM in arcsec; sharper or wider images cannot be measured",
        )
    within = min(max(fwhm, FWHM_ARCSEC.low), FWHM_ARCSEC.high)
    try:
        model = PSFModel(name, within, None if beta is None else float(beta))
    except SettingsError as error:
        raise SettingsError(error.what, where=given.where, remedy=error.remedy) from error
    profile = model.profile()
    # The model's range is that of the training: beyond it rows are measured, and have a flag.
    return SkyPSF(profile if fwhm == within else profile.dilate(fwhm / within), given.wcs, given.pixel_scale)


def _of_image(image: Any, given: _Given, *, oversampling: float | None = None, pixel: bool = True) -> PSF:
    """An image of a star on the pixels of the field, or on finer ones."""
    if isinstance(image, galsim.Image):
        if oversampling is None and image.wcs is not None and image.wcs.isUniform():
            _require_pixels(float(np.sqrt(image.wcs.pixelArea())), given)
        image = image.array
    if oversampling is None:
        oversampling = 1.0
    return ImagePSF(np.asarray(image), given.pixel_scale, oversampling=oversampling, pixel=pixel, where=given.where)


def _require_pixels(scale: float | None, given: _Given) -> None:
    """Raise MismatchError for an image of a PSF with other pixels than the field's [arcsec]."""
    if scale is not None and abs(scale / given.pixel_scale - 1) > _SAME_PIXELS:
        raise MismatchError(
            f"has pixels of {scale:.4g} arcsec, the image of {given.pixel_scale:.4g}",
            where=given.where,
            remedy=f"give {{image = …, oversampling = {given.pixel_scale / scale:.3g}, pixel = …}}; pixel is true where"
            " the PSF has the image's pixel in it",
        )


def _require_range(psf: PSF, shape: tuple[int, int], given: _Given) -> None:
    """Raise SettingsError for a PSF that is wider or narrower than what is measured."""
    height, width = shape
    fwhm = measure_psf(psf.at((width - 1) / 2, (height - 1) / 2)).fwhm
    limits = fwhm_limits(given.pixel_scale)
    if limits.low > limits.high:
        raise SettingsError(
            f"pixels of {given.pixel_scale:.3g} arcsec",
            where=given.where,
            remedy=f"give images of {PIXEL_SCALE.low:g} to {PIXEL_SCALE.high:g} arcsec a pixel: no PSF is known there",
        )
    if not limits.low * (1 - _MARGIN) <= fwhm <= limits.high * (1 + _MARGIN):
        raise SettingsError(
            f"a FWHM of {fwhm:.2f} arcsec, {fwhm / given.pixel_scale:.1f} pixels, outside of"
            f" {limits.low * (1 - _MARGIN):.2f} to {limits.high * (1 + _MARGIN):.2f} arcsec",
            where=given.where,
            remedy="of an oversampled image give {path = …, oversampling = 5}; give a fwhm in arcsec"
            if fwhm > limits.high
            else f"give a fwhm in arcsec, before the pixel; check the pixel scale of {given.pixel_scale:.3g} arcsec",
        )
