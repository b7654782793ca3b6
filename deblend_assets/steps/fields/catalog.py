"""The catalogue of a field: what is detected, or positions that are given, measured in all bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.errors import MissingDataError
from deblend_assets.science.images.cells import cell_at, cells_of
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_cells import overlap
from deblend_assets.science.measuring.field_columns import FIELD_IDENTITY, field_columns
from deblend_assets.science.measuring.field_look import Look, look_at
from deblend_assets.science.measuring.registry import CatalogColumn
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.sky_shapes.model import SkyModel
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
        off_image: number of given positions that are not on the image; they have no row.
    """

    table: pd.DataFrame
    columns: Mapping[str, CatalogColumn[Any]]
    look: Look
    detections: pd.DataFrame
    off_image: int = 0

    @property
    def good(self) -> int:
        """Number of rows that are good for shapes."""
        return int((self.table["flags"] == 0).sum())


def catalog_of(
    field: Field,
    model: SkyModel,
    version: str,
    *,
    positions: pd.DataFrame | None = None,
    processes: int = 1,
    parts: FieldParts | None = None,
    log: Callable[[str], None],
) -> FieldCatalog:
    """Detect and measure.

    Args:
        field: images, whose planes can be sent to another process where there are several.
        model: calibrated.
        version: its fingerprint, for the column `model_version`.
        positions: x, y [pixel, from 0] in the place of the detections, and other columns, which are kept; a detection
            within one FWHM of a position counts as the same source.
        processes: that work.
        parts: keeps finished cells; None: nothing is kept.
        log: takes progress lines.

    Raises:
        MissingDataError: no PSF, no noise, or nothing on the image.
    """
    log(f"looking at {field.name}: {' × '.join(map(str, field.shape[::-1]))} pixels, {', '.join(field.names)}")
    opened = OpenField(field, look_at(field), model)
    with pool_of(opened, processes) as pool:
        found = detect_field(opened, pool, parts, log)
        targets, others, off = (found, found.iloc[:0], 0) if positions is None else _forced(opened, found, positions)
        if targets.empty:
            raise MissingDataError(
                "nothing is detected" if positions is None else f"none of {off} positions is on the image",
                where=field.name,
                remedy="lower [detection] thresh"
                if positions is None
                else "give ra, dec, or x, y that count from 0, of these images",
            )
        measured = measure_detections(opened, targets, others, pool, parts, log)
    own = _own_columns(targets)
    table = pd.concat([_identity(field, targets), measured], axis=1)
    table["flags"] |= np.where(targets["crowded"], np.int32(RowFlag.CROWDED), np.int32(0))
    table["model_version"] = version
    columns = field_columns(field.names)
    table = pd.concat([table[list(columns)], own], axis=1)
    described: dict[str, CatalogColumn[Any]] = dict(columns)
    described |= {str(name): CatalogColumn("", "", "given with the positions") for name in own}
    return FieldCatalog(table, described, opened.look, found, off)


def _forced(opened: OpenField, found: pd.DataFrame, positions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Targets at given positions, the detections that are none of them, and how many lie off the image."""
    from scipy.spatial import cKDTree

    cells = cells_of(opened.field.shape, overlap(opened.look))
    x, y = (positions[name].to_numpy(np.float64) for name in "xy")
    known = np.isfinite(x) & np.isfinite(y)
    cell = cell_at(cells, np.where(known, x, -1e9), np.where(known, y, -1e9))
    targets = positions[cell >= 0].reset_index(drop=True).assign(cell=cell[cell >= 0])
    targets = targets.assign(position_err=np.nan, snr=np.nan, crowded=False)
    beside = found
    if len(targets) and len(found):
        near, _ = cKDTree(targets[["x", "y"]].to_numpy(np.float64)).query(found[["x", "y"]].to_numpy(np.float64))
        beside = found[near > max(opened.look.fwhm)]
    return targets, beside, int((cell < 0).sum())


def _identity(field: Field, targets: pd.DataFrame) -> pd.DataFrame:
    x, y = (targets[name].to_numpy(np.float64) for name in "xy")
    ra, dec = field.sky(x, y)
    ids = targets["id"].to_numpy() if "id" in targets else np.arange(1, len(targets) + 1)
    return pd.DataFrame(
        {
            "id": ids,
            "ra": ra,
            "dec": dec,
            "x": x,
            "y": y,
            "position_err": targets["position_err"].to_numpy(np.float64),
            "detection_snr": targets["snr"].to_numpy(np.float64),
        }
    )


# Of detections; what else a table of positions has is the user's own.
_OF_DETECTIONS = {"x", "y", "id", "position_err", "snr", "sigma", "masked_fraction", "pixels", "sep_flags", "cell"}


def _own_columns(targets: pd.DataFrame) -> pd.DataFrame:
    """The columns that came with given positions; those whose names the catalogue has begin with `given_`."""
    own = [name for name in map(str, targets) if name not in {*_OF_DETECTIONS, "crowded"} and "snr_" not in name[:4]]
    taken = {entry.name for entry in FIELD_IDENTITY} | {"flags"}
    return targets[own].rename(columns={name: _GIVEN + name for name in own if name in taken}).reset_index(drop=True)
