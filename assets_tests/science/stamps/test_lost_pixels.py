"""Lost pixels: filled where few are lost, whatever stands in them; a band that has lost much is not usable."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.science.stamps.lost_pixels import fill_lost, is_lost


@pytest.fixture
def galaxies() -> np.ndarray:
    """Two stamps of two bands without noise, (2, 2, 45, 45)."""
    profile = galsim.Convolve(
        galsim.Exponential(half_light_radius=0.5, flux=1e4).shear(g1=0.2), galsim.Gaussian(fwhm=0.8)
    )
    image = profile.drawImage(nx=45, ny=45, scale=0.2).array
    return np.stack([[image, 2 * image], [3 * image, image]]).astype(np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -9999.0])
def test_single_pixels_and_columns_are_right_to_a_few_percent_of_the_peak(galaxies: np.ndarray, value: float) -> None:
    spoilt = galaxies.copy()
    spoilt[0, 1, 24, 24] = value
    spoilt[1, 0, :, 27] = value
    assert is_lost(spoilt).sum() == 46
    found = fill_lost(spoilt)
    assert found.usable.all()
    assert found.filled.tolist() == [True, True]
    assert found.pixels.dtype == np.float32
    np.testing.assert_array_equal(found.pixels[~is_lost(spoilt)], galaxies[~is_lost(spoilt)])
    assert abs(found.pixels - galaxies).max() < 0.03 * galaxies[1, 0].max()


def test_gaps_of_any_form_are_filled_from_their_edges() -> None:
    slope = np.arange(45.0)[None, None, :, None] * np.ones((1, 1, 1, 45))
    slope[0, 0, 0:3, 40:45] = np.nan
    slope[0, 0, 30:33, 5:9] = np.nan
    found = fill_lost(slope).pixels[0, 0]
    assert np.isfinite(found).all()
    assert found[31, 6] == pytest.approx(31, abs=1e-5)
    assert found[0, 44] == pytest.approx(3, abs=1.0)


@pytest.mark.parametrize("where", [np.s_[:, :10], np.s_[18:27, 18:27], np.s_[:, :]])
def test_a_band_that_has_lost_much_is_not_usable(galaxies: np.ndarray, where: tuple[slice, slice]) -> None:
    galaxies[0, 1][where] = np.nan
    found = fill_lost(galaxies)
    assert found.usable.tolist() == [[True, False], [True, True]]
    assert found.filled.tolist() == [False, False]
    assert not found.pixels[0, 1].any()


def test_absent_bands_stay_absent(galaxies: np.ndarray) -> None:
    present = np.array([[True, False], [True, True]])
    galaxies[0, 1, 0, 0] = np.nan
    found = fill_lost(galaxies, present)
    assert found.usable.tolist() == present.tolist()
    assert not found.filled.any()
    assert present.tolist() == [[True, False], [True, True]]
