"""`peer_comparison`: ours, the report's configuration and what astronomers run today, on the same test blends."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, accelerated, clear_errors, code_version
from deblend_assets.assets.keys import CATALOG, RECIPES, referee_keys, shape_keys, simulated_keys, statistics_key
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile


def peer_comparison_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of the LSST leg; key `referee/peer_comparison`."""
    key, simulated, shapes = referee_keys(profile)["peer_comparison"], simulated_keys(profile), shape_keys(profile)

    @dg.asset(
        key=key,
        deps=[
            CATALOG,
            *(simulated[name] for name in ("truth", "isolated", "blended")),
            statistics_key(profile),
            RECIPES["training"].stage("stage2_deblender"),
            shapes["shape_posterior"],
            shapes["fisher_floor"],
            RECIPES["baseline"].stage("stage3_regressor"),
        ],
        group_name=key.path[0],
        description="On the same held-out test blends: adaptive moments and REGAUSS with and without SEP's masks, "
        "AnaCal, scarlet2 and a Sérsic fit with true positions, the report's configuration, ours, and the Fisher "
        "floor. Errors of observed distortion e (Eq. 12) and intrinsic shear-type g, fluxes, SSIM, cosine, failures, "
        "time of one core; bootstrap errors. A peer that is not installed, or a stage not trained, is left out, named.",
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        backfill_policy=ONE_RUN,
        kinds={"pytorch", "parquet"},
        code_version=code_version("peer_comparison"),
        check_specs=[
            dg.AssetCheckSpec(
                "unbiased",
                asset=key,
                description="Bias and slope of our prior-free summary agree with 0 and 1 within three errors.",
            ),
            dg.AssetCheckSpec(
                "no_regression", asset=key, description="No error of ours grew by more than two errors since last time."
            ),
        ],
    )
    @clear_errors
    def peer_comparison(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        from deblend_assets.steps.referee.run_peers import write_peer_comparison

        with devices.allocate(key.to_user_string(), context.log) as lease:
            outcome = write_peer_comparison(storage.open(profile), lease.torch_device, workers, context.log.info)
        return dg.MaterializeResult(
            metadata={**outcome.metadata(), **lease.metadata()},
            check_results=[
                outcome.nothing_found("unbiased", "nothing beyond three errors"),
                outcome.no_regression("_ours"),
            ],
        )

    return [peer_comparison]
