"""Peaks that stand out: on profiles along a line whose saddles are known, and beside a bright galaxy."""

from __future__ import annotations

import numpy as np
import pytest

from assets_tests.science.detection.images import FWHM, sources
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.detection.peaks import prominent
from deblend_assets.settings import DetectionSettings


def along_a_line(
    heights: list[float], segments: list[int], peaks: list[int], sigma: float, share: float
) -> tuple[list[int], list[int]]:
    image = np.array([heights], dtype=np.float32)
    kept, joined = prominent(
        image,
        np.ones_like(image),
        np.array([segments], dtype=np.int32),
        np.zeros(len(peaks), dtype=int),
        np.array(peaks, dtype=int),
        sigma,
        share,
    )
    return kept.tolist(), joined[0].tolist()


HILLS = [0, 20, 12, 15, 5, 8, 0]
SEGMENTS, PEAKS = [0, 1, 1, 2, 2, 3, 0], [1, 3, 5]


@pytest.mark.parametrize(
    ("sigma", "share", "kept", "joined"),
    [
        (2.9, 0.0, [0, 1, 2], [0, 1, 1, 2, 2, 3, 0]),
        (3.1, 0.0, [0], [0, 1, 1, 1, 1, 1, 0]),  # the second rises by 3 above 12, the third by 3 above 5
        (0.0, 0.3, [0, 2], [0, 1, 1, 1, 1, 2, 0]),  # 3 / 12 and 3 / 5
        (0.0, 0.7, [0], [0, 1, 1, 1, 1, 1, 0]),
    ],
)
def test_a_peak_is_kept_by_its_rise_above_the_saddle(
    sigma: float, share: float, kept: list[int], joined: list[int]
) -> None:
    assert along_a_line(HILLS, SEGMENTS, PEAKS, sigma, share) == (kept, joined)


def test_a_joined_segment_hands_on_its_saddles() -> None:
    """The lowest joins the middle one, whose saddle to the highest then counts for both."""
    kept, joined = along_a_line([9, 7, 8, 7.5, 7.8], [1, 1, 2, 2, 3], [0, 2, 4], 0.9, 0.0)
    assert (kept, joined) == ([0, 1], [1, 1, 2, 2, 2])
    assert along_a_line([9, 7, 8, 7.5, 7.8], [1, 1, 2, 2, 3], [0, 2, 4], 1.1, 0.0) == ([0], [1] * 5)


def test_equal_peaks_are_not_both_lost() -> None:
    assert along_a_line([5, 4, 5], [1, 1, 2], [0, 2], 9.0, 0.0)[1] == [1, 1, 1]
    assert along_a_line([5, 4, 5], [1, 1, 2], [0, 2], 0.5, 0.0)[0] == [0, 1]


def test_segments_that_do_not_touch_stay() -> None:
    assert along_a_line([5, 0, 4], [1, 0, 2], [0, 2], 99.0, 9.0) == ([0, 1], [1, 0, 2])
    assert along_a_line([0, 0], [0, 0], [], 1.0, 0.0) == ([], [0, 0])


def test_a_faint_star_on_the_wings_of_a_bright_galaxy_is_found() -> None:
    """0.2 % of the light inside their isophote: SEP's usual contrast loses it."""
    rng = np.random.default_rng(7)
    images = sources(121, [55.0], [60.0], [4e5], half_light=9.0) + sources(121, [85.0], [60.0], [800.0])
    images = (images + rng.normal(size=images.shape)).astype(np.float32)[None]
    ivar = np.ones_like(images)
    table = detect(images, ivar, [FWHM], ["r"]).table
    assert len(table) == 2
    assert np.hypot(table["x"] - 85, table["y"] - 60).min() < 0.5
    usual = DetectionSettings(deblend_cont=0.005, prominence_sigma=0, prominence_share=0, split_snr=1e9)
    assert len(detect(images, ivar, [FWHM], ["r"], usual).table) == 1


def test_noise_on_a_bright_galaxy_is_no_source() -> None:
    """SEP without a contrast makes dozens of sources of a large galaxy, prominence alone leaves those at its rim."""
    rng = np.random.default_rng(7)
    images = sources(121, [60.0], [60.0], [3e5], half_light=20.0)
    images = (images + rng.normal(size=images.shape)).astype(np.float32)[None]
    ivar = np.ones_like(images)
    # The image is smaller than two meshes of a background, of which the galaxy would be a part.
    plain = DetectionSettings(background_pixels=0)
    bare = plain.model_copy(
        update={"prominence_sigma": 0, "prominence_share": 0, "kernel_fwhm": 0.5, "clean": False, "split_snr": 1e9}
    )
    joined = bare.model_copy(update={"prominence_sigma": 3.0, "prominence_share": 0.03})
    counts = [len(detect(images, ivar, [FWHM], ["r"], s).table) for s in (bare, joined, plain)]
    assert counts[0] > 15
    assert counts[1] < counts[0] / 2
    assert counts[2] == 1
