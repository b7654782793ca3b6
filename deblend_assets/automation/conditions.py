"""When a tile's assets are requested: once it is registered, and again when its own data changes upstream.

A new model does not request them: it would request every tile at once. The weekly schedule (`tile_schedule`) evaluates
them again in batches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import dagster as dg

AUTOMATION_SENSOR = "des_automation"
TICK_SECONDS = 30


def tile_condition(
    tile_assets: Collection[dg.AssetKey], replaceable: Collection[dg.AssetKey] = ()
) -> dg.AutomationCondition:
    """The condition of every asset with one partition a tile.

    * Requested when a tile becomes missing (it is registered), or when another of `tile_assets` upstream is updated
      or will be on this tick, so that one run makes the whole chain.
    * Not requested by any other upstream asset (the model, the simulated sky). The request waits until all of them
      exist, but for those that are replaceable, and neither they nor the asset itself are being materialised.
    * Requested once, also if the run fails. Materialising the failed asset by hand requests those after it.
      `AutomationCondition.eager` and `on_missing` differ: they ignore tiles that were registered before the
      condition's first evaluation.

    Args:
        tile_assets: keys of the assets with a partition a tile.
        replaceable: keys of upstream assets in whose place something is shipped.
    """
    condition = dg.AutomationCondition
    missing = condition.any_deps_missing()
    if replaceable:
        missing = missing.ignore(dg.AssetSelection.assets(*replaceable))
    updated = condition.any_deps_updated().allow(dg.AssetSelection.assets(*tile_assets))
    handled = condition.newly_requested() | condition.newly_updated()
    return (
        (condition.newly_missing() | updated).since(handled).with_label("new_tile_data")
        & ~missing
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    ).with_label("tile")


def automate_tiles(
    assets: Iterable[dg.AssetsDefinition],
    tile_assets: Collection[dg.AssetKey],
    replaceable: Collection[dg.AssetKey] = (),
) -> list[dg.AssetsDefinition]:
    """The assets, those among `tile_assets` with `tile_condition`; arguments as there."""
    condition = tile_condition(tile_assets, replaceable)

    def automated(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(automation_condition=condition) if spec.key in tile_assets else spec

    return [asset.map_asset_specs(automated) for asset in assets]


def automation_sensor(tile_assets: Collection[dg.AssetKey]) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions and requests one run a tile, automatically.

    Args:
        tile_assets: keys of the assets with a partition a tile.
    """
    return dg.AutomationConditionSensorDefinition(
        AUTOMATION_SENSOR,
        target=dg.AssetSelection.assets(*tile_assets),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=TICK_SECONDS,
        # A backfill would put tiles that come together into one run, where the first to fail stops the others.
        emit_backfills=False,
        description="Materialises what is missing of each registered tile, and what lies downstream of new tile data.",
    )
