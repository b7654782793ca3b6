"""Injected galaxies: their light is in every window as it should be, and their truth is that of the light."""

from __future__ import annotations

import galsim
import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import SettingsError
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.given import observation
from deblend_assets.science.images.injection import injected, sample_injections
from deblend_assets.science.skies.psf import ConstantPSF

SCALE, PSF = 0.2, galsim.Gaussian(fwhm=0.8)
# x runs east: the sky frame is mirrored.
WCS = galsim.JacobianWCS(-SCALE, 0, 0, SCALE)


@pytest.fixture(scope="module")
def field() -> Field:
    blank = np.zeros((240, 330))
    return Field({band: observation(blank, zero_point=30, psf=PSF, wcs=WCS) for band in "gr"})


@pytest.fixture(scope="module")
def galaxies(field: Field) -> pd.DataFrame:
    return sample_injections(field, {"g": 26.0, "r": 25.0}, 30, seed=3)


def test_they_are_on_the_image_apart_and_the_same_again(field: Field, galaxies: pd.DataFrame) -> None:
    assert galaxies.equals(sample_injections(field, {"g": 26.0, "r": 25.0}, 30, seed=3))
    assert not galaxies.equals(sample_injections(field, {"g": 26.0, "r": 25.0}, 30, seed=4))
    x, y = galaxies["x"].to_numpy(), galaxies["y"].to_numpy()
    assert (x > 0).all()
    assert (x < 329).all()
    assert (y > 0).all()
    assert (y < 239).all()
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(len(x))
    assert apart.min() > 8
    assert galaxies["mag_r"].between(20.8, 25.7).all()


def test_the_sky_frame_is_mirrored_as_the_images_are(galaxies: pd.DataFrame) -> None:
    np.testing.assert_allclose(galaxies["g1"], galaxies["g1_pixel"])
    np.testing.assert_allclose(galaxies["g2"], -galaxies["g2_pixel"])
    assert galaxies["g2"].abs().max() > 0.05


def test_the_light_is_theirs(field: Field, galaxies: pd.DataFrame) -> None:
    psfs = {band: ConstantPSF(PSF) for band in field.names}
    few = galaxies[(galaxies["half_light_radius"] < 0.4) & (galaxies["n"] < 1.5)].head(2)
    assert len(few) == 2
    lit = injected(field, psfs, few)
    window = slice(0, 240), slice(0, 330)
    for band in field.names:
        image = lit.bands[band].read(window)[0]
        flux = 10 ** (0.4 * (30 - few[f"mag_{band}"]))
        assert image.sum() == pytest.approx(flux.sum(), rel=0.02)
        y, x = np.unravel_index(image.argmax(), image.shape)
        nearest = np.hypot(few["x"] - x, few["y"] - y).min()
        assert nearest < 1.0


def test_a_window_is_a_part_of_the_whole(field: Field, galaxies: pd.DataFrame) -> None:
    lit = injected(field, {band: ConstantPSF(PSF) for band in field.names}, galaxies)
    plane = lit.bands["r"].image
    whole = plane[0:240, 0:330]
    np.testing.assert_array_equal(plane[37:121, 55:200], whole[37:121, 55:200])
    np.testing.assert_array_equal(plane[0:240:16, 0:330:16], whole[::16, ::16])


def test_an_image_without_room_is_refused(field: Field) -> None:
    small = Field({"r": observation(np.zeros((30, 30)), zero_point=30, psf=PSF, wcs=0.2)})
    with pytest.raises(SettingsError, match="30 × 30 pixels"):
        sample_injections(small, {"r": 25.0}, 10, seed=0)
