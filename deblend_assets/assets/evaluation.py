"""Groups `evaluation` and `baseline`: a recipe's three stages on held-out galaxies."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import accelerated, asset
from deblend_assets.assets.keys import RECIPES, SIMULATED, STATISTICS
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome
from deblend_assets.stores.project import STAGES


def evaluation_assets(profile: Profile, recipe: str) -> Sequence[dg.AssetsDefinition]:
    """`simulated_evaluation` of one recipe; keys `evaluation/…` or `baseline/…`."""
    keys = RECIPES[recipe]

    @asset(
        keys.evaluation,
        deps=[*(keys.stage(name) for name in STAGES), STATISTICS, *SIMULATED.values()],
        version="evaluation",
        kinds={"pytorch", "html"},
        op_tags=accelerated(profile.run),
        checks={
            "held_out": "No galaxy of the test scenes appears in a training or validation scene.",
            "no_failures": "Every estimator gave a number for every scene.",
            "beats_the_blend": "The deblended image is nearer to the truth than the blend.",
        },
    )
    def simulated_evaluation(context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices) -> Outcome:
        """Accuracy of the three stages on held-out galaxies (section 4 of the report).

        SSIM and cosine (Eq. 10-11, Fig. 13), reconstructions (Fig. 11-12), distortion e of regressor and
        reconstruction against the truth (Fig. 15-16), flux errors per band; all with bootstrap errors, binned by S/N
        and blendedness, beside the report's published values.
        """
        from deblend_assets.steps.evaluation.simulated_evaluation import write_evaluation

        with devices.allocate(keys.evaluation.to_user_string(), context.log) as lease:
            outcome = write_evaluation(
                storage.open(profile), recipe, keys.evaluation_group, lease.torch_device, context.log.info
            )
        return outcome.with_device(lease.metadata())

    return [simulated_evaluation]
