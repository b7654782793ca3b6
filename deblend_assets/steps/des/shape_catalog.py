"""Measures a tile's galaxies with the model for every sky: one row per galaxy, as Parquet and FITS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from deblend_assets.progress import Progress
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.measuring.registry import parquet_columns
from deblend_assets.science.measuring.sky_catalog import measure_catalog
from deblend_assets.science.measuring.sky_columns import ID, tile_columns
from deblend_assets.science.measuring.trust import REASONS, RowFlag
from deblend_assets.science.statistics.format import Table
from deblend_assets.steps.des.stamps import TileStamps
from deblend_assets.steps.measuring.model import available_sky_model
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.fits_tables import to_fits
from deblend_assets.stores.project import ProjectStore

_NOTE = (
    "Shapes and fluxes of one tile by the network for every sky. g1, g2: intrinsic shear-type (a-b)/(a+b), PSF "
    "removed; e1, e2: observed distortion (a^2-b^2)/(a^2+b^2), PSF included. Sky frame: +x west, +y north, as "
    "TreeCorr's. Estimates are shrunk toward zero: divide sums of g by sums of R; do not divide the g of single "
    "galaxies."
)
# Stamps at a time: some 100 MB with their PSFs.
_BLOCK = 256


def measure_tile(store: ProjectStore, partition: str, torch_device: str, log: Callable[[str], None]) -> Outcome:
    """Measure every cutout of a tile with the model for every sky and store the catalogue.

    The model is the trained one, or where there is none the shipped one.

    Args:
        store: of the profile.
        partition: the tile's name, unchecked.
        torch_device: device of the network.
        log: receives progress lines.

    Raises:
        MissingDataError: the cutouts are missing, or a model is neither trained nor shipped.
        MismatchError: the cutouts were made from other inputs.
    """
    name = tile_name(partition)
    des = DesStore(store)
    tile, share = des.tile(name), des.settings.tiles.response_share
    inputs, version = des.shapes_inputs(tile), store.sky_model_version()
    cutouts = tile.read_cutouts(des.cutouts_inputs(tile))
    model, stamps = available_sky_model(store), TileStamps.of(des, cutouts)
    model.network.to(torch.device(torch_device))
    progress, parts = Progress(f"shapes of {name}", len(stamps), "galaxies", log), []
    for first in range(0, len(stamps), _BLOCK):
        block = stamps.observed(slice(first, first + _BLOCK))
        parts.append(measure_catalog(model, block, share, first, cutouts.bands))
        progress.add(len(block))
    columns = tile_columns(cutouts.bands)
    known: dict[str, Any] = {
        "tile": name,
        "model_version": version,
        "simulated": des.simulated,
        **{column: cutouts.galaxies[column].to_numpy() for column in (ID, "ra", "dec")},
    }
    shapes = pd.concat(parts, ignore_index=True).assign(**known)[list(columns)]
    path = tile.write_table("shape_catalog", shapes, parquet_columns(columns), _NOTE, inputs)
    header: dict[str, str | bool] = {"TILE": name, "MODELVER": version, "INPUTS": inputs, "SIMULATE": des.simulated}
    fits_path = tile.write_file("shape_catalog.fits", to_fits(shapes, columns, _NOTE, header))
    flags = shapes["flags"].to_numpy()
    failures, bad_errors = _failures(shapes, cutouts.bands)
    return Outcome(
        numbers={
            "galaxies": len(shapes),
            "flagged": int((flags != 0).sum()),
            "flagged_share": float((flags != 0).mean()),
            "mean_g1": float(shapes["g1"].mean()),
            "mean_g2": float(shapes["g2"].mean()),
            "median_g_err": float(shapes["g_cov_11"].median() ** 0.5),
            "responses": int(shapes["R11"].notna().sum()),
            "median_blendedness": float(shapes["blendedness"].median()),
        },
        words={"simulated_tile": des.simulated, "model_version": version},
        tables={"flags": _flags_table(flags)},
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


def _failures(shapes: pd.DataFrame, bands: tuple[str, ...]) -> tuple[int, int]:
    """Galaxies with |g| >= 1 or without a positive flux in the reference band; galaxies with an error that is not one.

    A stamp without any pixel of weight has no number, and its flag says so.
    """
    seen = (shapes["flags"].to_numpy() & int(RowFlag.NO_DATA)) == 0
    flux = np.full(len(shapes), np.nan)
    for band in bands:
        here = (shapes["reference_band"] == band).to_numpy()
        flux[here] = shapes.loc[here, f"flux_{band}"]
    # Negated comparisons, so that NaN is a failure.
    failed = ~(np.hypot(shapes["g1"].to_numpy(), shapes["g2"].to_numpy()) < 1) | ~(flux > 0)
    variances = shapes[[f"{letter}_cov_{kk}" for letter in "ge" for kk in ("11", "22")]].to_numpy()
    return int((failed & seen).sum()), int((~(variances > 0).all(axis=1) & seen).sum())


def _flags_table(flags: np.ndarray) -> Table:
    """How many galaxies each reason flags."""
    rows = {flag.name or "": (flags & int(flag)) != 0 for flag in REASONS}
    return Table.of(
        {name: {"galaxies": int(of.sum()), "share": f"{of.mean():.1%}"} for name, of in rows.items() if of.any()}
        or {"none": {"galaxies": 0, "share": "0.0%"}},
        "flag",
    )
