"""The report of a whole field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from assets_tests.science.images.field_checks.star_fields import PSF, star_field
from deblend_assets.science.images.field_checks.checks import check_field, without_sky
from deblend_assets.science.images.field_checks.report import CHECKS, Check, FieldReport


def test_a_field_of_stars_passes_what_is_testable_and_its_sky_is_subtracted() -> None:
    image, found = star_field(1.0)
    report = check_field(replace(image, pixels=image.pixels + 30), found)
    assert [(check.name, check.band) for check in report.checks] == [(name, "r") for name in CHECKS]
    assert [check.name for check in report.untestable] == ["counts"], "ten galaxies are expected on this area"
    assert report.verdict == "passed"
    assert report.summary() == "field passed; not testable: counts r"
    assert "| 36 stars" in report.table().markdown()


def test_content_of_lost_pixels_changes_nothing() -> None:
    image, found = star_field(1.0)
    image.inverse_variance[0, :, 100:104] = 0
    before = check_field(image, found)
    image.pixels[0, :, 100:104] = 1e5
    assert check_field(image, found) == before


def test_a_field_without_a_detection_has_noise_alone() -> None:
    image, found = star_field(1.0, PSF)
    noise = np.random.default_rng(1).normal(size=image.pixels.shape).astype(np.float32)
    nothing = replace(found, table=found.table.iloc[:0], segments=np.zeros_like(found.segments))
    report = check_field(replace(image, pixels=noise), nothing)
    assert [check.name for check in report.untestable] == ["psf_size", "psf_shape", "psf_profile", "counts"]
    assert report.verdict == "passed"


def test_verdicts_are_of_value_and_error() -> None:
    limit = CHECKS["psf_size"]
    for value, verdict in ((limit.threshold * 1.01, "failed"), (-limit.threshold * 1.01, "failed"), (0.0, "passed")):
        assert Check.of("psf_size", "r", value, 0.001, "").verdict == verdict
    large = 2 * limit.most_error
    assert Check.of("psf_size", "r", 3.01 * large, large, "").verdict == "failed", "beyond all doubt"
    uncertain = (Check.of("psf_size", "r", value, large, "21 stars") for value in (0.0, 2.99 * large))
    assert {(c.verdict, c.reason) for c in uncertain} == {("not testable", "too large an error; 21 stars")}
    assert Check.of("psf_size", "r", math.nan, 0.001, "no").verdict == "not testable"


def test_the_field_fails_with_one_check_and_is_not_testable_without_any() -> None:
    passed, failed = (Check.of("noise_level", "i", value, 0.01, "") for value in (0.0, 1.0))
    unknown = Check.untestable("psf_size", "i", "3 stars")
    assert FieldReport((passed, unknown)).verdict == "passed"
    assert FieldReport((passed, failed, unknown)).verdict == "failed"
    assert FieldReport((unknown,)).verdict == "not testable"
    assert FieldReport((passed, failed, unknown)).summary() == (
        "field failed; failed: noise_level i; not testable: psf_size i"
    )


def test_the_sky_is_subtracted_from_source_free_pixels() -> None:
    pixels = np.full((128, 128), 7.0, np.float32)
    free = np.ones((128, 128), bool)
    pixels[:20, :20], free[:20, :20] = 1e4, False
    assert without_sky(pixels, free)[30:, 30:] == pytest.approx(0.0, abs=1e-4)
    assert without_sky(pixels, ~np.ones_like(free)) is pixels
