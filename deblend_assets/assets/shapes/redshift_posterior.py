"""`redshift_posterior`: the redshift of a blended target, beside what its colours alone tell."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.keys import CATALOG, REDSHIFT, shape_keys, simulated_keys
from deblend_assets.assets.shapes.shape_posterior import trained_asset
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.settings import Profile
from deblend_assets.stores.project import ProjectStore


def redshift_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of the main leg; key `redshift/redshift_posterior`."""
    keys, simulated = shape_keys(profile), simulated_keys(profile)
    return [
        trained_asset(
            profile,
            REDSHIFT,
            [CATALOG, keys["shape_network"], simulated["blended"], simulated["truth"]],
            "Mixture of Gaussians on ln(1 + z) of a blend's target: the shape network's trunk with another head (the "
            "report gave up on redshifts from the latent, section 5), trained end to end from the shapes' weights. On "
            "the test blends beside gradient boosting on colours: of the true fluxes with noise, and of fluxes "
            "measured on the blend.",
            dg.AssetCheckSpec(
                "learning",
                asset=REDSHIFT,
                description="Its scatter is below that of one redshift given to all galaxies.",
            ),
            "redshift",
            _redshift,
        )
    ]


def _redshift(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    from deblend_assets.assets.shapes.redshift import materialize_redshift

    return materialize_redshift(context, store, devices, workers)
