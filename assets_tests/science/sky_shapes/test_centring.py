"""Positions that are off are brought back to the light, those that are right stay, and other detections keep theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assets_tests.science.measuring.test_stamp_checks import FWHM, NUMBER, SCALE, stamps
from assets_tests.science.sky_shapes.test_model import model  # noqa: F401 - a fixture
from deblend_assets.science.sky_shapes.centring import shifts_to_light
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.worlds.damages import off_centre

FWHMS = np.full(NUMBER, FWHM / SCALE)
PLAIN = stamps(peaks=30.0)
DX = QUANTITIES.index("dx")


@pytest.mark.parametrize("pixels", [1.0, 2.0, 3.0])
def test_a_position_that_is_off_is_brought_back(pixels: float) -> None:
    moved = off_centre(pixels)(PLAIN, None, np.random.default_rng(1))
    found = moved.position + shifts_to_light(moved, FWHMS) - PLAIN.position
    # Two bands of S/N some 130 each: the centroid's error is far below a tenth of a pixel.
    assert np.hypot(*found.T).max() < 0.15


def test_a_right_position_stays_and_nothing_is_found_in_a_blank_sky() -> None:
    assert (shifts_to_light(PLAIN, FWHMS) == 0).all()
    blank = replace(PLAIN, pixels=np.zeros_like(PLAIN.pixels))
    assert (shifts_to_light(blank, FWHMS) == 0).all()


def test_the_light_of_another_detection_is_left_to_it() -> None:
    moved = replace(
        PLAIN,
        position=PLAIN.position + np.array([3.0, 0.0]),
        others=np.full((NUMBER, 1, 2), 24.0),
        others_count=np.ones(NUMBER, dtype=np.int32),
    )
    assert (shifts_to_light(moved, FWHMS) == 0).all()


def test_what_is_measured_is_that_of_the_right_position(model: SkyModel) -> None:  # noqa: F811
    moved = replace(PLAIN, position=PLAIN.position + np.array([2.0, -1.0]))
    shift = shifts_to_light(moved, FWHMS)
    found = model.measure(moved.rows(slice(0, 6)), exact=True).posterior.mean
    right = replace(moved, position=moved.position + shift).rows(slice(0, 6))
    expected = model.measure(right, exact=True).posterior.mean
    np.testing.assert_allclose(found[:, :DX], expected[:, :DX], atol=2e-3)
    np.testing.assert_allclose((found - expected)[:, DX : DX + 2], shift[:6], atol=2e-3)
