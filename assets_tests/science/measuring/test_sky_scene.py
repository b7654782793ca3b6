"""Scenes of a stamp: every detection measured once, in its place, with the network's own numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from assets_tests.science.deblender.scene_samples import SIDE, pairs
from assets_tests.science.sky_shapes.samples import observed
from assets_tests.science.sky_shapes.test_model import model  # noqa: F401 - a fixture
from deblend_assets.science.deblender.scene_fluxes import solve_fluxes
from deblend_assets.science.deblender.scene_sources import NUMBERS
from deblend_assets.science.measuring.sky_scene import MOST_OTHERS, fluxes_over_sky, measure_scenes, others_of
from deblend_assets.science.measuring.stamp_checks import check_stamps
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES

STAMPS = observed(8)
DX, SIZE, LIGHT = (QUANTITIES.index(name) for name in ("dx", "ln_size", "concentration"))


def test_every_detection_is_in_the_scene_with_the_networks_numbers(model: SkyModel) -> None:  # noqa: F811
    found = measure_scenes(model, STAMPS)
    np.testing.assert_array_equal(found.sources.count, 1 + STAMPS.others_count)
    stamp, place = others_of(STAMPS)
    beside = model.measure(found.seen.around_others(stamp, place))
    for rows, at, position, measured in (
        (np.arange(8), np.zeros(8, dtype=int), STAMPS.position, found.targets),
        (stamp, place + 1, STAMPS.others[stamp, place], beside),
    ):
        mean, covariance = measured.posterior.mean.numpy(), measured.posterior.covariance.numpy()
        galaxy = measured.star <= 0.5
        values, errors = found.sources.values[rows, at], found.sources.covariance[rows, at]
        np.testing.assert_array_equal(found.sources.star[rows, at], ~galaxy)
        np.testing.assert_allclose(values[:, :2], position + mean[:, DX : DX + 2])
        shapes = [NUMBERS.index("g1"), NUMBERS.index("concentration")]
        flat = np.hypot(mean[:, 0], mean[:, 1]) < 0.95
        np.testing.assert_allclose(values[galaxy & flat][:, shapes], mean[galaxy & flat][:, [0, LIGHT]])
        # Larger by up to the variance, which counts up to 1: see `standing_for_their_spread`.
        larger = (values[:, NUMBERS.index("ln_hlr")] - mean[:, SIZE])[galaxy]
        assert (larger > 0).all()
        assert (larger < np.minimum(covariance[galaxy][:, SIZE, SIZE], 1)).all()
        np.testing.assert_allclose(errors[:, 0, 1], covariance[:, DX, DX + 1])
        np.testing.assert_allclose(errors[galaxy][:, 2, 4], covariance[galaxy][:, 0, SIZE])
    expected = fluxes_over_sky(STAMPS, found.sources, found.checks.faint_level)
    np.testing.assert_array_equal(found.fluxes.flux, expected.flux)


def test_around_another_detection_the_target_is_the_other_one() -> None:
    stamp, place = others_of(STAMPS)
    found = STAMPS.around_others(stamp, place)
    np.testing.assert_array_equal(found.position, STAMPS.others[stamp, place])
    np.testing.assert_array_equal(found.others[np.arange(len(stamp)), place], STAMPS.position[stamp])
    np.testing.assert_array_equal(found.others_count, STAMPS.others_count[stamp])
    np.testing.assert_array_equal(found.pixels, STAMPS.pixels[stamp])


def test_the_nearest_others_alone_join_and_a_stamp_without_any_is_its_target() -> None:
    many = np.full((8, MOST_OTHERS + 3, 2), np.nan)
    many[:4] = np.random.default_rng(2).uniform(5, 44, (4, MOST_OTHERS + 3, 2))
    count = np.where(np.arange(8) < 4, MOST_OTHERS + 3, 0)
    stamps = replace(STAMPS, others=many, others_count=count)
    stamp, place = others_of(stamps)
    assert np.bincount(stamp, minlength=8).tolist() == [MOST_OTHERS] * 4 + [0] * 4
    assert place.max() == MOST_OTHERS - 1


def test_a_stamp_without_weight_has_no_source_and_harms_no_other(model: SkyModel) -> None:  # noqa: F811
    weight = STAMPS.inverse_variance.copy()
    weight[2] = 0
    found, plain = (measure_scenes(model, one) for one in (replace(STAMPS, inverse_variance=weight), STAMPS))
    assert found.sources.count[2] == 0
    assert np.isnan(found.fluxes.flux[2]).all()
    others = np.arange(8) != 2
    np.testing.assert_allclose(found.fluxes.flux[others], plain.fluxes.flux[others], rtol=1e-4, equal_nan=True)


def test_a_trail_beside_the_target_is_no_sky() -> None:
    """One of 6 σ a pixel, nine pixels off: as sky it takes a fifth of the light of a galaxy of S/N 40."""
    known = pairs(24, 4.0)
    alone = known.truth.cut(1)
    galaxies = replace(known.observed(3), pixels=known.observed(3).pixels - known.light[:, 1:])
    across = np.arange(SIDE) - (SIDE // 2 + 9)
    trail = 6 * known.sigma[:, None, None, None] * np.exp(-0.5 * (across / 2.5) ** 2)
    crossed = replace(galaxies, pixels=galaxies.pixels + trail)
    found, plain = (fluxes_over_sky(s, alone, check_stamps(s).faint_level) for s in (crossed, galaxies))
    np.testing.assert_array_equal(plain.flux, solve_fluxes(galaxies, alone).flux)
    lost = 1 - solve_fluxes(crossed, alone).flux[:, 0, 0] / plain.flux[:, 0, 0]
    assert np.median(lost) > 0.15
    moved = (found.flux - plain.flux)[:, 0, 0] / plain.error[:, 0, 0]
    assert np.abs(np.median(moved)) < 1
