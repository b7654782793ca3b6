"""`redshift_posterior`: the redshift of a blended target, beside what its colours alone tell."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, accelerated, check, clear_errors, code_version
from deblend_assets.assets.keys import CATALOG, REDSHIFT, shape_keys, simulated_keys
from deblend_assets.assets.training.stages import POOL
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile


def redshift_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of the main leg; key `redshift/redshift_posterior`."""
    keys, simulated = shape_keys(profile), simulated_keys(profile)
    key = REDSHIFT

    @dg.asset(
        key=key,
        deps=[CATALOG, keys["shape_network"], simulated["blended"], simulated["truth"]],
        group_name=key.path[0],
        description="Mixture of Gaussians on ln(1 + z) of a blend's target: the shape network's trunk with another "
        "head (the report gave up on redshifts from the latent, section 5), trained end to end from the shapes' "
        "weights. On the test blends beside gradient boosting on colours: "
        "of the true fluxes with noise, and of fluxes measured on the blend.",
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        kinds={"pytorch"},
        backfill_policy=ONE_RUN,
        pool=POOL,
        retry_policy=dg.RetryPolicy(max_retries=1, delay=5),
        code_version=code_version("redshift"),
        check_specs=[
            dg.AssetCheckSpec(
                "learning", asset=key, description="Its scatter is below that of one redshift given to all galaxies."
            )
        ],
    )
    @clear_errors
    def redshift_posterior(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.shapes.redshift import materialize_redshift

        metadata, numbers = materialize_redshift(context, storage.open(profile), devices, workers)
        return dg.MaterializeResult(
            metadata=metadata,
            check_results=[
                check(
                    "learning",
                    numbers["sigma_NMAD"] < numbers["sigma_NMAD_constant"],
                    f"σ_NMAD {numbers['sigma_NMAD']:.4f}, of one redshift for all {numbers['sigma_NMAD_constant']:.4f}",
                    numbers,
                    warn=True,
                )
            ],
        )

    return [redshift_posterior]
