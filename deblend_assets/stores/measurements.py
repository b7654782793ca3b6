"""Writes the measurements of a user's stamps to a folder, atomically.

In an existing folder these files are added, the card last; other files are not changed.

<folder>/measurements.parquet      one row per stamp, units and meanings in the schema; written in row groups
<folder>/measurements.fits         the same, of at most 250,000 rows
<folder>/deblended.zarr            the deblended stamps, optional
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
from deblend_assets.stores.fits_tables import fits_of_parquet
from deblend_assets.stores.folders import FilesInPlace, empty_folder
from deblend_assets.stores.tables import Columns, to_arrow

CATALOGUE, DEBLENDED, CARD = "measurements.parquet", "deblended.zarr", "measurements.json"
FITS = "measurements.fits"
_LOCK = ".measurements.lock"
# Rows per group of the Parquet file, which are buffered before they are written.
_ROWS = 50_000
# Most rows of the FITS file, which is written from memory: some 0.5 GB.
_MOST_FITS = 250_000


class Measurements:
    """Writer of a catalogue and its images; created by `measurements_in`."""

    def __init__(self, folder: Path, columns: Columns, note: str) -> None:
        self._folder, self._columns, self._note = folder, columns, note
        # One buffer, filled in place: thousands of small tables would fragment the memory.
        self._waiting: dict[str, np.ndarray] = {}
        self._filled = 0
        self._writer: pq.ParquetWriter | None = None
        self._images: zarr.Array | None = None
        self.rows = 0

    def create_images(self, shape: tuple[int, ...], block: int, attributes: Mapping[str, Any]) -> None:
        """Create the array of deblended stamps (stamp, band, y, x) [unit of the stamps]; one chunk per block."""
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

    def add(self, table: pd.DataFrame, images: np.ndarray | None = None) -> None:
        """Append rows, and their images if `create_images` was called."""
        if self._images is not None and images is not None:
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
        """Complete the catalogue, write it as FITS too, and the card with its checksum."""
        if self._filled:
            self._write()
        self.close()
        path = self._folder / CATALOGUE
        with path.open("rb") as stream:
            # Read in pieces: the catalogue of a survey may not fit in memory.
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        if self.rows <= _MOST_FITS:
            write_atomic(self._folder / FITS, fits_of_parquet(path, self._columns, self._note))
        record = {**card, "rows": self.rows, "sha256": digest, "bytes": path.stat().st_size}
        write_atomic(self._folder / CARD, to_json(record))

    def close(self) -> None:
        """Close the catalogue's file, complete or not."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextlib.contextmanager
def measurements_in(folder: Path, columns: Columns, note: str, *, replace: bool) -> Iterator[Measurements]:
    """Context of a writer; its files are moved to `folder` after `finish`, if the block ends without an error.

    Args:
        folder: target; missing, empty or, with `replace`, with measurements to be replaced.
        columns: unit, meaning and UCD of every column.
        note: description and conventions of the catalogue.
        replace: whether finished measurements may be replaced.

    Raises:
        StorageError: the folder has other content, or cannot be written. Its content is kept; finished measurements
            that cannot be moved are kept too, and the message has their path.
        BusyError: another process is writing to it.
    """
    with storage_errors(folder):
        files = FilesInPlace(folder, "measurements", (CATALOGUE, FITS, DEBLENDED, CARD))
        if not files.interrupted:
            require_free(folder, CARD, replace=replace, besides=files.own | {_LOCK})
    with exclusive_lock(_lock_path(folder), f"the folder {folder.name}", remove=True), storage_errors(folder):
        if folder.is_dir():
            files.recover()
        require_free(folder, CARD, replace=replace, besides=files.own | {_LOCK})
        part = files.part if folder.is_dir() else folder.with_name(f".{folder.name}.part")
        if (part / CARD).exists() and _keep_aside(part, folder) == part:
            raise StorageError(
                "holds finished measurements of an earlier run", where=str(part), remedy="move or delete them"
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
                f"the finished measurements cannot be moved there ({getattr(error, 'what', None) or error.strerror})",
                where=str(folder),
                remedy=f"they are kept in {_keep_aside(part, folder)}: move them to a writable folder",
            ) from error


def _lock_path(folder: Path) -> Path:
    """Path of the lock: beside the folder, or within it if its parent is not writable (a mounted volume)."""
    inside = folder.is_dir() and not os.access(folder.parent, os.W_OK)
    return folder / _LOCK if inside else folder.with_name(f".{folder.name}.lock")


def _keep_aside(part: Path, folder: Path) -> Path:
    """Rename finished measurements to a free name beside `folder`, if possible; return their path."""
    free = (folder.with_name(f"{folder.name}.new{number or ''}") for number in count())
    place = next(path for path in free if not path.exists())
    try:
        return part.rename(place)
    except OSError:
        return part


def require_free(path: Path, card: str, *, replace: bool, besides: Collection[str] = ()) -> None:
    """Raise StorageError if `path` exists, unless this package wrote it (`card` exists) and `replace` is set.

    Args:
        path: folder or file to be written.
        card: name of the card that this package writes in the folder or beside the file.
        replace: whether it may be replaced.
        besides: names of files that the folder may contain.

    Raises:
        StorageError: `path` exists and is not replaced.
    """
    with storage_errors(path):
        if not path.exists() or (path.is_dir() and all(entry.name in besides for entry in path.iterdir())):
            return
        ours = ((path if path.is_dir() else path.parent) / card).is_file()
    if not (ours and replace):
        raise StorageError(
            "already exists",
            where=str(path),
            remedy="give --replace to overwrite it, or another name" if ours else "give another name",
        )
