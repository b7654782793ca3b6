"""The catalogue of a field: what is detected, or positions that are given, measured in all bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.resources.worker_pool import Workers
from deblend_assets.science.images.cells import cell_at, cells_of
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.projection import sky_errors
from deblend_assets.science.measuring.field_cells import overlap
from deblend_assets.science.measuring.field_columns import field_columns
from deblend_assets.science.measuring.field_look import Look, look_at
from deblend_assets.science.measuring.field_rows import BandFlag
from deblend_assets.science.measuring.field_sources import SOURCE_COLUMNS
from deblend_assets.science.measuring.registry import CatalogColumn
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.steps.fields.cells import OpenField, detect_field, measure_detections, pool_of
from deblend_assets.stores.field_catalogs import FieldParts

_GIVEN = "given_"


@dataclass(frozen=True, eq=False)
class FieldCatalog:
    """What was measured of a field.

    Attributes:
        table: one row a target; names as in `columns`.
        columns: their units, UCDs and meanings.
        look: at the field.
        detections: everything that was detected; x, y and `DETECTION_COLUMNS`.
        sources: `SOURCE_COLUMNS` of the rows of `table`, for the model image.
        off_image: number of given positions that are not on the image; their rows have no data.
    """

    table: pd.DataFrame
    columns: Mapping[str, CatalogColumn[Any]]
    look: Look
    detections: pd.DataFrame
    sources: pd.DataFrame
    off_image: int = 0

    @property
    def good(self) -> int:
        """Number of rows that are good for shapes."""
        return int((self.table["flags"] == 0).sum())


@dataclass(frozen=True, eq=False)
class FieldDetections:
    """What was detected in a field.

    Attributes:
        look: at the field.
        table: one row a detection; `DETECTION_COLUMNS`, `cell` and `crowded`.
    """

    look: Look
    table: pd.DataFrame


def detections_of(
    field: Field,
    *,
    processes: int | Workers = 1,
    parts: FieldParts | None = None,
    log: Callable[[str], None],
) -> FieldDetections:
    """Look at a field and detect; arguments and errors as `catalog_of`."""
    opened = OpenField(field, _look(field, log), None)
    with pool_of(opened, processes) as pool:
        return FieldDetections(opened.look, detect_field(opened, pool, parts, log))


def catalog_of(
    field: Field,
    model: SkyModel,
    version: str,
    *,
    found: FieldDetections | None = None,
    positions: pd.DataFrame | None = None,
    processes: int | Workers = 1,
    parts: FieldParts | None = None,
    log: Callable[[str], None],
) -> FieldCatalog:
    """Detect and measure.

    Args:
        field: images, whose planes can be sent to another process where there are several.
        model: calibrated.
        version: its fingerprint, for the column `model_version`.
        found: of `detections_of`, where the field was looked at before.
        positions: x, y [pixel, from 0] in the place of the detections, and other columns, which are kept; every
            position has a row. A detection within one FWHM of a position counts as the same source.
        processes: that work, or what starts them.
        parts: keeps finished cells; None: nothing is kept.
        log: takes progress lines.

    Raises:
        MissingDataError: no PSF, no noise, or nothing on the image.
    """
    opened = OpenField(field, _look(field, log) if found is None else found.look, model)
    with pool_of(opened, processes) as pool:
        all_found = detect_field(opened, pool, parts, log) if found is None else found.table
        targets, others, off = all_found, all_found.iloc[:0], 0
        if positions is not None:
            targets, others, off = _forced(opened, all_found, positions)
        if targets.empty:
            raise MissingDataError(
                "nothing is detected" if positions is None else f"none of {off} positions is on the image",
                where=field.name,
                remedy="lower [detection] thresh"
                if positions is None
                else "give ra, dec, or x, y that count from 0, of these images",
            )
        measured = measure_detections(opened, targets, others, pool, parts, log)
    table = pd.concat([_identity(field, targets), measured], axis=1)
    table["flags"] |= np.where(targets["crowded"], np.int32(RowFlag.CROWDED), np.int32(0))
    columns: dict[str, CatalogColumn[Any]] = dict(field_columns(field.names))
    if positions is not None:
        own = _own_columns(positions)
        table = pd.concat([_all_rows(field, table, targets["row"].to_numpy(), positions), own], axis=1)
        units = positions.attrs.get("units", {})
        columns |= {
            str(name): CatalogColumn(units.get(str(name).removeprefix(_GIVEN), ""), "", "given with the positions")
            for name in own
        }
    table["model_version"] = version
    sources = table[list(SOURCE_COLUMNS)]
    return FieldCatalog(table[list(columns)], columns, opened.look, all_found, sources, off)


def _look(field: Field, log: Callable[[str], None]) -> Look:
    log(f"looking at {field.name}: {' × '.join(map(str, field.shape[::-1]))} pixels, {', '.join(field.names)}")
    return look_at(field)


def _forced(opened: OpenField, found: pd.DataFrame, positions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Targets at given positions, the detections that are none of them, and how many lie off the image."""
    from scipy.spatial import cKDTree

    cells = cells_of(opened.field.shape, overlap(opened.look))
    x, y = (positions[name].to_numpy(np.float64) for name in "xy")
    known = np.isfinite(x) & np.isfinite(y)
    cell = cell_at(cells, np.where(known, x, -1e9), np.where(known, y, -1e9))
    rows = np.flatnonzero(cell >= 0)
    targets = positions.iloc[rows].reset_index(drop=True).assign(row=rows, cell=cell[rows])
    targets = targets.assign(x_err=np.nan, y_err=np.nan, snr=np.nan, crowded=False)
    beside = found
    if len(targets) and len(found):
        near, _ = cKDTree(targets[["x", "y"]].to_numpy(np.float64)).query(found[["x", "y"]].to_numpy(np.float64))
        beside = found[near > max(opened.look.fwhm)]
    return targets, beside, int((cell < 0).sum())


