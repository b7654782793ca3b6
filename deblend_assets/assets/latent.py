"""Group `latent`: a normalizing flow as the prior of stage 1's latent, beside N(0, 1)."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import TRAINING_POOL, accelerated, asset
from deblend_assets.assets.keys import LATENT_FLOW, RECIPES, SIMULATED, STATISTICS
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome
from deblend_assets.stores.project import STAGES


def latent_flow_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`latent_flow`, of our recipe."""

    @asset(
        LATENT_FLOW,
        deps=[
            RECIPES["training"].stage(STAGES[0]),
            STATISTICS,
            *(SIMULATED[name] for name in ("noisy", "isolated", "truth")),
        ],
        version="latent_flow",
        kinds={"pytorch"},
        checks={"flow_gains": "The KL term under the flow is below that under N(0, 1), by more than its error."},
        op_tags=accelerated(profile.run),
        pool=TRAINING_POOL,
        retries=1,
    )
    def latent_flow(context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices) -> Outcome:
        """Learned prior of the latent (section 5): coupling splines fitted to stage 1's latents of training galaxies.

        Both priors are compared on validation galaxies: KL, reconstruction error, roundness of reconstructions and
        samples, flux error.
        """
        from deblend_assets.steps.training.latent_flow import train_latent_flow

        return train_latent_flow(storage.open(profile), devices, context.log)

    return [latent_flow]
