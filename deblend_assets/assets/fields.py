"""Group `fields`: a user's fields, one partition each, from images to a catalogue and its quality page."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import DISTRIBUTING, asset
from deblend_assets.assets.keys import CATALOG, FIELD_ASSETS, SIMULATED_FIELD, SKY_MODEL
from deblend_assets.partitions import FIELDS
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome

IMAGES, DETECTIONS, MEASURED, QUALITY = FIELD_ASSETS.values()
_QUALITY_CHECKS = {
    "psf_size": "In no band are the stars wider or narrower than the PSF that was given.",
    "psf_shape": "In no band have the stars another shape than the PSF that was given.",
    "psf_profile": "In no band are the stars more or less concentrated than the PSF that was given.",
    "noise_level": "In no band is the noise of the sky another than the weights say.",
    "noise_correlation": "In no band have next pixels another correlation of their noise than was measured first.",
    "counts": "In no band are there more or fewer galaxies than published counts expect: units and zero points.",
    "good_rows": "As many rows are good for shapes (flags == 0) as the profile asks for.",
}


def simulated_field_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`simulated_field`; key `fields/simulated_field`."""

    @asset(
        SIMULATED_FIELD,
        deps=[CATALOG],
        version="simulated_field",
        kinds={"galsim", "fits"},
        checks={"readable": "Every band of the files has pixels that are known."},
    )
    def simulated_field(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """A field of known truth as FITS files and a field.toml in the watched folder, to try this group with.

        Test galaxies and stars under a random sky of a survey: images with WCS and zero points, weights, masks, PSFs.
        The report (section 3.1.2) has scenes of three galaxies in its place.
        """
        from deblend_assets.steps.fields.simulated import write_simulated_field

        return write_simulated_field(storage.open(profile), context.log.info)

    return [simulated_field]


def field_image_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`field_images`, one partition a field."""

    @asset(
        IMAGES,
        partitions_def=FIELDS,
        version="field_images",
        kinds={"fits", "parquet"},
        checks={
            "known_pixels": "In every band at least half of the pixels have a value and a weight.",
            "celestial": "The images have celestial coordinates.",
        },
    )
    def field_images(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """The files that a field.toml names, checked: all there, each with its SHA-256, every pixel read.

        Bands on one grid, WCS, zero points, noise maps, masks and PSFs, as the files say. Files that have not changed
        in size and time are not hashed again. The report (section 3.1.3) takes stamps of DES from an archive.
        """
        from deblend_assets.steps.fields.checked_images import check_images

        return check_images(storage.open(profile), context.partition_key, context.log.info)

    return [field_images]


def field_detection_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`field_detections`, one partition a field."""

    @asset(
        DETECTIONS,
        deps=[IMAGES],
        partitions_def=FIELDS,
        version="field_detections",
        kinds={"sep", "parquet"},
        op_tags=DISTRIBUTING,
        checks={
            "sky_taken_off": "No sky is left in the images, or it is subtracted.",
            "told_apart": "No detection is one of so many that touch each other that they were not told apart.",
        },
    )
    def field_detections(context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers) -> Outcome:
        """What is detected on the sum of all bands, after a first look at noise, PSFs and sky; see docs/detection.md.

        Cell by cell: a killed run loses the cells under way. The report (section 3.1.3) starts from a catalogue of
        positions instead.
        """
        from deblend_assets.steps.fields.detections import detect_in_field

        return detect_in_field(storage.open(profile), context.partition_key, workers, context.log.info)

    return [field_detections]


def field_catalog_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`field_catalog`, one partition a field."""

    @asset(
        MEASURED,
        # Where the model is not there the shipped one measures.
        deps=[IMAGES, DETECTIONS, SKY_MODEL],
        partitions_def=FIELDS,
        version="field_catalog",
        kinds={"pytorch", "parquet", "fits"},
        op_tags=DISTRIBUTING,
        checks={
            "shapes_are_physical": "Every measured source has |g| < 1.",
            "errors_are_positive": "Every variance of a shape is a number above 0.",
        },
    )
    def field_catalog(
        context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers, devices: ComputeDevices
    ) -> Outcome:
        """Shapes, sizes, fluxes and flags of every detection by the model for every sky (section 4.3 of the report).

        One row a source, as Parquet and FITS, with regions for DS9. Stamps are cut from the images as they are; cell
        by cell: a killed run loses the cells under way.
        """
        from deblend_assets.steps.fields.stored_catalog import measure_stored_field

        with devices.allocate(MEASURED.to_user_string(), context.log) as lease:
            outcome = measure_stored_field(
                storage.open(profile), context.partition_key, workers, lease.torch_device, context.log.info
            )
        return outcome.with_device(lease.metadata())

    return [field_catalog]


def field_quality_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`field_quality`, one partition a field."""

    @asset(
        QUALITY,
        deps=[IMAGES, DETECTIONS, MEASURED],
        partitions_def=FIELDS,
        version="field_quality",
        kinds={"html", "pandas"},
        checks=_QUALITY_CHECKS,
    )
    def field_quality(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """The page to judge a catalogue by, and whether the field's own stars and sky agree with what was given.

        Figures of images, residuals, counts, colours, sizes, PSF, sky and noise; checks of docs/field_checks.md; the
        share of good rows. What section 4 of the report shows of simulated scenes, without truth.
        """
        from deblend_assets.steps.fields.stored_quality import judge_field

        return judge_field(storage.open(profile), context.partition_key, context.log.info)

    return [field_quality]
