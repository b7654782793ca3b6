"""The folder of a field's five sheared catalogues: finished files that appear together, and parts of a killed run.

<folder>/noshear.parquet, 1p.parquet, 1m.parquet, 2p.parquet, 2m.parquet   the catalogues
<folder>/metadetection.hdf5            the same as TXPipe's metadetection input: groups shear/00, shear/1p, …
<folder>/response.json                 the response of the last selection
<folder>/metadetection.json            inputs and checksums; written last
<folder>/.parts/<identity>/            finished cells, of a run that has not ended
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import pandas as pd

from deblend_assets.errors import DeblendError, StorageError
from deblend_assets.science.metadetection.catalogs import KINDS, STEP
from deblend_assets.science.metadetection.txpipe import COLUMNS, GROUPS, LINK, txpipe_columns
from deblend_assets.stores.field_catalogs import FieldParts
from deblend_assets.stores.files import (
    exclusive_lock,
    make_folder,
    read_json,
    safe_name,
    sha256,
    storage_errors,
    to_json,
    write_atomic,
)
from deblend_assets.stores.folders import FilesInPlace, empty_folder

HDF5, CARD, RESPONSE = "metadetection.hdf5", "metadetection.json", "response.json"
TABLES = {kind: f"{kind}.parquet" for kind in KINDS}
_PARTS, _LOCK, _LABEL = ".parts", ".metadetection.lock", "metadetection"


class MetadetectionFolder:
    """A folder that is held for one run; made by `metadetection_folder`.

    Attributes:
        folder: where.
        parts: of this run, and of an earlier one of the same identity.
        kept: the five catalogues of an earlier run of the same identity; None where there are none.
    """

    def __init__(self, folder: Path, parts: FieldParts, files: FilesInPlace, identity: str) -> None:
        self.folder, self.parts, self._files, self._identity = folder, parts, files, identity
        self.kept = _read(folder, identity)

    def finish(self, tables: Mapping[str, pd.DataFrame], bands: Sequence[str], card: Mapping[str, Any]) -> None:
        """Put the catalogues in their place at once, and delete the parts.

        Args:
            tables: by kind.
            bands: of the field.
            card: what is known of the inputs; identity and checksums are added.
        """
        contents = {TABLES[kind]: _parquet(table) for kind, table in tables.items()}
        contents[HDF5] = to_hdf5(tables, bands)
        part = empty_folder(self._files.part)
        for name, data in contents.items():
            write_atomic(part / name, data)
        sums = {name: sha256(data) for name, data in contents.items()}
        write_atomic(part / CARD, to_json({**card, "identity": self._identity, "files": sums}))
        self._files.exchange()
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)


@contextlib.contextmanager
def metadetection_folder(folder: Path, identity: str, *, replace: bool) -> Iterator[MetadetectionFolder]:
    """Hold a folder for one run.

    Args:
        folder: made where it is missing.
        identity: of inputs, settings and model.
        replace: whether finished catalogues of other inputs may be replaced.

    Raises:
        StorageError: something else is there, or catalogues of other inputs that are not to be replaced.
        BusyError: another process is writing there.
    """
    make_folder(folder)
    files = FilesInPlace(folder, _LABEL, (*TABLES.values(), HDF5, CARD))
    with exclusive_lock(folder / _LOCK, f"the folder {folder.name}", remove=True), storage_errors(folder):
        files.recover()
        there = {path.name for path in folder.iterdir()} - files.own - {_PARTS, _LOCK, RESPONSE}
        if there and CARD not in there:
            raise StorageError(
                f"holds other files ({', '.join(sorted(there)[:3])})",
                where=str(folder),
                remedy="give a new or empty folder",
            )
        if there and not replace and read_json(folder / CARD).get("identity") != identity:
            raise StorageError(
                "already holds the catalogues of other inputs",
                where=str(folder),
                remedy="give --replace to overwrite them, or another folder",
            )
        yield MetadetectionFolder(
            folder, FieldParts(make_folder(folder / _PARTS / safe_name(identity))), files, identity
        )


def keep_response(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the response of a selection beside the catalogues that it is of."""
    write_atomic(folder / RESPONSE, to_json(content))


def to_hdf5(tables: Mapping[str, pd.DataFrame], bands: Sequence[str]) -> bytes:
    """TXPipe's metadetection input, the same bytes for the same catalogues.

    Args:
        tables: by kind.
        bands: of the field.
    """
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        shear = file.create_group("shear")
        shear.attrs["catalog_type"] = "metadetect"
        shear.attrs["bands"] = "".join(bands)
        shear.attrs["delta_gamma"] = 2 * STEP
        for kind, name in GROUPS.items():
            group = shear.create_group(name)
            for column, values in txpipe_columns(tables[kind], bands).items():
                stored = group.create_dataset(column, data=values)
                template = column if column in COLUMNS else f"{column[:-1]}{{band}}"
                stored.attrs["unit"], stored.attrs["description"] = COLUMNS[template]
        shear[LINK] = shear[GROUPS["noshear"]]
    return stream.getvalue()


def _parquet(table: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.to_parquet(stream, index=False)
    return stream.getvalue()


def _read(folder: Path, identity: str) -> dict[str, pd.DataFrame] | None:
    """The catalogues of an identity; None where they are not there, or not whole."""
    try:
        card = read_json(folder / CARD)
        if card["identity"] != identity:
            return None
        data = {kind: (folder / name).read_bytes() for kind, name in TABLES.items()}
    except (DeblendError, OSError, KeyError):
        return None
    if any(sha256(data[kind]) != card["files"].get(name) for kind, name in TABLES.items()):
        return None
    return {kind: pd.read_parquet(io.BytesIO(content)) for kind, content in data.items()}
