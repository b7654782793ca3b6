"""Files of a profile's DES model, and the inputs of everything that belongs to a tile.

    storage/<profile>/
      des_sky/           the simulated survey, where the profile uses it instead of an archive
      archive/           every answer of the archive, content-addressed
      tiles/<tile>/…     see `stores.tiles`

The chain of fingerprints continues that of the model: archive → im3shape_catalog → des_cutouts → shape_catalog.
"""

from __future__ import annotations

from deblend_assets.settings import SIMULATED_ARCHIVE, fingerprint
from deblend_assets.stores.files import read_record
from deblend_assets.stores.project import CATALOG_ASSET, CODE_VERSIONS, ProjectStore, library_versions
from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.stores.tiles import TileStore


class DesStore:
    """The DES part of one profile on disk.

    Args:
        project: the store of the profile's DES part (`Profile.des_leg`), whose model measures the tiles.
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
            self.settings.simulation,
            self.settings.sky,
            library_versions("blending-toolkit", "galsim", "surveycodex", "numpy"),
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
            self.project.arrays().attributes,
            (self.settings.simulation.stamp_pixels, self.settings.simulation.label_band),
            (archive.pixel_scale_arcsec, archive.zero_point),
            CODE_VERSIONS["des_cutouts"],
        )

    def shapes_inputs(self, tile: TileStore) -> str:
        """Fingerprint of the inputs of `shape_catalog` of a tile: its cutouts and the model."""
        cutouts = tile.cutouts_sha256(self.cutouts_inputs(tile))
        return fingerprint(cutouts, self.project.model_version(), CODE_VERSIONS["shape_catalog"])
