"""Zero points and pixel scales: arithmetic exactly, resampling against an analytic galaxy."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.errors import MismatchError
from deblend_assets.science.des.cutouts import BandStamp
from deblend_assets.science.des.frames import electrons_per_count, resample, to_model_frame
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.moments import image_moments


def galaxy(scale: float, pixels: int, sigma: float = 0.6) -> np.ndarray:
    """An elliptical Gaussian of 1000 counts at (0.21, -0.13) arcsec, sampled at the pixels' centres."""
    profile = galsim.Gaussian(sigma=sigma, flux=1000.0).shear(g1=0.2, g2=-0.15).shift(0.21, -0.13)
    return profile.drawImage(nx=pixels, ny=pixels, scale=scale, method="no_pixel", dtype=np.float32).array


@pytest.mark.parametrize(("scale_out", "pixels"), [(0.2, 45), (0.263, 45), (0.31, 37)])
def test_resampling_keeps_flux_place_and_shape(scale_out: float, pixels: int) -> None:
    new = resample(galaxy(0.263, 45), 0.263, scale_out, pixels)
    assert new.shape == (pixels, pixels)
    assert new.sum() == pytest.approx(1000.0, rel=1e-3)
    moments = image_moments(new)
    shear = galsim.Shear(g1=0.2, g2=-0.15)
    assert (moments.x * scale_out, moments.y * scale_out) == pytest.approx((0.21, -0.13), abs=1e-3)
    assert (moments.e1, moments.e2) == pytest.approx((shear.e1, shear.e2), abs=5e-3)
    a, b = moments.axes
    assert a * b * scale_out**2 == pytest.approx(0.6**2, rel=1e-2)
    assert new == pytest.approx(galaxy(scale_out, pixels), abs=2e-3 * float(new.max()))


def test_resampling_onto_the_same_grid_is_the_identity() -> None:
    old = galaxy(0.263, 45)
    assert resample(old, 0.263, 0.263, 45) == pytest.approx(old, abs=1e-5 * float(old.max()))


def test_zero_points_are_exact() -> None:
    assert electrons_per_count(30.0, 30.0) == 1.0
    assert electrons_per_count(30.0, 27.5) == pytest.approx(0.1, rel=1e-14)
    assert electrons_per_count(25.0, 30.0) == pytest.approx(100.0, rel=1e-14)


def frame(bands: str, zero_points: tuple[float, ...], pixel_scale: float) -> StampFrame:
    return StampFrame(tuple(bands), (1.0,) * len(bands), zero_points, pixel_scale, 45, "r")


def band_stamp(scale: float = 0.263, pixels: int = 45, zero_point: float = 30.0) -> BandStamp:
    return BandStamp(galaxy(scale, pixels), zero_point, scale, 0.0, 0.0)


def test_scales_that_agree_leave_the_pixels_alone() -> None:
    stamps = {"g": band_stamp(zero_point=27.5), "z": band_stamp(), "i": None, "u": band_stamp()}
    electrons, present = to_model_frame(stamps, frame("griz", (30.0, 31.0, 32.0, 32.5), 0.2637))
    assert present.tolist() == [True, False, False, True]
    assert electrons.dtype == np.float32
    assert electrons[0] == pytest.approx(10 * stamps["g"].counts, rel=1e-6)
    assert electrons[3] == pytest.approx(10 * stamps["z"].counts, rel=1e-6)
    assert not electrons[1:3].any()


def test_a_larger_stamp_is_cut_about_its_centre() -> None:
    electrons, _ = to_model_frame({"r": band_stamp(pixels=51)}, frame("r", (30.0,), 0.263))
    assert electrons[0] == pytest.approx(galaxy(0.263, 45), abs=1e-4)


def test_scales_that_differ_are_resampled_to_the_same_light() -> None:
    electrons, present = to_model_frame({"r": band_stamp()}, frame("r", (30.0,), 0.2))
    assert present.all()
    assert electrons[0] == pytest.approx(galaxy(0.2, 45), abs=2e-3 * float(electrons.max()))


@pytest.mark.parametrize(("scale", "pixels", "model_scale"), [(0.263, 43, 0.263), (0.263, 46, 0.263), (0.263, 45, 0.3)])
def test_a_stamp_that_covers_too_little_is_refused(scale: float, pixels: int, model_scale: float) -> None:
    with pytest.raises(MismatchError, match="cannot be converted to 45 x 45"):
        to_model_frame({"r": band_stamp(scale, pixels)}, frame("r", (30.0,), model_scale))
