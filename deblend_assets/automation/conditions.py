"""When the assets of a tile or field are requested: once it is registered, and again when data of its own changes.

A new model does not request them: it would request every partition at once. The weekly schedules (`schedules`) evaluate
them again in batches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import dagster as dg

TICK_SECONDS = 30


def chain_condition(
    noun: str, chain: Collection[dg.AssetKey], replaceable: Collection[dg.AssetKey] = ()
) -> dg.AutomationCondition:
    """The condition of every asset of a chain that has one partition a tile, or a field.

    * Requested when a partition becomes missing (it is registered), or when another of `chain` upstream is updated
      or will be on this tick, so that one run makes the whole chain.
    * Not requested by any other upstream asset (the model, the simulated sky). The request waits until all of them
      exist, but for those that are replaceable, and neither they nor the asset itself are being materialised.
    * Requested once, also if the run fails. Materialising the failed asset by hand requests those after it.
      `AutomationCondition.eager` and `on_missing` differ: they ignore partitions that were registered before the
      condition's first evaluation.

    Args:
        noun: of a partition.
        chain: keys of the assets.
        replaceable: keys of upstream assets in whose place something is shipped.
    """
    condition = dg.AutomationCondition
    missing = condition.any_deps_missing()
    if replaceable:
        missing = missing.ignore(dg.AssetSelection.assets(*replaceable))
    updated = condition.any_deps_updated().allow(dg.AssetSelection.assets(*chain))
    handled = condition.newly_requested() | condition.newly_updated()
    return (
        (condition.newly_missing() | updated).since(handled).with_label(f"new_{noun}_data")
        & ~missing
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    ).with_label(noun)


def automate(
    assets: Iterable[dg.AssetsDefinition],
    noun: str,
    chain: Collection[dg.AssetKey],
    replaceable: Collection[dg.AssetKey] = (),
) -> list[dg.AssetsDefinition]:
    """The assets, those of a chain with `chain_condition`; arguments as there."""
    condition = chain_condition(noun, chain, replaceable)

    def automated(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(automation_condition=condition) if spec.key in chain else spec

    return [asset.map_asset_specs(automated) for asset in assets]


def automation_sensor(name: str, noun: str, chain: Collection[dg.AssetKey]) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions and requests one run a partition, automatically.

    Args:
        name: of the sensor.
        noun: of a partition.
        chain: keys of the assets.
    """
    return dg.AutomationConditionSensorDefinition(
        name,
        target=dg.AssetSelection.assets(*chain),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=TICK_SECONDS,
        # A backfill would put partitions that come together into one run, where the first to fail stops the others.
        emit_backfills=False,
        description=f"Materialises what is missing of each registered {noun}, and what is made from its new data.",
    )
