"""Noise of known variance and correlation against what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.detection.detect import apart_from
from deblend_assets.science.images.field_checks.noise import check_noise, source_free
from deblend_assets.science.images.field_checks.report import Check
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation, resampled

SHAPE = (400, 400)
EVERYWHERE = np.ones(SHAPE, bool)


def checks(true: NoiseCorrelation, given: NoiseCorrelation, factor: float = 1.0) -> dict[str, Check]:
    pixels = 3 * true.sample(SHAPE, np.random.default_rng(2))
    weight = np.full(SHAPE, factor / 9, np.float32)
    return {c.name: c for c in check_noise(pixels, weight, EVERYWHERE, given.values, "r")}


@pytest.mark.parametrize("correlation", [WHITE, resampled("bilinear"), resampled("lanczos3")])
def test_noise_as_it_is_said_to_be_passes(correlation: NoiseCorrelation) -> None:
    for check in checks(correlation, correlation).values():
        assert check.verdict == "passed"
        # The median of a block's variance lies below its mean: by a third of its relative variance, 2 / 1,600 × 1.6.
        assert abs(check.value) < 4 * check.error + 1e-3


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
def test_correlated_noise_called_white_fails_by_its_correlation(kernel: str) -> None:
    check = checks(resampled(kernel), WHITE)["noise_correlation"]
    assert check.verdict == "failed"
    assert abs(check.value - resampled(kernel).lags(1)[1, 2]) < 4 * check.error


def test_noise_of_another_correlation_along_x_and_y_is_compared_with_their_mean() -> None:
    values = np.outer([0.2, 1.0, 0.2], [0.4, 1.0, 0.4])
    check = checks(NoiseCorrelation(values), WHITE)["noise_correlation"]
    assert abs(check.value - 0.3) < 4 * check.error
    assert checks(NoiseCorrelation(values), NoiseCorrelation(values))["noise_correlation"].verdict == "passed"


@pytest.mark.parametrize("factor", [1.5, 1 / 1.5])
def test_a_wrong_level_fails_by_what_it_is_wrong(factor: float) -> None:
    check = checks(WHITE, WHITE, factor)["noise_level"]
    assert check.verdict == "failed"
    assert abs(check.value - np.log(factor)) < 4 * check.error + 1e-3


def test_pixels_with_sources_do_not_count_and_few_pixels_are_not_testable() -> None:
    pixels = WHITE.sample(SHAPE, np.random.default_rng(2))
    free = EVERYWHERE.copy()
    free[100:150] = False
    weight = np.ones(SHAPE, np.float32)
    before = check_noise(pixels, weight, free, WHITE.values, "r")
    pixels[~free] = 1e6
    assert check_noise(pixels, weight, free, WHITE.values, "r") == before
    free[:, 40:] = False
    free[200:] = False
    few = check_noise(pixels, weight, free, WHITE.values, "r")
    assert [check.verdict for check in few] == ["not testable", "not testable"]


def test_halos_of_segments_are_not_free() -> None:
    segments = np.zeros((41, 41), np.int32)
    segments[20, 20] = 1
    free = source_free(apart_from(segments), np.ones((41, 41), bool), fwhm=4.0)
    y, x = np.mgrid[-20:21, -20:21]
    np.testing.assert_array_equal(free, np.hypot(x, y) > 6)
    assert source_free(apart_from(np.zeros((3, 3), np.int32)), np.eye(3, dtype=bool), 4.0).sum() == 3
