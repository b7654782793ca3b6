"""`des/des_cutouts`: the stamps of a tile's galaxies in every band, checked, cut and kept as the archive gave them."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import OWNERS, check, clear_errors, code_version, cores, plot, rounded, table
from deblend_assets.assets.des.im3shape_catalog import POOL
from deblend_assets.assets.keys import DES, TILE_ASSETS, simulated_keys
from deblend_assets.partitions import TILES
from deblend_assets.progress import Progress
from deblend_assets.resources.archive import Archive
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile

_NOTE = (
    "One row a galaxy, in the order of the arrays counts and weight. Stamps are cut around the pixel nearest to the "
    "position, north up, east left, not resampled: the WCS of a stamp is TAN with CRVAL = (ra, dec), CRPIX = "
    "(side + 1)/2 + offset, CD = diag(-1, 1) x pixel_scale / 3600. NaN where a band is absent."
)
_SHOWN = 12


def cutout_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The cutouts asset, one partition a tile."""
    key, settings = TILE_ASSETS["des_cutouts"], profile.des

    @dg.asset(
        key=key,
        group_name=DES,
        deps=[
            TILE_ASSETS["im3shape_catalog"],
            # The bands and the stamp's side are those of the simulated scenes that the model learns from.
            dg.AssetDep(simulated_keys(profile.des_leg)["blended"], partition_mapping=dg.AllPartitionMapping()),
        ],
        partitions_def=TILES,
        owners=OWNERS,
        op_tags=cores(1),
        pool=POOL,
        kinds={"zarr", "pyvo", "fits"},
        code_version=code_version("des_cutouts"),
        check_specs=[
            dg.AssetCheckSpec(
                "orientation",
                asset=key,
                description="North up, east left: against the catalogue the images' e1 keeps its sign, e2 changes it.",
            ),
            dg.AssetCheckSpec("images_sound", asset=key, description="Every image the archive gave could be used."),
            dg.AssetCheckSpec(
                "noise_as_weighted",
                asset=key,
                description="The stamps' borders scatter as their weight maps say, ±20 %.",
            ),
        ],
    )
    @clear_errors
    def des_cutouts(context: dg.AssetExecutionContext, storage: Storage, archive: Archive) -> dg.MaterializeResult:
        """Stamps of every galaxy of a tile with weight maps, masks and WCS (section 3.1.3 and Fig. 6 of the report).

        By SIA 1, galaxy by galaxy, the longest exposure a band; each image is checked (FITS, band, position,
        orientation, finite pixels) before it counts, and kept: a run that was interrupted asks for what is missing.
        Galaxies whose brightest pixel is not in the centre, or whose stamp runs over the edge, are rejected and
        counted; one that lacks a band is kept and masked. The sign of e2 is measured on the images.
        """
        import numpy as np

        from deblend_assets.science.des.cutouts import pixel_sigma
        from deblend_assets.science.des.frames import stamp_side
        from deblend_assets.science.des.orientation import adaptive_shapes, measured_parity
        from deblend_assets.science.des.tiles import tile_name
        from deblend_assets.science.reports.figures.tile_images import ellipses
        from deblend_assets.steps.des.cutting import Cutter, galaxy_columns
        from deblend_assets.stores.des import DesStore
        from deblend_assets.stores.tiles import SHARD_GALAXIES

        name = tile_name(context.partition_key)
        store = storage.open(profile.des_leg)
        des = DesStore(store)
        tile, simulation = des.tile(name), store.arrays()
        catalog = tile.read_table("im3shape_catalog", des.im3shape_inputs())
        inputs = des.cutouts_inputs(tile)
        label, bands = settings.simulation.label_band, simulation.bands
        side = stamp_side(
            settings.simulation.stamp_pixels,
            simulation.attributes["pixel_scale_arcsec"],
            settings.archive.pixel_scale_arcsec,
        )
        requests = 0
        with tile.lock():
            cutouts = tile.find_cutouts(inputs)
            # An image that could not be used may be mended by now; all others are kept, and not asked for again.
            if cutouts is not None and not cutouts.info["refused"]:
                context.log.info(f"kept the cutouts of the same catalogue and settings ({inputs})")
            else:
                with archive.client(store, context.log.info) as client:
                    cutter = Cutter(client, settings.archive, bands, label, side)
                    progress = Progress(f"cutouts of {name}", len(catalog), "galaxies", context.log.info)
                    tile.write_cutouts(
                        inputs,
                        cutter.shards(catalog, SHARD_GALAXIES, progress),
                        shape=(len(catalog), len(bands), side, side),
                        bands=bands,
                        columns=galaxy_columns(bands),
                        attributes={"tile": name, "simulated_tile": des.simulated},
                        note=_NOTE,
                        info={"rejected": cutter.rejected, "refused": cutter.refused},
                    )
                    requests = client.requests
                cutouts = tile.read_cutouts(inputs)
        rejected, refused = cutouts.info["rejected"], cutouts.info["refused"]

        matched = catalog.set_index("coadd_objects_id").loc[cutouts.galaxies["coadd_objects_id"]]
        labelled = cutouts.counts[:, bands.index(label)]
        e1, e2, measured = adaptive_shapes(labelled)
        draws = {"resamples": profile.evaluation.bootstrap, "seed": profile.evaluation.seed}
        parity = measured_parity(e1, e2, matched["e_1"].to_numpy(), matched["e_2"].to_numpy(), **draws)
        noise = {}
        for k, band in enumerate(bands):
            weighted = np.flatnonzero(cutouts.galaxies[f"has_weight_{band}"].to_numpy())
            border = [pixel_sigma(cutouts.counts[n, k], None) for n in weighted]
            if len(weighted):
                noise[band] = float(np.median(border / cutouts.galaxies[f"sigma_{band}"].to_numpy()[weighted]))
        shown = np.argsort(-matched["snr_w"].to_numpy(), kind="stable")[:: max(1, len(matched) // _SHOWN)][:_SHOWN]
        figure = ellipses(
            labelled[shown],
            matched[["e_1", "e_2"]].to_numpy()[shown],
            None,
            band=label,
            pixel_scale=settings.archive.pixel_scale_arcsec,
            labels=[f"S/N {s:.0f}" for s in matched["snr_w"].to_numpy()[shown]],
            tile=name,
            simulated=des.simulated,
        )
        missing = {band: int(n) for band, n in zip(bands, (~cutouts.present).sum(axis=0), strict=True)}
        return dg.MaterializeResult(
            metadata={
                "galaxies": len(cutouts.galaxies),
                "rejected": sum(rejected.values()),
                "simulated_tile": des.simulated,
                "archive_requests": requests,
                "ellipses": plot(figure),
                "rejections": table(
                    {reason: {"galaxies": n} for reason, n in rejected.items()} or {"none": {"galaxies": 0}}, "reason"
                ),
                "missing_bands": table({band: {"galaxies": n} for band, n in missing.items()}, "band"),
                **rounded({f"noise_ratio_{band}": ratio for band, ratio in noise.items()}),
                "path": dg.MetadataValue.path(str(tile.cutouts_folder(inputs))),
            },
            check_results=[
                check(
                    "orientation",
                    parity.as_assumed,
                    f"slopes of the images' adaptive moments on the catalogue: e1 {parity.slope1:+.3f} ± "
                    f"{parity.slope1_error:.3f}, e2 {parity.slope2:+.3f} ± {parity.slope2_error:.3f} (pixel on sky)",
                    {
                        "slope1": parity.slope1,
                        "slope2": parity.slope2,
                        "galaxies": parity.n,
                        "measured": int(measured.sum()),
                    },
                    # Too few galaxies decide nothing; a wrong sign is an error.
                    warn=parity.parity == 0,
                ),
                check(
                    "images_sound",
                    not refused,
                    f"{sum(refused.values())} images could not be used",
                    {f"refused_{band}": n for band, n in refused.items()},
                    warn=True,
                ),
                check(
                    "noise_as_weighted",
                    all(abs(ratio - 1) < 0.2 for ratio in noise.values()),
                    "border scatter over the weight map's sigma, median over the galaxies",
                    {f"ratio_{band}": ratio for band, ratio in noise.items()},
                    warn=True,
                ),
            ],
        )

    return [des_cutouts]
