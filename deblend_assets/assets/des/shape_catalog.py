"""`des/shape_catalog`: one row a galaxy, ready for a lensing analysis, as Parquet and FITS."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from deblend_assets.assets.common import OWNERS, accelerated, check, clear_errors, code_version, rounded
from deblend_assets.assets.keys import DES, RECIPES, TILE_ASSETS, shape_keys, simulated_keys, statistics_key
from deblend_assets.partitions import TILES
from deblend_assets.progress import Progress
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile

_NOTE = (
    "Shapes of one tile by a neural deblender. g1, g2: intrinsic shear-type (a-b)/(a+b), PSF removed; e1, e2: observed "
    "distortion (a^2-b^2)/(a^2+b^2), PSF included. Sky frame: +x east, +y north (treecorr: flip_g2=True). Estimates "
    "shrink toward round: divide sums of g by sums of response_g, never one galaxy by its own."
)


def shape_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The shape catalogue, one partition a tile."""
    key, leg = TILE_ASSETS["shape_catalog"], profile.des_leg
    model = RECIPES["des"]

    @dg.asset(
        key=key,
        group_name=DES,
        deps=[
            TILE_ASSETS["des_cutouts"],
            model.stage("stage2_deblender"),
            model.stage("stage3_regressor"),
            shape_keys(leg)["shape_posterior"],
            statistics_key(leg),
            dg.AssetDep(simulated_keys(leg)["blended"], partition_mapping=dg.AllPartitionMapping()),
        ],
        partitions_def=TILES,
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        kinds={"pytorch", "parquet", "fits"},
        code_version=code_version("shape_catalog"),
        check_specs=[
            dg.AssetCheckSpec(
                "no_failures", asset=key, description="Every galaxy has a shape with |g| < 1 and a flux."
            ),
            dg.AssetCheckSpec(
                "errors_are_positive", asset=key, description="Every uncertainty of a shape is a number above 0."
            ),
        ],
    )
    @clear_errors
    def shape_catalog(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices
    ) -> dg.MaterializeResult:
        """Shapes, fluxes and flags of every galaxy of a tile by the DES model (section 4.3 of the report).

        Stamps are brought to the model's frame by physics (zero points, pixel scale), absent bands are zeros and a
        mask. One row a galaxy: id, position, g and e with uncertainties, fluxes, blendedness, flags, model version;
        units, UCDs and conventions in the headers; the response to shear from the images, for sums over many galaxies.
        """
        from deblend_assets.science.des.tiles import tile_name
        from deblend_assets.science.measuring.columns import ID, parquet_columns
        from deblend_assets.science.measuring.measured import BAD_SHAPE, FLAGS, NEGATIVE_FLUX
        from deblend_assets.science.shear.response import ShearOperator
        from deblend_assets.science.simulation.surveys import load_survey
        from deblend_assets.steps.des.model import training_scenes
        from deblend_assets.steps.des.shapes import tile_shapes
        from deblend_assets.steps.des.stamps import model_stamps
        from deblend_assets.steps.measuring.model import load_model
        from deblend_assets.stores.des import DesStore
        from deblend_assets.stores.fits_tables import to_fits

        name = tile_name(context.partition_key)
        store = storage.open(leg)
        des = DesStore(store)
        tile = des.tile(name)
        inputs, version = des.shapes_inputs(tile), store.model_version()
        cutouts = tile.read_cutouts(des.cutouts_inputs(tile))
        stamps = model_stamps(des, cutouts)
        with devices.allocate(key.to_user_string(), context.log) as lease:
            trained, learnt = load_model(store, "des", lease.torch_device), training_scenes(des).sample.flux
            progress = Progress(f"shapes of {name}", len(stamps.electrons), "galaxies", context.log.info)
            operator = ShearOperator.of(load_survey(leg.simulation.survey), leg.simulation.stamp_pixels)
            measured = tile_shapes(trained, stamps, learnt, operator, progress.add)
        columns = trained.columns("tile")
        known: dict[str, Any] = {
            "tile": name,
            "model_version": version,
            "simulated": des.simulated,
            **{column: cutouts.galaxies[column].to_numpy() for column in (ID, "ra", "dec")},
        }
        shapes = measured.assign(**known)[list(columns)]
        path = tile.write_table("shape_catalog", shapes, parquet_columns(columns), _NOTE, inputs)
        header: dict[str, str | bool] = {"TILE": name, "MODELVER": version, "INPUTS": inputs, "SIMULATE": des.simulated}
        fits_path = tile.write_file("shape_catalog.fits", to_fits(shapes, columns, _NOTE, header))
        flags, errors = shapes["flags"], shapes[["g1_err", "g2_err", "e1_err", "e2_err"]].to_numpy()
        failures = int((flags & (BAD_SHAPE | NEGATIVE_FLUX) > 0).sum())
        bad_errors = int((~(errors > 0)).any(axis=1).sum())
        return dg.MaterializeResult(
            metadata={
                "galaxies": len(shapes),
                "simulated_tile": des.simulated,
                "model_version": version,
                "path": dg.MetadataValue.path(str(path)),
                "fits": dg.MetadataValue.path(str(fits_path)),
                **rounded(
                    {
                        "mean_g1": float(shapes["g1"].mean()),
                        "mean_g2": float(shapes["g2"].mean()),
                        "median_g_err": float(shapes["g1_err"].median()),
                        "mean_response": float(shapes[["response_g1", "response_g2"]].mean().mean()),
                        "median_blendedness": float(shapes["blendedness"].median()),
                        **{f"flag_{bit}": float((flags & bit > 0).sum()) for bit in FLAGS},
                    }
                ),
                **lease.metadata(),
            },
            check_results=[
                check(
                    "no_failures", not failures, f"{failures} galaxies flagged so", {"failures": failures}, warn=True
                ),
                check("errors_are_positive", not bad_errors, f"{bad_errors} are not", {"failures": bad_errors}),
            ],
        )

    return [shape_catalog]
