"""Stamps in one array of a Zarr store, of any writer.

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

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.stores.stamps.packing import Packing
from deblend_assets.stores.stamps.protocol import BLOCK, first_line

_AXES = ("band", "y", "x")
# Attributes in which xarray and others name the axes of an array of Zarr 2.
_AXES_ATTRIBUTE = "_ARRAY_DIMENSIONS"


class ZarrStamps:
    """`Stamps` from one array of a Zarr store.

    Raises:
        MissingDataError: not an array, such as a group of several.
        MismatchError: not an array of stamps, or its numbers are packed in an unknown way.
    """

    left_out: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.where, self._path = str(path), path
        try:
            array = zarr.open_array(path, mode="r")
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise MissingDataError(
                f"is not a Zarr array ({_arrays_in(path) or first_line(error)})",
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

    def read(self, first: int, last: int) -> np.ndarray:
        try:
            stored = np.asarray(self._array[first:last])
        except (ValueError, RuntimeError, OSError) as error:
            raise CorruptDataError(
                f"stamps {first} to {last - 1} cannot be read ({first_line(error)})",
                where=self.where,
                remedy="make the array again",
            ) from error
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

    def _missing(self, first: int, last: int) -> Iterator[tuple[int, str]]:
        """First stamp and name of every file of the stamps that is not there."""
        ranges = [range(first // self._file[0], -(-last // self._file[0]))]
        ranges += [range(-(-side // file)) for side, file in zip(self.shape[1:], self._file[1:], strict=True)]
        for place in itertools.product(*ranges):
            name = self._array.metadata.encode_chunk_key(place)
            if not (self._path / name).is_file():
                yield place[0] * self._file[0], name

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        return {"stamp": np.arange(first, last)}


def _arrays_in(path: Path) -> str:
    """The arrays of a group, for a message; empty where it is none."""
    try:
        names = [name for name, _ in zarr.open_group(path, mode="r").arrays()]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""
    return f"a group with {', '.join(names) or 'no array'}"
