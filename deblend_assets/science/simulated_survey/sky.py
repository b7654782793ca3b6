"""The simulated survey's tiles: DES-like scenes pasted into coadds, with weight maps and catalogues of known truth.

A tile is cells × cells scenes of `CELL_PIXELS` a side, each with one target near its middle, rendered by the renderer
of the DES simulation from the test split of the galaxy catalogue: no galaxy of the split is used in training.
Images are as DES coadds: counts of zero point 30, sky subtracted, north up, east left, with an inverse-variance weight
map of the sky's noise. A coadd is a mean of resampled exposures, so that its pixels are no whole electrons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulated_survey.geometry import TileGeometry
from deblend_assets.science.simulated_survey.tables import TileTables, tile_tables
from deblend_assets.science.simulation.observed import adaptive_moments
from deblend_assets.science.simulation.rendering import RenderedScenes
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.settings import DesSettings, SceneSettings

_SURVEY = "DES"
CELL_PIXELS = 65
ZERO_POINT = 30.0
# DECam's own names of its filters, as DES headers and archives give them: name, serial, centre and width [Å].
BAND_NAMES = {
    "g": "g DECam SDSS c0001 4720.0 1520.0",
    "r": "r DECam SDSS c0002 6415.0 1480.0",
    "i": "i DECam SDSS c0003 7835.0 1470.0",
    "z": "z DECam SDSS c0004 9260.0 1520.0",
    "Y": "Y DECam c0005 10095.0 1130.0",
}

# Of a galaxy behind its PSF, where the fit of its moments begins [pixel].
_TYPICAL_SIGMA = 2.5

Product = Literal["image", "weight"]


@dataclass(frozen=True)
class TileSky:
    """One tile as it is served.

    Attributes:
        name: DESxxxx±xxxx.
        geometry: of the full mosaic; Y's images lack its last columns.
        images: (y, x) float32 [count], zero point 30, a band.
        weights: inverse variance of the sky's noise [count^-2], same shapes.
        exposure: [s] a band.
        tables: catalogues, truth, and how many of each fault were put in.
    """

    name: str
    geometry: TileGeometry
    images: dict[str, NDArray[np.float32]]
    weights: dict[str, NDArray[np.float32]]
    exposure: dict[str, float]
    tables: TileTables

    def header(self, band: str, product: Product) -> dict[str, float | str | bool]:
        """The cards of one image, WCS included."""
        return {
            **self.geometry.cards(),
            "OBJECT": self.name,
            "TILENAME": self.name,
            "FILTER": BAND_NAMES[band],
            "BAND": band,
            "MAGZERO": ZERO_POINT,
            "EXPTIME": self.exposure[band],
            "PIXSCALE": self.geometry.pixel_scale,
            "BUNIT": "count" if product == "image" else "count**(-2)",
            "PRODTYPE": product,
            "SIMULATE": True,
        }


def sky_simulation(settings: DesSettings) -> SceneSettings:
    """Settings for the cells of every tile: the DES simulation in stamps of a cell's size, with the sky's seed.

    Raises:
        SettingsError: the survey is not DES, whose filter names the images carry; or a cutout cannot be cut from the
            middle of a cell.
    """
    survey, pixels = settings.simulation.survey, settings.tiles.stamp_pixels
    if survey != _SURVEY:
        raise SettingsError(
            f"the simulated archive holds {_SURVEY} alone, not {survey}",
            where="des.simulation.survey",
            remedy="name an archive in des.archive, or simulate DES",
        )
    if pixels > CELL_PIXELS:
        raise SettingsError(
            f"stamps of {pixels} pixels have no place in the middle of cells of {CELL_PIXELS}",
            where="des.tiles.stamp_pixels",
            remedy=f"give at most {CELL_PIXELS}, or name an archive in des.archive",
        )
    return settings.simulation.model_copy(update={"seed": settings.sky.seed, "stamp_pixels": CELL_PIXELS})


def tile_shard(settings: DesSettings, name: str) -> Shard:
    """The scenes of one of `settings.sky.tiles`: a shard of the test split that no other tile shares."""
    return Shard("test", settings.sky.tiles.index(name), 0, settings.sky.cells**2)


def assemble_tile(name: str, scenes: RenderedScenes, survey: SurveyModel, settings: DesSettings) -> TileSky:
    """Paste a tile's scenes together and make the catalogues that a survey would have measured on it.

    Args:
        name: one of `settings.sky.tiles`.
        scenes: of `tile_shard`, rendered with `sky_simulation`; scene k fills cell (row k // cells, column k % cells).
        survey: of the scenes.
        settings: of the DES simulation and tiles.

    Returns:
        The tile, the same for the same scenes and settings. Its Y image ends within the last column of cells, as
        if the coadd were not complete: the targets there have no Y band.

    Raises:
        ValueError: the scenes are not cells² stamps of a cell's size.
    """
    cells = settings.sky.cells
    if scenes.blended.shape != (cells**2, len(survey.bands), CELL_PIXELS, CELL_PIXELS):
        raise ValueError(f"{cells}² scenes of {CELL_PIXELS} pixels expected, got {scenes.blended.shape}")
    geometry = TileGeometry.of_tile(name, cells * CELL_PIXELS, survey.pixel_scale)
    counts = 10 ** (0.4 * (ZERO_POINT - np.asarray(survey.zero_point)))  # of one electron

    fractions = np.random.default_rng(
        np.random.SeedSequence(
            settings.sky.seed, spawn_key=(len(settings.sky.tiles), settings.sky.tiles.index(name), 1)
        )
    )
    images, weights = {}, {}
    for b, band in enumerate(survey.bands):
        grid = scenes.blended[:, b].reshape(cells, cells, CELL_PIXELS, CELL_PIXELS)
        mosaic = grid.swapaxes(1, 2).reshape(geometry.pixels, geometry.pixels)
        mosaic = mosaic + fractions.uniform(-0.5, 0.5, mosaic.shape).astype(np.float32)
        width = geometry.pixels - (CELL_PIXELS + 1) // 2 if band == "Y" else geometry.pixels
        images[band] = np.ascontiguousarray(mosaic[:, :width] * np.float32(counts[b]), dtype=np.float32)
        weights[band] = np.full(images[band].shape, 1.0 / (survey.sky[b] * counts[b] ** 2), dtype=np.float32)

    return TileSky(
        name=name,
        geometry=geometry,
        images=images,
        weights=weights,
        exposure=dict(zip(survey.bands, survey.exposure, strict=True)),
        tables=tile_tables(
            name, _truth(scenes, survey, settings, counts), geometry, survey.bands, settings.sky, ZERO_POINT
        ),
    )


def _truth(scenes: RenderedScenes, survey: SurveyModel, settings: DesSettings, counts: NDArray) -> pd.DataFrame:
    """The scenes' truth with positions in the mosaic and fluxes in counts.

    Observed distortion is that of adaptive moments, as the model for every sky measures it. The light within a stamp is
    that of a cutout, from the middle of the cell.
    """
    cells = settings.sky.cells
    margin = (CELL_PIXELS - settings.tiles.stamp_pixels) // 2
    stamps = scenes.isolated[..., margin : CELL_PIXELS - margin, margin : CELL_PIXELS - margin]
    truth = scenes.truth.reset_index(drop=True)
    scene = truth["scene"].to_numpy()
    target = truth["member"].to_numpy() == 0
    label = survey.band_index(settings.simulation.label_band)
    x, y = truth.loc[target, ["x_pixel", "y_pixel"]].to_numpy().T
    moments = adaptive_moments(scenes.isolated[:, label], x, y, _TYPICAL_SIGMA)
    new: dict[str, NDArray] = {
        "x_pixel": truth["x_pixel"].to_numpy() + CELL_PIXELS * (scene % cells),
        "y_pixel": truth["y_pixel"].to_numpy() + CELL_PIXELS * (scene // cells),
        "neighbours": truth.groupby("scene")["member"].transform("size").to_numpy(np.int64) - 1,
    }
    within = stamps.sum(axis=(-2, -1), dtype=np.float64) * counts
    observed = {"e1": moments.e1, "e2": moments.e2}
    observed |= {f"stamp_flux_{band}": within[:, b] for b, band in enumerate(survey.bands)}
    for column, values in observed.items():
        new[column] = np.full(len(truth), np.nan)
        new[column][target] = values
    for b, band in enumerate(survey.bands):
        new[f"flux_{band}"] = truth[f"flux_{band}"].to_numpy() * counts[b]
    return truth.assign(**new)
