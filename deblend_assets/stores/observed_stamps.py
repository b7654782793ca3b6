"""Stamps with everything that a measurement needs, on disk: sharded Zarr arrays, and a marker that vouches for a shard.

    <folder>/description.json           what these stamps are, for a person to read; the layout
    <folder>/stamps.zarr/{pixels, ...}  one array for each of `PARTS`, dimension names, unit and meaning as attributes
    <folder>/_done/00000.json           written last: checksums of the shard's files, one an array

A shard of stamps is exactly one Zarr shard of each array: two writers never touch one file, and a killed one loses the
shard that it was writing. Only marked shards are read, and reading compares checksums: a file that is missing is an
error, not the fill value.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import PARTS, ObservedStamps, joined
from deblend_assets.settings import StorePath, fingerprint
from deblend_assets.stores.files import (
    each,
    exclusive_lock,
    is_file,
    read_bytes,
    read_checked,
    read_json,
    remove,
    sha256,
    to_json,
    write_atomic,
)
from deblend_assets.stores.zarr_files import ZarrFiles

# Bytes of an inner chunk, about: a few stamps can be read without the whole shard.
_CHUNK_BYTES = 2_500_000
_ASSET = "these stamps"
_CONVENTIONS = (
    "Positions count from 0 at the centre of a stamp's first pixel, x with the column. Inverse variance 0: lost, or "
    "outside of the image. u west, v north."
)
# What a stamp that was never written reads as elsewhere: nothing that looks like sky, and no value that is ever
# written (Zarr leaves out a chunk that holds its fill value alone).
_FILL: Mapping[str, Any] = {"float32": np.nan, "float64": np.nan, "uint16": 65535, "int32": -(2**31)}
_FILL_WHERE_NAN_IS_WRITTEN: Mapping[str, float] = {"others": -np.inf, "sky_position": -np.inf, "zero_point": -np.inf}


@dataclass(frozen=True)
class StampLayout:
    """Sizes of all arrays.

    Attributes:
        bands: names.
        stamps: in all shards together.
        shard_stamps: in each shard but the last.
        side, psf_side, lags: of stamps, PSFs and noise correlations [pixel].
        others: room for other detections.
    """

    bands: tuple[str, ...]
    stamps: int
    shard_stamps: int
    side: int
    psf_side: int
    lags: int
    others: int

    def __post_init__(self) -> None:
        if min(self.stamps, self.shard_stamps, self.side, self.psf_side, self.lags, len(self.bands)) < 1:
            raise MismatchError(f"sizes of {self}", where="StampLayout", remedy="give sizes of at least 1")

    @classmethod
    def of(cls, stamps: ObservedStamps) -> StampLayout:
        """The layout of these stamps in one shard."""
        return cls(
            bands=stamps.bands,
            stamps=len(stamps),
            shard_stamps=len(stamps),
            side=stamps.side,
            psf_side=stamps.psf.shape[-1],
            lags=stamps.noise_correlation.shape[-1],
            others=int(stamps.others_count.max(initial=0)),
        )

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.stamps // self.shard_stamps)

    def rows(self, shard: int) -> slice:
        """The stamps of a shard; MismatchError where there is no such shard."""
        if not 0 <= shard < self.shards:
            raise MismatchError(
                f"no shard {shard}", where="StampLayout", remedy=f"choose one of 0 to {self.shards - 1}"
            )
        start = shard * self.shard_stamps
        return slice(start, min(start + self.shard_stamps, self.stamps))

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one array, all shards together."""
        sizes = {
            "stamp": self.stamps,
            "band": len(self.bands),
            **dict.fromkeys(("y", "x"), self.side),
            **dict.fromkeys(("psf_y", "psf_x"), self.psf_side),
            **dict.fromkeys(("lag_y", "lag_x"), self.lags),
            # Zarr has no axis of length 0.
            "other": max(self.others, 1),
            **dict.fromkeys(("xy", "uv", "radec"), 2),
        }
        return tuple(sizes[axis] for axis in PARTS[name].axes)


