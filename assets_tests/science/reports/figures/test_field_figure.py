"""The colours of a field's picture."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.reports.figures.fields import ShownField, colour_image, fields_in_colour, shown_bands


def shown(flux: tuple[float, float, float]) -> ShownField:
    """A source of these fluxes [σ] in g, r, i at one pixel of a dark image; the next pixel is lost in all bands."""
    images = np.zeros((3, 4, 5), np.float32)
    images[:, 1, 2] = flux
    weight = np.ones_like(images)
    weight[:, 1, 3] = 0
    images[:, 1, 3] = 1e6
    # Zero points that undo the factors of the three bands: equal fluxes are grey.
    zero_points = 30 + 2.5 * np.log10([1.74, 1.0, 0.76])
    return ShownField("test", ("g", "r", "i"), images, weight, zero_points, 0.2)


def test_colours_brightness_and_lost_pixels() -> None:
    image = colour_image(shown((20.0, 20.0, 20.0)))
    assert image.shape == (4, 5, 3)
    assert np.ptp(image[1, 2]) == pytest.approx(0, abs=1e-6)
    assert 0.01 < image[0, 0].mean() < 0.3 < image[1, 2].mean()
    assert (image[1, 3] == image[1, 3, 0]).all()
    red, green, blue = colour_image(shown((5.0, 20.0, 60.0)))[1, 2]
    assert red > green > blue
    assert colour_image(shown((200.0, 200.0, 200.0)))[1, 2].max() == 1.0


def test_a_field_without_some_bands_has_a_picture() -> None:
    field = shown((20.0, 20.0, 20.0))
    one = ShownField("one", ("z",), field.images[:1], field.inverse_variance[:1], np.array([30.0]), 0.2)
    assert colour_image(one).shape == (4, 5, 3)
    assert len(fields_in_colour({"a": field, "b": one}).axes) == 2


@pytest.mark.parametrize(
    ("bands", "expected"),
    [("grz", "zrg"), ("ugrizy", "irg"), ("gr", "rrg"), ("izy", "yzi"), ("ugz", "zgu"), ("z", "zzz")],
)
def test_red_green_and_blue_are_different_bands_where_there_are_such(bands: str, expected: str) -> None:
    assert "".join(shown_bands(tuple(bands))) == expected


def test_one_band_is_grey() -> None:
    field = shown((20.0, 20.0, 20.0))
    one = ShownField("one", ("r",), field.images[:1], field.inverse_variance[:1], np.array([30.0]), 0.2)
    assert np.ptp(colour_image(one), axis=-1).max() < 1e-6


def test_a_pixel_that_one_band_lost_has_the_color_of_those_around() -> None:
    field = shown((20.0, 20.0, 20.0))
    images = np.broadcast_to(np.array([5.0, 20.0, 60.0], np.float32)[:, None, None], (3, 15, 15)).copy()
    images[:, 7, 7] *= 2
    weight = np.ones_like(images)
    weight[2, 7, 7] = 0
    seen, lost = (
        colour_image(ShownField("", ("g", "r", "i"), images, w, field.zero_points, 0.2))[7, 7]
        for w in (np.ones_like(images), weight)
    )
    np.testing.assert_allclose(lost, seen, atol=0.03)
