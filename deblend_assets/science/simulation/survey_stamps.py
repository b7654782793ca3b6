"""Stamps of a survey's simulated scenes with what a measurement is given beside the pixels: PSF, noise, scale."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.science.stamps.observed import ObservedStamps, of_report
from deblend_assets.settings import SimulationSettings


def psf_images(survey: SurveyModel, side: int, pixel_scale: float | None = None) -> NDArray[np.float32]:
    """The survey's PSFs, pixel included, centred on the middle one of `side` × `side` pixels; (band, y, x) float32.

    Args:
        survey: whose PSFs.
        side: of the images [pixel].
        pixel_scale: of the images [arcsec]; none: the survey's.
    """
    psfs = [survey.btk_survey.get_filter(band).psf for band in survey.bands]
    drawn = [psf.drawImage(nx=side, ny=side, scale=pixel_scale or survey.pixel_scale).array for psf in psfs]
    return np.stack(drawn).astype(np.float32)


def observed_scenes(
    electrons: NDArray[np.float32], survey: SurveyModel, settings: SimulationSettings, psf: NDArray[np.float32]
) -> ObservedStamps:
    """Stamps of scenes whose targets lie within the dither of the centre, as observed stamps.

    The position is the stamp's centre, and no other detection is given: nothing beside the pixels follows a shear of
    the scene.

    Args:
        electrons: (N, band, y, x), sky subtracted.
        survey: of the scenes; its bands are some of u g r i z y, in either case. Those of the stamps are in lower case.
        settings: of the scenes.
        psf: of `psf_images`, of the survey or of one with other PSFs.
    """
    frame = survey.frame(settings)
    frame = dataclasses.replace(frame, bands=tuple(band.lower() for band in frame.bands))
    return of_report(electrons, frame, psf, np.full((len(electrons), 2), (frame.pixels - 1) / 2))
