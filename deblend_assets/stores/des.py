"""Files of a profile's tiles and their survey, and the inputs of everything that belongs to a tile.

    storage/<profile>/
      des_sky/           the simulated survey, where the profile uses it instead of an archive
      archive/           every answer of the archive, content-addressed
      tiles/<tile>/…     see `stores.tiles`

The chain of fingerprints: archive → im3shape_catalog → des_cutouts, then with the model for every sky → shape_catalog.
Beside it: archive → tile_images, which are a field from there on (`stores.fields`).
"""

from __future__ import annotations

from deblend_assets.settings import SIMULATED_ARCHIVE, fingerprint
from deblend_assets.stores.files import read_record
from deblend_assets.stores.project import CATALOG_ASSET, CODE_VERSIONS, ProjectStore, library_versions
from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.stores.tiles import TileStore


class DesStore:
    """The tiles of one profile on disk.

    Args:
        project: the store of the profile, whose model for every sky measures them.
    """

    def __init__(self, project: ProjectStore) -> None:
        self.project, self.settings = project, project.profile.des
        self.sky = SimulatedSky(project.folder / "des_sky")
        self.archive_folder = project.folder / "archive"
        self.tiles_folder = project.folder / "tiles"

    def tile(self, name: str) -> TileStore:
        """A tile; its name has passed `science.des.tiles.tile_name`."""
        return TileStore(self.tiles_folder, name)

    @property
    def simulated(self) -> bool:
        """Whether the survey is simulated: everything made from it must say so."""
        return self.settings.archive.simulated

    def sky_identity(self) -> str:
        """Fingerprint of everything that the simulated survey is made from."""
        return fingerprint(
            read_record(self.project.catalog_path, asset=CATALOG_ASSET)["sha256"],
            *(self.project.profile.catalog, self.project.profile.field, self.project.profile.masks),
            (self.settings.simulation.survey, self.settings.simulation.label_band),
            self.settings.sky,
            (self.settings.tiles.stamp_pixels, self.project.profile.stamps.psf_side),
            library_versions("blending-toolkit", "galsim", "surveycodex", "numpy", "torch"),
            CODE_VERSIONS["simulated_sky"],
        )

    def service(self) -> str:
        """The archive's lasting name, under which its answers are cached.

        Raises:
            MissingDataError: the archive is the simulated survey, which is not finished.
        """
        archive = self.settings.archive
        if archive.served_here:
            return f"{SIMULATED_ARCHIVE}-{self.sky.record()['identity']}"
        return f"{archive.tap_url} {archive.sia_url}"

    def im3shape_inputs(self) -> str:
        """Fingerprint of the inputs of `im3shape_catalog` that all tiles share."""
        archive = self.settings.archive
        tables = (archive.shape_table, archive.gold_table, archive.gold_ra, archive.gold_dec, archive.tile_table)
        return fingerprint(
            self.service(),
            tables,
            archive.truth_table,
            self.settings.tiles.snr_w_min,
            CODE_VERSIONS["im3shape_catalog"],
        )

    def cutouts_inputs(self, tile: TileStore) -> str:
        """Fingerprint of the inputs of `des_cutouts` of a tile; errors as `TileStore.sha256`."""
        archive = self.settings.archive
        return fingerprint(
            tile.sha256("im3shape_catalog"),
            self.service(),
            # The survey's name stands for its bands.
            (self.settings.simulation.survey, self.settings.simulation.label_band, self.settings.tiles.stamp_pixels),
            self.project.profile.stamps.psf_side,
            (archive.pixel_scale_arcsec, archive.zero_point),
            CODE_VERSIONS["des_cutouts"],
        )

    def images_inputs(self) -> str:
        """Fingerprint of the inputs of `tile_images` that all tiles share."""
        archive, simulation = self.settings.archive, self.settings.simulation
        return fingerprint(
            self.service(),
            (archive.tile_table, archive.zero_point, self.simulated),
            (simulation.survey, simulation.label_band),
            CODE_VERSIONS["tile_images"],
        )

    def shapes_inputs(self, tile: TileStore) -> str:
        """Fingerprint of the inputs of `shape_catalog` of a tile: its cutouts, the model and how it is used."""
        profile = self.project.profile
        return fingerprint(
            tile.cutouts_sha256(self.cutouts_inputs(tile)),
            self.project.sky_model_version(),
            profile.detection,
            self.settings.tiles.response_share,
            library_versions("galsim", "surveycodex"),  # of the PSF
            CODE_VERSIONS["shape_catalog"],
        )