def _identity(field: Field, targets: pd.DataFrame) -> pd.DataFrame:
    x, y, x_err, y_err = (targets[name].to_numpy(np.float64) for name in ("x", "y", "x_err", "y_err"))
    ra, dec = field.sky(x, y)
    ra_err, dec_err = sky_errors(field, x, y, x_err, y_err)
    ids = targets["id"].array if "id" in targets else np.arange(1, len(targets) + 1)
    return pd.DataFrame(
        {
            "id": ids,
            "ra": ra,
            "dec": dec,
            "ra_err": ra_err,
            "dec_err": dec_err,
            "x": x,
            "y": y,
            "x_err": x_err,
            "y_err": y_err,
            "detection_snr": targets["snr"].to_numpy(np.float64),
        }
    )


def _all_rows(field: Field, measured: pd.DataFrame, rows: NDArray[np.integer], positions: pd.DataFrame) -> pd.DataFrame:
    """A row for every given position, in their order; those off the image have no data."""
    table = measured.set_axis(rows).reindex(range(len(positions)))
    off = np.setdiff1d(np.arange(len(positions)), rows)
    for name in measured:
        if pd.api.types.is_string_dtype(measured[name].dtype):
            table[name] = table[name].fillna("")
        elif not pd.api.types.is_float_dtype(measured[name].dtype):
            table[name] = table[name].fillna(0).astype(measured[name].dtype)
    table.loc[off, "flags"] = int(RowFlag.NO_DATA)
    for band in field.names:
        table.loc[off, f"flags_{band}"] = int(BandFlag.LOST)
    table[["x", "y"]] = positions[["x", "y"]].to_numpy(np.float64)
    if "id" in positions:
        table["id"] = positions["id"].array
    else:
        table["id"] = np.arange(1, len(positions) + 1)
    return table


def _own_columns(positions: pd.DataFrame) -> pd.DataFrame:
    """The columns that came with given positions; those whose names a catalogue may have begin with `given_`."""
    own = positions.drop(columns=["x", "y", "id"], errors="ignore")
    taken = set(field_columns(CATSIM_BANDS))
    plain: dict[str, pd.Series] = {}
    for name in map(str, own):
        free = name
        while free in taken or free in plain:
            free = _GIVEN + free
        plain[free] = own[name].reset_index(drop=True)
    return pd.DataFrame(plain, index=range(len(positions)))
