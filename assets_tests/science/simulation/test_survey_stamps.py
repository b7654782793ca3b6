"""Scenes of a survey as observed stamps: what is given of them beside the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.shear.scenes import Psf
from deblend_assets.science.simulation.survey_stamps import observed_scenes, psf_images
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.settings import Profile


def test_the_psf_is_that_of_each_band_centred_and_changes_as_the_condition_does() -> None:
    survey = load_survey("DES")
    images = psf_images(survey, 41)
    assert images.shape == (len(survey.bands), 41, 41)
    # Half of Kolmogorov's light beyond the image is below 2 %; the image is GalSim's own, so it turns into itself.
    assert images.sum(axis=(1, 2)) == pytest.approx(1.0, abs=0.02)
    assert np.rot90(images, axes=(1, 2)) == pytest.approx(images, abs=1e-4 * float(images.max()))
    found = measure_psf_images(images)
    # The telescope makes the atmosphere's PSF wider, by less than a tenth. A width is measured within 1 %.
    ratio = found.fwhm * survey.pixel_scale / survey.psf_fwhm
    assert np.all(ratio > 0.99)
    assert np.all(ratio < 1.1)
    sheared = measure_psf_images(psf_images(Psf(size=1.02, g1=0.05).of(survey), 41))
    assert sheared.g1 == pytest.approx(0.05, abs=1e-3)
    assert sheared.fwhm / found.fwhm == pytest.approx(1.02, abs=2e-3)


def test_stamps_of_scenes_have_the_surveys_noise_and_their_own_centre(profile: Profile) -> None:
    survey, settings = load_survey("DES"), profile.des.simulation
    pixels = settings.stamp_pixels
    electrons = np.random.default_rng(0).normal(size=(3, len(survey.bands), pixels, pixels)).astype(np.float32)
    stamps = observed_scenes(electrons, survey, settings, psf_images(survey, 41))
    assert stamps.bands == ("g", "r", "i", "z", "y"), "the model for every sky knows bands in lower case"
    assert np.array_equal(stamps.pixels, electrons)
    assert np.allclose(stamps.inverse_variance, 1 / np.array(survey.sky)[:, None, None])
    assert np.all(stamps.position == (pixels - 1) / 2)
    assert stamps.others_count.sum() == 0
    assert np.all(stamps.pixel_scale == survey.pixel_scale)
    assert np.allclose(stamps.zero_point, survey.zero_point)
