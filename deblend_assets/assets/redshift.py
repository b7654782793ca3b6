"""Group `redshift`: the redshift of a blended target, beside redshifts from colours."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import TRAINING_POOL, accelerated, asset
from deblend_assets.assets.keys import CATALOG, REDSHIFT, SHAPES, SIMULATED
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome


def redshift_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`redshift_posterior`, of the LSST model."""

    @asset(
        REDSHIFT,
        deps=[CATALOG, SHAPES["shape_network"], SIMULATED["blended"], SIMULATED["truth"]],
        version="redshift",
        kinds={"pytorch"},
        checks={"learning": "Its scatter is below that of one redshift for all galaxies."},
        op_tags=accelerated(profile.run),
        pool=TRAINING_POOL,
        retries=1,
    )
    def redshift_posterior(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """Mixture of Gaussians on ln(1 + z) of a blend's target.

        The shape network's trunk with another head, trained end to end from the shape network's weights (the report
        gave up on redshifts from the latent, section 5). Compared on the test blends with gradient boosting on colours:
        of the true fluxes with noise, and of fluxes measured on the blend.
        """
        from deblend_assets.steps.shapes.redshift import train_redshift

        return train_redshift(storage.open(profile), devices, workers, context.log)

    return [redshift_posterior]
