"""Group `shapes`: the posterior of a target's shape, size and flux, its heads, its calibration, and its evaluation."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import DISTRIBUTING, TRAINING_POOL, accelerated, asset
from deblend_assets.assets.keys import CATALOG, SHAPES, SIMULATED
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.science.shapes.heads import HEADS, Head
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome


def shape_posterior_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`shape_network`, a head each of `heads.HEADS`, `shape_posterior`; keys `shapes/…`."""
    network, posterior, heads = SHAPES["shape_network"], SHAPES["shape_posterior"], [SHAPES[h.name] for h in HEADS]

    @asset(
        network,
        deps=[CATALOG],
        version="shapes",
        kinds={"pytorch"},
        checks={"learning": "The validation loss fell below that of the first epoch."},
        op_tags=accelerated(profile.run),
        pool=TRAINING_POOL,
        retries=1,
    )
    def shape_network(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """Residual network, blended stamp → Gaussian posterior of the target.

        Quantities: intrinsic shear-type g, observed distortion e (Eq. 12, label band), ln half-light radius and ln
        flux. Trained end to end on blends of training galaxies that are rendered for it, recombined and exposed anew in
        each epoch. Loss: likelihood + squared error.
        """
        from deblend_assets.steps.shapes.network import train_network

        return train_network(storage.open(profile), devices, workers, context.log)

    def head_asset(head: Head) -> dg.AssetsDefinition:
        @asset(
            SHAPES[head.name],
            deps=[network, CATALOG],
            version=head.name,
            kinds={"pytorch"},
            description=head.description,
            checks={
                "discriminates": f"On validation blends the area under the ROC curve is above 0.5 for: "
                f"{head.criteria[head.checked]}."
            },
            op_tags=accelerated(profile.run),
            pool=TRAINING_POOL,
            retries=1,
        )
        def train(
            context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
        ) -> Outcome:
            from deblend_assets.steps.shapes.heads import train_head

            return train_head(storage.open(profile), head, devices, workers, context.log)

        return train

    @asset(
        posterior,
        deps=[network, *heads, CATALOG],
        version="shape_posterior",
        kinds={"pytorch"},
        checks={"small_correction": "No expected error was changed by more than a factor of 2."},
        op_tags=accelerated(profile.run),
        pool=TRAINING_POOL,
        retries=1,
    )
    def shape_posterior(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """Calibrated posterior, in place of section 3.2's regressor.

        The network's posterior is averaged over orientations of the stamp. On validation galaxies its expected errors
        are scaled to the actual ones, a neural spline flow models what is not Gaussian, given the log-odds of
        neighbours, and a spread keeps the nominal coverage in thirds of S/N, blendedness and separation.
        """
        from deblend_assets.steps.shapes.calibration import calibrate_posterior

        return calibrate_posterior(storage.open(profile), devices, workers, context.log)

    return [shape_network, *(head_asset(head) for head in HEADS), shape_posterior]


def shape_evaluation_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`fisher_floor`, `shape_evaluation`; keys `shapes/…`."""

    @asset(
        SHAPES["fisher_floor"],
        deps=[CATALOG, SIMULATED["truth"]],
        version="fisher_floor",
        kinds={"parquet"},
        op_tags=DISTRIBUTING,
    )
    def fisher_floor(context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers) -> Outcome:
        """Cramér-Rao error of g and e (Eq. 12) for each test galaxy in its blend.

        Finite differences of the same renderer; position, size, fluxes and the neighbours' parameters are marginalised.
        """
        from deblend_assets.steps.shapes.floor import write_floor

        return write_floor(storage.open(profile), workers, context.log.info)

    @asset(
        SHAPES["shape_evaluation"],
        deps=[SHAPES["shape_posterior"], SHAPES["fisher_floor"], SIMULATED["blended"], SIMULATED["truth"]],
        version="shape_evaluation",
        kinds={"pytorch", "html"},
        checks={"coverage": "Central 68 and 95 % intervals of e and g cover the truth as often, within 5 points."},
        op_tags=accelerated(profile.run),
    )
    def shape_evaluation(context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices) -> Outcome:
        """The shape posterior on held-out galaxies.

        Errors of intrinsic shear-type g and observed distortion e (Eq. 12) beside the Fisher floor of the same
        galaxies, slope and scatter of the likelihood-only estimate, coverage by S/N, blendedness and separation;
        bootstrap errors.
        """
        from deblend_assets.steps.shapes.evaluation import evaluate_posterior

        return evaluate_posterior(storage.open(profile), devices, context.log)

    return [fisher_floor, shape_evaluation]
