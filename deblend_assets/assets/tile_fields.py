"""Group `tile_fields`: whole tiles of a survey as fields, and the fields' catalogues against im3shape's."""

from collections.abc import Callable, Sequence

import dagster as dg

from deblend_assets.assets.declare import ARCHIVE_POOL, asset
from deblend_assets.assets.keys import FIELD_ASSETS, SKY, TILE_ASSETS, TILE_FIELD_ASSETS
from deblend_assets.partitions import TILES
from deblend_assets.resources.archive import Archive
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile, StorePath
from deblend_assets.steps.outcome import Outcome

# Registers a field, given the instance, the profile's folder and its name; false where it was retired.
Register = Callable[[dg.DagsterInstance, StorePath, str], bool]


def tile_image_assets(profile: Profile, register: Register) -> Sequence[dg.AssetsDefinition]:
    """`tile_images`, one partition a tile.

    Args:
        profile: whose tiles.
        register: called with the tile's name once its images are a field.
    """

    @asset(
        TILE_FIELD_ASSETS["tile_images"],
        deps=[SKY] if profile.des.archive.served_here else [],
        partitions_def=TILES,
        pool=ARCHIVE_POOL,
        version="tile_images",
        kinds={"pyvo", "fits"},
        checks={"covered": "The image in the label band covers at least 95 % of the tile's own area."},
    )
    def tile_images(context: dg.AssetExecutionContext, storage: Storage, archive: Archive) -> Outcome:
        """The images of a whole tile as a field of its name, which the group `fields` then measures.

        Fetched by SIA 1 in cells of bounded size, every answer checked and kept: an interrupted run requests only what
        is missing. The log says first how many bytes they are. Images, weight maps, PSFs and a field.toml lie in the
        watched folder. The report (section 3.1.3) takes stamps of im3shape's galaxies alone.
        """
        from deblend_assets.steps.des.tile_images import write_tile_images

        store, name = storage.open(profile), context.partition_key
        outcome = write_tile_images(store, name, archive, context.log.info)
        if not register(context.instance, store.folder, name):
            context.log.info(f"the field {name} is retired; `deblend_assets fields add` brings it back")
        return outcome

    return [tile_images]


def against_im3shape_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`against_im3shape`, one partition a tile."""
    # A tile's field has the tile's name.
    field = dg.AssetDep(FIELD_ASSETS["field_catalog"], partition_mapping=dg.IdentityPartitionMapping())

    @asset(
        TILE_FIELD_ASSETS["against_im3shape"],
        deps=[TILE_ASSETS["im3shape_catalog"], field],
        partitions_def=TILES,
        version="against_im3shape",
        kinds={"html", "pandas"},
        checks={
            "signs": "Both components of our g have the same sign as im3shape's.",
            "matched": "At least three quarters of im3shape's galaxies have a source within 1 arcsec.",
        },
    )
    def against_im3shape(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """The catalogue of a tile's field against im3shape's galaxies (section 4.3 of the report), matched by position.

        Our intrinsic g against im3shape's shear-type e, whose frame is converted where it is read; ordinary and
        errors-in-variables slopes with bootstrap errors, of the rows without a flag; on a simulated tile also against
        the truth.
        """
        from deblend_assets.steps.des.against_im3shape import compare_field

        return compare_field(storage.open(profile), context.partition_key)

    return [against_im3shape]
