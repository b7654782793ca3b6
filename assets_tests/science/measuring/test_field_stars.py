"""Stars of a field beside the given PSF: as wide, wider, elongated; the same in one cell and in many."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.field_samples import (
    ZERO_POINT,
    OnePSF,
    detections,
    look_at,
    moffat,
    positions,
    star_field,
)
from deblend_assets.science.images.cells import cells_of
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring import field_stars
from deblend_assets.science.measuring.field_look import Look
from deblend_assets.science.measuring.field_stars import BrightSources, bright_sources

SHAPE = (420, 440)
FLUX = np.geomspace(3000.0, 40000.0, 25)
PLACES = positions(25, SHAPE)


@lru_cache(maxsize=4)
def looked_at(given: OnePSF | None) -> tuple[Field, Look, pd.DataFrame]:
    field = star_field(PLACES, FLUX, SHAPE, given=given)
    look = look_at(field)
    return field, look, detections(field, look)


def measured(given: OnePSF | None) -> BrightSources:
    return bright_sources(*looked_at(given), "r")


RIGHT, NARROW, ROUND = None, moffat(0.8 / 1.05), moffat(g1=0.03)


def test_stars_are_found_where_they_are_with_their_magnitudes() -> None:
    found = measured(RIGHT)
    assert len(found.stars) == 25
    order = np.argsort(-found.found.flux[found.stars])
    x, y = found.x[found.stars][order], found.y[found.stars][order]
    np.testing.assert_allclose(np.stack([x, y], axis=1), PLACES[::-1], atol=0.3)
    np.testing.assert_allclose(found.magnitude[found.stars][order], ZERO_POINT - 2.5 * np.log10(FLUX[::-1]), atol=0.05)


@pytest.mark.parametrize(
    ("given", "size", "shape"), [(RIGHT, 0.0, 0.0), (NARROW, np.log(1.05), 0.0), (ROUND, 0.0, -0.03)]
)
def test_their_sizes_and_shapes_are_beside_the_given_psf(given: OnePSF | None, size: float, shape: float) -> None:
    found = measured(given)
    bright = found.found.snr > 200
    assert np.median(found.found.ln_size[bright]) == pytest.approx(size, abs=0.006)
    # The pixel and the aperture make the response to the PSF's shape a little less than 1.
    assert np.median(found.found.shape[bright].real) == pytest.approx(shape, abs=0.004)


def test_cells_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(RIGHT)
    monkeypatch.setattr(field_stars, "cells_of", partial(cells_of, side=150))
    parts = measured(RIGHT)
    order, other = np.argsort(whole.found.row), np.argsort(parts.found.row)
    np.testing.assert_array_equal(whole.found.row[order], parts.found.row[other])
    assert len(set(parts.found.row)) == len(parts.found.row)
    # Only the sky's mesh differs.
    np.testing.assert_allclose(whole.found.ln_size[order], parts.found.ln_size[other], atol=0.02)


def test_a_field_without_sources_has_no_bright_ones() -> None:
    field, look, table = looked_at(RIGHT)
    found = bright_sources(field, look, table.iloc[:0], "r")
    assert len(found.x) == len(found.stars) == 0