class StampStore:
    """Stamps on disk or in an object store.

    Args:
        folder: of these stamps.
        layout: of all shards.
        identity: what they are: survey, settings, fingerprints, ready for JSON; written to `description.json` and to
            the attributes of the Zarr group.
    """

    def __init__(self, folder: StorePath, layout: StampLayout, identity: Mapping[str, Any]) -> None:
        # As it will be read again: JSON has no tuples.
        self.folder, self.layout, self.identity = folder, layout, json.loads(to_json(identity))

    @classmethod
    def open(cls, folder: StorePath) -> StampStore:
        """The stamps that lie in a folder.

        Raises:
            MissingDataError: there are none.
            CorruptDataError: their description is not one.
        """
        path = folder / "description.json"
        if not is_file(path):
            raise MissingDataError("holds no stamps", where=str(folder), remedy=f"materialise {_ASSET} first")
        description = read_json(path)
        try:
            sizes = dict(description["layout"])
            layout = StampLayout(**(sizes | {"bands": tuple(sizes["bands"])}))
            return cls(folder, layout, description["identity"])
        except (KeyError, TypeError, MismatchError) as error:
            raise CorruptDataError(
                f"does not describe stamps ({error})", where=str(path), remedy=f"delete the folder, make {_ASSET} again"
            ) from error

    def create(self) -> None:
        """Lay out the empty arrays once; later calls, also from other processes, find them there.

        Raises:
            MismatchError: stamps of another layout or identity lie there.
        """
        path = self.folder / "description.json"
        description = {"layout": asdict(self.layout) | {"bands": list(self.layout.bands)}, "identity": self.identity}
        if is_file(path):
            if read_json(path) != description:
                raise MismatchError(
                    "holds stamps of another layout or identity",
                    where=str(self.folder),
                    remedy="give another folder, or delete this one",
                )
            return
        files = ZarrFiles()
        attributes = {**self.identity, "bands": list(self.layout.bands), "conventions": _CONVENTIONS}
        group = zarr.create_group(files.store, attributes=attributes)
        for name, part in PARTS.items():
            shape = self.layout.shape(name)
            meaning: dict[str, Any] = {"unit": part.unit, "description": part.meaning}
            if name == "mask":
                meaning["bits"] = {str(bit.name): bit.value for bit in MaskBit}
            group.create_array(
                name,
                shape=shape,
                shards=(self.layout.shard_stamps, *shape[1:]),
                chunks=(self._chunk(name), *shape[1:]),
                dtype=part.dtype,
                fill_value=_FILL_WHERE_NAN_IS_WRITTEN.get(name, _FILL[part.dtype]),
                compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
                dimension_names=part.axes,
                attributes=meaning,
            )
        # As in `arrays`: a layout without its description was interrupted, and the same bytes are written again.
        for name, data in files.items():
            write_atomic(self.folder / "stamps.zarr" / name, data)
        write_atomic(path, to_json(description))

    def _chunk(self, name: str) -> int:
        """Stamps of an inner chunk: the most that divide a shard and are small enough."""
        one = int(np.prod(self.layout.shape(name)[1:])) * np.dtype(PARTS[name].dtype).itemsize
        most = max(1, _CHUNK_BYTES // one)
        size = self.layout.shard_stamps
        return max(d for d in range(1, min(size, most) + 1) if size % d == 0)

    def lock(self, shard: int) -> contextlib.AbstractContextManager[None]:
        """Hold a shard while it is made; BusyError where another run holds it."""
        return exclusive_lock(self.folder / "_locks" / f"{shard:05d}.lock", f"shard {shard} of {self.folder.name}")

    def _marker_path(self, shard: int) -> StorePath:
        return self.folder / "_done" / f"{shard:05d}.json"

    def _file(self, name: str, shard: int) -> str:
        """Of one array's shard, below the array."""
        return "/".join(["c", str(shard), *["0"] * (len(PARTS[name].axes) - 1)])

    def _path(self, name: str, file: str) -> StorePath:
        return self.folder / "stamps.zarr" / name / file

    def _array_layout(self, name: str) -> bytes:
        path = self._path(name, "zarr.json")
        try:
            return read_bytes(path)
        except FileNotFoundError as error:
            raise CorruptDataError(
                "is missing", where=str(path), remedy=f"delete {self.folder} and make {_ASSET} again"
            ) from error

    def write(self, shard: int, stamps: ObservedStamps, info: Mapping[str, Any]) -> dict[str, Any]:
        """Store a whole shard and vouch for it; call inside `lock(shard)`, after `create`.

        Args:
            shard: its number, from 0.
            stamps: all of its stamps, with at most the layout's number of other detections each.
            info: kept in the marker (versions, fingerprints), ready for JSON.

        Returns:
            The marker.

        Raises:
            MismatchError: the stamps are not of the layout.
        """
        rows = self.layout.rows(shard)
        stamps = stamps.with_room(max(self.layout.others, 1))
        remove(self._marker_path(shard))
        for name, values in stamps.arrays().items():
            expected = (rows.stop - rows.start, *self.layout.shape(name)[1:])
            if values.shape != expected or stamps.bands != self.layout.bands:
                raise MismatchError(
                    f"{name} of shape {values.shape}, bands {stamps.bands}; the layout has {expected}",
                    where=f"shard {shard} of {self.folder}",
                    remedy="make stamps of the layout",
                )
        checksums = {}
        for name, values in stamps.arrays().items():
            files = ZarrFiles({"zarr.json": self._array_layout(name)})
            zarr.open_array(files.store, mode="r+")[rows] = values
            data = files[self._file(name, shard)]
            write_atomic(self._path(name, self._file(name, shard)), data)
            checksums[name] = sha256(data)
        marker = {**info, "shard": shard, "stamps": len(stamps), "sha256": checksums}
        write_atomic(self._marker_path(shard), to_json(marker))
        return marker

    def marker(self, shard: int) -> dict[str, Any]:
        """The marker of a shard.

        Raises:
            MissingDataError: it was never finished.
            CorruptDataError: the marker is not one.
        """
        path = self._marker_path(shard)
        if not is_file(path):
            raise MissingDataError(
                f"shard {shard} is not finished", where=str(self.folder), remedy=f"materialise {_ASSET} first"
            )
        marker = read_json(path)
        sums = marker.get("sha256") if isinstance(marker, dict) else None
        if not isinstance(sums, dict) or sums.keys() != PARTS.keys():
            raise CorruptDataError(
                f"is not the marker of shard {shard}", where=str(path), remedy=f"make {_ASSET} again"
            )
        return marker

    def verify(self, shard: int) -> None:
        """Compare the files of a shard with its marker; errors as `read`."""
        marker = self.marker(shard)
        for name in PARTS:
            self._read_file(name, shard, marker)

    def read(self, shard: int) -> ObservedStamps:
        """The stamps of one shard.

        Raises:
            MissingDataError: it was never finished.
            CorruptDataError: a file is missing, cut off or changed.
        """
        rows, marker = self.layout.rows(shard), self.marker(shard)
        arrays = {name: self._read(name, shard, rows, marker) for name in PARTS}
        arrays["others"] = arrays["others"][:, : self.layout.others]
        return ObservedStamps(self.layout.bands, **arrays)

    def read_all(self) -> ObservedStamps:
        """All stamps in memory; errors as `read`."""
        return joined(each(self.read, range(self.layout.shards), self.folder))

    def _read(self, name: str, shard: int, rows: slice, marker: Mapping[str, Any]) -> np.ndarray:
        data = self._read_file(name, shard, marker)
        files = ZarrFiles({"zarr.json": self._array_layout(name), self._file(name, shard): data})
        return np.asarray(zarr.open_array(files.store, mode="r")[rows])

    def _read_file(self, name: str, shard: int, marker: Mapping[str, Any]) -> bytes:
        """The bytes that the marker vouches for."""
        file = self._file(name, shard)
        data = read_checked(self._path(name, file), marker["sha256"][name])
        if data is None:
            raise CorruptDataError(
                f"{name} of shard {shard} is missing, or not what was written",
                where=str(self._path(name, file)),
                remedy=f"make shard {shard} of {_ASSET} again",
            )
        return data

    def is_done(self, shard: int) -> bool:
        """Whether the shard's marker is there and its files agree with it."""
        try:
            self.verify(shard)
        except (MissingDataError, CorruptDataError):
            return False
        return True

    def fingerprint_of(self, shards: Sequence[int]) -> str:
        """Changes when any byte written for these shards does; MissingDataError where one is not finished."""
        return fingerprint([marker["sha256"] for marker in each(self.marker, shards, self.folder)])


def save_stamps(folder: StorePath, stamps: ObservedStamps, identity: Mapping[str, Any]) -> StampStore:
    """Store all stamps as one shard in a new folder; errors as `StampStore.create` and `write`."""
    store = StampStore(folder, StampLayout.of(stamps), identity)
    store.create()
    with store.lock(0):
        store.write(0, stamps, {})
    return store
