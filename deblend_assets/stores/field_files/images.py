"""Finds the image that a name means, among the HDUs of a file and the planes of a cube."""

from __future__ import annotations

from typing import Any

from astropy.io import fits

from deblend_assets.errors import MissingDataError
from deblend_assets.stores.field_files.files import opened
from deblend_assets.stores.field_files.names import ImageName
from deblend_assets.stores.field_files.planes import FitsImage, FitsPlane

# EXTNAME, or EXTTYPE of older files of LSST's and HSC's stack, of the image among its maps.
_SCIENCE = ("IMAGE", "SCI")
_NAMELESS = ("", "PRIMARY", "COMPRESSED_IMAGE")


def open_image(name: ImageName, band: str) -> FitsImage:
    """Find an image by its name; no pixel is read.

    Without an extension it is IMAGE or SCI, or the first image where no other has its shape.

    Args:
        name: of the image.
        band: in lower case; chooses the plane of a cube whose header lists its bands (BANDS = grz, as the Legacy
            Surveys write it).

    Raises:
        MissingDataError: no such file, extension or plane, or several that may be meant.
        CorruptDataError: the file cannot be read.
    """
    name.require_file()
    with opened(name.path) as hdus:
        number = _first(hdus, name) if name.extension is None else _named(hdus, name)
        header, primary = hdus[number].header.copy(), hdus[0].header.copy()
    axes = _axes(header)
    plane = FitsPlane(str(name.path), number, _leading(axes, header, name, band), (axes[-2], axes[-1]), name.text)
    return FitsImage(plane, header, primary)


def hdu_names(hdus: fits.HDUList) -> dict[str, int]:
    """Numbers of the HDUs by EXTNAME, or EXTTYPE where there is none; the first of equal names."""
    found: dict[str, int] = {}
    for number, hdu in enumerate(hdus):
        name = hdu.header.get("EXTTYPE", "") if hdu.name in _NAMELESS else hdu.name
        found.setdefault(str(name).strip().upper(), number)
    return found


def _axes(header: fits.Header) -> tuple[int, ...]:
    """Lengths of an image's axes, slowest first."""
    return tuple(int(header[f"NAXIS{k}"]) for k in range(header["NAXIS"], 0, -1))


def _first(hdus: fits.HDUList, name: ImageName) -> int:
    images = {number: _axes(hdu.header) for number, hdu in enumerate(hdus) if _is_image(hdu)}
    names = hdu_names(hdus)
    for said in _SCIENCE:
        if names.get(said) in images:
            return names[said]
    if not images:
        raise MissingDataError("has no image", where=name.text, remedy="name a FITS file with an image")
    first, *others = images
    if any(images[other] == images[first] for other in others):
        raise MissingDataError(
            f"has {len(images)} images", where=name.text, remedy=f"name one, as PATH[EXT], of {_listed(hdus, images)}"
        )
    return first


def _named(hdus: fits.HDUList, name: ImageName) -> int:
    images = [number for number, hdu in enumerate(hdus) if _is_image(hdu)]
    try:
        number = int(hdus.index_of(name.extension))
        found = number in images
    except KeyError:
        number = hdu_names(hdus).get(str(name.extension).upper(), -1)
        found = number in images
    if not found:
        raise MissingDataError(
            f"has no image {name.extension}", where=name.text, remedy=f"name one of {_listed(hdus, images)}"
        )
    return number


def _is_image(hdu: Any) -> bool:
    return bool(hdu.is_image and hdu.header["NAXIS"] >= 2)


def _listed(hdus: fits.HDUList, images: Any) -> str:
    return ", ".join(f"{number} {hdus[number].name}".strip() for number in images) or "a file with an image"


def _leading(axes: tuple[int, ...], header: fits.Header, name: ImageName, band: str) -> tuple[int, ...]:
    """Indices before (y, x): those of a cube's plane."""
    longer = [length for length in axes[:-2] if length > 1]
    bands = str(header.get("BANDS", "")).strip().lower()
    plane = name.plane
    if plane is None and len(longer) == 1 and len(bands) == longer[0] and band in bands:
        plane = bands.index(band)
    if not longer and plane in (None, 0):
        return (0,) * len(axes[:-2])
    if len(longer) == 1 and plane is not None and plane < longer[0]:
        return tuple(plane if length > 1 else 0 for length in axes[:-2])
    missing = "" if plane is None else f", no plane {plane}"
    raise MissingDataError(
        f"has axes of {' × '.join(map(str, axes[::-1]))} pixels{missing}",
        where=name.text,
        remedy="name one plane of it, from 0, as PATH[EXT][PLANE]",
    )
