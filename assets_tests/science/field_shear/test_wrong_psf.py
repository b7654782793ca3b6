"""The benchmark of a wrongly given PSF: what the light lies behind, and the change of rows that are there twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.wrong_psf import change_of_same_rows, shape_behind
from deblend_assets.science.metadetection.kernels import gaussian_images, gaussian_sigma


def test_light_lies_behind_the_new_gaussian_less_what_was_wrongly_given() -> None:
    true = [np.eye(2) * 2.2**2, np.eye(2) * 2.5**2]
    given = [moments @ np.diag([1.02, 0.98]) for moments in true]
    images, believed = gaussian_images(true, 65), gaussian_images(given, 65)
    expected = []
    for light, wrong, sigma in zip(true, given, gaussian_sigma(believed[None]), strict=True):
        # Moments of Gaussians add up.
        behind = np.eye(2) * sigma**2 + light - wrong
        distortion = (behind[0, 0] - behind[1, 1]) / np.trace(behind)
        expected.append(distortion / (1 + np.sqrt(1 - distortion**2)))

    assert shape_behind(images, believed) == pytest.approx(np.mean(expected), rel=0.02)
    assert shape_behind(images, believed) < -0.005
    assert shape_behind(images, images) == pytest.approx(0, abs=1e-5)


def test_rows_are_the_same_where_their_positions_are() -> None:
    exact = pd.DataFrame({"x": [1.0, 20.0, 40.0], "y": 5.0, "g1": [0.1, 0.2, 0.3], "weight": [1.0, 3.0, 9.0]})
    under = pd.DataFrame({"x": [20.4, 60.0, 1.0], "y": 5.0, "g1": [0.3, 9.0, 0.1]})

    assert change_of_same_rows(exact, under) == pytest.approx(0.1 * 3 / 4)
