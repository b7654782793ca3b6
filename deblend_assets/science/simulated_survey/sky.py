"""The simulated survey's tiles: contiguous fields as a telescope sees them, behind the tables of a survey.

A tile is one field (`simulation.fields`) under a sky of DES: clustered galaxies of the test split, stars, a PSF of each
band that varies over the image, noise that may be correlated, a residual of the sky, artefacts, and their mask. Images
are as DES coadds: counts of zero point 30, sky subtracted, north up, east left, with an inverse-variance weight map
that is 0 in masked pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulated_survey.fitted_psf import fitted_psfs
from deblend_assets.science.simulated_survey.geometry import TileGeometry
from deblend_assets.science.simulated_survey.tables import TileTables, tile_tables
from deblend_assets.science.simulated_survey.truth import tile_truth
from deblend_assets.science.simulation.fields import Field, sample_field
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.skies.psf import PSF, VaryingPSF
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.skies.psfex_psf import PSFExPSF
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.worlds.sources_alone import RenderedAlone
from deblend_assets.settings import DesSettings, FieldSkySettings, Profile

_SURVEY = "DES"
ZERO_POINT = 30.0
# DECam's own names of its filters, as DES headers and archives give them: name, serial, centre and width [Å].
BAND_NAMES = {
    "g": "g DECam SDSS c0001 4720.0 1520.0",
    "r": "r DECam SDSS c0002 6415.0 1480.0",
    "i": "i DECam SDSS c0003 7835.0 1470.0",
    "z": "z DECam SDSS c0004 9260.0 1520.0",
    "Y": "Y DECam c0005 10095.0 1130.0",
}
# Largest side of a part of a tile with one PSF [pixel].
_PATCH = 400
# Share of the columns of a tile's own area that Y's image lacks, as if its coadd were not complete.
_WITHOUT_Y = 0.1
# Images reach over a tile's own area by half a stamp and this: its sides are no circles of RA and Dec [pixel].
_OVERLAP = 10
# Streams of random numbers of a tile.
_SKY, _SOURCES, _NOISE, _TABLES = range(4)

Product = Literal["image", "weight"]


@dataclass(frozen=True)
class TileSky:
    """One tile as it is served.

    Attributes:
        name: DESxxxx±xxxx.
        geometry: of the full image; Y's images lack its last columns.
        images: (y, x) float32 [count], zero point 30, a band.
        weights: inverse variance of the sky's noise [count^-2], 0 in masked pixels; same shapes.
        psfs: of each band, as functions of the pixel of its image.
        exposure: [s] a band.
        tables: catalogues, truth, and how many of each fault were put in.
    """

    name: str
    geometry: TileGeometry
    images: Mapping[str, NDArray[np.float32]]
    weights: Mapping[str, NDArray[np.float32]]
    psfs: Mapping[str, PSFExPSF]
    exposure: Mapping[str, float]
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


def tile_overlap(settings: DesSettings) -> int:
    """How far a tile's images reach beyond its own area, on each side [pixel]: its galaxies have whole stamps.

    Raises:
        SettingsError: the survey is not DES, whose filter names the images carry; or a tile has no area of its own.
    """
    survey, sky, stamp = settings.simulation.survey, settings.sky, settings.tiles.stamp_pixels
    if survey != _SURVEY:
        raise SettingsError(
            f"the simulated archive holds {_SURVEY} alone, not {survey}",
            where="des.simulation.survey",
            remedy="name an archive in des.archive, or simulate DES",
        )
    overlap = stamp // 2 + _OVERLAP
    if sky.pixels < 4 * overlap:
        raise SettingsError(
            f"a tile of {sky.pixels} pixels is too small for stamps of {stamp}",
            where="des.sky.pixels",
            remedy=f"give at least {4 * overlap}, or smaller des.tiles.stamp_pixels",
        )
    return overlap


def sample_tile(name: str, catalog: SkyCatalog, survey: SurveyModel, profile: Profile) -> Field:
    """The field of one of `des.sky.tiles`; the same for the same catalogue and settings.

    Args:
        name: of the tile.
        catalog: galaxies that no network is trained on.
        survey: gives the seeing.
        profile: its `des`, `field` and `masks`.

    Raises:
        SettingsError: as `tile_overlap`.
    """
    settings = profile.des
    tile_overlap(settings)
    side = settings.sky.pixels
    sky_rng, source_rng = (np.random.default_rng(_stream(settings, name, which)) for which in (_SKY, _SOURCES))
    contents = profile.field.model_copy(update={"psf_cells": -(-side // _PATCH)})
    return sample_field(catalog, _tile_sky(survey, side, sky_rng), contents, source_rng)


def observe_tile(name: str, field: Field, survey: SurveyModel, profile: Profile) -> TileSky:
    """The images of a tile, and the catalogues that a survey would have measured on it.

    Args:
        name: of the tile.
        field: of `sample_tile`.
        survey: of the tile.
        profile: see `sample_tile`.

    Returns:
        The tile, the same for the same field and settings. Its Y image ends before the others, as if the coadd were not
        complete: the galaxies there have no Y band.
    """
    settings, sky = profile.des, field.sky
    overlap = tile_overlap(settings)
    geometry = TileGeometry.of_tile(name, settings.sky.pixels, sky.pixel_scale)
    alone = RenderedAlone.of(field)
    noise = _stream(settings, name, _NOISE).generate_state(4).tolist()
    # No tile lacks half of a band; Y ends early in all of them.
    masks = profile.masks.model_copy(update={"missing": 0.0})
    seen = field.lit(alone.light).observe(noise, masks)
    unit = 10 ** (0.4 * (ZERO_POINT - sky.column("zero_point")))  # counts of an image unit
    label = survey.band_index(settings.simulation.label_band)
    truth = tile_truth(field, alone, seen, survey.bands, label, settings.tiles.stamp_pixels)
    truth = truth.assign(**{c: truth[c] * unit[b] for b, band in enumerate(survey.bands) for c in _fluxes(band)})
    rng = np.random.default_rng(_stream(settings, name, _TABLES))
    tables = tile_tables(name, truth, geometry, survey.bands, settings.sky, overlap, rng)
    lacking = overlap + round(_WITHOUT_Y * (geometry.pixels - 2 * overlap))
    images, weights = {}, {}
    for b, band in enumerate(survey.bands):
        width = geometry.pixels - lacking if band == "Y" else geometry.pixels
        images[band] = np.ascontiguousarray(seen.images[b, :, :width] * np.float32(unit[b]))
        weights[band] = np.ascontiguousarray(seen.inverse_variance[b, :, :width] / np.float32(unit[b] ** 2))
    exposure = np.array(survey.exposure) * 10 ** (0.4 * (sky.column("zero_point") - np.array(survey.zero_point)))
    return TileSky(
        name=name,
        geometry=geometry,
        images=images,
        weights=weights,
        psfs=dict(zip(survey.bands, fitted_psfs(field.psfs, profile.stamps.psf_side), strict=True)),
        exposure=dict(zip(survey.bands, exposure.tolist(), strict=True)),
        tables=tables,
    )


def _fluxes(band: str) -> tuple[str, str]:
    return f"flux_{band}", f"stamp_flux_{band}"


def _stream(settings: DesSettings, name: str, which: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(settings.sky.seed, spawn_key=(settings.sky.tiles.index(name), which))


def _tile_sky(survey: SurveyModel, side: int, rng: np.random.Generator) -> Sky:
    """A sky of the survey whose seeing is that of its description, whose PSF varies without a step, centred."""
    wanted = FieldSkySettings(name="DES", chip_edges=0.0)
    sky = sample_sky(wanted, (side, side), rng)
    # DES does not bring its coadds to a common PSF, which would be the same all over the image.
    while not all(isinstance(band.psf, VaryingPSF) for band in sky.bands.values()):
        sky = sample_sky(wanted, (side, side), rng)
    bands = {}
    for band, name in zip(survey.bands, sky.names, strict=True):
        described = measure_psf(survey.btk_survey.get_filter(band).psf).fwhm
        bands[name] = replace(sky[name], psf=_registered(sky[name].psf, described))
    return replace(sky, bands=bands)


def _registered(psf: PSF, fwhm: float) -> PSF:
    """A varying PSF of another mean FWHM [arcsec], centred: a survey's astrometry is that of its stars in each band."""
    assert isinstance(psf, VaryingPSF)
    return replace(psf, model=replace(psf.model, fwhm=fwhm, dx=0.0, dy=0.0))
