"""Group `redshift`: the redshift of a blended target, beside redshifts from colours; and that of a catalogue's row."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import TRAINING_POOL, accelerated, asset
from deblend_assets.assets.keys import CATALOG, REDSHIFT, ROW_REDSHIFTS, SHAPES, SIMULATED, SKY_MODEL, TRAINING_FIELDS
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome


def redshift_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`redshift_posterior`, of the LSST model; `row_redshifts`, of the catalogues."""

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

    @asset(
        ROW_REDSHIFTS,
        deps=[CATALOG, TRAINING_FIELDS, SKY_MODEL],
        version="row_redshifts",
        kinds={"pytorch"},
        checks={"learning": "Its scatter is below that of one redshift for all galaxies."},
        op_tags=accelerated(profile.run),
        pool=TRAINING_POOL,
        retries=1,
    )
    def row_redshifts(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """Mixture of Gaussians on ln(1 + z) of a catalogue's row, from its fluxes and errors in any bands.

        The columns `z`, `z_p16` and `z_p84`; the report gave up on redshifts from the latent (section 5). A mixture
        density network (Bishop 1994) of photometry, trained on the training galaxies' true fluxes with noise, and on
        measured rows of the training fields; the best epoch is that of the validation fields.
        """
        from deblend_assets.steps.sky_shapes.redshifts import train_row_redshifts

        return train_row_redshifts(storage.open(profile), devices, workers, context.log)

    return [redshift_posterior, row_redshifts]
