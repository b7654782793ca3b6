"""Group `field_shear`: m, c and n_eff of whole fields of known shear, detection inside, ours beside the peers."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import DISTRIBUTING, asset
from deblend_assets.assets.keys import CATALOG, SHEAR_OF_FIELDS, SKY_MODEL
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome


def field_shear_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`shear_of_fields`; key `field_shear/…`."""

    @asset(
        SHEAR_OF_FIELDS,
        version="field_shear",
        kinds={"pytorch", "parquet", "html"},
        deps=[CATALOG, SKY_MODEL],
        checks={
            "twins": "All images of a field have the same noise and masks.",
            "within_the_bars": "|m| is below 3e-3 and |c| below 2e-4 under the exact PSF, or within two errors of "
            "these limits: a small run cannot decide more.",
            "no_regression": "No bias grew by more than two errors since the last run.",
        },
        op_tags=DISTRIBUTING,
    )
    def shear_of_fields(context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers) -> Outcome:
        """Shear of whole fields of test galaxies under skies of LSST, HSC and DES, with detection in the response.

        Ours and SEP + HSM under metadetection, AnaCal with its own detection: m, c, leakage and effective number of
        galaxies, in bins, under white and correlated noise and wrongly given PSFs. The results of each field are kept;
        a larger number of fields adds to them. Beyond section 4.3 of the report, which knows the galaxies' positions.
        """
        from deblend_assets.steps.field_shear.evaluation import evaluate_field_shear

        return evaluate_field_shear(storage.open(profile), workers, context.log.info)

    return [shear_of_fields]
