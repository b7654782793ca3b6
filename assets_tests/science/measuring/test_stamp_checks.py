"""What stamps show of damage: right where the damage is known, silent on light and noise as they are stated."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.science.sky_shapes.samples import observed, turned_in_the_sky
from deblend_assets.science.measuring.stamp_checks import check_stamps
from deblend_assets.science.measuring.trust import MOST_FILLED
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.symmetries import ORDER
from deblend_assets.science.worlds.damages import noise_alone

NUMBER, SIDE, SCALE = 60, 49, 0.2
FWHM = 0.7
SIGMA = 2.0


def stamps(peaks: float = 50.0, correlation: NDArray | None = None, seed: int = 3) -> ObservedStamps:
    """Exponentials behind a Moffat, two bands, noise of σ 2 as it is stated; the peak in units of σ."""
    psf = galsim.Moffat(beta=3.0, fwhm=FWHM)
    galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=0.4).shear(g1=0.2), psf)
    image = galaxy.drawImage(nx=SIDE, ny=SIDE, scale=SCALE).array
    lags = np.zeros((5, 5)) if correlation is None else correlation
    lags[2, 2] = 1
    shape = (NUMBER, 2, SIDE, SIDE)
    found = ObservedStamps(
        bands=("r", "i"),
        pixels=np.zeros(shape, dtype=np.float32),
        inverse_variance=np.full(shape, SIGMA**-2, dtype=np.float32),
        mask=np.zeros(shape, dtype=np.uint16),
        psf=np.broadcast_to(psf.drawImage(nx=41, ny=41, scale=SCALE).array, (NUMBER, 2, 41, 41)),
        noise_correlation=np.broadcast_to(lags, (NUMBER, 2, 5, 5)),
        position=np.full((NUMBER, 2), SIDE // 2),
        others=np.full((NUMBER, 1, 2), np.nan),
        others_count=np.zeros(NUMBER, dtype=np.int32),
        corner=np.zeros((NUMBER, 2), dtype=np.int32),
        pixel_scale=np.full(NUMBER, SCALE),
        zero_point=np.full((NUMBER, 2), 30.0),
        jacobian=np.broadcast_to(SCALE * np.eye(2), (NUMBER, 2, 2)),
        sky_position=np.full((NUMBER, 2), np.nan),
    )
    noise = noise_alone(found, np.random.default_rng(seed))
    return replace(found, pixels=noise + (peaks * SIGMA / image.max() * image).astype(np.float32))


def correlated() -> NDArray:
    """Of white noise smoothed by [1, 2, 1] / 4 along both axes."""
    line = np.array([1, 4, 6, 4, 1]) / 6
    return np.outer(line, line)


@pytest.mark.parametrize("lags", [None, correlated()], ids=["white", "correlated"])
def test_stated_noise_is_found_again_and_light_is_not_sharp(lags: NDArray | None) -> None:
    found = check_stamps(stamps(correlation=lags))
    assert found.noise.shape == (NUMBER, 2)
    # A median of N |differences| has a relative error of 1.17/sqrt(N) for independent ones; 1,500 pixels have 700 or
    # fewer; 120 bands.
    assert abs(found.noise.mean() - 1) < 3 * 1.17 / np.sqrt(400 * found.noise.size)
    assert (found.filled == 0).all()
    # The greatest of some 100 independent values: above 5 once in 20,000 stamps.
    assert found.sharp.max() < 5
    assert found.sharp.min() > 1
    assert found.lowest.min() > -6


@pytest.mark.parametrize("step", [0.005, 0.05, 0.5])
def test_whole_numbers_are_not_filled_and_what_is_filled_among_them_is_found(step: float) -> None:
    """Steps in σ of the noise: equal neighbours are 0.1 %, 1.4 % and 14 %."""
    whole = stamps()
    whole = replace(whole, pixels=np.round(whole.pixels / np.float32(step * SIGMA)) * np.float32(step * SIGMA))
    assert (check_stamps(whole).filled > MOST_FILLED).mean() < 0.01
    # A block of 17² equal pixels is a ninth of the stamp.
    whole.pixels[:, :, :17, :17] = 0
    assert check_stamps(whole).filled.min() > 0.05


def test_rows_of_a_compressed_file_are_not_filled() -> None:
    """Each row is rounded to a step of its own, of some σ / 16, from its own zero."""
    plain = stamps()
    rng = np.random.default_rng(5)
    step, zero = SIGMA / rng.uniform(14, 18, (2, SIDE, 1)) * [[[1.0]], [[10.0]]]
    rounded = (np.round((plain.pixels - zero) / step) * step + zero).astype(np.float32)
    assert check_stamps(replace(plain, pixels=rounded)).filled.max() < 0.001
    rounded[:, :, 20:23] = 0
    assert check_stamps(replace(plain, pixels=rounded)).filled.min() > 0.03


def test_sharpness_does_not_grow_with_light() -> None:
    assert check_stamps(stamps(peaks=5_000)).sharp.max() < 5


@pytest.mark.parametrize("level", [-1.0, 0.5])
def test_level_is_the_sky_in_units_of_the_noise(level: float) -> None:
    plain = check_stamps(stamps(peaks=1e-3)).level
    found = check_stamps(replace(stamps(peaks=1e-3), pixels=stamps(peaks=1e-3).pixels + np.float32(level * SIGMA)))
    np.testing.assert_allclose(found.level - plain, level, atol=1e-4)
    assert abs(plain.mean()) < 3 * 1.25 / np.sqrt(1_500 * plain.size)


def test_a_hit_of_ten_sigma_on_one_pixel_is_sharp_and_a_star_as_bright_is_not() -> None:
    hit = stamps(peaks=1e-3)
    pixels = hit.pixels.copy()
    pixels[:, 0, SIDE // 2 + 1, SIDE // 2 - 1] += 10 * SIGMA
    found = check_stamps(replace(hit, pixels=pixels)).sharp
    assert np.median(found[:, 0]) > 6
    assert found[:, 1].max() < 5
    star = hit.pixels.copy()
    middle = slice(SIDE // 2 - 20, SIDE // 2 + 21)
    star[:, :, middle, middle] += 100 * SIGMA * hit.psf
    assert check_stamps(replace(hit, pixels=star)).sharp.max() < 5


def test_lost_pixels_have_no_part_in_anything() -> None:
    plain = stamps()
    weight, pixels = plain.inverse_variance.copy(), plain.pixels.copy()
    weight[:, 0, 20:24, 26:30] = 0
    pixels[:, 0, 20:24, 26:30] = 1e6
    found, expected = check_stamps(replace(plain, inverse_variance=weight, pixels=pixels)), check_stamps(plain)
    assert found.sharp.max() < 5.5
    assert (found.lowest >= expected.lowest - 1e-6).all()
    np.testing.assert_allclose(found.noise[:, 1], expected.noise[:, 1])


def test_an_absent_band_has_no_number() -> None:
    plain = stamps()
    weight = plain.inverse_variance.copy()
    weight[:, 1] = 0
    found = check_stamps(replace(plain, inverse_variance=weight, pixels=plain.pixels))
    assert all(np.isnan(column[:, 1]).all() and np.isfinite(column[:, 0]).all() for column in found)


def test_of_no_stamps_there_is_nothing() -> None:
    assert all(column.shape == (0, 2) for column in check_stamps(stamps().rows(slice(0, 0))))


@pytest.mark.parametrize("element", range(1, ORDER))
def test_a_turn_or_a_reflection_changes_nothing(element: int) -> None:
    plain = observed(4)
    for before, after in zip(check_stamps(plain), check_stamps(turned_in_the_sky(plain, element)), strict=True):
        np.testing.assert_allclose(after, before, rtol=2e-3, equal_nan=True)
