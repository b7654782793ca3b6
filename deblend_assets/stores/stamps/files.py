"""Files of stamps: .npy and FITS, compressed or not, one stamp or several, in any extension."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from deblend_assets.errors import CorruptDataError, MismatchError, first_line

ENDINGS = (".npy", ".fits", ".fit", ".fts", ".fits.fz", ".fit.fz", ".fz")
_PACKERS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}


def is_stamp_file(name: str) -> bool:
    """Whether a file's name is that of stamps."""
    lower = name.lower()
    return lower.removesuffix(Path(lower).suffix if Path(lower).suffix in _PACKERS else "").endswith(ENDINGS)


def read_file(path: Path, bands: Sequence[str]) -> np.ndarray:
    """The stamps of a file, (N, band, y, x), of any numeric type and byte order; on disk where it is not compressed.

    An array of three axes is one stamp, one of four several. In FITS it is that of the first HDU with pixels; images of
    two axes in as many HDUs as there are bands are the bands of one stamp, by EXTNAME where these are the bands'.

    Raises:
        CorruptDataError: the file cannot be read.
        MismatchError: it does not hold stamps.
    """
    try:
        stored = _numpy(path) if ".npy" in path.name.lower() else _fits(path, bands)
        if stored.dtype.kind not in "fiu":
            raise TypeError(f"holds {stored.dtype}")
    # A damaged file makes each reader raise its own errors.
    except Exception as error:
        raise CorruptDataError(
            f"is not a stamp ({first_line(error)})", where=str(path), remedy="write it again, or remove it"
        ) from error
    if stored.ndim not in (3, 4):
        raise MismatchError(
            f"has shape {stored.shape}, not (band, y, x) or (stamp, band, y, x)",
            where=str(path),
            remedy="write one stamp with all bands per file, or several in one array",
        )
    return stored if stored.ndim == 4 else stored[None]


def _numpy(path: Path) -> np.ndarray:
    unpack = _PACKERS.get(path.suffix.lower())
    if unpack is None:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return np.load(io.BytesIO(unpack(path.read_bytes())), allow_pickle=False)


def _fits(path: Path, bands: Sequence[str]) -> np.ndarray:
    with fits.open(path) as hdus:
        images = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]
        if not images:
            raise ValueError("no HDU has pixels")
        flat = [hdu for hdu in images if hdu.data.ndim == 2]
        if images[0].data.ndim != 2 or len(flat) != len(bands):
            return np.asarray(images[0].data)
        named = {hdu.name.lower(): hdu for hdu in flat}
        if set(named) == {band.lower() for band in bands}:
            flat = [named[band.lower()] for band in bands]
        return np.stack([hdu.data for hdu in flat])
