"""Cells of an image: every pixel has one, and what several of them find is one source."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.images.samples import PSF, SCALE, drawn, flux_of, galaxy, noise
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.images.cells import cell_at, cells_of, merged, outside
from deblend_assets.science.images.field import Box

FWHM = 4.2


@pytest.mark.parametrize("shape", [(1, 1), (300, 1024), (1025, 2049), (777, 3000)])
@pytest.mark.parametrize("side", [256, 1024])
def test_every_pixel_lies_in_one_cell_and_windows_overlap(shape: tuple[int, int], side: int) -> None:
    count = np.zeros(shape, np.int16)
    cells = cells_of(shape, 60, side)
    assert [cell.number for cell in cells] == list(range(len(cells)))
    for cell in cells:
        count[cell.inner.window] += 1
        inner, outer = cell.inner, cell.outer
        assert max(inner.x1 - inner.x0, inner.y1 - inner.y0) <= side
        assert (outer.x0, outer.y0) == (max(inner.x0 - 60, 0), max(inner.y0 - 60, 0))
        assert (outer.x1, outer.y1) == (min(inner.x1 + 60, shape[1]), min(inner.y1 + 60, shape[0]))
    assert (count == 1).all()


def test_the_cell_of_a_position() -> None:
    cells = cells_of((300, 500), 60, 256)
    x = np.array([0.0, -0.5, 249.4, 249.6, 499.4, 499.6, -0.6, np.nan, 250.0])
    y = np.array([0.0, 10.0, 10.0, 10.0, 299.4, 10.0, 10.0, 10.0, 150.0])
    assert cell_at(cells, x, y).tolist() == [0, 0, 0, 1, 3, -1, -1, -1, 3]
    np.testing.assert_allclose(
        outside(Box(10, 20, 30, 40), np.array([9.5, 5.5, 33.5, 12]), np.array([30, 16.5, 43.5, 19])),
        [0, 5, 32**0.5, 0.5],
    )


def table(x: list[float], y: list[float], snr: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"x": x, "y": y, "snr": snr, "pixels": range(len(x))})


def test_a_source_on_a_seam_is_kept_once() -> None:
    cells = cells_of((100, 200), 60, 100)  # the seam is at x = 99.5
    left = table([99.4, 99.9, 50.0, 103.0, 98.0], [10, 30, 50, 70, 90], [9, 9, 9, 9, 9])
    right = table([99.6, 99.1, 120.0, 102.9, 101.0], [10, 30, 50, 70, 90], [8, 8, 8, 8, 8])
    found = merged([left, right], cells, FWHM)
    # On either side of the seam: the brighter one; each on the other's side: one; alone; within the right cell;
    # 3 pixels apart.
    assert found["y"].tolist() == [10, 30, 50, 50, 70, 90]
    assert found["x"].tolist() == [99.4, 99.9, 50.0, 120.0, 102.9, 98.0]
    assert found["cell"].tolist() == [0, 0, 0, 1, 1, 0]
    assert found.columns.tolist() == ["x", "y", "snr", "pixels", "cell"]


def test_two_near_sources_on_either_side_of_a_seam_that_both_cells_see_are_kept() -> None:
    cells = cells_of((100, 200), 60, 100)
    left, right = table([98.0, 101.0], [50.0, 50.0], [9, 7]), table([98.3, 100.8], [50.2, 50.1], [8, 6])
    found = merged([left, right], cells, FWHM)
    assert found["x"].tolist() == [98.0, 100.8]


def test_two_sources_of_one_cell_are_both_kept_however_near() -> None:
    cells = cells_of((100, 200), 60, 100)
    near = table([50.0, 51.0], [50.0, 50.0], [9, 8])
    assert len(merged([near, table([], [], [])], cells, FWHM)) == 2
    assert merged([near.iloc[:0], near.iloc[:0]], cells, FWHM).empty


def test_galaxies_along_a_seam_are_found_once_each() -> None:
    """Two images that overlap by 60 pixels along a seam of 1,800, each with noise of its own; 60 galaxies of S/N 15."""
    shape, number = (1800, 160), 60
    rng = np.random.default_rng(7)
    seam = 79.5
    x, y = seam + rng.uniform(-0.3, 0.3, number), 15 + 30.0 * np.arange(number) + rng.uniform(-0.5, 0.5, number)
    profile = galaxy()
    light = drawn(shape, x, y, flux_of(15, profile), profile)
    cells = cells_of(shape, 30, 1800)
    cells = [cells[0]._replace(inner=Box(0, 0, 80, 1800), outer=Box(0, 0, 110, 1800)),
             cells[0]._replace(number=1, inner=Box(80, 0, 160, 1800), outer=Box(50, 0, 160, 1800))]  # fmt: skip
    width = float(PSF.drawImage(nx=61, ny=61, scale=SCALE).calculateFWHM()) / SCALE
    tables = []
    for cell in cells:
        pixels = (light + noise(shape, 10 + cell.number))[cell.outer.window].astype(np.float32)[None]
        found = detect(pixels, np.ones_like(pixels), [width], ["r"]).table
        tables.append(found.assign(x=found["x"] + cell.outer.x0, y=found["y"] + cell.outer.y0))
    assert all(len(part) >= number - 1 for part in tables)
    found = merged(tables, cells, width)
    near = np.hypot(found["x"].to_numpy()[:, None] - x, found["y"].to_numpy()[:, None] - y) < width
    assert (near.sum(axis=0) == 1).all(), "each galaxy once"
    assert len(found) == number, "and nothing else"
