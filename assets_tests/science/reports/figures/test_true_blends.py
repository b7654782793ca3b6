"""The figure of strongly blended scenes: its panels, its marks and its scales."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.figures.true_blends import true_blends


@pytest.fixture
def stacks() -> list[np.ndarray]:
    return list(np.random.default_rng(3).normal(size=(3, 2, 15, 15)) * 40)


def test_panels_hold_blend_truth_deblended_and_their_difference_in_sky_sigma(stacks: list[np.ndarray]) -> None:
    places = [np.array([[0.1, 0.2], [1.0, -1.0]])] * 2
    figure = true_blends(*stacks, places, ["a", "b"], band="r", pixel_scale=0.2, sky_sigma=20.0)
    row = figure.axes[4:8]
    for axis, stack in zip(row, [*stacks, stacks[2] - stacks[1]], strict=True):
        np.testing.assert_allclose(axis.images[0].get_array(), stack[1] / 20.0)
    assert [axis.images[0].norm for axis in row[:3]] == [row[0].images[0].norm] * 3, "one scale of light"
    assert to_png(figure, dpi=30).startswith(b"\x89PNG")


def test_target_and_neighbours_are_marked_where_they_are(stacks: list[np.ndarray]) -> None:
    places = [np.array([[0.1, 0.2], [1.0, -1.0], [-0.5, 0.6]])] * 2
    figure = true_blends(*stacks, places, ["a", "b"], band="r", pixel_scale=0.2, sky_sigma=20.0)
    target, neighbours = figure.axes[0].lines
    assert target.get_xydata().tolist() == [[0.1, 0.2]]
    assert neighbours.get_xydata().tolist() == [[1.0, -1.0], [-0.5, 0.6]]
    assert len(figure.axes[1].lines) == 1, "the truth holds the target alone"
