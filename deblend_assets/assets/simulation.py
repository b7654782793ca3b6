"""Group `simulation`: the galaxies, and the scenes rendered from them."""

from collections.abc import Iterator, Sequence

import dagster as dg

from deblend_assets.assets.declare import (
    DISTRIBUTING,
    ONE_RUN,
    OWNERS,
    asset,
    check_specs,
    materialized,
    user_errors,
)
from deblend_assets.assets.keys import CATALOG, SIMULATED
from deblend_assets.partitions import shard_partitions, shards_of
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome
from deblend_assets.stores.project import CODE_VERSIONS

_DESCRIPTIONS = {
    "truth": "True properties of every galaxy of every scene: positions, magnitudes, S/N, blendedness, intrinsic "
    "shear-type g (adaptive moments without PSF) and observed distortion e (Eq. 12-14 of the report). Parquet, "
    "one row per galaxy, units and meanings in the schema.",
    "isolated": "The target alone, without noise: the truth that stages 1 and 2 reconstruct (section 3.1.2, dataset "
    "1). Zarr, (scene, band, y, x) float32, electrons of the whole exposure.",
    "noisy": "The target alone with photon noise of target and sky (section 3.1.2, dataset 2): input of stage 1.",
    "blended": "Target and up to two neighbours with photon noise of their own (section 3.1.2, dataset 3): input of "
    "stages 2 and 3.",
}
_CHECKS = {
    "truth": {
        "complete": "Every scene has exactly one target.",
        "split_by_galaxy": "Every galaxy belongs, by the hash of its id, to the split of its scene.",
    },
    "isolated": {
        "agrees_with_btk": "A sample of each shard, rendered again by BTK, is the same: within 1e-3 of the galaxy's "
        "peak and 0.02 of the sky's noise in every pixel.",
    },
    "noisy": {
        "noise_level": "Scatter of (noisy - isolated) over the prediction from sky and target photons is 1, per band.",
    },
    "blended": {"finite": "No pixel of the three arrays is NaN."},
}


def catalog_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`galaxy_catalog`; key `simulation/galaxy_catalog`."""

    @asset(
        CATALOG,
        version="galaxy_catalog",
        kinds={"parquet", "astropy"},
        checks={
            "published_relations": "Counts, redshifts, sizes, axis ratios, bulge fractions and colours agree with the "
            "literature.",
            "split_fractions": "Train, validation and test fractions are those of the profile, within binomial errors.",
        },
    )
    def galaxy_catalog(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """Galaxies with CatSim's columns (section 3.1.2 and Fig. 4 of the report).

        From a local CatSim FITS where the profile names one (`[catalog] path`), otherwise generated so that counts,
        redshifts, sizes, axis ratios, bulge fractions and colours follow published relations. Each galaxy is
        assigned to train, validation or test by a hash of its id, before any scene is rendered.
        """
        from deblend_assets.steps.simulation.galaxy_catalog import write_galaxy_catalog

        return write_galaxy_catalog(storage.open(profile), context.log.info)

    return [galaxy_catalog]


def simulated_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`truth`, `isolated`, `noisy`, `blended`, partitioned by shard; keys `simulated/…`."""

    # One rendering pass makes all four: the one declaration that `declare.asset` does not cover.
    @dg.multi_asset(
        name="simulated_shards",
        group_name="simulation",
        partitions_def=shard_partitions(profile),
        backfill_policy=ONE_RUN,
        op_tags=DISTRIBUTING,
        specs=[
            dg.AssetSpec(
                key,
                deps=[CATALOG],
                description=_DESCRIPTIONS[name],
                owners=OWNERS,
                kinds={"parquet"} if name == "truth" else {"zarr", "galsim"},
                code_version=CODE_VERSIONS["simulated"],
            )
            for name, key in SIMULATED.items()
        ],
        check_specs=[spec for name, key in SIMULATED.items() for spec in check_specs(key, _CHECKS[name])],
    )
    def simulated(
        context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers
    ) -> Iterator[dg.MaterializeResult]:
        from deblend_assets.steps.simulation.shards import render_shards

        shards = shards_of(profile, list(context.partition_keys))
        with user_errors():
            outcomes = render_shards(storage.open(profile), shards, workers, context.log.info)
        for name, key in SIMULATED.items():
            yield materialized(outcomes[name], key)

    return [simulated]
