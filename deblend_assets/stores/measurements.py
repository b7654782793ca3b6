"""The measurements of a user's stamps: a folder that appears whole or not at all.

In a folder that exists, these files appear, the card last, and every other file stays untouched.

<folder>/measurements.parquet      one row a stamp, units and meanings in the schema; written as it comes
<folder>/deblended.zarr            the deblended stamps, on request
<folder>/measurements.json         model, stamps measured, checksum of the catalogue
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from zarr.codecs import BloscCodec

from deblend_assets.errors import StorageError
from deblend_assets.stores.files import exclusive_lock, storage_errors, to_json, write_atomic
from deblend_assets.stores.folders import FilesInPlace, empty_folder
from deblend_assets.stores.tables import Columns, to_arrow

CATALOGUE, DEBLENDED, CARD = "measurements.parquet", "deblended.zarr", "measurements.json"
_LOCK = ".measurements.lock"
# Rows in a group of the Parquet file: what a reader decodes at a time, and what is kept before it is written.
_ROWS = 50_000


class Measurements:
    """A catalogue that grows, and the images beside it; made by `measurements_in`."""

    def __init__(self, folder: Path, columns: Columns, note: str) -> None:
        self._folder, self._columns, self._note = folder, columns, note
        # Filled in place: thousands of small tables that wait would keep the allocator from using again what lay
        # between them, block after block.
        self._waiting: dict[str, np.ndarray] = {}
        self._filled = 0
        self._writer: pq.ParquetWriter | None = None
        self._images: zarr.Array | None = None
        self.rows = 0

    def create_images(self, shape: tuple[int, ...], block: int, attributes: Mapping[str, Any]) -> None:
        """Lay out the deblended stamps (stamp, band, y, x) [electron]; a block of them is one file."""
        self._images = zarr.create_array(
            self._folder / DEBLENDED,
            shape=shape,
            chunks=(min(block, shape[0]), *shape[1:]),
            dtype="float32",
            fill_value=np.nan,
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
            dimension_names=("stamp", "band", "y", "x"),
            attributes=dict(attributes),
        )

    def add(self, table: pd.DataFrame, images: np.ndarray) -> None:
        """The next rows, and their images where images are wanted."""
        if self._images is not None:
            self._images[self.rows : self.rows + len(images)] = images
        self.rows += len(table)
        start = 0
        while start < len(table):
            part = table.iloc[start : start + _ROWS - self._filled]
            self._keep(part)
            start += len(part)
            if self._filled == _ROWS:
                self._write()

    def _keep(self, rows: pd.DataFrame) -> None:
        for name in map(str, rows):
            values = rows[name].to_numpy()
            if name not in self._waiting:
                self._waiting[name] = np.empty(_ROWS, dtype=values.dtype)
            self._waiting[name][self._filled : self._filled + len(rows)] = values
        self._filled += len(rows)

    def _write(self) -> None:
        rows = pd.DataFrame({name: values[: self._filled] for name, values in self._waiting.items()})
        arrow: pa.Table = to_arrow(rows, self._columns, self._note)
        self._filled = 0
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._folder / CATALOGUE, arrow.schema, compression="zstd")
        self._writer.write_table(arrow)

    def finish(self, card: Mapping[str, Any]) -> None:
        """End the catalogue and write what vouches for it."""
        if self._filled:
            self._write()
        self.close()
        path = self._folder / CATALOGUE
        with path.open("rb") as stream:
            # Piece by piece: the catalogue of a survey does not fit in memory.
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        record = {**card, "rows": self.rows, "sha256": digest, "bytes": path.stat().st_size}
        write_atomic(self._folder / CARD, to_json(record))

    def close(self) -> None:
        """Let the catalogue's file go, whole or not."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextlib.contextmanager
def measurements_in(folder: Path, columns: Columns, note: str, *, replace: bool) -> Iterator[Measurements]:
    """Measurements that stand in `folder` once the block has ended without an error and `finish` was called.

    Args:
        folder: where; empty, not there, or, with `replace`, measurements that then go.
        columns: unit, meaning and UCD of every column.
        note: description and conventions of the catalogue.
        replace: whether finished measurements may go.

    Raises:
        StorageError: something else is there, or it cannot be written. What was there stays; where the measurements
            are finished already, they are kept too and the message names their place.
        BusyError: another process writes there.
    """
    with storage_errors(folder):
        files = FilesInPlace(folder, "measurements", (CATALOGUE, DEBLENDED, CARD))
        if not files.interrupted:
            require_free(folder, CARD, replace=replace, besides=files.own | {_LOCK})
    with exclusive_lock(_lock_path(folder), f"the folder {folder.name}"), storage_errors(folder):
        if folder.is_dir():
            files.recover()
        require_free(folder, CARD, replace=replace, besides=files.own | {_LOCK})
        part = files.part if folder.is_dir() else folder.with_name(f".{folder.name}.part")
        if (part / CARD).exists() and _keep_aside(part, folder) == part:
            raise StorageError(
                "finished measurements of an earlier run wait there", where=str(part), remedy="move or delete them"
            )
        measurements = Measurements(empty_folder(part), columns, note)
        try:
            yield measurements
            measurements.close()
        except BaseException:
            with contextlib.suppress(OSError):
                measurements.close()
            shutil.rmtree(part, ignore_errors=True)
            raise
        try:
            if part == files.part:
                files.exchange()
            else:
                part.replace(folder)
        except OSError as error:
            raise StorageError(
                f"the finished measurements cannot be put there ({getattr(error, 'what', None) or error.strerror})",
                where=str(folder),
                remedy=f"they are kept in {_keep_aside(part, folder)}: move them to where they can be",
            ) from error


def _lock_path(folder: Path) -> Path:
    """Beside the folder; within it where nothing can be written beside it, as beside a mounted volume."""
    inside = folder.is_dir() and not os.access(folder.parent, os.W_OK)
    return folder / _LOCK if inside else folder.with_name(f".{folder.name}.lock")


def _keep_aside(part: Path, folder: Path) -> Path:
    """Give finished measurements a name of their own beside `folder`; where that is refused they stay. Their place."""
    free = (folder.with_name(f"{folder.name}.new{number or ''}") for number in count())
    place = next(path for path in free if not path.exists())
    try:
        return part.rename(place)
    except OSError:
        return part


def require_free(path: Path, card: str, *, replace: bool, besides: Collection[str] = ()) -> None:
    """Refuse to write over what is there, unless it is this package's own (it holds `card`) and may be replaced.

    Args:
        path: a folder to be made, or a file.
        card: name, in the folder or beside the file, of what says that this package made it.
        replace: whether it may be replaced.
        besides: names of what may be in the folder in any case.

    Raises:
        StorageError: it is there and stays.
    """
    with storage_errors(path):
        if not path.exists() or (path.is_dir() and all(entry.name in besides for entry in path.iterdir())):
            return
        ours = ((path if path.is_dir() else path.parent) / card).is_file()
    if not (ours and replace):
        raise StorageError(
            "is there already",
            where=str(path),
            remedy="give --replace to write over it, or another name" if ours else "give another name",
        )
