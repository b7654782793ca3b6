"""The folder of a measured field: finished files that appear together, and parts that a killed run leaves for the next.

<folder>/catalog.fits, catalog.parquet   one row a source
<folder>/catalog.reg                     regions for DS9
<folder>/quality.html                    the page to judge it by
<folder>/injection.parquet, injection.png  injected galaxies, true and measured, on request
<folder>/model.fits, residual.fits       images, where they are asked for
<folder>/catalog.json                    inputs, model, what was found; checksums of the others; written last
<folder>/.parts/<identity>/              finished cells, of a run that has not ended
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deblend_assets.errors import StorageError
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import (
    exclusive_lock,
    make_folder,
    read_bytes,
    remove,
    safe_name,
    sha256,
    storage_errors,
    to_json,
    write_atomic,
)
from deblend_assets.stores.folders import FilesInPlace, delete_folder, empty_folder, matching

FITS, PARQUET, REGIONS, PAGE, CARD = "catalog.fits", "catalog.parquet", "catalog.reg", "quality.html", "catalog.json"
INJECTION, INJECTION_FIGURE = "injection.parquet", "injection.png"
MODEL, RESIDUAL = "model.fits", "residual.fits"
_NAMES = (FITS, PARQUET, REGIONS, PAGE, INJECTION, INJECTION_FIGURE, MODEL, RESIDUAL, CARD)
_PARTS, _LOCK = ".parts", ".field.lock"


class FieldParts:
    """Tables of a run that has not ended, by name; each is whole or not there.

    Args:
        folder: of this run, beside those of others.
    """

    def __init__(self, folder: StorePath) -> None:
        self._folder = folder

    def path(self, name: str) -> StorePath:
        """Of a table."""
        return self._folder / f"{safe_name(name)}.parquet"

    def read(self, name: str) -> pd.DataFrame | None:
        """A table; None where it is not there or cannot be read."""
        try:
            return pd.read_parquet(io.BytesIO(read_bytes(self.path(name))))
        except (OSError, ValueError):
            return None

    def keep(self, name: str, table: pd.DataFrame) -> None:
        """Store a table."""
        stream = io.BytesIO()
        table.to_parquet(stream, index=False)
        write_atomic(self.path(name), stream.getvalue())

    def delete(self) -> None:
        """Delete what this run has kept, and what a killed process left there."""
        if isinstance(self._folder, Path):
            delete_folder(self._folder)
        else:
            for path in matching(self._folder, "*.parquet"):
                remove(path)

    def delete_others(self) -> None:
        """The same for all other runs: their inputs are no longer those of the field."""
        parent = self._folder.parent
        found = {path.parent for path in matching(parent, "*/*")}
        for folder in found - {parent, self._folder}:
            FieldParts(folder).delete()


class FieldOutput:
    """Where a field's catalogue is written; made by `field_output`.

    Attributes:
        folder: of the field.
        parts: of this run, and of an earlier one of the same identity.
    """

    def __init__(self, folder: Path, parts: FieldParts, files: FilesInPlace) -> None:
        self.folder, self.parts, self._files = folder, parts, files

    def scratch(self, name: str) -> Path:
        """Where a file is written that `finish` moves."""
        return make_folder(self.folder / _PARTS) / safe_name(name)

    def finish(self, contents: Mapping[str, bytes | Path], card: Mapping[str, Any]) -> None:
        """Put all files in their places at once, the card last, and delete the parts.

        Args:
            contents: by name, of the names above without the card; a path is that of a file, which is moved.
            card: checksums are added.
        """
        part = empty_folder(self._files.part)
        sums = {}
        for name, data in contents.items():
            if isinstance(data, Path):
                with storage_errors(self.folder):
                    with data.open("rb") as stream:
                        digest = hashlib.file_digest(stream, "sha256").hexdigest()
                    sums[name] = {"sha256": digest, "bytes": data.stat().st_size}
                    data.replace(part / name)
            else:
                sums[name] = {"sha256": sha256(data), "bytes": len(data)}
                write_atomic(part / name, data)
        write_atomic(part / CARD, to_json({**card, "files": sums}))
        self._files.exchange()
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)


@contextlib.contextmanager
def field_output(folder: Path, identity: str, *, replace: bool) -> Iterator[FieldOutput]:
    """The folder of a field, held for one run.

    Parts of an earlier run are kept where its identity is the same, and deleted where it is not.

    Args:
        folder: made where it is missing.
        identity: of inputs, settings and model.
        replace: whether a finished catalogue may be replaced.

    Raises:
        StorageError: something else is there, or a finished catalogue that is not to be replaced.
        BusyError: another process is writing there.
    """
    make_folder(folder)
    files = FilesInPlace(folder, "field", _NAMES)
    with exclusive_lock(folder / _LOCK, f"the folder {folder.name}", remove=True), storage_errors(folder):
        files.recover()
        _require_free(folder, files, replace=replace)
        kept = folder / _PARTS / safe_name(identity)
        for other in (folder / _PARTS).iterdir() if (folder / _PARTS).is_dir() else ():
            if other != kept:
                shutil.rmtree(other, ignore_errors=True)
        yield FieldOutput(folder, FieldParts(make_folder(kept)), files)


def _require_free(folder: Path, files: FilesInPlace, *, replace: bool) -> None:
    there = {path.name for path in folder.iterdir()} - files.own - {_PARTS, _LOCK}
    ours = CARD in there
    if not there or (ours and replace):
        return
    raise StorageError(
        "already holds a catalogue" if ours else f"holds other files ({', '.join(sorted(there)[:3])})",
        where=str(folder),
        remedy="give --replace to overwrite it, or another folder" if ours else "give a new or empty folder",
    )
