"""Every pixel of a field is read once: what is known of each band, and a picture of any size of image."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.science.images import overview as module
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.images.overview import overview


def field_of(**images: np.ndarray) -> Field:
    return Field({band: Observation(image, 27.0, galsim.PixelScale(0.2)) for band, image in images.items()})


@pytest.mark.parametrize("rows", [512, 7])
def test_squares_are_means_of_known_pixels(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """A picture of 4 × 5 squares of 3 pixels, those at the far edges smaller; read at once or some rows at a time."""
    monkeypatch.setattr(module, "_SIDE", 5)
    monkeypatch.setattr(module, "_ROWS", rows)
    r = np.random.default_rng(1).normal(5, 1, (11, 14)).astype(np.float32)
    r[0, 0] = np.nan
    r[6:9, 3:6] = np.nan
    seen = overview(field_of(r=r, i=np.ones((11, 14), np.float32)))
    assert seen.step == 3
    assert seen.images.shape == seen.inverse_variance.shape == (2, 4, 5)
    assert seen.known.tolist() == [pytest.approx(1 - 10 / 154), 1.0]
    for y in range(4):
        for x in range(5):
            part = r[3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
            if (y, x) == (2, 1):
                assert (seen.images[0, y, x], seen.inverse_variance[0, y, x]) == (0, 0)
            else:
                assert seen.images[0, y, x] == pytest.approx(np.nanmean(part), rel=1e-5)
                assert seen.inverse_variance[0, y, x] > 0
    assert (seen.images[1] == 1).all()


def test_a_band_without_a_known_pixel_is_said_so() -> None:
    seen = overview(field_of(r=np.full((20, 30), np.nan, np.float32)))
    assert (seen.known[0], seen.images.max(), seen.inverse_variance.max()) == (0, 0, 0)
