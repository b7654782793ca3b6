"""`latent_flow`: a normalizing flow as the prior of stage 1's latent, beside N(0, 1)."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.keys import LATENT_FLOW, RECIPES, simulated_keys, statistics_key
from deblend_assets.assets.shapes.shape_posterior import trained_asset
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.settings import Profile
from deblend_assets.stores.project import STAGES, ProjectStore


def latent_flow_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of our recipe; key `latent/latent_flow`."""
    simulated = simulated_keys(profile)
    return [
        trained_asset(
            profile,
            LATENT_FLOW,
            [RECIPES["training"].stage(STAGES[0]), statistics_key(profile), simulated["noisy"], simulated["isolated"]],
            "Learned prior of the latent (section 5): coupling splines fitted to what stage 1 makes of the training "
            "galaxies. Both priors side by side on validation galaxies: KL, reconstruction error, roundness of "
            "reconstructions and samples, flux error.",
            dg.AssetCheckSpec(
                "flow_gains",
                asset=LATENT_FLOW,
                description="The KL term under the flow is below that under N(0, 1), by more than its error.",
            ),
            "latent_flow",
            _flow,
        )
    ]


def _flow(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    from deblend_assets.assets.training.latent_fit import materialize_flow

    return materialize_flow(context, store, devices)
