"""The assets `shape_network`, `neighbour_head` and `shape_posterior`.

The posterior of a target's shape, size and flux, the chances of neighbours in its stamp, and the calibration of both.
"""

from collections.abc import Callable, Sequence

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, accelerated, clear_errors, code_version
from deblend_assets.assets.keys import CATALOG, shape_keys
from deblend_assets.assets.training.stages import POOL
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.stores.project import ProjectStore

Materialize = Callable[[dg.AssetExecutionContext, ProjectStore, ComputeDevices, RenderingWorkers], dg.MaterializeResult]


def trained_asset(
    profile: Profile,
    key: dg.AssetKey,
    deps: Sequence[dg.AssetKey],
    words: str,
    check: dg.AssetCheckSpec,
    version: str,
    materialize: Materialize,
) -> dg.AssetsDefinition:
    """An asset that trains a network on blends that are drawn for it; its group is the key's first part.

    Args:
        profile: of the leg.
        key, deps, words, check: of the asset.
        version: which of the code versions is its own.
        materialize: does it; imports torch when it is called, not before.
    """

    @dg.asset(
        key=key,
        deps=deps,
        group_name=key.path[0],
        description=words,
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        kinds={"pytorch"},
        backfill_policy=ONE_RUN,
        pool=POOL,
        retry_policy=dg.RetryPolicy(max_retries=1, delay=5),
        code_version=code_version(version),
        check_specs=[check],
    )
    @clear_errors
    def train_on_blends(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        return materialize(context, storage.open(profile), devices, workers)

    return train_on_blends


def shape_posterior_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of one leg; keys `shapes/…` or `des_model/…`."""
    names = ("shape_network", "neighbour_head", "shape_posterior")
    network, head, posterior = (shape_keys(profile)[name] for name in names)
    return [
        trained_asset(
            profile,
            network,
            [CATALOG],
            "Residual network, blended stamp → Gaussian posterior of intrinsic shear-type g, observed distortion e "
            "(Eq. 12, label band), ln half-light radius and ln flux of the target. Trained end to end on blends drawn "
            "for it from the training galaxies, put together and exposed anew whenever one is shown. Loss: likelihood "
            "+ squared error.",
            dg.AssetCheckSpec(
                "learning", asset=network, description="The validation loss fell below that of the first epoch."
            ),
            "shapes",
            _network,
        ),
        trained_asset(
            profile,
            head,
            [network, CATALOG],
            "What the blends of section 4.1 tell of the galaxies around their targets: a small head on the finished "
            "network's map, log-odds of how near the nearest one is [arcsec] and how much of the light in the label "
            "band is not the target's (blendedness, Bosch et al. 2018). Trained on blends of training galaxies.",
            dg.AssetCheckSpec(
                "neighbours_told",
                asset=head,
                description="On validation blends its odds tell a close neighbour from none or a distant one, in more "
                "than half of all pairs.",
            ),
            "neighbour_head",
            _neighbours,
        ),
        trained_asset(
            profile,
            posterior,
            [network, head, CATALOG],
            "In the place of section 3.2's regressor: the network's posterior averaged over orientations of the stamp, "
            "its expected errors brought to the actual ones of validation galaxies, a neural spline flow of what "
            "is not Gaussian in them, given what is told of neighbours, and a spread that keeps the promised coverage "
            "in thirds of S/N, blendedness and separation.",
            dg.AssetCheckSpec(
                "errors_believed",
                asset=posterior,
                description="No expected error had to be changed by more than a factor of 2.",
            ),
            "shape_posterior",
            _posterior,
        ),
    ]


def _network(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    from deblend_assets.assets.shapes.run import materialize_network

    return materialize_network(context, store, devices, workers)


def _neighbours(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    from deblend_assets.assets.shapes.run import materialize_neighbours

    return materialize_neighbours(context, store, devices, workers)


def _posterior(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    from deblend_assets.assets.shapes.run import materialize_posterior

    return materialize_posterior(context, store, devices, workers)
