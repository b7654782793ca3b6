"""PSFEx models as FITS files, laid out as PSFEx writes them (Bertin 2011)."""

from __future__ import annotations

import io
from collections.abc import Mapping

from astropy.io import fits
from astropy.wcs import WCS

from deblend_assets.science.skies.psfex_psf import PSFExPSF


def psfex_file(psf: PSFExPSF, cards: Mapping[str, float | str]) -> bytes:
    """A FITS file of one model.

    Args:
        psf: the model.
        cards: of the WCS of the image whose pixels its positions are.
    """
    terms, height, width = psf.basis.shape
    column = fits.Column("PSF_MASK", f"{psf.basis.size}E", dim=f"({width}, {height}, {terms})", array=psf.basis[None])
    table = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    axes = 2 if psf.degree else 0
    table.header.update({"POLNAXIS": axes, "POLNGRP": min(axes, 1), "PSF_SAMP": psf.step})
    if axes:
        table.header["POLDEG1"] = psf.degree
        for number, name in enumerate("XY"):
            table.header[f"POLGRP{number + 1}"] = 1
            table.header[f"POLNAME{number + 1}"] = f"{name}_IMAGE"
            table.header[f"POLZERO{number + 1}"] = psf.zero[number]
            table.header[f"POLSCAL{number + 1}"] = psf.scale[number]
    primary = fits.PrimaryHDU()
    primary.header.update(dict(cards))
    stream = io.BytesIO()
    fits.HDUList([primary, table]).writeto(stream)
    return stream.getvalue()


def read_psfex(data: bytes, pixel_scale: float, where: str) -> tuple[PSFExPSF, WCS]:
    """A model and the WCS of the image whose pixels its positions are.

    Args:
        data: of a file with the WCS of its own image.
        pixel_scale: of that image [arcsec].
        where: its name for messages.

    Raises:
        ValueError: the file has no PSFEx model, or no WCS.
        CorruptDataError: a model of a kind that is not supported.
    """
    with fits.open(io.BytesIO(data)) as hdus:
        _require_model(hdus)
        cards = hdus[0].header.copy()
        del cards["NAXIS"]  # 0, of which astropy warns: a WCS of two axes for an image of none
        return PSFExPSF.from_table(hdus[1], pixel_scale, where), WCS(cards)


def moved_psfex(data: bytes, crpix: tuple[float, float]) -> bytes:
    """The same model for an image of the same sky whose reference pixel is another.

    Args:
        data: of a file with the WCS of its own image; of a model that does not vary as it is.
        crpix: CRPIX1 and CRPIX2 of the other image.

    Raises:
        ValueError: the file has no PSFEx model, or no WCS.
    """
    with fits.open(io.BytesIO(data)) as hdus:
        _require_model(hdus)
        header, cards = hdus[1].header, hdus[0].header
        for axis, pixel in enumerate(crpix, start=1):
            if f"POLZERO{axis}" in header:
                header[f"POLZERO{axis}"] += pixel - cards[f"CRPIX{axis}"]
            cards[f"CRPIX{axis}"] = pixel
        stream = io.BytesIO()
        hdus.writeto(stream)
    return stream.getvalue()


def _require_model(hdus: fits.HDUList) -> None:
    if len(hdus) < 2 or "PSF_MASK" not in getattr(hdus[1], "columns", fits.ColDefs([])).names:
        raise ValueError("no PSFEx model")
    if hdus[1].header.get("POLNAXIS", 0) and not {"CRPIX1", "CRPIX2"} <= set(hdus[0].header):
        raise ValueError("no WCS beside the PSFEx model")
