"""A tile like the training is called so; one with more noise, another PSF or other fluxes is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deblend_assets.science.des.likeness import LIKE, UNKNOWN, UNLIKE, Sample, aperture_flux, compare, outside_training

TRAINING = Sample({"g": 20.0, "r": 40.0}, {"g": 1.1, "r": 0.96}, np.random.default_rng(1).lognormal(8, 1, 4000))
TILE = Sample({"g": 22.0, "r": 41.0}, {"r": 1.0}, np.random.default_rng(2).lognormal(8, 1, 1000))


def test_a_tile_drawn_like_the_training_is_like_it() -> None:
    found = compare(TILE, TRAINING, "r")
    assert list(found.table["verdict"]) == [LIKE] * 4
    assert found.warnings == []
    assert found.table["ratio"][0] == pytest.approx(1.1)
    assert found.table["ratio"][3] == pytest.approx(0.02, abs=0.015)
    assert found.ks_p is not None
    assert found.ks_p > 1e-3


@pytest.mark.parametrize(
    ("changed", "row", "words"),
    [
        (replace(TILE, noise={"g": 20.0, "r": 60.0}), 1, "noise in band r is 1.50 times the training value"),
        (replace(TILE, noise={"g": 14.0, "r": 40.0}), 0, "noise in band g is 0.70 times the training value"),
        (replace(TILE, psf_fwhm={"r": 1.2}), 2, "PSF FWHM in band r is 1.25 times"),
        (replace(TILE, flux=20 * TILE.flux), 3, "of the fluxes in band r lie outside"),
    ],
)
def test_each_difference_is_told_by_one_warning(changed: Sample, row: int, words: str) -> None:
    found = compare(changed, TRAINING, "r")
    assert len(found.warnings) == 1
    assert words in found.warnings[0]
    assert list(found.table["verdict"]).index(UNLIKE) == row


def test_a_shifted_distribution_is_told_by_the_ks_test_before_the_share() -> None:
    found = compare(replace(TILE, flux=1.3 * TILE.flux), TRAINING, "r")
    assert found.warnings == []
    assert found.ks_p is not None
    assert found.ks_p < 1e-6
    assert found.ks_distance == pytest.approx(0.105, abs=0.04)  # 2 Φ(ln 1.3 / 2) - 1


def test_what_is_not_known_is_no_warning() -> None:
    found = compare(Sample({"g": np.nan, "u": 3.0}, {}, np.full(3, np.nan)), TRAINING, "r")
    assert list(found.table["verdict"]) == [UNKNOWN]
    assert (found.warnings, found.ks_distance, found.ks_p) == ([], None, None)


def test_outside_is_outside_the_middle_98_percent() -> None:
    training = np.arange(101.0)
    np.testing.assert_array_equal(
        outside_training(np.array([0.5, 1.0, 50.0, 99.0, 99.5, np.nan]), training),
        [True, False, False, False, True, True],
    )


def test_aperture_holds_the_light_within_two_arcsec() -> None:
    """Whole pixels of 0.25″ within a circle of 8 pixels' radius; light outside does not count."""
    image = np.ones((1, 45, 45), np.float32)
    assert aperture_flux(image, 0.25)[0] == pytest.approx(np.pi * 8**2, rel=0.03)
    image[:, :10] = 1e6
    assert aperture_flux(image, 0.25)[0] < 250
