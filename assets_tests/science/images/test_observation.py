"""A band's pixels: kinds of noise maps, what is lost and why, and what is refused."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from assets_tests.science.images.samples import noise
from deblend_assets.errors import MismatchError
from deblend_assets.science.images.observation import MapKind, Observation
from deblend_assets.science.stamps.mask_bits import MaskBit

SHAPE = (40, 50)
ALL = (slice(0, 40), slice(0, 50))
WCS = galsim.PixelScale(0.2)


def test_a_weight_a_variance_and_an_rms_are_the_same_noise() -> None:
    rms = np.random.default_rng(1).uniform(0.5, 20, SHAPE)
    maps: dict[MapKind, np.ndarray] = {"weight": rms**-2, "variance": rms**2, "rms": rms}
    for kind, plane in maps.items():
        _, weight, mask = Observation(noise(SHAPE, 1), 30.0, WCS, weight=plane, weight_kind=kind).read(ALL)
        np.testing.assert_allclose(weight, rms**-2, rtol=1e-5)
        assert weight.dtype == np.float32
        assert not mask.any()


@pytest.mark.parametrize("kind", ["weight", "variance", "rms"])
def test_what_is_no_noise_loses_its_pixel(kind: MapKind) -> None:
    plane = np.ones(SHAPE)
    wrong = [0.0, -1.0, np.nan, np.inf, -np.inf]
    for column, value in enumerate(wrong):
        plane[20, 10 * column] = value
    pixels, weight, mask = Observation(noise(SHAPE, 1), 30.0, WCS, weight=plane, weight_kind=kind).read(ALL)
    lost = weight == 0
    assert lost.sum() == len(wrong)
    assert lost[20, ::10].all()
    assert (pixels[lost] == 0).all()
    assert (mask[lost] == MaskBit.BAD_COLUMN).all()
    assert not mask[~lost].any()


def test_weights_below_a_step_of_a_quantised_file_are_lost() -> None:
    plane = np.full(SHAPE, 100.0)
    plane[:5] = np.random.default_rng(2).uniform(-3, 3, (5, 50))
    _, weight, _ = Observation(noise(SHAPE, 1), 30.0, WCS, weight=plane, weight_step=4.0).read(ALL)
    assert (weight[:5] == 0).all()
    assert (weight[5:] == 100).all()


def test_without_a_map_the_weight_is_one_where_the_image_is_known() -> None:
    image = noise(SHAPE, 1)
    image[3, 4], image[5, 6] = np.nan, np.inf
    pixels, weight, _ = Observation(image, 30.0, WCS).read(ALL)
    assert weight[3, 4] == weight[5, 6] == pixels[3, 4] == pixels[5, 6] == 0
    assert weight.sum() == image.size - 2


def test_where_a_coadd_was_filled_with_zeros_it_has_no_data() -> None:
    image = noise(SHAPE, 1)
    image[:, 40:], image[20:24, 20:24], image[5, 5] = 0, 0, 0
    for weight in (None, np.ones(SHAPE, np.float32)):
        _, found, mask = Observation(image, 30.0, WCS, weight=weight).read(ALL)
        assert (found[:, 40:] == 0).all()
        assert (mask[:, 40:] == MaskBit.NO_DATA).all()
        assert (found[:, :40] == 1).all(), "a few zeros may be of whole numbers"


def test_what_is_no_number_is_lost() -> None:
    image = noise(SHAPE, 1)
    image[3, 4:8] = np.nan, np.inf, -np.inf, -9999.0
    pixels, weight, mask = Observation(image, 30.0, WCS).read(ALL)
    assert np.flatnonzero(weight.ravel() == 0).tolist() == [3 * SHAPE[1] + x for x in range(4, 8)]
    assert np.abs(pixels).max() < 10
    assert (mask[3, 4:8] == MaskBit.BAD_COLUMN).all()


def test_a_mask_says_why_a_pixel_is_lost_and_other_bits_lose_none() -> None:
    bits = np.zeros(SHAPE, np.uint8)
    bits[2, 3], bits[4, 5], bits[6, 7] = 2, 64, 2 | 128
    given = Observation(noise(SHAPE, 1), 30.0, WCS, bmask=bits, lost={2: MaskBit.SATURATED, 128: MaskBit.COSMIC_RAY})
    _, weight, mask = given.read(ALL)
    assert (weight[2, 3], weight[4, 5], weight[6, 7]) == (0, 1, 0)
    assert (mask[2, 3], mask[4, 5], mask[6, 7]) == (
        MaskBit.SATURATED,
        0,
        MaskBit.SATURATED | MaskBit.COSMIC_RAY,
    )
    assert (weight == 0).sum() == 2


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "u2", "<i4", ">u4", "i8"])
def test_a_mask_of_any_dtype_has_its_highest_bit(dtype: str) -> None:
    """Bits that the dtype cannot hold are in no pixel."""
    bits = np.zeros(SHAPE, dtype)
    highest = 8 * bits.itemsize - 1
    bits[3, 3] = np.array(1 << highest, f"u{bits.itemsize}").astype(bits.dtype)
    lost = {1 << n: MaskBit.BAD_COLUMN for n in range(64)} | {1 << highest: MaskBit.SATURATED}
    _, weight, mask = Observation(noise(SHAPE, 1), 30.0, WCS, bmask=bits, lost=lost).read(ALL)
    assert mask[3, 3] == MaskBit.SATURATED
    assert np.argwhere(weight == 0).tolist() == [[3, 3]]


def test_the_image_ends_in_wide_lost_regions_and_has_defects_in_narrow_ones() -> None:
    image = noise(SHAPE, 1)
    image[:, :12] = np.nan  # the end of the image
    image[:, 30] = np.nan  # a column
    image[10, 40:] = np.nan
    _, weight, mask = Observation(image, 30.0, WCS).read(ALL)
    assert (weight[:, :12] == 0).all()
    assert (mask[:, :12] == MaskBit.NO_DATA).all()
    assert (mask[:, 30] == MaskBit.BAD_COLUMN).all()
    assert (mask[10, 40:] == MaskBit.BAD_COLUMN).all()


def test_a_window_is_that_part_of_the_whole() -> None:
    image, window = noise(SHAPE, 1), (slice(7, 19), slice(20, 33))
    image[10, 25] = np.nan
    given = Observation(image.astype(">f8"), 30.0, WCS, weight=np.full(SHAPE, 4, np.int16))
    for part, whole in zip(given.read(window), given.read(ALL), strict=True):
        np.testing.assert_array_equal(part, whole[window])


def test_maps_of_another_shape_and_no_zero_point_are_refused() -> None:
    for given in ({"weight": np.ones((50, 40))}, {"bmask": np.ones((2, 2), int)}):
        with pytest.raises(MismatchError, match=r"the image \(40, 50\)"):
            Observation(noise(SHAPE, 1), 30.0, WCS, **given)
    with pytest.raises(MismatchError, match="one image"):
        Observation(np.zeros((2, 40, 50)), 30.0, WCS)
    with pytest.raises(MismatchError, match="zero_point is nan"):
        Observation(noise(SHAPE, 1), float("nan"), WCS)
