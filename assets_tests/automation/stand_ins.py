"""The lineages of a tile and a field with the real keys, in assets that take no time; their sensors and schedules.

A real code server loads it as a module where STAND_IN_MODEL names the file that holds the model's version.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import dagster as dg

from deblend_assets.assets.keys import FIELD_ASSETS, SKY, SKY_MODEL, TILE_ASSETS
from deblend_assets.automation.conditions import automate
from deblend_assets.automation.field_sensor import build_field_sensors
from deblend_assets.automation.registry_rows import MODEL_VERSION
from deblend_assets.automation.schedules import build_schedules
from deblend_assets.automation.tile_sensor import build_sensors
from deblend_assets.errors import MissingDataError
from deblend_assets.partitions import FIELDS, TILES
from deblend_assets.settings import Profile, load_profile, storage_root

MODEL = SKY_MODEL
NOUNS = tuple(TILE_ASSETS)
CATALOG, CUTOUTS, SHAPES, EVALUATION = TILE_ASSETS.values()
UPSTREAM = {CATALOG: [SKY], CUTOUTS: [CATALOG], SHAPES: [CATALOG, CUTOUTS, MODEL], EVALUATION: [SHAPES, CATALOG]}
IMAGES, DETECTIONS, MEASURED, QUALITY = FIELD_ASSETS.values()
OF_FIELDS = {
    IMAGES: [],
    DETECTIONS: [IMAGES],
    MEASURED: [IMAGES, DETECTIONS, MODEL],
    QUALITY: [IMAGES, DETECTIONS, MEASURED],
}


class Storage(dg.ConfigurableResource):
    """As the real one, but the model is a file that holds its version."""

    root: str
    model: str

    def open(self, profile: Profile) -> SimpleNamespace:
        root = Path(self.root)
        return SimpleNamespace(
            profile=profile, root=root, folder=root / profile.name, sky_model_version=self.sky_model_version
        )

    def sky_model_version(self) -> str:
        try:
            return Path(self.model).read_text()
        except FileNotFoundError as error:
            raise MissingDataError("no model", where=self.model, remedy="train it") from error


def unpartitioned(key: dg.AssetKey) -> dg.AssetsDefinition:
    @dg.asset(key=key)
    def made() -> None:
        """Nothing."""

    return made


def of_a_partition(
    key: dg.AssetKey, partitions: dg.PartitionsDefinition, upstream: list[dg.AssetKey]
) -> dg.AssetsDefinition:
    @dg.asset(key=key, partitions_def=partitions, deps=upstream, group_name=key.path[0])
    def made(context: dg.AssetExecutionContext, storage: Storage) -> dg.MaterializeResult:
        if (Path(storage.root) / f"{context.partition_key}.{key.path[-1]}.fails").exists():
            raise dg.Failure("told to fail", allow_retries=False)
        return dg.MaterializeResult(
            metadata={MODEL_VERSION: storage.sky_model_version()} if key in (EVALUATION, QUALITY) else {}
        )

    return made


def stand_in_assets() -> list[dg.AssetsDefinition]:
    assets = [unpartitioned(SKY), unpartitioned(MODEL)]
    assets += [of_a_partition(key, TILES, upstream) for key, upstream in UPSTREAM.items()]
    assets += [of_a_partition(key, FIELDS, upstream) for key, upstream in OF_FIELDS.items()]
    assets = automate(assets, "tile", TILE_ASSETS.values(), (MODEL,))
    return automate(assets, "field", FIELD_ASSETS.values(), (MODEL,))


def stand_in_definitions(profile: Profile, storage: Storage) -> dg.Definitions:
    return dg.Definitions(
        assets=stand_in_assets(),
        sensors=[
            *build_sensors(profile, TILE_ASSETS.values()),
            *build_field_sensors(profile, FIELD_ASSETS.values()),
        ],
        schedules=build_schedules(profile, TILE_ASSETS, FIELD_ASSETS),
        resources={"storage": storage},
        executor=dg.in_process_executor,
    )


if "STAND_IN_MODEL" in os.environ:
    defs = stand_in_definitions(load_profile(), Storage(root=str(storage_root()), model=os.environ["STAND_IN_MODEL"]))
