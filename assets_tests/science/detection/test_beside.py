"""Other detections of a stamp: all but the target, the nearest first; none of the target's own."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.detection.beside import detect_beside
from deblend_assets.settings import DetectionSettings

SIDE, FWHM = 61, 4.0
BANDS = ("g", "r")
MIDDLE = np.array([30.0, 30.0])


def stamp(*places: tuple[float, float], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Point sources of 60 sigma at their peaks, in noise of 1 and 2 a pixel."""
    y, x = np.mgrid[:SIDE, :SIDE]
    sigma = np.array([1.0, 2.0])[:, None, None]
    light = np.sum([np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * (FWHM / 2.3548) ** 2)) for u, v in places], axis=0)
    noise = np.random.default_rng(seed).normal(size=(2, SIDE, SIDE))
    pixels = (60 * light * np.ones((2, 1, 1)) + noise) * sigma
    weight = np.broadcast_to(sigma**-2.0, pixels.shape)
    return pixels.astype(np.float32), weight.astype(np.float32)


def beside(pixels: np.ndarray, weight: np.ndarray, position: np.ndarray = MIDDLE) -> np.ndarray:
    return detect_beside(pixels, weight, position, [FWHM, FWHM], BANDS, DetectionSettings(), [30.0, 30.0])[0]


def test_the_target_is_left_out_and_the_nearest_comes_first() -> None:
    found = beside(*stamp((30.3, 29.8), (50.0, 12.0), (22.0, 36.0)))
    np.testing.assert_allclose(found, [[22.0, 36.0], [50.0, 12.0]], atol=0.2)


def test_a_target_that_is_not_detected_costs_no_other_source() -> None:
    found = beside(*stamp((40.0, 30.0)))
    np.testing.assert_allclose(found, [[40.0, 30.0]], atol=0.2)
    # Within one FWHM it is the target, whose position is off.
    assert len(beside(*stamp((33.0, 30.0)))) == 0


def test_absent_bands_and_lost_pixels_have_no_part() -> None:
    pixels, weight = stamp((30.0, 30.0), (12.0, 40.0))
    lost, hidden = weight.copy(), pixels.copy()
    lost[1], hidden[1] = 0, np.nan
    np.testing.assert_allclose(beside(hidden, lost), [[12.0, 40.0]], atol=0.2)
    lost[:, 30:50, 2:22] = 0
    assert len(beside(np.where(lost > 0, pixels, np.float32(0)), lost)) == 0
    assert beside(pixels, np.zeros_like(weight)).shape == (0, 2)
