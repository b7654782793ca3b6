"""Images of a field as FITS files that are written window by window: one extension a band, with its WCS."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import galsim
import numpy as np
from astropy.io import fits

from deblend_assets.science.images.field import Field
from deblend_assets.stores.files import storage_errors

_BLOCK = 2880  # of a FITS file [byte]


@contextmanager
def image_file(path: Path, field: Field, what: str) -> Iterator[list[np.memmap]]:
    """A new file; its planes (y, x), one a band, are written within the block.

    Args:
        path: an older file is replaced.
        field: whose bands, WCS and zero points the planes have.
        what: the images are, a COMMENT of each header.

    Raises:
        StorageError: refused, or no space.
    """
    height, width = field.shape
    headers = [fits.PrimaryHDU().header, *(_header(field, band, what) for band in field.names)]
    size = 4 * height * width
    padded = -(-size // _BLOCK) * _BLOCK
    with storage_errors(path):
        offsets = []
        with path.open("wb") as stream:
            for header in headers:
                stream.write(header.tostring(padding=True).encode("ascii"))
                if header is not headers[0]:
                    offsets.append(stream.tell())
                    stream.truncate(stream.tell() + padded)
                    stream.seek(0, 2)
        planes = [np.memmap(path, ">f4", "r+", offset, (height, width)) for offset in offsets]
        yield planes
        for plane in planes:
            plane.flush()


def _header(field: Field, band: str, what: str) -> fits.Header:
    height, width = field.shape
    header = fits.Header()
    with warnings.catch_warnings():
        # GalSim's own keywords are longer than eight letters.
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        field.wcs.writeToFitsHeader(header, galsim.BoundsI(1, width, 1, height))
        found: fits.Header = fits.ImageHDU(np.zeros((1, 1), np.float32), header, name=band).header
    found["NAXIS1"], found["NAXIS2"] = width, height
    found["FILTER"] = (band, "band")
    found["MAGZERO"] = (field.bands[band].zero_point, "AB magnitude of one unit")
    found["COMMENT"] = what
    return found
