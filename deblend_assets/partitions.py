"""Partitions: one a shard of the simulation, a tile, a field; never one a galaxy."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.scenes import Shard, all_shards
from deblend_assets.settings import Profile, load_profile, storage_root
from deblend_assets.stores.fields import FieldsStore
from deblend_assets.stores.project import ProjectStore

# Tiles are registered by the sensor, the user's list or `deblend_assets tiles add`.
TILES = dg.DynamicPartitionsDefinition(name="des_tile")
# Fields are registered by the sensor, or by `deblend_assets fields add`.
FIELDS = dg.DynamicPartitionsDefinition(name="field")


def shard_partitions(profile: Profile) -> dg.StaticPartitionsDefinition:
    """One partition a shard: `train_000` …, `validation_000` …, `test_000` …."""
    return dg.StaticPartitionsDefinition([shard.key for shard in all_shards(profile.simulation)])


def shards_of(profile: Profile, keys: list[str]) -> list[Shard]:
    """The shards of partition keys, in array order.

    Raises:
        SettingsError: there is no key: Dagster gives none for a range whose ends are the wrong way round.
    """
    if not keys:
        raise SettingsError(
            "the range of partitions holds none",
            where="--partition-range",
            remedy=f"name the earlier end first; the whole range is {shard_range(profile)}",
        )
    wanted = set(keys)
    return [shard for shard in all_shards(profile.simulation) if shard.key in wanted]


def shard_range(profile: Profile) -> str:
    """The range of all shards, as `dagster asset materialize --partition-range` takes it."""
    shards = all_shards(profile.simulation)
    return f"{shards[0].key}...{shards[-1].key}"


def main(what: str = "shards", path: str = "") -> None:
    """Print what the Makefile asks for.

    Args:
        what: "shards": the range of all shards; "tiles": the simulated tiles; "simulated": the file of the simulated
            field; "field": the name of the field of a file.
        path: of that file.
    """
    try:
        profile = load_profile()
        if what == "tiles":
            print(*(profile.des.sky.tiles if profile.des.archive.served_here else ()))
        elif what == "simulated":
            fields = FieldsStore(ProjectStore(storage_root(), profile))
            print(fields.watched / f"{fields.simulated}.toml")
        elif what == "field":
            # Not at the top: it loads GalSim and astropy.
            from deblend_assets.stores.field_files import read_field_file

            print(read_field_file(Path(path)).name)
        else:
            print(shard_range(profile))
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:3])
