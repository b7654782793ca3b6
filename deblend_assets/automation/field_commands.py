"""What `deblend_assets fields` does: a field.toml is added, fields are listed and retired."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import dagster as dg

from deblend_assets.automation.registries import FIELD_REGISTRY
from deblend_assets.automation.registry_commands import Topic
from deblend_assets.errors import MissingDataError, SettingsError
from deblend_assets.stores.field_files import read_field_file
from deblend_assets.stores.fields import FieldsStore, field_name
from deblend_assets.stores.project import ProjectStore


def field_topic(assets: Collection[dg.AssetKey]) -> Topic:
    """The topic `fields` of the command line.

    Args:
        assets: keys of the assets with a partition a field.
    """
    return FieldTopic(FIELD_REGISTRY, assets, lambda store, name: FieldsStore(store).field(name).folder, "PATH")


class FieldTopic(Topic):
    """Fields are added by their files."""

    def add(self, instance: dg.DagsterInstance, store: ProjectStore, names: Sequence[str]) -> None:
        """Register the fields of some files.

        Args:
            instance, store: see `Topic`.
            names: paths of field.toml files.

        Raises:
            SettingsError: a file cannot be read, or its field's name is that of another file; then none is registered.
        """
        fields, registered = FieldsStore(store), set(FIELD_REGISTRY.registered(instance))
        files: dict[str, Path] = {}
        for path in (Path(name).absolute() for name in names):
            name = field_name(read_field_file(path).name)
            other = files.get(name) or (_source(fields, name) if name in registered else None)
            if other is not None and other != path:
                raise SettingsError(
                    f"{name} is the name of {other} too",
                    where=str(path),
                    remedy=f"give name in one of them, or retire the other: `deblend_assets fields retire {name}`",
                )
            files[name] = path
        for name, path in files.items():
            fields.field(name).source = path
        super().add(instance, store, list(files))


def _source(fields: FieldsStore, name: str) -> Path | None:
    """The file of a field that is there already."""
    try:
        path = fields.field(name).source
    except MissingDataError:
        return None
    return path if path.is_file() else None
