"""A line of light that passes a target on both sides, as a trail does, and what is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assets_tests.science.measuring.test_stamp_checks import stamps
from assets_tests.science.measuring.test_trust import known
from deblend_assets.science.measuring.straight_light import LESS_ALL, LESS_TARGET, is_crossed, straight_light
from deblend_assets.science.stamps.observed import ObservedStamps

WIDTH = 1.5


def lit(observed: ObservedStamps, light: np.ndarray) -> ObservedStamps:
    """With light (y, x) [σ of the sky] in the second band."""
    pixels = observed.pixels.copy()
    pixels[:, 1] += (light / np.sqrt(observed.inverse_variance[:, 1])).astype(np.float32)
    return replace(observed, pixels=pixels)


def crossed(observed: ObservedStamps) -> np.ndarray:
    scene = known(observed)
    return is_crossed(observed, scene.sources, scene.fluxes)


def axes(observed: ObservedStamps) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: observed.side, : observed.side] - (observed.side - 1) / 2
    return x, y


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, 2.5])
def test_a_trail_as_wide_as_the_psf_is_seen_at_three_sigma(angle: float) -> None:
    plain = stamps(peaks=30.0)
    x, y = axes(plain)
    trail = np.exp(-0.5 * ((y * np.cos(angle) - x * np.sin(angle) - 2) / WIDTH) ** 2)
    assert crossed(lit(plain, 3 * trail)).all()
    assert not crossed(lit(plain, 3 * trail * (x > 0))).any(), "on one side alone it is none"


def test_noise_galaxies_beside_and_smooth_light_are_none() -> None:
    plain = stamps(peaks=30.0)
    x, y = axes(plain)
    assert not crossed(plain).any()
    two = sum(20 * np.exp(-0.5 * ((x - place) ** 2 + y**2) / 4) for place in (-13, 13))
    seen = lit(plain, two)
    assert straight_light(seen, seen.pixels).max() < LESS_TARGET
    wings = 5 * np.exp(-0.5 * (x / 25) ** 2)
    assert not crossed(lit(plain, wings)).any()


def test_lost_pixels_have_no_part_and_a_lost_piece_hides_nothing() -> None:
    plain = stamps(peaks=30.0)
    x, y = axes(plain)
    trailed = lit(plain, 5 * np.exp(-0.5 * (y / WIDTH) ** 2))
    weight = trailed.inverse_variance.copy()
    weight[..., (x[0] > 8.5) & (x[0] < 11)] = 0
    holed = replace(trailed, inverse_variance=weight, pixels=np.where(weight > 0, trailed.pixels, 1e6).astype("f4"))
    assert crossed(holed).all()
    # Without the pixels of the line there is none.
    weight[..., np.abs(y[:, 0]) < 6, :] = 0
    gone = replace(holed, inverse_variance=weight)
    assert straight_light(gone, gone.pixels).max() < LESS_ALL
