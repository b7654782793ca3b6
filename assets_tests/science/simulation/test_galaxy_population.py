"""The comparison of generated with real galaxies, `benchmarks.galaxy_population`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.galaxy_population import LEAST, colors, compared, magnitudes_of, sizes
from deblend_assets.science.simulation.galaxies import DISC, Galaxies, Morphology


def test_bins_hold_enough_of_both_and_tell_by_how_much_the_medians_differ() -> None:
    rng = np.random.default_rng(1)
    real_i, our_i = np.repeat([20.1, 20.6, 21.2], [400, LEAST - 1, 400]), np.repeat([20.1, 20.6, 21.2], 900)
    real, ours = rng.normal(1.0, 0.3, len(real_i)), rng.normal(0.8, 0.3, len(our_i))
    ours[our_i > 21] = np.nan
    (found,) = compared("g-i", real_i, real, our_i, ours)
    assert (found.name, found.low, found.count) == ("g-i", 20.0, 400)
    assert found.real == pytest.approx([0.7, 1.0, 1.3], abs=0.1)
    assert found.error == pytest.approx(1.253 * 0.3 * (1 / 400 + 1 / 900) ** 0.5, rel=0.1)
    assert found.ours[1] - found.real[1] == pytest.approx(-0.2, abs=4 * found.error)


def test_colors_are_of_the_bands_of_a_table_whatever_the_case_of_their_names() -> None:
    table = pd.DataFrame({"MAG_G": [22.0, -99.9], "MAG_I": [21.0, 21.0], "MAG_Z": [20.5, 99.0]})
    magnitudes = magnitudes_of(table, "MAG_{}")
    assert list(magnitudes) == ["g", "i", "z"]
    assert list(magnitudes_of(table.rename(columns=str.lower), "mag_{}")) == ["g", "i", "z"]
    found = colors(magnitudes)
    assert set(found) == {"i-z", "g-i"}
    np.testing.assert_array_equal(found["g-i"], [1.0, np.nan])
    np.testing.assert_array_equal(found["i-z"], [0.5, np.nan])


def test_a_size_is_the_half_light_radius_of_the_round_profile() -> None:
    flux = np.zeros((2, 6, 3))
    flux[:, :, DISC] = 1000.0
    radii = np.array([[0.3, 0.3], [0.6, 0.6]])
    galaxies = Galaxies.build([1, 2], Morphology.SERSIC, [0.5, 0.5], flux, np.ones((2, 2)), radii, np.zeros((2, 2)))
    np.testing.assert_allclose(np.exp(sizes(galaxies)), [0.3, 0.6], rtol=1e-3)
