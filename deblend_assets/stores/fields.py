"""Fields of a profile on disk: where their images lie, and what was made of each, vouched for.

    <profile>/fields/_retired.json       see `automation.registry`
    <profile>/fields/<field>/
      source.json                        where its field.toml lies
      attempt.json                       its files as they were when they were last checked
      images.parquet                     one row a band; its record has the checksum of every file
      detections.parquet                 one row a detection; its record has the first look at the field
      catalog.parquet, .fits, .reg, .json  one row a source, regions for DS9, a card
      sources.parquet                    what the model image is made of, a row for each of the catalogue
      quality.html                       the page to judge it by
      parts/<identity>/                  finished cells of a run that has not ended

Each carries the fingerprint of its inputs; readers that need other inputs refuse it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError, SettingsError, StorageError
from deblend_assets.settings import StorePath, fingerprint
from deblend_assets.stores.field_catalogs import FieldParts
from deblend_assets.stores.files import (
    exclusive_lock,
    read_json,
    read_record,
    read_vouched,
    safe_name,
    to_json,
    write_atomic,
    write_vouched,
)
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore, library_versions
from deblend_assets.stores.tables import Columns, from_parquet, to_parquet

IMAGES, DETECTIONS, CATALOG, SOURCES = "images", "detections", "catalog", "sources"


def field_name(text: str) -> str:
    """Validate and return a field's name, which is a folder's and a partition's.

    Raises:
        SettingsError: not a field's name.
    """
    try:
        return safe_name(text)
    except StorageError as error:
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise SettingsError(
            f"{shown!r} cannot be the name of a field",
            where="field",
            remedy="rename the file, or give name in it: letters, digits and . _ + - only, a letter or digit first",
        ) from error


class FieldStore:
    """Everything of one field.

    Args:
        folder: of all fields.
        name: of the field, validated by `field_name`.
    """

    def __init__(self, folder: StorePath, name: str) -> None:
        self.name, self.folder = name, folder / safe_name(name)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the field while something of it is made; BusyError where another run holds it."""
        return exclusive_lock(self.folder / "_locks" / "field.lock", f"field {self.name}")

    # -- its files ----------------------------------------------------------------------------------------

    @property
    def source(self) -> Path:
        """The field.toml; MissingDataError where none was named."""
        try:
            return Path(str(read_json(self.folder / "source.json")["path"]))
        except MissingDataError as error:
            raise MissingDataError(
                f"no field.toml is known of {self.name}",
                where=str(self.folder),
                remedy="`deblend_assets fields add PATH` names it",
            ) from error

    @source.setter
    def source(self, path: Path) -> None:
        write_atomic(self.folder / "source.json", to_json({"path": str(path)}))

    @property
    def attempt(self) -> str | None:
        """Signature of the files when they were last checked; none where they never were."""
        try:
            return str(read_json(self.folder / "attempt.json")["signature"])
        except (MissingDataError, CorruptDataError, KeyError):
            return None

    @attempt.setter
    def attempt(self, signature: str) -> None:
        write_atomic(self.folder / "attempt.json", to_json({"signature": signature}))

    # -- tables -------------------------------------------------------------------------------------------

    def path(self, noun: str) -> StorePath:
        return self.folder / f"{safe_name(noun)}.parquet"

    def write(
        self, noun: str, table: pd.DataFrame, columns: Columns, note: str, inputs: str, info: Mapping[str, Any]
    ) -> None:
        """Write a table with the fingerprint of what it was made from, and what else its record has."""
        record = {**info, "field": self.name, "inputs": inputs, "rows": len(table)}
        write_vouched(self.path(noun), to_parquet(table, columns, note), record)

    def read(self, noun: str, inputs: str | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
        """A table and its record.

        Args:
            noun: one of those above.
            inputs: the fingerprint it must have; none: any.

        Raises:
            MissingDataError, CorruptDataError: not there; not what was written.
            MismatchError: made from other inputs.
        """
        asset = self.asset(noun)
        data, record = read_vouched(self.path(noun), asset=asset)
        if inputs is not None and record.get("inputs") != inputs:
            raise MismatchError(
                f"{asset} was made from other inputs or settings",
                where=str(self.path(noun)),
                remedy=f"materialise {asset} again",
            )
        return from_parquet(data, where=str(self.path(noun)), asset=asset), record

    def find(self, noun: str, inputs: str | None = None) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """A table that is whole and of these inputs; none where there is no such."""
        try:
            return self.read(noun, inputs)
        except (MissingDataError, CorruptDataError, MismatchError):
            return None

    def record(self, noun: str) -> dict[str, Any]:
        """The record of a table, which is not read; errors as `read`."""
        return read_record(self.path(noun), asset=self.asset(noun))

    def asset(self, noun: str) -> str:
        """The asset that writes a table, for messages."""
        return f"fields/field_{CATALOG if noun == SOURCES else noun} of {self.name}"

    def write_file(self, name: str, data: bytes) -> StorePath:
        """Write a file beside the tables."""
        path = self.folder / safe_name(name)
        write_atomic(path, data)
        return path

    def parts(self, identity: str) -> FieldParts:
        """Finished cells of a run that has not ended; those of other identities are deleted."""
        folder = self.folder / "parts"
        parts = FieldParts(folder / safe_name(identity))
        parts.delete_others()
        return parts


class FieldsStore:
    """The fields of one profile on disk.

    Args:
        project: the store of the profile, whose model for every sky measures them.
    """

    def __init__(self, project: ProjectStore) -> None:
        self.project, self.settings = project, project.profile.fields
        self.folder = project.folder / "fields"

    def field(self, name: str) -> FieldStore:
        """A field; its name has passed `field_name`."""
        return FieldStore(self.folder, name)

    @property
    def watched(self) -> Path:
        """The folder whose field files are registered.

        Raises:
            SettingsError: the storage is an object store, and the profile names no folder.
        """
        if self.settings.folder is not None:
            return Path(self.settings.folder).expanduser().absolute()
        root = self.project.root
        if isinstance(root, Path):
            return root / "fields"
        raise SettingsError(
            "no folder is watched", where="[fields] folder", remedy="name a folder of this machine in the profile"
        )

    @property
    def simulated(self) -> str:
        """Name of the profile's simulated field; its field.toml lies in the watched folder."""
        return f"simulated_{self.project.profile.name}"

    def detections_inputs(self, images: Mapping[str, Any]) -> str:
        """Fingerprint of the inputs of the detections.

        Args:
            images: record of the images.
        """
        versions = library_versions("numpy", "sep", "galsim")
        return fingerprint(images["content"], versions, CODE_VERSIONS["field_detections"])

    def catalog_inputs(self, images: Mapping[str, Any], detections: Mapping[str, Any]) -> str:
        """Fingerprint of the inputs of the catalogue: images, detections, and the model.

        Args:
            images, detections: their records.
        """
        return fingerprint(
            images["content"],
            detections["sha256"],
            self.project.sky_model_version(),
            CODE_VERSIONS["field_catalog"],
        )
