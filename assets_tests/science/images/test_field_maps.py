"""Maps of a field: means of known pixels, sky and noise of source-free ones, the same however it is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assets_tests.science.field_samples import star_field
from deblend_assets.science.images.field import BandNoise, Box, Field
from deblend_assets.science.images.field_maps import map_field, shrunk_window, within_circles

PLACES, FLUX = np.array([[60.0, 70.0], [200.0, 150.0]]), np.array([30000.0, 20000.0])
NOISE = {"r": BandNoise(np.ones((1, 1)))}
RADIUS = np.array([25.0, 25.0])


def sample(sky: float = 0.7) -> Field:
    field = star_field(PLACES, FLUX, (250, 310), sky=sky)
    weight = np.asarray(field.bands["r"].weight).copy()
    weight[:, :40] = 0
    weight[100] = 0
    return Field({"r": replace(field.bands["r"], weight=weight)})


def test_means_are_of_the_known_pixels() -> None:
    field = sample()
    maps = map_field(field, NOISE, *PLACES.T, RADIUS, most=100)
    assert maps.factor == 4
    assert maps.images.shape == (1, 63, 78)
    pixels = np.asarray(field.bands["r"].image)
    np.testing.assert_allclose(maps.images[0, 20, 50], pixels[80:84, 200:204].mean(), rtol=1e-5)
    # One row of four is lost here.
    np.testing.assert_allclose(maps.images[0, 25, 50], pixels[101:104, 200:204].mean(), rtol=1e-5)
    assert maps.known[0, 25, 50] == 0.75
    # The last pixels are of what is left: two rows, two columns.
    np.testing.assert_allclose(maps.images[0, -1, -1], pixels[248:, 308:].mean(), rtol=1e-5)
    assert maps.known[0, -1, -1] == 1
    assert not maps.images[0, :, :10].any()
    assert not maps.known[0, :, :10].any()


@pytest.mark.parametrize("most", [1200, 100])
def test_the_sky_that_is_left_and_the_noise_are_seen_beside_the_sources(most: int) -> None:
    maps = map_field(sample(), NOISE, *PLACES.T, RADIUS, most=most)
    known = np.isfinite(maps.level[0])
    assert known[:, 1:].all()
    np.testing.assert_allclose(maps.level[0][known], 0.7, atol=0.15)
    np.testing.assert_allclose(maps.scatter[0][known], 1.0, atol=0.15)
    # Without the circles the stars' wings raise the level.
    with_stars = map_field(sample(), NOISE, *PLACES.T, np.zeros(2), most=most)
    assert np.nanmax(with_stars.scatter - maps.scatter) > 0.02


def test_photons_of_each_pixel_in_its_weight_do_not_lower_the_scatter() -> None:
    """Counts of an exposure with the sky in, and their own variance, as the Community Pipeline writes it."""
    pixels = np.random.default_rng(1).poisson(10_000, (250, 310)).astype(np.float32)
    field = star_field(PLACES, FLUX, (250, 310))
    raw = Field({"r": replace(field.bands["r"], image=pixels, weight=1 / pixels)})
    maps = map_field(raw, NOISE, np.empty(0), np.empty(0), np.empty(0))
    np.testing.assert_allclose(np.median(maps.scatter), 1.0, atol=0.01)
    np.testing.assert_allclose(np.median(maps.level), 100.0, rtol=0.001)


def test_of_a_band_without_a_noise_map_the_measured_noise_counts() -> None:
    field = star_field(PLACES, FLUX, (250, 310), weights=False)
    maps = map_field(field, {"r": BandNoise(np.ones((1, 1)), 2.0)}, *PLACES.T, RADIUS)
    np.testing.assert_allclose(np.nanmedian(maps.scatter), 0.5, atol=0.03)


def test_a_window_is_part_of_the_whole() -> None:
    field = sample()
    factor, images, known = shrunk_window(field, Box(40, 20, 140, 220), ["r"], 50)
    assert factor == 4
    whole = map_field(field, NOISE, *PLACES.T, RADIUS, most=100)
    np.testing.assert_allclose(images[0], whole.images[0, 5:55, 10:35], rtol=1e-5)
    np.testing.assert_array_equal(known[0], whole.known[0, 5:55, 10:35])


def test_pixels_within_circles() -> None:
    box = Box(10, 20, 40, 70)
    x, y, radius = np.array([12.0, 39.6, 500.0, np.nan]), np.array([22.0, 69.2, 0.0, 3.0]), np.array([3.0, 5, 9, 2])
    j, i = np.mgrid[20:70, 10:40]
    expected = np.zeros(i.shape, bool)
    for cx, cy, r in zip(x[:2], y[:2], radius[:2], strict=True):
        expected |= np.hypot(i - cx, j - cy) <= r
    np.testing.assert_array_equal(within_circles(box, x, y, radius), expected)
