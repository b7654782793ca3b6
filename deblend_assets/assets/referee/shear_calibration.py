"""`shear_calibration`: m and c of our estimates and of what users run today, and the response that needs no truth."""

import math
from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import (
    ONE_RUN,
    OWNERS,
    accelerated,
    check,
    clear_errors,
    code_version,
)
from deblend_assets.assets.keys import CATALOG, RECIPES, referee_keys, shape_keys
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile

# Where the two routes to the response differ by more of their common error, one of them is wrong.
_AGREEMENT = 3.0


def shear_calibration_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of one leg; keys `referee/…`."""
    key = referee_keys(profile)["shear_calibration"]
    report = [RECIPES["baseline"].stage("stage3_regressor")] if profile.leg == "main" else []

    @dg.asset(
        key=key,
        deps=[CATALOG, shape_keys(profile)["shape_posterior"], *report],
        group_name=key.path[0],
        description="What ellipticities (section 4.3) are for: constant-shear simulations of test galaxies, the same "
        "galaxies and noise under each shear, with pairs turned by 90°. m, c and response (jack-knife errors) of SEP + "
        "REGAUSS, the report's regressor and the shape posterior, as they come and calibrated on validation galaxies; "
        "the response from images alone; selection, PSF leakage and size, another population. Convention: shear-type "
        "g, pixel frame.",
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        backfill_policy=ONE_RUN,
        kinds={"pytorch", "parquet"},
        code_version=code_version("shear_calibration"),
        check_specs=[
            dg.AssetCheckSpec(
                "calibrated",
                asset=key,
                description="|m| of the calibrated posterior below 3e-3 and |c| below 3e-4, or within two errors of "
                "that: a small run cannot tell more.",
            ),
            dg.AssetCheckSpec(
                "responses_agree",
                asset=key,
                description="Response from the images alone and from pairs of simulations, within three errors.",
            ),
            dg.AssetCheckSpec(
                "no_regression", asset=key, description="No bias grew by more than two errors since the last run."
            ),
        ],
    )
    @clear_errors
    def shear_calibration(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        from deblend_assets.steps.referee.run_shear import write_shear_calibration

        with devices.allocate(key.to_user_string(), context.log) as lease:
            outcome, apart = write_shear_calibration(
                storage.open(profile), lease.torch_device, workers, context.log.info
            )
        return dg.MaterializeResult(
            metadata={**outcome.metadata(), **lease.metadata()},
            check_results=[
                outcome.nothing_found("calibrated", "nothing beyond the requirement by more than two errors"),
                check(
                    "responses_agree",
                    apart <= _AGREEMENT,
                    f"the two routes differ by {apart:.2f} errors",
                    {"errors_apart": apart} if math.isfinite(apart) else {},
                    warn=True,
                ),
                outcome.no_regression(),
            ],
        )

    return [shear_calibration]
