"""Group `worlds`: targets in fields as a telescope sees them, for networks to be evaluated in."""

from collections.abc import Iterator, Sequence

import dagster as dg

from deblend_assets.assets.declare import DISTRIBUTING, ONE_RUN, OWNERS, asset, check_specs, materialized, user_errors
from deblend_assets.assets.keys import CATALOG, SKY_MODEL, WORLDS_GROUP, world_key
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome
from deblend_assets.stores.project import CODE_VERSIONS

_CHECKS = {
    "complete": "As many targets as the profile asks for, each of at least its S/N.",
    "held_out": "Every galaxy is of the test split by the hash of its id, and of the world's morphologies.",
    "pure": "At most one target in twenty is no source, or a piece of one that is a target elsewhere.",
}


def world_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """One asset a world; keys `worlds/…`. Those that are selected are made in one pass."""

    # Like the simulated shards, several assets of one function, which `declare.asset` does not cover.
    @dg.multi_asset(
        name="world_targets",
        group_name=WORLDS_GROUP,
        can_subset=True,
        op_tags=DISTRIBUTING,
        backfill_policy=ONE_RUN,
        specs=[
            dg.AssetSpec(
                world_key(world.name),
                deps=[CATALOG],
                description=f"{world.meaning} {profile.worlds.targets(world.name):,} targets: stamps with pixels, "
                "weights, masks, PSFs, noise correlation and positions (Zarr), and one row of truth each (Parquet). "
                "The report's own scenes (section 3.1.2) have one PSF, one depth and no detection.",
                owners=OWNERS,
                kinds={"zarr", "parquet", "galsim"},
                code_version=CODE_VERSIONS["worlds"],
                skippable=True,
            )
            for world in WORLDS.values()
        ],
        check_specs=[spec for name in WORLDS for spec in check_specs(world_key(name), _CHECKS)],
    )
    def world_targets(
        context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers
    ) -> Iterator[dg.MaterializeResult]:
        from deblend_assets.steps.worlds.targets import make_worlds

        chosen = [world for world in WORLDS.values() if world_key(world.name) in context.selected_asset_keys]
        with user_errors():
            outcomes = make_worlds(storage.open(profile), chosen, workers, context.log.info)
        for name, outcome in outcomes.items():
            yield materialized(outcome, world_key(name))

    return [world_targets]


def world_floor_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`floor`; key `worlds/floor`."""

    @asset(
        world_key("floor"),
        version="world_floor",
        kinds={"parquet", "galsim"},
        deps=[CATALOG, *(world_key(name) for name in WORLDS)],
        checks={"a_prior_lowers_it": "With the population's prior on the target no floor is higher than without."},
        op_tags=DISTRIBUTING,
    )
    def floor(context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers) -> Outcome:
        """Fisher floors: the least errors that any unbiased estimate of some targets of each world can have.

        With each stamp's own PSF, noise and mask; once more with the population as a prior, and with the PSF free. The
        report (section 4) compares with the truth alone.
        """
        from deblend_assets.steps.worlds.floor import write_world_floors

        return write_world_floors(storage.open(profile), workers, context.log.info)

    return [floor]


def world_evaluation_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`worlds_evaluation`; key `worlds/worlds_evaluation`."""

    @asset(
        world_key("worlds_evaluation"),
        version="worlds_evaluation",
        kinds={"torch", "html"},
        deps=[CATALOG, world_key("floor"), SKY_MODEL, *(world_key(name) for name in WORLDS)],
        checks={
            "complete": "Every method has one estimate of each target that it was given.",
            "no_regression": "No share of silent failures grew by more than two errors since the last evaluation.",
        },
        op_tags=DISTRIBUTING,
    )
    def worlds_evaluation(context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers) -> Outcome:
        """The networks, SEP + HSM, the Sérsic fit and scarlet2 in every world, against truth and floor.

        Slopes, scatter over the floor, pulls, coverage, fluxes, failures and silent failures, in groups; the page
        `worlds`. What section 4 of the report does on its own scenes, in fields as a telescope sees them.
        """
        from deblend_assets.steps.worlds.evaluation import evaluate_worlds

        return evaluate_worlds(storage.open(profile), workers, context.log.info)

    return [worlds_evaluation]
