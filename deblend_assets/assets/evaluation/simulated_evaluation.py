"""`simulated_evaluation`: the evaluation on held-out galaxies."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, accelerated, check, clear_errors, code_version, rounded
from deblend_assets.assets.keys import RECIPES, simulated_keys, statistics_key
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.stores.project import STAGES

# Shown first in the UI; all the others follow.
_HEADLINE = (
    "scenes",
    "ssim_stage2",
    "cosine_stage2",
    "regressor_rms_over_scatter",
    "regressor_slope_e1",
    "regressor_slope_e2",
    "flux_error_median_r",
)


def evaluation_assets(profile: Profile, recipe: str) -> Sequence[dg.AssetsDefinition]:
    """The evaluation of one recipe; keys `evaluation/…`, `baseline/…` or `des_model/…`."""
    keys, simulated = RECIPES[recipe], simulated_keys(profile)
    key, group = keys.evaluation, keys.evaluation_group

    @dg.asset(
        key=key,
        group_name=group,
        deps=[
            *(keys.stage(name) for name in STAGES),
            statistics_key(profile),
            *simulated.values(),
        ],
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        backfill_policy=ONE_RUN,
        kinds={"pytorch", "html"},
        code_version=code_version("evaluation"),
        description="Section 4 of the report on galaxies that no stage has seen: SSIM and cosine (Eq. 10-11, Fig. 13), "
        "reconstructions (Fig. 11-12), distortion e of regressor and reconstruction against truth (Fig. 15-16), all "
        "with bootstrap errors, binned by S/N and blendedness, flux error a band; beside the report's published row.",
        check_specs=[
            dg.AssetCheckSpec(
                "held_out",
                asset=key,
                description="No galaxy of the test scenes appears in a training or validation scene.",
            ),
            dg.AssetCheckSpec("no_failures", asset=key, description="Every estimator gave a number for every scene."),
            dg.AssetCheckSpec(
                "beats_the_blend", asset=key, description="The deblended image is nearer to truth than the blend."
            ),
        ],
    )
    @clear_errors
    def simulated_evaluation(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.evaluation.report import write_evaluation

        with devices.allocate(key.to_user_string(), context.log) as lease:
            outcome = write_evaluation(storage.open(profile), recipe, group, lease.torch_device, context.log.info)
        numbers = outcome.numbers
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.path(str(outcome.folder / "report.html")),
                **outcome.plots,
                **rounded({name: numbers[name] for name in _HEADLINE}),
                **rounded({name: value for name, value in numbers.items() if name not in _HEADLINE}),
                **lease.metadata(),
            },
            check_results=[
                check(
                    "held_out",
                    not outcome.shared_galaxies,
                    f"{outcome.shared_galaxies} galaxies shared with other splits",
                    {"shared": outcome.shared_galaxies},
                ),
                check(
                    "no_failures",
                    not outcome.failures,
                    f"{outcome.failures} scenes with an estimate that is not a number",
                    {"failures": outcome.failures},
                ),
                check(
                    "beats_the_blend",
                    numbers["ssim_stage2"] > numbers["ssim_blend"]
                    and numbers["cosine_stage2"] > numbers["cosine_blend"],
                    "SSIM and cosine to the isolated truth, all bands, Eq. 9 space",
                    {n: numbers[n] for n in ("ssim_stage2", "ssim_blend", "cosine_stage2", "cosine_blend")},
                    warn=True,
                ),
            ],
        )

    return [simulated_evaluation]
