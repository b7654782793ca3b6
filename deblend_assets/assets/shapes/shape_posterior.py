"""`shape_network`, `shape_posterior`: the posterior of a target's shape, size and flux, and its calibration."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, accelerated, clear_errors, code_version
from deblend_assets.assets.keys import CATALOG, shape_keys
from deblend_assets.assets.training.stages import POOL
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile


def shape_posterior_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of one leg; keys `shapes/…` or `des_model/…`."""
    keys = shape_keys(profile)

    @dg.asset(
        key=keys["shape_network"],
        deps=[CATALOG],
        group_name=keys["shape_network"].path[0],
        description="Residual network, blended stamp → Gaussian posterior of intrinsic shear-type g, observed "
        "distortion e (Eq. 12, label band), ln half-light radius and ln flux of the target. Trained end to end on "
        "blends drawn for it from the training galaxies, put together and exposed anew whenever one is shown. Loss: "
        "likelihood + squared error.",
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        kinds={"pytorch"},
        backfill_policy=ONE_RUN,
        pool=POOL,
        retry_policy=dg.RetryPolicy(max_retries=1, delay=5),
        code_version=code_version("shapes"),
        check_specs=[
            dg.AssetCheckSpec(
                "learning",
                asset=keys["shape_network"],
                description="The validation loss fell below that of the first epoch.",
            )
        ],
    )
    @clear_errors
    def shape_network(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.shapes.run import materialize_network

        return materialize_network(context, storage.open(profile), devices, workers)

    @dg.asset(
        key=keys["shape_posterior"],
        deps=[keys["shape_network"], CATALOG],
        group_name=keys["shape_posterior"].path[0],
        description="In the place of section 3.2's regressor: the network's posterior averaged over orientations of "
        "the stamp, its expected errors brought to the actual ones of validation galaxies, and a neural spline flow "
        "of what is not Gaussian in them.",
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        kinds={"pytorch"},
        backfill_policy=ONE_RUN,
        pool=POOL,
        retry_policy=dg.RetryPolicy(max_retries=1, delay=5),
        code_version=code_version("shapes"),
        check_specs=[
            dg.AssetCheckSpec(
                "errors_believed",
                asset=keys["shape_posterior"],
                description="No expected error had to be changed by more than a factor of 2.",
            )
        ],
    )
    @clear_errors
    def shape_posterior(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.shapes.run import materialize_posterior

        return materialize_posterior(context, storage.open(profile), devices, workers)

    return [shape_network, shape_posterior]
