"""The five sheared catalogues of a user's field, cell by cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.progress import Progress
from deblend_assets.resources.worker_pool import Workers
from deblend_assets.science.images.cells import Cell, cells_of, merged
from deblend_assets.science.images.field import PSF_SQUARE, Field, PSFImages
from deblend_assets.science.measuring.field_cells import overlap
from deblend_assets.science.measuring.field_look import Look, image_of, look_at
from deblend_assets.science.metadetection.catalogs import KINDS, metadetect
from deblend_assets.science.metadetection.kernels import gaussian_sigma
from deblend_assets.science.metadetection.network import LEAST_SNR, NetworkEstimate
from deblend_assets.science.metadetection.sums import with_patches
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.steps.fields.cells import CellTask, OpenField, pool_of
from deblend_assets.stores.field_catalogs import FieldParts

# Side of a cell at most, side of the PSFs' images, and what a window is wider for the filter and the shear [pixel].
_CELL, _PSF_SIDE, _BESIDE = 512, 65, 24


def metadetect_field(
    field: Field,
    model: SkyModel,
    version: str,
    *,
    least_snr: float = LEAST_SNR,
    processes: int | Workers = 1,
    parts: FieldParts | None = None,
    log: Callable[[str], None],
) -> dict[str, pd.DataFrame]:
    """Shear, detect and measure a field.

    Each cell is sheared about its own middle: positions are those of the unsheared sky, on which rows of cells that
    overlap are the same source. All cells have the same Gaussians, those of the widest PSF in the field.

    Args:
        field: images.
        model: calibrated.
        version: its fingerprint, for the column `model_version`.
        least_snr: S/N of a detection below which it is not measured.
        processes: that work, or what starts them.
        parts: keeps finished cells; None: nothing is kept.
        log: takes progress lines.

    Returns:
        By kind (`KINDS`): id, ra, dec, x, y, what `NetworkEstimate` and `metadetect` give, `patch`, model_version.

    Raises:
        MissingDataError: no PSF, no noise, or nothing is detected.
    """
    log(f"looking at {field.name}: {' × '.join(map(str, field.shape[::-1]))} pixels, {', '.join(field.names)}")
    look = look_at(field)
    cells = cells_of(field.shape, overlap(look) + _BESIDE, _CELL)
    tasks = [CellTask(f"sheared_{cell.number}", 1, cell) for cell in cells]
    tables = {t.key: kept for t in tasks if parts is not None and (kept := parts.read(t.key)) is not None}
    progress = Progress("shearing, detecting, measuring", len(tasks), "cells", log)
    progress.add(len(tables))
    made = partial(_sheared_cell, sigma=_widest(field, look), least_snr=least_snr)
    with pool_of(OpenField(field, look, model), processes) as pool:
        for task, table in pool.render([t for t in tasks if t.key not in tables], progress, made):
            if parts is not None:
                parts.keep(task.key, table)
            tables[task.key] = table
    found = {kind: _whole(field, look, cells, [tables[t.key] for t in tasks], kind, version) for kind in KINDS}
    if any(table.empty for table in found.values()):
        raise MissingDataError("nothing is detected", where=field.name, remedy="lower [detection] thresh")
    return with_patches(found, field.shape)


def window_of(field: Field, look: Look, cell: Cell) -> ObservedImage:
    """The window of a cell, with PSFs that hold their wings."""
    images, (x0, y0, _, _) = PSFImages(field, look.psfs, _PSF_SIDE), cell.outer
    return dataclasses.replace(image_of(field, look, cell.outer), psf=lambda x, y: images.at(x + x0, y + y0))


def _widest(field: Field, look: Look) -> NDArray[np.float64]:
    """Sigma of the Gaussians of the whole field, (band,) [pixel]."""
    images, (height, width) = PSFImages(field, look.psfs, _PSF_SIDE), field.shape
    places = [(x, y) for y in range(0, height, PSF_SQUARE) for x in range(0, width, PSF_SQUARE)]
    return gaussian_sigma(np.stack([images.at(x, y) for x, y in places]))


def _sheared_cell(opened: OpenField, task: CellTask, sigma: NDArray[np.float64], least_snr: float) -> pd.DataFrame:
    """The five catalogues of a cell, one below the other, with `kind`; positions are those of the field."""
    assert opened.model is not None
    field, cell = opened.field, task.cell
    image = window_of(field, opened.look, cell)
    if not (image.inverse_variance > 0).any():
        return pd.DataFrame()
    estimate = NetworkEstimate(opened.model, field.settings, least_snr)
    tables = metadetect(image, estimate, seed=[field.settings.seed, cell.number], sigma=sigma)
    shift = {"x": cell.outer.x0, "y": cell.outer.y0, "x_sheared": cell.outer.x0, "y_sheared": cell.outer.y0}
    moved = [
        table.assign(**{name: table[name] + by for name, by in shift.items()}, kind=kind)
        for kind, table in tables.items()
        if len(table)
    ]
    return pd.concat(moved, ignore_index=True) if moved else pd.DataFrame()


def _whole(
    field: Field, look: Look, cells: list[Cell], tables: list[pd.DataFrame], kind: str, version: str
) -> pd.DataFrame:
    """One catalogue of the field, each source once."""
    places = pd.DataFrame({name: np.zeros(0) for name in ("x", "y", "snr")})
    own = [table[table["kind"] == kind].drop(columns="kind") if len(table) else places for table in tables]
    if not any(map(len, own)):
        return places
    rows = merged(own, cells, max(look.fwhm)).drop(columns="cell")
    ra, dec = field.sky(rows["x"].to_numpy(), rows["y"].to_numpy())
    for place, (name, values) in enumerate({"id": np.arange(1, len(rows) + 1), "ra": ra, "dec": dec}.items()):
        rows.insert(place, name, values)
    return rows.assign(model_version=version)
