"""Stamps in one array of a Zarr store, or in a group of several, of any writer.

A group has the arrays `image` and, where they are known, `weight`, `bmask` (stamp, band, y, x) and `psf`, which may
lack the axis of the stamps.

A chunk that is not there reads as the array's fill value without an error. Where that is a number, as after a copy that
was interrupted, it would be measured as a dark sky; it is an error here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError, first_line
from deblend_assets.stores.stamps.packing import Packing
from deblend_assets.stores.stamps.protocol import BLOCK, ReadStamps

_AXES = ("band", "y", "x")
# Attributes in which xarray and others name the axes of an array of Zarr 2.
_AXES_ATTRIBUTE = "_ARRAY_DIMENSIONS"
# Arrays of a group.
_IMAGE, _WEIGHT, _MASK, _PSF = "image", "weight", "bmask", "psf"


class ZarrStamps:
    """`StoredStamps` from an array of a Zarr store, or from a group.

    Raises:
        MissingDataError: not an array, or a group without `image`.
        MismatchError: not an array of stamps, or its numbers are packed in an unknown way.
    """

    left_out: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        group = _group(path)
        names = set(group.array_keys()) if group is not None else set()
        if _IMAGE not in names:
            group, names = None, set()
        self._image = _StampArray(path if group is None else path / _IMAGE)
        self.shape, self.block = self._image.shape, self._image.block
        self.attributes = {**({} if group is None else dict(group.attrs)), **self._image.attributes}
        self._maps = {name: _StampArray(path / name) for name in (_WEIGHT, _MASK) if name in names}
        for name, array in self._maps.items():
            if array.shape != self.shape:
                raise MismatchError(
                    f"{name} has shape {array.shape}, {_IMAGE} {self.shape}",
                    where=self.where,
                    remedy="write arrays of one shape",
                )
        self.has_weight, self.psf = _WEIGHT in self._maps, None
        stars: Any = group[_PSF] if group is not None and _PSF in names else None
        self._psf = _StampArray(path / _PSF) if stars is not None and stars.ndim == len(self.shape) else None
        if stars is not None:
            self.psf = np.asarray(stars[0] if self._psf else stars[:])

    def read(self, first: int, last: int) -> ReadStamps:
        """See `StoredStamps`."""
        # A chunk of a map that is not there is 0, as its fill value says: lost, or not masked.
        maps = {name: array.stored(first, last) for name, array in self._maps.items()}
        psf = self._psf.read(first, last) if self._psf else None
        return ReadStamps(self._image.read(first, last), maps.get(_WEIGHT), maps.get(_MASK), psf)

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        """See `StoredStamps`."""
        return {"stamp": np.arange(first, last)}


class _StampArray:
    """One array (stamp, band, y, x); errors as `ZarrStamps`."""

    def __init__(self, path: Path) -> None:
        self.where, self._path = str(path), path
        try:
            array = zarr.open_array(path, mode="r")
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise MissingDataError(
                f"is not a Zarr array ({_content(path) or first_line(error)})",
                where=self.where,
                remedy="name one array, such as .../arrays.zarr/blended, a group with image, or a folder of stamps "
                "with stamps.json",
            ) from error
        if array.ndim != 4 or array.dtype.kind not in "fiu":
            raise MismatchError(
                f"has shape {array.shape} of {array.dtype}, not (scene, band, y, x) of numbers",
                where=self.where,
                remedy="name an array of stamps",
            )
        self._array = array
        self.attributes: dict[str, Any] = dict(array.attrs)
        fill: Any = array.fill_value
        self._packing = Packing.of_array(self.attributes, fill, self.where)
        axes = getattr(array.metadata, "dimension_names", None) or self.attributes.get(_AXES_ATTRIBUTE)
        if axes and set(_AXES) <= set(axes) and tuple(axes[1:]) != _AXES:
            raise MismatchError(
                f"has the axes {', '.join(map(str, axes))}", where=self.where, remedy="write (stamp, band, y, x)"
            )
        scenes, bands, ny, nx = array.shape
        self.shape = scenes, bands, ny, nx
        # A file of the store is a shard, or a chunk where there are no shards.
        self._file: tuple[int, ...] = array.shards or array.chunks
        # Multiples of files, so that none is decoded twice.
        self.block = max(1, BLOCK // self._file[0]) * self._file[0]
        self._says_nothing = fill is not None and bool(np.isnan(self._packing.unpack(np.asarray(fill)[None])[0]))

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Stamps first ≤ n < last, NaN where there is no number; CorruptDataError where they cannot be read."""
        stored = self.stored(first, last)
        # After reading: a file that is there now was there then.
        missing = () if self._says_nothing else tuple(self._missing(first, last))
        if missing:
            start, name = missing[0]
            others = f", and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise CorruptDataError(
                f"file {name} is missing (stamps from {start} on){others}",
                where=self.where,
                remedy="copy or make the array again; where there are no data, write NaN, or set fill_value to NaN",
            )
        return self._packing.unpack(stored)

    def stored(self, first: int, last: int) -> NDArray[Any]:
        """The same numbers as they are stored; those of a missing file are the fill value."""
        try:
            return np.asarray(self._array[first:last])
        except (ValueError, RuntimeError, OSError) as error:
            raise CorruptDataError(
                f"stamps {first} to {last - 1} cannot be read ({first_line(error)})",
                where=self.where,
                remedy="make the array again",
            ) from error

    def _missing(self, first: int, last: int) -> Iterator[tuple[int, str]]:
        """First stamp and name of every file of the stamps that is not there."""
        ranges = [range(first // self._file[0], -(-last // self._file[0]))]
        ranges += [range(-(-side // file)) for side, file in zip(self.shape[1:], self._file[1:], strict=True)]
        for place in itertools.product(*ranges):
            name = self._array.metadata.encode_chunk_key(place)
            if not (self._path / name).is_file():
                yield place[0] * self._file[0], name


def _group(path: Path) -> zarr.Group | None:
    """A group of arrays; None where it is none."""
    try:
        return zarr.open_group(path, mode="r")
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _content(path: Path) -> str:
    """What a group has, for a message; empty where it is none."""
    group = _group(path)
    return "" if group is None else f"a group with {', '.join(sorted(group.array_keys())) or 'no array'}"
