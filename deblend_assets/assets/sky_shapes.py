"""Group `sky_shapes`: the network that is given PSF, noise, mask and other detections, and what it is trained on."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import DISTRIBUTING, TRAINING_POOL, accelerated, asset
from deblend_assets.assets.keys import CATALOG, SKY_MODEL, SKY_NETWORK, TRAINING_FIELDS
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome


def sky_shape_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`training_fields`, `sky_network`, `sky_model`; keys `sky_shapes/…`."""

    @asset(
        TRAINING_FIELDS,
        deps=[CATALOG],
        version="training_fields",
        kinds={"numpy", "galsim"},
        checks={"of_their_split": "The galaxies of each kind's first field are of its split."},
        op_tags=DISTRIBUTING,
    )
    def training_fields(context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers) -> Outcome:
        """Noiseless light of fields of training and validation galaxies, rendered once, under every kind of sky.

        Galaxies and stars, pairs and triples, and the report's scenes (section 3.1.2). A training observes each field
        anew in every epoch.
        """
        from deblend_assets.steps.sky_shapes.fields import make_training_fields

        return make_training_fields(storage.open(profile), workers, context.log.info)

    @asset(
        SKY_NETWORK,
        deps=[CATALOG, TRAINING_FIELDS],
        version="sky_network",
        kinds={"pytorch"},
        checks={"learning": "The validation loss fell below that of the first epoch."},
        op_tags=accelerated(profile.run),
        pool=TRAINING_POOL,
        retries=1,
    )
    def sky_network(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """Network for every sky: stamp, PSF, noise, mask and other detections → Gaussian posterior of the target.

        Quantities: shear-type g, distortion e (Eq. 12) behind the PSF, size, flux, concentration, centroid; log-odds of
        a star. Starts from the shipped shape network. Loss: likelihood + squared error + cross entropy of stars.
        """
        from deblend_assets.steps.sky_shapes.network import train_sky_network

        return train_sky_network(storage.open(profile), devices, workers, context.log)

    @asset(
        SKY_MODEL,
        deps=[CATALOG, TRAINING_FIELDS, SKY_NETWORK],
        version="sky_model",
        kinds={"pytorch"},
        checks={
            "coverage": "The 68 and 95 % intervals hold such shares of validation galaxies, within 1.5 points over "
            "all and 3 in groups, beyond twice the binomial error.",
        },
        op_tags=accelerated(profile.run),
        pool=TRAINING_POOL,
        retries=1,
    )
    def sky_model(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """The network for every sky with calibrated errors, and the prior that its posterior holds.

        Factors on the errors are fitted to new observations of the validation fields; the prior given PSF, noise and
        pixel scale to training fields. Dividing it out leaves the likelihood alone. The report's regressor has no
        errors (section 3.2.2).
        """
        from deblend_assets.steps.sky_shapes.model import calibrate_sky_model

        return calibrate_sky_model(storage.open(profile), devices, workers, context.log)

    return [training_fields, sky_network, sky_model]
