"""Noise maps: kinds, what is lost in them, and maps that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from assets_tests.stores.field_files.files import SHAPE, header, noise, write_image
from deblend_assets.errors import MismatchError
from deblend_assets.science.images.observation import Observation
from deblend_assets.stores.field_files import field_file_of_arguments, read_field

EVERYTHING = (slice(None), slice(None))


def read(image: str, said: list[str] | None = None, **maps: str) -> Observation:
    names = {"weight": "weights", "variance": "variances"}
    given = {names.get(kind, kind): {"r": name} for kind, name in maps.items()}
    settings = field_file_of_arguments({"r": image}, zero_points={"r": 30.0}, **given)
    return read_field(settings, pytest.fail if said is None else said.append).bands["r"]


def weights(observation: Observation) -> NDArray[np.float32]:
    return observation.read((slice(0, observation.image.shape[0]), slice(0, observation.image.shape[1])))[1]


@pytest.mark.parametrize(("kind", "power"), [("weight", -2), ("variance", 2), ("rms", 1)])
def test_the_three_kinds_of_noise_maps_are_one_inverse_variance(tmp_path: Path, kind: str, power: int) -> None:
    sigma = np.linspace(0.5, 2.0, SHAPE[1]) * np.ones(SHAPE)
    image = write_image(tmp_path / "image.fits", noise() * sigma)
    noise_map = write_image(tmp_path / "map.fits", sigma**power)
    np.testing.assert_allclose(weights(read(image, **{kind: noise_map})), sigma**-2, rtol=1e-6)


@pytest.mark.parametrize(("kind", "power", "is_kind"), [("weight", 2, "variance"), ("rms", -2, "weight")])
def test_a_map_of_another_kind_is_one_line(tmp_path: Path, kind: str, power: int, is_kind: str) -> None:
    sigma = np.linspace(6.0, 8.0, SHAPE[1]) * np.ones(SHAPE)
    image = write_image(tmp_path / "image.fits", noise() * sigma)
    noise_map = write_image(tmp_path / "map.fits", sigma**power)
    with pytest.raises(
        MismatchError, match=rf"is no {kind}: .* as would be of {is_kind} \[.*map.fits.*\]: give it as {is_kind}"
    ):
        read(image, **{kind: noise_map})


def test_zero_negative_and_nan_weights_lose_their_pixels(tmp_path: Path) -> None:
    values = np.random.default_rng(2).uniform(0.5, 1.5, SHAPE)
    values[3, 4:8] = 0, -1, np.nan, np.inf
    image = write_image(tmp_path / "image.fits", noise())
    found = weights(read(image, weight=write_image(tmp_path / "map.fits", values)))
    assert (found[3, 4:8] == 0).all()
    assert (found > 0).sum() == found.size - 4


def test_zeros_of_a_rounded_file_are_lost(tmp_path: Path) -> None:
    """What others ran into, 9: they come back as noise of either sign, up to half a step."""
    rng = np.random.default_rng(3)
    values = (2.5e5 + 1e3 * rng.normal(size=(200, 200))).astype(np.float32)
    values[:50, :50] = 0
    compressed = fits.CompImageHDU(
        values, header(), name="WGT", compression_type="RICE_1", quantize_level=4, quantize_method=1, dither_seed=1
    )
    path = tmp_path / "weight.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(path)
    back = fits.getdata(path, "WGT")
    assert (back[:50, :50] < 0).sum() > 500
    assert (back[:50, :50] > 0).sum() > 500
    image = write_image(tmp_path / "image.fits", noise(1 / 500, shape=(200, 200)))
    said: list[str] = []
    observation = read(image, said, weight=f"{path}[WGT]")
    found = weights(observation)
    assert (found[:50, :50] == 0).all()
    assert (found > 0).sum() == found.size - 2500
    assert np.isfinite(found).all()
    assert len(said) == 1
    assert said[0].startswith("r: values below one step of the file's compression, up to ")
    # Windows that begin within a tile are cut at the same pixels.
    np.testing.assert_array_equal(observation.read((slice(20, 90), slice(33, 71)))[1], found[20:90, 33:71])


def test_steps_are_those_of_each_tile(tmp_path: Path) -> None:
    """The deep half of an image, whose weights scatter by more than those of the other half, costs that one nothing."""
    rng = np.random.default_rng(4)
    values = (100 + 20 * rng.normal(size=(64, 64))).astype(np.float32)
    values[32:] = (1 + 0.01 * rng.normal(size=(32, 64))).astype(np.float32)
    compressed = fits.CompImageHDU(values, header(), compression_type="RICE_1", quantize_level=4)
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(tmp_path / "weight.fits.fz")
    image = write_image(tmp_path / "image.fits", noise(shape=(64, 64)))
    observation = read(image, [], weight=str(tmp_path / "weight.fits.fz"))
    assert (weights(observation) > 0).all()
    assert (observation.read((slice(40, 64), slice(9, 30)))[1] > 0).all(), "a window may begin anywhere"


@pytest.mark.parametrize("zeros", [True, False])
def test_a_mask_under_the_name_of_weights_is_a_mask(tmp_path: Path, zeros: bool) -> None:
    """What others ran into, 10: "weight" 1 everywhere, sky σ = 7.3."""
    values = np.ones((300, 300), np.float32)
    if zeros:
        values[100:120] = 0
    image = write_image(tmp_path / "image.fits", noise(7.3, shape=(300, 300)))
    said: list[str] = []
    observation = read(image, said, weight=write_image(tmp_path / "map.fits", values))
    assert len(said) == 1
    assert "weight is 0 or 1, for a noise of 1, but the pixels' noise is 7." in said[0]
    assert "agree" not in said[0]
    assert observation.weight is None
    np.testing.assert_array_equal(weights(observation), values)


def test_a_constant_map_of_another_kind_is_told_as_what_it_would_agree(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.fits", noise(7.3, shape=(300, 300)))
    said: list[str] = []
    read(image, said, weight=write_image(tmp_path / "map.fits", np.full((300, 300), 7.3)))
    assert "the noise is measured; it would agree as rms = …" in said[0]


@pytest.mark.parametrize(("kind", "value"), [("weight", 7.3**-2), ("variance", 7.3**2), ("rms", 7.3)])
def test_a_constant_map_that_agrees_with_the_noise_is_kept(tmp_path: Path, kind: str, value: float) -> None:
    """In an image full of sources too."""
    galaxies = 1e3 * np.exp(-np.hypot(*(np.indices((300, 300)) % 40 - 20)) / 4)  # one in 40 × 40 pixels
    image = write_image(tmp_path / "image.fits", noise(7.3, shape=(300, 300)) + galaxies)
    observation = read(image, **{kind: write_image(tmp_path / "map.fits", np.full((300, 300), value))})
    np.testing.assert_allclose(weights(observation), 7.3**-2, rtol=1e-6)


def test_a_constant_map_of_correlated_noise_is_kept(tmp_path: Path) -> None:
    """Second differences of a coadd's noise are smaller than those of white noise."""
    smooth = noise(2.0, shape=(301, 301))
    image = write_image(
        tmp_path / "image.fits", (smooth[1:, 1:] + smooth[:-1, 1:] + smooth[1:, :-1] + smooth[:-1, :-1]) / 2
    )
    assert read(image, rms=write_image(tmp_path / "map.fits", np.full((300, 300), 2.0))).weight is not None


def test_a_band_without_any_weight_is_kept(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.fits", np.zeros(SHAPE))
    assert not weights(read(image, weight=write_image(tmp_path / "map.fits", np.zeros(SHAPE)))).any()


def test_a_map_of_another_shape_and_the_image_itself_are_one_line(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.fits", noise())
    with pytest.raises(MismatchError, match=r"has 30 × 20 pixels, its image 60 × 50 \[.*map.fits\]"):
        read(image, weight=write_image(tmp_path / "map.fits", np.ones((20, 30))))
    with pytest.raises(MismatchError, match=r"is the image itself \[.*image.fits\[0\]\]"):
        read(image, weight=f"{image}[0]")
