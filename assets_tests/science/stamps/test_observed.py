"""Stamps with everything a measurement needs: where each pixel is from, what is refused, and the report's stamps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assets_tests.science.stamps.observed_images import BANDS, HEIGHT, WIDTH, field, psf_at
from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.cutting import cut, side_for
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import PARTS, ObservedStamps, joined, of_report

X, Y = [20.3, 22.0, 59.2, 0.0], [15.6, 18.9, 38.0, 0.0]


@pytest.fixture(scope="module")
def stamps() -> ObservedStamps:
    return cut(field(), X, Y, 11)


def test_every_array_is_there_with_its_type(stamps: ObservedStamps) -> None:
    assert (len(stamps), stamps.side, stamps.bands) == (4, 11, BANDS)
    for name, values in stamps.arrays().items():
        assert values.dtype == PARTS[name].dtype, name
        assert values.ndim == len(PARTS[name].axes), name


def test_a_stamp_holds_the_pixels_around_its_target(stamps: ObservedStamps) -> None:
    assert stamps.corner[0].tolist() == [15, 11]
    np.testing.assert_allclose(stamps.position[0], [5.3, 4.6])
    assert (np.abs(stamps.position - 5) <= 0.5 + 1e-9).all(), "the target lies on the middle pixel"
    for n in range(4):
        left, low = stamps.corner[n]
        for j, i in ((0, 0), (5, 5), (10, 3)):
            x, y = left + i, low + j
            inside = 0 <= x < WIDTH and 0 <= y < HEIGHT
            lost = y in (10, 11)
            for band in (0, 1):
                seen = inside and not (lost and band == 0)
                value = 1 + 100 * y + x + 10_000 * band if seen else 0
                assert stamps.pixels[n, band, j, i] == value
                assert stamps.inverse_variance[n, band, j, i] == (0.25 if seen else 0)
                bits = MaskBit.NO_DATA if not inside else MaskBit.COSMIC_RAY if lost and band == 0 else 0
                assert stamps.mask[n, band, j, i] == bits
    assert (stamps.mask[3] == MaskBit.NO_DATA).sum() == 2 * (121 - 36), "the corner of the image: a quarter is there"


def test_psf_scale_wcs_and_noise_are_those_at_the_target(stamps: ObservedStamps) -> None:
    for n, (x, y) in enumerate(zip(X, Y, strict=True)):
        np.testing.assert_allclose(stamps.psf[n], psf_at(x, y), rtol=1e-6)
        np.testing.assert_allclose(stamps.sky_position[n], [150 - x / 1000, 2 + y / 1000])
    np.testing.assert_allclose(stamps.pixel_scale, 0.2)
    np.testing.assert_allclose(stamps.jacobian[2], [[0.0, 0.2], [-0.2, 0.0]])
    assert stamps.zero_point.tolist() == [[30.0, 29.5]] * 4
    assert stamps.noise_correlation[1, 0, 1].tolist() == [0.25, 1, 0.25]


def test_other_detections_are_listed_the_nearest_first() -> None:
    x, y = [20.0, 24.0, 21.0, 40.0], [20.0, 22.0, 20.5, 20.0]
    found = cut(field(), x, y, 11)
    assert found.others_count.tolist() == [2, 2, 2, 0]
    np.testing.assert_allclose(found.others[0], [[6, 5.5], [9, 7]])
    np.testing.assert_allclose(found.position[0], [5, 5])
    assert np.isnan(found.others[3]).all()
    alone = cut(field(), x, y, 11, targets=np.array([2]))
    np.testing.assert_array_equal(alone.others[0], found.others[2])


def test_a_lost_pixel_changes_nothing() -> None:
    """Stamps of fields that differ in lost pixels alone are the same bytes."""
    image = field()
    lost = image.inverse_variance == 0
    first = cut(image, X, Y, 11)
    for junk in (np.nan, 1e20, -np.inf):
        other = cut(field(pixels=np.where(lost, np.float32(junk), image.pixels)), X, Y, 11)
        for name in PARTS:
            assert getattr(first, name).tobytes() == getattr(other, name).tobytes(), name


def test_a_band_missing_over_a_stamp_is_absent(stamps: ObservedStamps) -> None:
    image = field()
    weight = image.inverse_variance.copy()
    weight[1, :, :30] = 0
    found = cut(field(inverse_variance=weight), X, Y, 11)
    assert found.present.tolist() == [[True, False], [True, False], [True, True], [True, False]]
    assert stamps.present.all()


def test_rows_and_joined_are_inverse(stamps: ObservedStamps) -> None:
    assert len(stamps.rows(np.array([2]))) == 1
    again = joined([stamps.rows(slice(0, 1)), stamps.rows(slice(1, 4)).with_room(5)])
    for name in PARTS:
        np.testing.assert_array_equal(getattr(again, name), getattr(stamps, name), err_msg=name)
    assert stamps.with_room(7).others.shape == (4, 7, 2)
    with pytest.raises(MismatchError):
        stamps.with_room(0)
    with pytest.raises(MismatchError):
        joined([stamps, cut(field(), X, Y, 13)])
    with pytest.raises(MismatchError):
        joined([])


def test_no_targets_give_no_stamps() -> None:
    assert len(cut(field(), X, Y, 11, targets=np.zeros(0, dtype=int))) == 0


@pytest.mark.parametrize(("fwhm", "side"), [(3.0, 25), (4.1, 33), (4.125, 33), (4.2, 35)])
def test_the_side_is_odd_and_at_least_8_fwhm(fwhm: float, side: int) -> None:
    assert side_for(fwhm) == side


def test_the_reports_stamps_are_a_special_case() -> None:
    frame = StampFrame(("g", "r"), (2.0, 4.0), (30.0, 31.0), 0.2, 9, "r")
    images = np.random.default_rng(0).normal(size=(3, 2, 9, 9)).astype(np.float32)
    psf = np.full((2, 3, 3), 1 / 9, dtype=np.float32)
    found = of_report(images, frame, psf, np.full((3, 2), 4.2))
    np.testing.assert_array_equal(found.pixels, images)
    assert np.unique(found.inverse_variance[:, 0]).tolist() == [0.25]
    assert np.unique(found.inverse_variance[:, 1]).tolist() == [0.0625]
    assert found.present.all()
    assert not found.mask.any()
    assert found.others_count.tolist() == [0, 0, 0]
    assert found.noise_correlation.shape == (3, 2, 1, 1)
    with pytest.raises(MismatchError):
        of_report(images[:, :1], frame, psf, np.full((3, 2), 4.2))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("mask", lambda a: a[:, :1], "mask has shape (4, 1, 11, 11)"),
        ("psf", lambda a: a[..., :4, :4], "squares of an odd side"),
        ("psf", lambda a: 0 * a, "psf is not finite or has no light"),
        ("inverse_variance", lambda a: -a, "negative"),
        ("pixels", lambda a: np.full_like(a, np.nan), "pixels with a weight are not finite"),
        ("noise_correlation", lambda a: a / 2, "not 1 in the middle"),
        ("position", lambda a: a * np.nan, "position is not finite"),
        ("zero_point", lambda a: a * np.nan, "zero_point is not finite"),
        ("pixel_scale", lambda a: a * 1.01, "pixel_scale is not that of the jacobian"),
        ("others_count", lambda a: a + 1, "others_count does not count"),
        ("others_count", lambda a: a[:2], "others_count has shape (2,)"),
    ],
)
def test_what_cannot_be_is_refused(stamps: ObservedStamps, name: str, change: Any, words: str) -> None:
    arrays = stamps.arrays()
    with pytest.raises(MismatchError) as caught:
        ObservedStamps(BANDS, **(arrays | {name: change(arrays[name])}))
    assert words in str(caught.value)


@pytest.mark.parametrize("place", [(-0.6, 5.0), (5.0, 39.6), (np.nan, 5.0)])
def test_a_target_off_the_image_is_refused(place: tuple[float, float]) -> None:
    with pytest.raises(MismatchError):
        cut(field(), [place[0]], [place[1]], 11)


@pytest.mark.parametrize("place", [(-0.5, 5.0), (WIDTH - 0.5, 5.0), (5.0, -0.5), (5.0, HEIGHT - 0.5)])
def test_a_target_on_the_very_edge_of_the_image_has_its_stamp(place: tuple[float, float]) -> None:
    stamps = cut(field(), [place[0]], [place[1]], 11)
    assert stamps.present.all()
    assert (stamps.position[0] + stamps.corner[0]).tolist() == list(place)


def test_images_of_different_shapes_are_refused() -> None:
    with pytest.raises(MismatchError):
        field(mask=np.zeros((2, 3, 3), np.uint16))
    with pytest.raises(MismatchError):
        field(bands=("r",))
