"""`des/im3shape_catalog`: the galaxies of a tile that im3shape measured well."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import OWNERS, check, clear_errors, code_version, cores, plot, table
from deblend_assets.assets.keys import DES, SKY, TILE_ASSETS
from deblend_assets.partitions import TILES
from deblend_assets.resources.archive import Archive
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile

# One asset at a time asks the archive; within it, `connections` requests.
POOL = "archive"
_NOTE = (
    "Galaxies of one tile after the quality cuts. e_1, e_2: shear-type (a-b)/(a+b), im3shape's raw values, sky frame "
    "(+x east, +y north); apply nbc_m and nbc_c to ensembles only. Positions: gold catalogue plus im3shape's shift."
)


def im3shape_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The catalogue asset, one partition a tile."""
    key, settings = TILE_ASSETS["im3shape_catalog"], profile.des

    @dg.asset(
        key=key,
        group_name=DES,
        deps=[SKY] if settings.archive.served_here else [],
        partitions_def=TILES,
        owners=OWNERS,
        op_tags=cores(1),
        pool=POOL,
        kinds={"parquet", "pyvo"},
        code_version=code_version("im3shape_catalog"),
        check_specs=[
            dg.AssetCheckSpec("within_tile", asset=key, description="Every galaxy lies in the tile's own area."),
            dg.AssetCheckSpec("enough_galaxies", asset=key, description="As many as an evaluation needs."),
        ],
    )
    @clear_errors
    def im3shape_catalog(context: dg.AssetExecutionContext, storage: Storage, archive: Archive) -> dg.MaterializeResult:
        """im3shape's measurements of a tile, joined to gold positions (section 3.1.3 and Fig. 5 of the report).

        One asynchronous TAP query, complete or an error. Quality cuts of the report and of Jarvis et al. 2016
        (1507.05603), with the count after each; positions moved by im3shape's shift, cos δ included.
        """
        from deblend_assets.errors import MissingDataError
        from deblend_assets.science.des.cuts import ATTRITION_COLUMNS, IM3SHAPE_COLUMNS, quality_cuts
        from deblend_assets.science.des.queries import (
            SHAPE_COLUMNS,
            TILE_COLUMNS,
            area_of,
            shapes_query,
            tile_query,
            truth_query,
        )
        from deblend_assets.science.des.tiles import tile_name
        from deblend_assets.science.reports.figures.tile_catalog import attrition as attrition_chart
        from deblend_assets.science.reports.figures.tile_catalog import catalog_distributions
        from deblend_assets.science.simulated_survey.columns import TRUTH_TABLE, table_columns
        from deblend_assets.stores.des import DesStore

        name, asked = tile_name(context.partition_key), settings.archive
        store = storage.open(profile.des_leg)
        des = DesStore(store)
        tile, inputs = des.tile(name), des.im3shape_inputs()
        with archive.client(store, context.log.info) as client:
            client.require_columns(asked.shape_table, SHAPE_COLUMNS)
            client.require_columns(asked.gold_table, ("coadd_objects_id", asked.gold_ra, asked.gold_dec))
            client.require_columns(asked.tile_table, TILE_COLUMNS)
            area = area_of(client.query(tile_query(asked, name), f"the area of {name}"), name)
            rows = client.query(shapes_query(asked, area), f"shapes of {name}")
            truth = client.query(truth_query(asked, area), f"truth of {name}") if asked.truth_table else None
            requests = client.requests
        kept, attrition = quality_cuts(rows, settings.tiles.snr_w_min)
        if kept.empty:
            raise MissingDataError(
                f"no galaxy of {name} is left after the cuts ({len(rows)} rows from the archive)",
                where=asked.shape_table,
                remedy="retire the tile (deblend_assets tiles retire), or look at the attrition and snr_w_min",
            )
        path = tile.write_table("im3shape_catalog", kept, IM3SHAPE_COLUMNS, _NOTE, inputs)
        tile.write_table("attrition", attrition, ATTRITION_COLUMNS, "Galaxies left after each cut.", inputs)
        if truth is not None:
            columns = table_columns(store.arrays().bands)[TRUTH_TABLE]
            tile.write_table("truth", truth, columns, "Known truth of a simulated tile, sky frame.", inputs)
        outside = int((~area.contains(kept["ra_gold"].to_numpy(), kept["dec_gold"].to_numpy())).sum())
        return dg.MaterializeResult(
            metadata={
                "galaxies": len(kept),
                "rows": len(rows),
                "simulated_tile": des.simulated,
                "archive_requests": requests,
                "distributions": plot(catalog_distributions(kept, tile=name, simulated=des.simulated)),
                "attrition": table(
                    {str(r.cut): {"removed": r.removed, "left": r.left} for r in attrition.itertuples()}, "cut"
                ),
                "attrition_chart": plot(attrition_chart(attrition, tile=name, simulated=des.simulated)),
                "mean_psf_fwhm_pixel": float(kept["mean_psf_fwhm"].mean()),
                "path": dg.MetadataValue.path(str(path)),
            },
            check_results=[
                check("within_tile", not outside, f"{outside} galaxies outside the tile", {"outside": outside}),
                check(
                    "enough_galaxies",
                    len(kept) >= settings.tiles.minimum_galaxies,
                    f"{len(kept)} galaxies, {settings.tiles.minimum_galaxies} make an evaluation",
                    {"galaxies": len(kept)},
                    warn=True,
                ),
            ],
        )

    return [im3shape_catalog]
