"""`stage1_vae`, `stage2_deblender`, `stage3_regressor`: section 3.2, by our recipe and by the report's."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, clear_errors, code_version
from deblend_assets.assets.normalization.normalization_statistics import KEY as STATISTICS
from deblend_assets.assets.simulation.simulated import SIMULATED
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile

# One training at a time and machine where Dagster's limit is 1; the device's lock says which GPU.
POOL = "training"
# A crash in the middle is resumed from the last finished epoch.
_RETRY = dg.RetryPolicy(max_retries=1, delay=5)


def stage_assets(profile: Profile, recipe: str) -> Sequence[dg.AssetsDefinition]:
    """The three stages of one recipe; keys `training/…` or `baseline/…`."""
    ours = recipe == "training"
    whose = "our recipe" if ours else "the report's own choices (mean loss, bilinear resize, no augmentation)"
    keys = {name: dg.AssetKey([recipe, name]) for name in ("stage1_vae", "stage2_deblender", "stage3_regressor")}

    def checks(name: str) -> list[dg.AssetCheckSpec]:
        specs = [dg.AssetCheckSpec("learning", asset=keys[name], description="The validation loss fell.")]
        if name != "stage3_regressor":
            specs.append(
                dg.AssetCheckSpec("no_collapse", asset=keys[name], description="Reconstructions differ from one another.")
            )
        if name == "stage2_deblender":
            specs.append(
                dg.AssetCheckSpec("decoder_frozen", asset=keys[name], description="The decoder is stage 1's, bit for bit.")
            )
        return specs

    def options(name: str) -> dict[str, object]:
        return {
            "key": keys[name],
            "group_name": recipe,
            "owners": OWNERS,
            "backfill_policy": ONE_RUN,
            "kinds": {"pytorch"},
            "pool": POOL,
            "retry_policy": _RETRY,
            "code_version": code_version("training"),
            "check_specs": checks(name),
        }

    @dg.asset(
        **options("stage1_vae"),  # type: ignore[call-overload]
        deps=[STATISTICS, SIMULATED["noisy"], SIMULATED["isolated"]],
        description=f"Training 1 (section 3.2, Fig. 22a): VAE, noisy isolated → clean isolated galaxy; {whose}. "
        "Loss: β KL (Eq. 5) + reconstruction (Eq. 3), β-VAE (Eq. 6).",
    )
    @clear_errors
    def stage1_vae(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.training.run import materialize_stage

        return materialize_stage(context, storage.open(profile), recipe, "stage1_vae", devices)

    @dg.asset(
        **options("stage2_deblender"),  # type: ignore[call-overload]
        deps=[keys["stage1_vae"], STATISTICS, SIMULATED["blended"], SIMULATED["isolated"]],
        description="Training 2 (section 3.2, Fig. 22b): a new encoder, blended → clean isolated target, before stage "
        f"1's frozen decoder; {whose}.",
    )
    @clear_errors
    def stage2_deblender(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.training.run import materialize_stage

        return materialize_stage(context, storage.open(profile), recipe, "stage2_deblender", devices)

    @dg.asset(
        **options("stage3_regressor"),  # type: ignore[call-overload]
        deps=[keys["stage2_deblender"], SIMULATED["blended"], SIMULATED["truth"]],
        description="Training 3 (section 3.2, Fig. 10 and 23): regressor, latent mean of the blend → observed distortion "
        f"(e1, e2) of Eq. 12 in the label band, encoder of stage 2 frozen; {whose}.",
    )
    @clear_errors
    def stage3_regressor(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.training.run import materialize_stage

        return materialize_stage(context, storage.open(profile), recipe, "stage3_regressor", devices)

    return [stage1_vae, stage2_deblender, stage3_regressor]
