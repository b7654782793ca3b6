"""`referee_report`: one page for whoever measures lensing, from the tables of the comparison and the calibrations."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, clear_errors, code_version, cores
from deblend_assets.assets.keys import referee_keys
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile


def referee_report_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Key `referee/referee_report`."""
    keys = referee_keys(profile)

    @dg.asset(
        key=keys["referee_report"],
        deps=[
            keys["peer_comparison"],
            keys["shear_calibration"],
            referee_keys(profile.des_leg)["shear_calibration"],
        ],
        group_name=keys["referee_report"].path[0],
        description="Section 4.3 as its reader asks: is it better than what I run today, where does it fail, how fast "
        "is it, how do I calibrate it? Tables computed from the stored estimates alone, figures, and the ten worst "
        "failures of every method.",
        owners=OWNERS,
        op_tags=cores(1),
        backfill_policy=ONE_RUN,
        kinds={"html"},
        code_version=code_version("referee_report"),
    )
    @clear_errors
    def referee_report(context: dg.AssetExecutionContext, storage: Storage) -> dg.MaterializeResult:
        from deblend_assets.steps.referee.page import write_referee_page

        path = write_referee_page(storage.open(profile), storage.open(profile.des_leg))
        return dg.MaterializeResult(metadata={"report": dg.MetadataValue.path(str(path))})

    return [referee_report]
