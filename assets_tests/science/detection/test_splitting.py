"""Blends that are one peak of the filtered sum: split where the pixels show two, and nothing else is."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.science.detection.images import FWHM, correlated_noise, sources
from deblend_assets.science.detection.detect import Detections, detect
from deblend_assets.science.detection.splitting import _hills, _Sharpener, split_segments
from deblend_assets.settings import DetectionSettings

SPLIT = DetectionSettings(background_pixels=0)
WHOLE = SPLIT.model_copy(update={"split_snr": 1e9})
SIDE = 61


def found(
    image: NDArray[np.float32], settings: DetectionSettings, ivar: NDArray[np.float32] | None = None
) -> Detections:
    images = image[None]
    return detect(images, np.ones_like(images) if ivar is None else ivar[None], [FWHM], ["r"], settings)


def noisy(image: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    return (image + np.random.default_rng(seed).normal(size=image.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("apart", "fluxes", "tolerance"),
    [(4.3, [4e3, 4e3], 0.5), (6.0, [2e4, 3e3], 0.7), (4.6, [3e4, 2e4], 0.3)],
    ids=["equal stars 1.1 FWHM apart", "2 mag fainter, 1.5 FWHM", "bright, 1.15 FWHM"],
)
def test_a_blend_is_split_at_its_sources(apart: float, fluxes: list[float], tolerance: float) -> None:
    x = [30.2, 30.2 + apart]
    image = noisy(sources(SIDE, x, [30.4, 30.4], fluxes), 1)
    assert len(found(image, WHOLE).table) == 1
    split = found(image, SPLIT)
    assert len(split.table) == 2
    for place in x:
        assert np.hypot(split.table["x"] - place, split.table["y"] - 30.4).min() < tolerance
    # The brighter one keeps the row; each part has its pixels.
    assert abs(split.table["x"][0] - x[0]) < tolerance
    numbers = split.segments[30, [round(place) for place in x]]
    assert numbers.tolist() == [1, 2]
    assert ((split.segments > 0) == (found(image, WHOLE).segments > 0)).all()


@pytest.mark.parametrize("half_light", [0.0, 1.5, 4.0])
@pytest.mark.parametrize("flux", [3e3, 1e5])
def test_a_source_alone_stays_whole(flux: float, half_light: float) -> None:
    for seed in range(5):
        image = noisy(sources(SIDE, [30.2], [30.4], [flux], half_light=half_light), seed)
        assert len(found(image, SPLIT).table) == 1


def test_noise_at_the_rims_of_bright_galaxies_makes_no_parts() -> None:
    places = [30.0 + 60 * k for k in range(4)]
    x, y = (part.ravel().tolist() for part in np.meshgrid(places, places))
    light = sources(240, x, y, [3e3] * 16, half_light=2.25)
    assert [len(found(noisy(light, seed), SPLIT).table) for seed in range(3)] == [16] * 3
    low = SPLIT.model_copy(update={"split_sigma": 1.0})
    assert len(found(noisy(light, 0), low).table) > 16


def test_a_bright_star_of_another_psf_stays_whole() -> None:
    """Its wings are not those of a Gaussian, and it has spikes of 2 % of its light."""
    star = galsim.Moffat(beta=2.5, fwhm=FWHM)
    spikes = sum(
        (galsim.Box(1.0, 40.0).rotate(angle * galsim.degrees) for angle in (1, 90)), galsim.Gaussian(sigma=1e-2) * 0
    )
    light = galsim.Convolve(star, star * 0.98 + 0.01 * spikes) * 1e6
    image = noisy(light.drawImage(nx=SIDE, ny=SIDE, scale=1.0, method="no_pixel").array, 3)
    assert len(found(image, SPLIT).table) == 1


def test_a_neighbours_slope_makes_no_part() -> None:
    """Two segments that touch: pixels that climb to the other's source are no source of this one."""
    for seed in range(10):
        image = noisy(sources(SIDE, [24.0, 34.0], [30.0, 31.0], [4e4, 2e4]), seed)
        assert len(found(image, SPLIT).table) == 2


def test_a_lost_pixel_leaves_its_band_out() -> None:
    pair = noisy(sources(SIDE, [30.0, 34.5], [30.0, 30.0], [4e3, 4e3]), 1)
    ivar = np.ones_like(pair)
    ivar[30, 32] = 0
    images, weights = np.stack([pair, pair]), np.stack([ivar, np.ones_like(pair)])
    both = detect(images, weights, [FWHM] * 2, ["r", "i"], SPLIT).table
    assert len(both) == 2
    assert len(found(pair, SPLIT, ivar).table) == len(found(pair, WHOLE, ivar).table)


@pytest.mark.parametrize("smoothing", [0.0, 0.7])
def test_the_noise_of_the_sharpened_image_is_known(smoothing: float) -> None:
    rng = np.random.default_rng(4)
    shape = (2, 200, 200)
    noise, correlation = correlated_noise(shape, smoothing, rng) if smoothing else (rng.normal(size=shape), None)
    scale = np.array([1.0, 3.0], np.float32)[:, None, None]
    ivar = np.broadcast_to(1 / scale**2, shape).astype(np.float32)
    sharpener = _Sharpener([FWHM, 5.0], np.array([1.0, 0.5]), [correlation] * 2)
    sharp, sigma = sharpener.sharpened((noise * scale).astype(np.float32), ivar)
    inside = sharp[30:-30, 30:-30]
    assert np.std(inside) / sigma == pytest.approx(1, abs=0.03)


def test_the_sharpened_image_is_narrower_and_keeps_the_light() -> None:
    image = sources(SIDE, [30.0], [30.0], [1000.0])
    sharp, _ = _Sharpener([FWHM], np.ones(1), [None]).sharpened(image[None], np.ones_like(image)[None])
    assert sharp.sum() == pytest.approx(1000, rel=2e-3)
    at = int(np.ceil(FWHM / 2))
    fall = [float(plane[30, 30 + at] / plane[30, 30]) for plane in (image, sharp)]
    assert fall[0] == pytest.approx(0.5, abs=0.01)
    assert fall[1] < 0.4


def test_pixels_climb_to_their_maximum() -> None:
    image = np.array([[1, 2, 5, 2, 1, 3, 4], [0, 1, 2, 1, 0, 1, 2]], np.float32)
    hills, row, column = _hills(image)
    assert hills.tolist() == [[1, 1, 1, 1, 2, 2, 2]] * 2
    assert (row.tolist(), column.tolist()) == ([0, 0], [2, 6])


def test_a_last_segment_without_a_pixel_is_no_blend() -> None:
    image = np.random.default_rng(1).normal(size=(1, 40, 40)).astype(np.float32)
    segments = np.zeros((40, 40), np.int32)
    segments[10:14, 10:14] = 1
    chosen, weight = np.array([1, 2]), np.ones_like(image)
    assert not list(split_segments(image, weight, segments, chosen, [FWHM], np.ones(1), [None], 5.0, 0.1))
