"""The PSF of a real image: from PSFEx, from Piff, or from an image of it.

All three describe stars as they appear on pixels. The pixel is divided out (`before_pixel`), so that a PSF from a file
is used like any other: convolved with a pixel it is again what the file holds. All are centred (`star_profile`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, DeblendError, MismatchError, MissingDataError, SettingsError
from deblend_assets.science.skies.image_psf import ImagePSF
from deblend_assets.science.skies.limits import BANDS
from deblend_assets.science.skies.piff_psf import PiffPSF
from deblend_assets.science.skies.psf import PSF
from deblend_assets.science.skies.psfex_psf import PSFExPSF

# Two samplings that differ by less are the same.
_SAME = 0.02


class _Plane(NamedTuple):
    """An image of a PSF in a file.

    Attributes:
        image: (y, x).
        band: that the file names for it, in lower case; none: not one of u, g, r, i, z, y.
        oversampling: that the file names, by keyword.
    """

    image: NDArray
    band: str | None
    oversampling: dict[str, float]


def read_psf(
    path: Path | str,
    pixel_scale: float,
    *,
    plane: int | None = None,
    band: str | None = None,
    bands: Sequence[str] = (),
    oversampling: float | None = None,
    pixel: bool = True,
) -> PSF:
    """The PSF that a FITS file holds: a PSFEx model, a Piff model, or an image.

    Args:
        path: the file; as PATH[EXT] or PATH[EXT][PLANE], an extension of it by name or number, a plane of a cube.
        pixel_scale: of the image that the PSF belongs to [arcsec].
        plane: of a file with images of several PSFs: index in a cube, or over the image extensions. None: the one
            whose BAND, FILTER or EXTNAME names the band; else one a band in the order of `bands`; else the only one.
        band: of the image that the PSF belongs to; None: any.
        bands: of the field.
        oversampling: of an image, see `ImagePSF`; None: by PSF_SAMP, OVERSAMP or PIXELSCL [arcsec] of its header, or 1.
        pixel: of an oversampled image, see `ImagePSF`.

    Raises:
        CorruptDataError: not FITS, truncated, none of the three, or a model of a kind that is not supported.
        MissingDataError: there is no such file.
        MismatchError: the file's band or sampling is not the one that is given.
        SettingsError: no positive pixel scale; an image that is not of one star.
    """
    from astropy.io import fits

    where = str(path)
    if not 0 < pixel_scale < np.inf:
        raise SettingsError(f"pixel_scale is {pixel_scale}", where=where, remedy="give that of the image in arcsec")
    named = None if Path(where).exists() else re.fullmatch(r"(.+?)\[([^\[\]]+)\](?:\[(\d+)\])?", where)
    name, extension = (named[1], named[2]) if named else (where, None)
    if named and named[3] and plane is None:
        plane = int(named[3])
    try:
        with fits.open(name, memmap=False) as file:
            hdus = list(file) if extension is None else [file[int(extension) if extension.isdigit() else extension]]
            images = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]
            tables = {hdu.name.lower(): hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU) and not hdu.is_image}
            for hdu in tables.values():
                if "psf_mask" in [column.lower() for column in hdu.columns.names]:
                    return PSFExPSF.from_table(hdu, pixel_scale, where)
            root = next((table.removesuffix("_interp") for table in tables if table.endswith("_interp")), None)
            if root is not None:
                parts = {table.removeprefix(f"{root}_"): hdu.data for table, hdu in tables.items()}
                return PiffPSF.from_tables(parts, pixel_scale, where)
            planes = [found for hdu in images for found in _planes(hdu, pixel_scale)]
    except DeblendError:
        raise
    except FileNotFoundError as error:
        raise MissingDataError(
            "is not a file", where=where, remedy="name the PSF: a file of PSFEx or Piff, or a FITS image"
        ) from error
    # A truncated or damaged file: whatever Astropy raises in reading it.
    except (OSError, LookupError, TypeError, ValueError, AttributeError, fits.VerifyError) as error:
        raise CorruptDataError(
            f"cannot be read as a PSF ({error})", where=where, remedy="give a FITS file of PSFEx, Piff or an image"
        ) from error
    chosen = _chosen(planes, plane, band, bands, where)
    return ImagePSF(
        chosen.image,
        pixel_scale,
        oversampling=_oversampling(chosen.oversampling, oversampling, where),
        pixel=pixel,
        where=where,
    )


def _planes(hdu: Any, pixel_scale: float) -> list[_Plane]:
    """The images of an extension."""
    names = [str(hdu.header.get(key, "")).strip() for key in ("BAND", "FILTER")] + [hdu.name]
    bands = [re.split(r"[\s_.-]+", name.lower().removeprefix("hsc-")) for name in names]
    # Of "r DECam SDSS" the first word, of "PSF_R" the last one.
    named = [words[place] for words, place in zip(bands, (0, 0, -1), strict=True) if words[place] in BANDS]
    numbers = {key: hdu.header.get(key) for key in ("PSF_SAMP", "OVERSAMP", "PIXELSCL")}
    samplings = {
        key: float({"PSF_SAMP": 1 / value, "PIXELSCL": pixel_scale / value}.get(key, value))
        for key, value in numbers.items()
        if isinstance(value, int | float) and 0 < value < np.inf
    }
    images = np.asarray(hdu.data)
    stack = images if images.ndim == 3 else images[None]
    return [_Plane(image, named[0] if named and len(stack) == 1 else None, samplings) for image in stack]


def _chosen(planes: list[_Plane], plane: int | None, band: str | None, bands: Sequence[str], where: str) -> _Plane:
    """The plane of a band."""
    wanted = band.lower() if band else None
    if plane is None:
        named = [index for index, found in enumerate(planes) if wanted and found.band == wanted]
        order = [name.lower() for name in bands]
        if len(named) == 1:
            plane = named[0]
        elif len(planes) == 1:
            plane = 0
        elif len(planes) == len(order) and wanted in order and not any(found.band for found in planes):
            plane = order.index(wanted)
    if plane is None or not 0 <= plane < len(planes):
        asked = f"plane {plane} is not among them" if plane is not None else f"none is named as that of {band}"
        raise CorruptDataError(
            f"holds {len(planes)} images of a PSF, {asked}",
            where=where,
            remedy="give a PSFEx or Piff model, or an image and the index of its plane, as in {path = …, plane = 0}",
        )
    chosen = planes[plane]
    if wanted and chosen.band not in (None, wanted):
        raise MismatchError(
            f"is the PSF of {chosen.band}, not of {wanted}", where=where, remedy="give each band its own PSF"
        )
    return chosen


def _oversampling(header: dict[str, float], given: float | None, where: str) -> float:
    """Pixels of the PSF's image in one of the field's."""
    known = dict(header) if given is None else {**header, "oversampling": float(given)}
    if known and max(known.values()) > (1 + _SAME) * min(known.values()):
        values = ", ".join(f"{value:g} by {key}" for key, value in known.items())
        raise MismatchError(
            f"its oversampling is {values}", where=where, remedy="correct the header or give the image another way"
        )
    return next(reversed(known.values()), 1.0)
