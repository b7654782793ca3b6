"""Group `des`: the simulated survey, and the tiles of a survey, one partition each, from images to shape catalogues."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import ARCHIVE_POOL, accelerated, asset
from deblend_assets.assets.keys import CATALOG, SKY, SKY_MODEL, TILE_ASSETS
from deblend_assets.partitions import TILES
from deblend_assets.resources.archive import Archive
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome

_EVALUATION_CHECKS = {
    "trusted": "At most a tenth of the rows are flagged; the PSF's width is im3shape's, the noise that of the weights.",
    "signs": "Both components of our g have the same sign as im3shape's.",
}
_TRUTH_CHECKS = {
    "positions": "Simulated tile: the median distance from the true position is below 0.1 arcsec.",
    "flux_calibration": "Simulated tile: flux of the cutouts over the true light in them is 1 ± 0.01 in every band.",
    "true_signs": "Simulated tile: both components of our g have the same sign as the truth.",
    "errors_hold": "Simulated tile: RMS pull of g and e of the rows without a flag is 1 ± 0.15.",
}


def _archive(profile: Profile) -> list[dg.AssetKey]:
    """The simulated survey where it is served in place of an archive."""
    return [SKY] if profile.des.archive.served_here else []


def sky_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`simulated_sky`; none where the profile names a real archive."""
    if not profile.des.archive.served_here:
        return []

    @asset(
        SKY,
        deps=[CATALOG],
        version="simulated_sky",
        kinds={"galsim", "fits"},
        checks={"held_out": "Every galaxy of the tiles is of the test split."},
    )
    def simulated_sky(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """A small survey with known truth: tiles that are fields of held-out galaxies and stars under a sky of DES.

        Images in counts (zero point 30) with WCS, weight maps that are 0 in masked pixels, PSFs that vary over the
        image, an im3shape-like catalogue (truth plus noise, with the faults that real ones have) and the truth itself.
        A VO service on loopback (TAP, SIA 1, FITS) serves it like an archive. Everything made from it is marked as
        simulated.
        """
        from deblend_assets.steps.des.simulated_sky import render_sky

        return render_sky(storage.open(profile), context.log.info)

    return [simulated_sky]


def im3shape_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`im3shape_catalog`, one partition a tile."""

    @asset(
        TILE_ASSETS["im3shape_catalog"],
        deps=_archive(profile),
        partitions_def=TILES,
        pool=ARCHIVE_POOL,
        version="im3shape_catalog",
        kinds={"parquet", "pyvo"},
        checks={
            "within_tile": "Every galaxy lies in the tile's own area.",
            "enough_galaxies": "The tile has as many galaxies as an evaluation needs.",
        },
    )
    def im3shape_catalog(context: dg.AssetExecutionContext, storage: Storage, archive: Archive) -> Outcome:
        """im3shape's measurements of a tile, joined to gold positions (section 3.1.3 and Fig. 5 of the report).

        One asynchronous TAP query, complete or an error. Quality cuts of the report and of Jarvis et al. 2016
        (1507.05603), with the count after each; positions shifted by im3shape's offset, cos δ included.
        """
        from deblend_assets.steps.des.im3shape_catalog import fetch_im3shape

        return fetch_im3shape(storage.open(profile), context.partition_key, archive, context.log.info)

    return [im3shape_catalog]


def cutout_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`des_cutouts`, one partition a tile."""

    @asset(
        TILE_ASSETS["des_cutouts"],
        deps=[TILE_ASSETS["im3shape_catalog"], *_archive(profile)],
        partitions_def=TILES,
        pool=ARCHIVE_POOL,
        version="des_cutouts",
        kinds={"zarr", "pyvo", "fits"},
        checks={
            "orientation": "North up, east left: against the catalogue the images' e1 keeps its sign, e2 changes it.",
            "images_sound": "Every image that the archive returned could be used.",
            "noise_as_weighted": "The scatter in the stamps' borders agrees with their weight maps within 20 %.",
        },
    )
    def des_cutouts(context: dg.AssetExecutionContext, storage: Storage, archive: Archive) -> Outcome:
        """Stamps of every galaxy of a tile with weight maps, masks and WCS (section 3.1.3 and Fig. 6 of the report).

        By SIA 1, galaxy by galaxy, the longest exposure per band; each image is checked (FITS, band, position,
        orientation, finite pixels) before it is used, and kept: an interrupted run requests only what is missing.
        Galaxies whose brightest pixel is not in the centre, or whose stamp runs over the edge, are rejected and
        counted; one that lacks a band is kept and masked. The sign of e2 is measured on the images.
        """
        from deblend_assets.steps.des.tile_cutouts import cut_tile

        return cut_tile(storage.open(profile), context.partition_key, archive, context.log.info)

    return [des_cutouts]


def shape_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`shape_catalog`, one partition a tile."""
    key = TILE_ASSETS["shape_catalog"]

    @asset(
        key,
        # Where it is not there the shipped model measures.
        deps=[TILE_ASSETS["des_cutouts"], SKY_MODEL],
        partitions_def=TILES,
        version="shape_catalog",
        kinds={"pytorch", "parquet", "fits"},
        op_tags=accelerated(profile.run),
        checks={
            "no_failures": "Every galaxy has a shape with |g| < 1 and a positive flux.",
            "errors_are_positive": "Every variance of a shape is a number above 0.",
        },
    )
    def shape_catalog(context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices) -> Outcome:
        """Shapes, fluxes and flags of every galaxy of a tile by the model for every sky (section 4.3 of the report).

        Stamps as the archive gave them, nothing resampled; the model is given PSF, noise, absent bands and the other
        detections. One row per galaxy: id, position, g and e with covariances, linear fluxes of all detections solved
        together, flags that say why not, model version; the response to shear and PSF on a share of the rows.
        """
        from deblend_assets.steps.des.shape_catalog import measure_tile

        with devices.allocate(key.to_user_string(), context.log) as lease:
            outcome = measure_tile(storage.open(profile), context.partition_key, lease.torch_device, context.log.info)
        return outcome.with_device(lease.metadata())

    return [shape_catalog]


def tile_evaluation_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`des_evaluation`, one partition a tile."""

    @asset(
        TILE_ASSETS["des_evaluation"],
        deps=[TILE_ASSETS["im3shape_catalog"], TILE_ASSETS["des_cutouts"], TILE_ASSETS["shape_catalog"]],
        partitions_def=TILES,
        version="des_evaluation",
        kinds={"html", "pandas"},
        checks=_EVALUATION_CHECKS | (_TRUTH_CHECKS if profile.des.archive.simulated else {}),
    )
    def des_evaluation(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """Accuracy of the catalogue of a tile (section 4.3, Fig. 7, 17 and 18 of the report).

        Our intrinsic g against im3shape's shear-type e, ordinary and errors-in-variables slopes with bootstrap errors;
        beside it the report's own comparison, observed distortion against im3shape's e; flagged rows by reason, PSF
        and noise against those measured on the tile. On a simulated tile, everything against the truth: positions,
        orientation, fluxes, slopes, errors.
        """
        from deblend_assets.steps.des.tile_evaluation import write_tile_evaluation

        return write_tile_evaluation(storage.open(profile), context.partition_key)

    return [des_evaluation]
