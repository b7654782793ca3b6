"""Groups `training` and `baseline`: section 3.2, by our recipe and by the report's."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import TRAINING_POOL, accelerated, asset
from deblend_assets.assets.keys import LATENT_FLOW, RECIPES, SIMULATED, STATISTICS
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome
from deblend_assets.stores.project import STAGES

_RECIPE_WORDS = {
    "training": "Our recipe.",
    "baseline": "The report's own choices: mean L1 loss, bilinear resize, no augmentation, e > 0.1.",
}
_CHECKS = {
    "learning": "The validation loss fell below that of the first epoch.",
    "no_collapse": "Reconstructions differ from one another, and the latent holds information.",
    "decoder_frozen": "The decoder is that of stage 1, bit for bit.",
}


def stage_assets(profile: Profile, recipe: str) -> Sequence[dg.AssetsDefinition]:
    """`stage1_vae`, `stage2_deblender`, `stage3_regressor` of one recipe.

    Keys `training/…` or `baseline/…`.
    """
    keys = RECIPES[recipe]
    stage1, stage2, stage3 = (keys.stage(name) for name in STAGES)
    learned_prior = [LATENT_FLOW] if getattr(profile.recipes, recipe).prior == "flow" else []

    def stage(
        key: dg.AssetKey, deps: Sequence[dg.AssetKey], checks: Sequence[str], description: str
    ) -> dg.AssetsDefinition:
        @asset(
            key,
            deps=deps,
            version="training",
            kinds={"pytorch"},
            description=f"{description} {_RECIPE_WORDS[recipe]}",
            checks={name: _CHECKS[name] for name in checks},
            op_tags=accelerated(profile.run, 1 if key == stage3 else profile.run.devices),
            pool=TRAINING_POOL,
            retries=1,
        )
        def train_stage(
            context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
        ) -> Outcome:
            from deblend_assets.steps.training import stages

            store = storage.open(profile)
            return stages.train_stage(store, recipe, key.path[-1], devices, workers, context.log)

        return train_stage

    return [
        stage(
            stage1,
            [STATISTICS, SIMULATED["noisy"], SIMULATED["isolated"], SIMULATED["truth"]],
            ["learning", "no_collapse"],
            "Training 1 (section 3.2, Fig. 9 and 22a): VAE, noisy isolated → clean isolated galaxy. Loss of Eq. 6: "
            "β KL (Eq. 5) + reconstruction (Eq. 3).",
        ),
        stage(
            stage2,
            [stage1, *learned_prior, STATISTICS, *(SIMULATED[name] for name in ("blended", "isolated", "truth"))],
            ["learning", "no_collapse", "decoder_frozen"],
            "Training 2 (section 3.2, Fig. 22b): encoder of the blends, blended → clean isolated target, before the "
            "frozen decoder of stage 1. It starts from stage 1's encoder; the report's starts from random weights. "
            "Loss of Eq. 6.",
        ),
        stage(
            stage3,
            [stage2, STATISTICS, SIMULATED["blended"], SIMULATED["truth"]],
            ["learning"],
            "Training 3 (section 3.2, Fig. 10 and 23): regressor, latent mean of the blend → observed distortion "
            "(e1, e2) of Eq. 12 in the label band and, where the recipe says so, intrinsic shear-type (g1, g2), each "
            "with its expected error; encoder of stage 2 frozen. Loss: mean squared error.",
        ),
    ]
