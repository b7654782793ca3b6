"""Fetches the galaxies of a tile from im3shape's catalogue and applies the quality cuts."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from deblend_assets.errors import MissingDataError
from deblend_assets.resources.archive import Archive
from deblend_assets.science.des.cuts import ATTRITION_COLUMNS, IM3SHAPE_COLUMNS, quality_cuts
from deblend_assets.science.des.queries import (
    SHAPE_COLUMNS,
    TILE_COLUMNS,
    area_of,
    shapes_query,
    tile_query,
    truth_query,
)
from deblend_assets.science.des.tiles import TileArea, tile_name
from deblend_assets.science.reports.figures.tile_catalog import attrition as attrition_chart
from deblend_assets.science.reports.figures.tile_catalog import catalog_distributions
from deblend_assets.science.simulated_survey.columns import TRUTH_TABLE, table_columns
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.format import Table
from deblend_assets.settings import ArchiveSettings
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.project import ProjectStore
from deblend_assets.vo.answers import RowLimit
from deblend_assets.vo.client import ArchiveClient

_MOST_SPLITS = 6  # into at most 64 parts
_NOTE = (
    "Galaxies of one tile after the quality cuts. e_1, e_2: shear-type (a-b)/(a+b), im3shape's raw values, sky frame "
    "(+x east, +y north); apply nbc_m and nbc_c to ensembles only. Positions: gold catalogue plus im3shape's shift."
)


def shapes_of(client: ArchiveClient, survey: ArchiveSettings, area: TileArea, splits: int = 0) -> pd.DataFrame:
    """The rows of `shapes_query`, by id; in halves of the area where the archive does not give so many at once.

    Args:
        client: of the archive.
        survey: its tables.
        area: of a tile, or of a part of one.
        splits: how often it was halved.

    Raises:
        RowLimit: a part of `_MOST_SPLITS` halvings has too many rows.
        ArchiveError: as `ArchiveClient.query`.
    """
    try:
        return client.query(shapes_query(survey, area), f"shapes of {area.name}")
    except RowLimit:
        if splits == _MOST_SPLITS:
            raise
    parts = [shapes_of(client, survey, half, splits + 1) for half in area.halves()]
    return pd.concat(parts, ignore_index=True).sort_values("coadd_objects_id", ignore_index=True)


def fetch_im3shape(store: ProjectStore, partition: str, archive: Archive, log: Callable[[str], None]) -> Outcome:
    """Query the archive for a tile's galaxies, apply the quality cuts and store the table with its attrition.

    Args:
        store: of the profile.
        partition: the tile's name, unchecked.
        archive: archive of the catalogue.
        log: receives progress lines.

    Raises:
        ArchiveError: the archive does not respond, or lacks a requested table or column.
        MissingDataError: no galaxy is left after the cuts.
    """
    settings = store.profile.des
    name, survey = tile_name(partition), settings.archive
    des = DesStore(store)
    tile, inputs = des.tile(name), des.im3shape_inputs()
    with archive.client(store, log) as client:
        client.require_columns(survey.shape_table, SHAPE_COLUMNS)
        client.require_columns(survey.gold_table, ("coadd_objects_id", survey.gold_ra, survey.gold_dec))
        client.require_columns(survey.tile_table, TILE_COLUMNS)
        area = area_of(client.query(tile_query(survey, name), f"the area of {name}"), name)
        rows = shapes_of(client, survey, area)
        truth = client.query(truth_query(survey, area), f"truth of {name}") if survey.truth_table else None
        requests = client.requests
    kept, attrition = quality_cuts(rows, settings.tiles.snr_w_min)
    counts = tile.write_table("attrition", attrition, ATTRITION_COLUMNS, "Galaxies left after each cut.", inputs)
    if kept.empty:
        raise MissingDataError(
            f"no galaxy of {name} is left after the cuts ({len(rows)} rows from the archive)",
            where=survey.shape_table,
            remedy=f"see what each cut removed in {counts}; lower des.tiles.snr_w_min, or retire the tile",
        )
    path = tile.write_table("im3shape_catalog", kept, IM3SHAPE_COLUMNS, _NOTE, inputs)
    if truth is not None:
        columns = table_columns(load_survey(settings.simulation.survey).bands)[TRUTH_TABLE]
        tile.write_table("truth", truth, columns, "Known truth of a simulated tile, sky frame (+x east).", inputs)
    outside = int((~area.contains(kept["ra_gold"].to_numpy(), kept["dec_gold"].to_numpy())).sum())
    return Outcome(
        figures={
            "distributions": catalog_distributions(kept, tile=name, simulated=des.simulated),
            "attrition_chart": attrition_chart(attrition, tile=name, simulated=des.simulated),
        },
        numbers={
            "galaxies": len(kept),
            "rows": len(rows),
            "archive_requests": requests,
            "mean_psf_fwhm_pixel": float(kept["mean_psf_fwhm"].mean()),
        },
        words={"simulated_tile": des.simulated},
        tables={
            "attrition": Table.of(
                {row["cut"]: {"removed": row["removed"], "left": row["left"]} for row in attrition.to_dict("records")},
                "cut",
            )
        },
        paths={"path": path},
        checks=[
            Check("within_tile", not outside, f"{outside} galaxies outside the tile", {"outside": outside}),
            Check(
                "enough_galaxies",
                len(kept) >= settings.tiles.minimum_galaxies,
                f"{len(kept)} galaxies; an evaluation needs {settings.tiles.minimum_galaxies}",
                {"galaxies": len(kept)},
                warn=True,
            ),
        ],
    )
