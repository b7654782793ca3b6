"""Scenes of the report as fields: one target with fainter neighbours in each cell of a grid, under its nominal sky."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deblend_assets.science.simulation.scenes import SceneSampler
from deblend_assets.science.simulation.sources import SkyCatalog, Sources
from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.science.skies.psf import ConstantPSF
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.worlds.cells import CELLS, cell_centres
from deblend_assets.settings import SceneSettings

_I = CATSIM_BANDS.index("i")


def nominal_sky(survey: SurveyModel, side: int) -> Sky:
    """The sky of all of the report's scenes: BTK's PSF, full depth, white noise, no residual.

    Args:
        survey: of the scenes; its bands are some of u g r i z y.
        side: of the square images [pixel].
    """
    return Sky(
        name=survey.name,
        pixel_scale=survey.pixel_scale,
        shape=(side, side),
        bands={
            band.lower(): SkyBand(
                psf=ConstantPSF(survey.btk_survey.get_filter(band).psf),
                sigma=survey.sky[k] ** 0.5,
                zero_point=survey.zero_point[k],
            )
            for k, band in enumerate(survey.bands)
        },
    )


def sample_report_scenes(catalog: SkyCatalog, sky: Sky, settings: SceneSettings, rng: np.random.Generator) -> Sources:
    """One scene in each cell of a square image; nothing else is in the field.

    Args:
        catalog: galaxies of one split.
        sky: of `nominal_sky`.
        settings: of the scenes; their shear is applied to profiles and to the neighbours' positions.
        rng: random numbers; the same give the same scenes.

    Returns:
        `cluster` is the number of the cell; the first row of each is the target.
    """
    # One split, whatever its name.
    table = pd.DataFrame({"i_ab": catalog.galaxies.magnitudes()[:, _I], "split": "test"})
    sampler = SceneSampler(table, settings, sky.pixel_scale, splits=("test",))
    x, y = cell_centres(sky.shape, rng)
    scenes = sampler.sample("test", rng.random((CELLS**2, sampler.numbers_per_scene)))
    row, cell = scenes["row"].to_numpy(), scenes["scene"].to_numpy()
    angle = np.radians(scenes["rotation_deg"].to_numpy())
    gamma = np.full(len(row), complex(settings.shear_g1, settings.shear_g2))
    return Sources(
        bodies=catalog.galaxies[row].turned(angle).sheared(gamma),
        shapes=catalog.shapes[row].turned(angle).sheared(gamma),
        x=x[cell] + scenes["x_arcsec"].to_numpy() / sky.pixel_scale,
        y=y[cell] + scenes["y_arcsec"].to_numpy() / sky.pixel_scale,
        cluster=cell,
    )
