"""Reads a user's stamps in blocks, from a Zarr array or a folder of .npy and FITS files.

blends.zarr                attributes bands, unit, pixel_scale_arcsec; (scene, band, y, x)
<folder>/stamps.json       the same attributes
<folder>/*.npy, *.fits     one stamp per file, (band, y, x)
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from astropy.io import fits

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.stores.files import read_json

# Stamps per block: some 25 MB of six bands, large enough that the overhead per block is small.
_BLOCK = 512
_ATTRIBUTES = "stamps.json"
_SUFFIXES = {".npy", ".fits", ".fit"}


class Stamps(Protocol):
    """Stamps to be measured.

    Attributes:
        where: name of the stamps for messages.
        attributes: `bands`, `unit`, `pixel_scale_arcsec` and more.
        shape: (stamp, band, y, x).
        block: stamps per read.
    """

    where: str
    attributes: dict[str, Any]
    shape: tuple[int, int, int, int]
    block: int

    def read(self, first: int, last: int) -> np.ndarray:
        """Stamps first ≤ n < last, (N, band, y, x) float32; CorruptDataError if one cannot be read."""

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Catalogue columns that identify the stamps first ≤ n < last."""


class ZarrStamps:
    """`Stamps` from one array of a Zarr store."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            array = zarr.open_array(path, mode="r")
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise MissingDataError(
                f"is not a Zarr array ({first_line(error)})",
                where=self.where,
                remedy="name one array, such as .../arrays.zarr/blended, or a folder of stamps with stamps.json",
            ) from error
        if array.ndim != 4 or array.dtype.kind not in "fiu":
            raise MismatchError(
                f"has shape {array.shape} of {array.dtype}, not (scene, band, y, x) of numbers",
                where=self.where,
                remedy="name an array of stamps",
            )
        self._array = array
        self.attributes: dict[str, Any] = dict(array.attrs)
        scenes, bands, ny, nx = array.shape
        self.shape = scenes, bands, ny, nx
        # Multiples of chunks, so that none is decoded twice.
        self.block = max(1, _BLOCK // array.chunks[0]) * array.chunks[0]

    def read(self, first: int, last: int) -> np.ndarray:
        try:
            return np.asarray(self._array[first:last], dtype=np.float32)
        except (ValueError, RuntimeError, OSError) as error:
            raise CorruptDataError(
                f"stamps {first} to {last - 1} cannot be read ({first_line(error)})",
                where=self.where,
                remedy="make the array again",
            ) from error

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        return {"stamp": np.arange(first, last)}


class FolderStamps:
    """`Stamps` from a folder with one file per stamp, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        self.where, self.block = str(folder), _BLOCK
        self._files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not self._files:
            raise MissingDataError(
                "has no stamps", where=self.where, remedy="name a Zarr array, or a folder of .npy or .fits files"
            )
        given = read_json(folder / _ATTRIBUTES) if (folder / _ATTRIBUTES).exists() else None
        if not isinstance(given, dict):
            raise MissingDataError(
                f"{_ATTRIBUTES} is missing or has no attributes",
                where=self.where,
                remedy='write {"bands": ["u", ...], "unit": "electron", "pixel_scale_arcsec": 0.2} into it',
            )
        self.attributes: dict[str, Any] = given
        first = _read_file(self._files[0])
        self._stamp = first.shape
        if first.ndim != 3:
            raise MismatchError(
                f"has shape {first.shape}, not (band, y, x)",
                where=str(self._files[0]),
                remedy="write one stamp per file, with all bands",
            )
        bands, ny, nx = first.shape
        self.shape = len(self._files), bands, ny, nx

    def read(self, first: int, last: int) -> np.ndarray:
        stamps = np.empty((last - first, *self._stamp), dtype=np.float32)
        for k, path in enumerate(self._files[first:last]):
            stamp = _read_file(path)
            if stamp.shape != self._stamp:
                raise MismatchError(
                    f"has shape {stamp.shape}, the first stamp {self._stamp}",
                    where=str(path),
                    remedy="cut all stamps to one size, with all bands",
                )
            stamps[k] = stamp
        return stamps

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        names = np.array([path.name for path in self._files[first:last]], dtype=object)
        return {"stamp": np.arange(first, last), "file": names}


def open_stamps(path: Path) -> Stamps:
    """Open a Zarr array or a folder of stamps.

    Raises:
        MissingDataError: the stamps or their attributes are missing.
        MismatchError: the array is not one of stamps.
        CorruptDataError: a file cannot be read.
    """
    if not path.is_dir():
        raise MissingDataError("is not a folder", where=str(path), remedy="name a Zarr array or a folder of stamps")
    if (path / "zarr.json").exists() or (path / ".zarray").exists() or (path / ".zgroup").exists():
        return ZarrStamps(path)
    return FolderStamps(path)


def blocks(stamps: Stamps) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first position and the stamps of every block; the next block is read in the background."""
    starts = range(0, stamps.shape[0], stamps.block)

    def read(first: int) -> np.ndarray:
        return stamps.read(first, min(first + stamps.block, stamps.shape[0]))

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, starts[0]) if len(starts) else None
        for start in starts:
            assert coming is not None
            present = coming.result()
            following = start + stamps.block
            coming = reader.submit(read, following) if following < stamps.shape[0] else None
            yield start, present


def _read_file(path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".npy":
            return np.load(io.BytesIO(data), allow_pickle=False)
        with fits.open(io.BytesIO(data)) as hdus:
            # Converts to the native byte order.
            return np.array(hdus[0].data, dtype=np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise CorruptDataError(
            f"is not a stamp ({first_line(error)})", where=str(path), remedy="write it again, or remove it"
        ) from error


def first_line(error: Exception) -> str:
    """First line of an error's message that is not blank; the name of its type if there is none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
