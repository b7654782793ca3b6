"""ADQL queries to the archive, and the columns of their results.

The queries are text. Their parameters are validated: tables and columns by the settings, tiles by `tile_name`;
positions are numbers. ADQL 2.0, without functions or clauses that are optional for a TAP service.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from deblend_assets.errors import ArchiveError, SettingsError
from deblend_assets.science.des.tiles import TileArea, tile_name
from deblend_assets.science.simulation.catalog import Column
from deblend_assets.settings import ArchiveSettings

# Columns read from im3shape's table (Jarvis et al. 2016, 1507.05603, and the notes to the SVA1 release).
SHAPE_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "coadd_objects_id": Column("", "identity of the object, common to the tables of the release"),
        "e_1": Column("", "im3shape's shear-type ellipticity g, uncalibrated, component 1; sky frame"),
        "e_2": Column("", "the same, component 2; sky frame: +x east, +y north"),
        "nbc_m": Column(
            "", "multiplicative bias of an ensemble's shear, to be averaged and never applied to one galaxy"
        ),
        "nbc_c1": Column("", "additive bias of e_1"),
        "nbc_c2": Column("", "additive bias of e_2"),
        "w": Column("", "weight: inverse of shape noise plus measurement variance, a component"),
        "error_flag": Column("", "bits of failures; 0: none"),
        "info_flag": Column("", "bits of doubts; 0: none"),
        "snr_w": Column("", "S/N of the fitted galaxy: (model.data) / |model|, weighted"),
        "radius": Column("arcsec", "half-light radius of the fitted bulge or disc, PSF-free"),
        "mean_psf_fwhm": Column("pixel", "FWHM of the PSF, mean over the exposures [0.263 arcsec pixels]"),
        "ra_shift": Column("arcsec", "fitted centre minus the gold position, along right ascension on the sky"),
        "dec_shift": Column("arcsec", "fitted centre minus the gold position, along declination"),
    }
)
# Names of the gold catalogue's position in the result of `shapes_query` (DEC is a reserved word of ADQL).
GOLD_RA, GOLD_DEC = "ra_gold", "dec_gold"
TILE_COLUMNS = ("tilename", "ra_cent", "dec_cent", "uramin", "uramax", "udecmin", "udecmax")


def tile_query(settings: ArchiveSettings, name: str) -> str:
    """Query the row of one tile, for `area_of`."""
    return f"SELECT {', '.join(TILE_COLUMNS)} FROM {settings.tile_table} WHERE tilename = '{tile_name(name)}'"


def tiles_query(settings: ArchiveSettings) -> str:
    """Query the names (`tilename`) of all tiles that have shapes.

    Shapes are first grouped into cells of a quarter of a degree, so that the archive joins its tiles with a few
    thousand rectangles and not with millions of galaxies. A tile is returned if it overlaps the bounding rectangle of
    a cell's shapes: every tile with shapes is returned, and possibly one without shapes at the edge of the survey.
    """
    cells = (
        "SELECT MIN(p.ra_p) AS ra_lo, MAX(p.ra_p) AS ra_hi, MIN(p.dec_p) AS dec_lo, MAX(p.dec_p) AS dec_hi "
        f"FROM (SELECT g.{settings.gold_ra} AS ra_p, g.{settings.gold_dec} AS dec_p, "
        f"FLOOR(4 * g.{settings.gold_ra}) AS ra_cell, FLOOR(4 * g.{settings.gold_dec}) AS dec_cell "
        f"FROM {_shapes_with_gold(settings)}) AS p GROUP BY p.ra_cell, p.dec_cell"
    )
    return (
        f"SELECT DISTINCT t.tilename FROM {settings.tile_table} AS t INNER JOIN ({cells}) AS c "
        "ON c.dec_hi >= t.udecmin AND c.dec_lo < t.udecmax AND "
        "((t.uramin <= t.uramax AND c.ra_hi >= t.uramin AND c.ra_lo < t.uramax) OR "
        "(t.uramin > t.uramax AND (c.ra_hi >= t.uramin OR c.ra_lo < t.uramax))) ORDER BY t.tilename"
    )


def area_of(rows: pd.DataFrame, name: str) -> TileArea:
    """The area of a tile from the result of `tile_query`.

    Raises:
        ArchiveError: the tile is not listed once, or its corners are not valid.
    """
    if len(rows) != 1:
        problem = "is not in the archive's list of tiles" if rows.empty else f"is listed {len(rows)} times"
        remedy = "check the name and archive.tile_table; a registered tile that comes later is requested again, daily"
        raise ArchiveError(f"{name} {problem}", where=f"tile {name}", remedy=remedy)
    row = rows.iloc[0]
    values = [float(row[column]) for column in TILE_COLUMNS[1:]]
    area = TileArea(tile_name(str(row["tilename"]).strip()), *values)
    if area.name != name or not np.isfinite(values).all() or not area.dec_min < area.dec_max:
        raise ArchiveError(
            f"the archive's area of {name} is not valid ({area})", where="tiles", remedy="check archive.tile_table"
        )
    return area


def shapes_query(settings: ArchiveSettings, area: TileArea) -> str:
    """Query im3shape's measurements (`SHAPE_COLUMNS`) and gold positions (`GOLD_RA`, `GOLD_DEC`) of a tile, by id.

    Shapes without a gold position are not returned (inner join).
    """
    columns = ", ".join(f"s.{column}" for column in SHAPE_COLUMNS)
    return (
        f"SELECT {columns}, g.{settings.gold_ra} AS {GOLD_RA}, g.{settings.gold_dec} AS {GOLD_DEC} "
        f"FROM {_shapes_with_gold(settings)} "
        f"WHERE {_within(area, f'g.{settings.gold_ra}', f'g.{settings.gold_dec}')} ORDER BY s.coadd_objects_id"
    )


def truth_query(settings: ArchiveSettings, area: TileArea) -> str:
    """Query all columns of the truth of a simulated tile, by id.

    Raises:
        SettingsError: the settings have no truth table.
    """
    if settings.truth_table is None:
        raise SettingsError(
            "the survey has no truth table",
            where="des.archive.truth_table",
            remedy="set it; only simulated surveys have one",
        )
    return f"SELECT * FROM {settings.truth_table} WHERE tilename = '{tile_name(area.name)}' ORDER BY coadd_objects_id"


def _shapes_with_gold(settings: ArchiveSettings) -> str:
    return (
        f"{settings.shape_table} AS s INNER JOIN {settings.gold_table} AS g ON s.coadd_objects_id = g.coadd_objects_id"
    )


def _within(area: TileArea, ra: str, dec: str) -> str:
    either = "OR" if area.straddles_zero else "AND"
    return (
        f"{dec} >= {float(area.dec_min)!r} AND {dec} < {float(area.dec_max)!r} AND "
        f"({ra} >= {float(area.ra_min)!r} {either} {ra} < {float(area.ra_max)!r})"
    )
