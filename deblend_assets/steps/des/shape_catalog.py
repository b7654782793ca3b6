"""Measures the shapes of a tile's galaxies: one row per galaxy, as Parquet and FITS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deblend_assets.progress import Progress
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.measuring.columns import ID, parquet_columns
from deblend_assets.science.measuring.measured import BAD_SHAPE, FLAGS, NEGATIVE_FLUX
from deblend_assets.science.shear.response import ShearOperator
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.steps.des.model import training_scenes
from deblend_assets.steps.des.shapes import tile_shapes
from deblend_assets.steps.des.stamps import model_stamps
from deblend_assets.steps.measuring.model import load_model
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.fits_tables import to_fits
from deblend_assets.stores.project import ProjectStore

_NOTE = (
    "Shapes of one tile by a neural deblender. g1, g2: intrinsic shear-type (a-b)/(a+b), PSF removed; e1, e2: observed "
    "distortion (a^2-b^2)/(a^2+b^2), PSF included. Sky frame: +x east, +y north (treecorr: flip_g2=True). Estimates "
    "are shrunk toward zero: divide sums of g by sums of response_g; do not divide the g of single galaxies."
)


def measure_tile(store: ProjectStore, partition: str, torch_device: str, log: Callable[[str], None]) -> Outcome:
    """Measure every cutout of a tile with the DES model and store the catalogue.

    Args:
        store: store of the DES model.
        partition: the tile's name, unchecked.
        torch_device: device of the networks.
        log: receives progress lines.

    Raises:
        MissingDataError: the cutouts or a part of the model are missing.
        MismatchError: they were made from other inputs.
    """
    profile, name = store.profile, tile_name(partition)
    des = DesStore(store)
    tile = des.tile(name)
    inputs, version = des.shapes_inputs(tile), store.model_version()
    cutouts = tile.read_cutouts(des.cutouts_inputs(tile))
    stamps = model_stamps(des, cutouts)
    trained, learnt = load_model(store, "des", torch_device), training_scenes(des).sample.flux
    progress = Progress(f"shapes of {name}", len(stamps.electrons), "galaxies", log)
    operator = ShearOperator.of(load_survey(profile.simulation.survey), profile.simulation.stamp_pixels)
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
    return Outcome(
        numbers={
            "galaxies": len(shapes),
            "mean_g1": float(shapes["g1"].mean()),
            "mean_g2": float(shapes["g2"].mean()),
            "median_g_err": float(shapes["g1_err"].median()),
            "mean_response": float(shapes[["response_g1", "response_g2"]].mean().mean()),
            "median_blendedness": float(shapes["blendedness"].median()),
            **{f"flag_{bit}": int((flags & bit > 0).sum()) for bit in FLAGS},
        },
        words={"simulated_tile": des.simulated, "model_version": version},
        paths={"path": path, "fits": fits_path},
        checks=[
            Check(
                "no_failures",
                not failures,
                f"{failures} galaxies with a bad shape or flux",
                {"failures": failures},
                warn=True,
            ),
            Check(
                "errors_are_positive",
                not bad_errors,
                f"{bad_errors} galaxies without positive errors",
                {"failures": bad_errors},
            ),
        ],
    )
