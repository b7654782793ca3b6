"""The figures of the quality page: made of no row, of one and of many, of one band and of six; 'too few' where so."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from assets_tests.science.field_samples import catalogue, look_at, positions, star_field
from deblend_assets.science.evaluation.field_shear import Slope, shear_around, shear_by, slope_of
from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.images.field_checks.sources import BandSources
from deblend_assets.science.images.field_maps import map_field
from deblend_assets.science.measuring.field_look import Look
from deblend_assets.science.measuring.field_stars import BrightSources
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.reports.figures import field_maps, field_photometry, field_shear, field_stars
from deblend_assets.science.reports.figures.field_image import field_figure
from deblend_assets.science.reports.figures.field_residual import data_model_residual
from deblend_assets.science.reports.figures.style import to_png

SHAPE = (160, 180)
BANDS = {"one": ("i",), "six": tuple("ugrizy")}
ROWS = (0, 1, 300)
NOTHING = Slope(float("nan"), float("nan"))


@lru_cache(maxsize=4)
def looked_at(bands: str) -> tuple[Field, Look]:
    places = positions(4, SHAPE)
    field = star_field(places, np.full(4, 4000.0), SHAPE, BANDS[bands])
    return field, look_at(field)


def rows(field: Field, number: int) -> pd.DataFrame:
    """A catalogue in which a tenth are stars and a tenth have another flag."""
    places = positions(number, SHAPE, seed=4)
    flux = np.geomspace(30.0, 30000.0, number) if number else np.zeros(0)
    table, _ = catalogue(field, places, flux)
    table.loc[::10, "flags"] = int(RowFlag.STAR)
    table.loc[5::10, "flags"] = int(RowFlag.MASKED | RowFlag.SKY)
    table.loc[3::20, f"flags_{field.names[0]}"] = 4
    return table


def bright(table: pd.DataFrame) -> BrightSources:
    number = len(table)
    rng = np.random.default_rng(1)
    ln_size = np.where(table["flags"] == int(RowFlag.STAR), rng.normal(0, 0.005, number), rng.uniform(0.1, 0.6, number))
    shape = rng.normal(0, 0.01, number) + 1j * rng.normal(0, 0.01, number)
    found = BandSources(
        row=np.arange(number),
        snr=np.full(number, 100.0),
        flux=np.full(number, 1e4),
        ln_size=ln_size,
        shape=shape,
        ln_concentration=np.zeros(number),
        isolated=np.ones(number, bool),
    )
    stars = np.flatnonzero(table["flags"].to_numpy() == int(RowFlag.STAR))
    magnitude = rng.uniform(18, 24, number)
    return BrightSources(table["x"].to_numpy(), table["y"].to_numpy(), magnitude, found, stars)


def shear_figure(table: pd.DataFrame) -> Figure:
    g = table[["g1", "g2"]].to_numpy()
    names = ("x", "y", "g1 of the PSF", "g2 of the PSF")
    values = [table[name].to_numpy(np.float64) for name in ("x", "y", "psf_g1_i", "psf_g2_i")]
    panels = {
        name: (shear_by(v, g), (slope_of(v, g[:, 0]), slope_of(v, g[:, 1])))
        for name, v in zip(names, values, strict=True)
    }
    return field_shear.mean_shear(panels, (NOTHING, NOTHING), len(g), dict.fromkeys(names, "too few: so many"))


def around_figure(table: pd.DataFrame) -> Figure:
    places = table[["x", "y"]].to_numpy(np.float64)
    found = shear_around(places[::10], places, table[["g1", "g2"]].to_numpy(), np.geomspace(2.0, 200.0, 6))
    return field_shear.shear_around_stars(found, len(places[::10]))


@lru_cache(maxsize=8)
def figures(bands: str, number: int) -> dict[str, Figure]:
    field, look = looked_at(bands)
    table = rows(field, number)
    box = Box(20, 10, 120, 100)
    x, y = (table[name].to_numpy(np.float64) for name in "xy")
    maps = map_field(field, look.noise, x[:8], y[:8], np.full(len(x[:8]), 10.0))
    pixels = np.stack([np.asarray(o.image)[box.window] for o in field.bands.values()])
    residual = np.where(pixels > 50, np.nan, pixels)
    return {
        "field": field_figure(field, table, framed=box),
        "part": field_figure(field, table, box, table),
        "residual": data_model_residual(field, box, pixels, 0.5 * pixels, residual, field.names[-1]),
        "flags": field_maps.flag_shares(table, field.names),
        "counts": field_photometry.counts_by_magnitude(table, 0.3, field.names[0]),
        "colors": field_photometry.colours(table, field.names),
        "sizes": field_stars.size_magnitude(table, bright(table), field.names[0]),
        "psf": field_stars.psf_residuals(bright(table), SHAPE, field.names[0]),
        "around_stars": around_figure(table),
        "mean_shear": shear_figure(table),
        "sky": field_maps.sky_maps(maps, field.names, SHAPE),
        "noise": field_maps.noise_maps(maps, field.names, SHAPE),
        "correlation": field_maps.noise_correlation(look.noise),
    }


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for axis in figure.axes for text in axis.texts)


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("number", ROWS)
def test_every_figure_is_made_and_its_axes_are_named(bands: str, number: int) -> None:
    for name, figure in figures(bands, number).items():
        assert to_png(figure, dpi=40).startswith(b"\x89PNG"), name
        assert 4 < figure.get_figwidth() <= 8.4, name
        for axis in figure.axes:
            if axis.axison and axis.get_label() != "<colorbar>" and axis.get_subplotspec().is_last_row():
                assert axis.get_xlabel(), name


@pytest.mark.parametrize("bands", BANDS)
def test_what_cannot_be_shown_says_too_few(bands: str) -> None:
    for number in (0, 1):
        made = figures(bands, number)
        for name in ("counts", "colors", "sizes", "psf", "around_stars", "mean_shear"):
            assert "too few" in texts(made[name]), (name, number)
    made = figures(bands, 300)
    for name in ("counts", "sizes", "psf", "around_stars", "mean_shear", "sky", "noise"):
        assert "too few" not in texts(made[name]), name
    assert ("three are needed" in texts(made["colors"])) == (bands == "one")


def test_rows_are_marked_by_their_flags() -> None:
    field, _ = looked_at("six")
    table = rows(field, 300)
    axis = field_figure(field, table).axes[0]
    good = axis.collections[0]
    assert len(good.get_offsets()) == (table["flags"] == 0).sum()
    marked: dict[Any, int] = {line.get_marker(): len(line.get_xdata()) for line in axis.lines}
    assert marked == {"s": 30, "x": 30}
    part = field_figure(field, table, Box(0, 0, 90, 80)).axes[0]
    assert 0 < len(part.collections[0].get_offsets()) < 120
    assert part.get_xlim() == (-0.5, 89.5)


def test_positions_that_are_not_known_do_no_harm() -> None:
    field, _ = looked_at("one")
    table = rows(field, 40)
    table.loc[3, ["x", "y", "e1", "half_light_radius"]] = np.nan
    assert to_png(field_figure(field, table), dpi=40).startswith(b"\x89PNG")


def test_a_lens_is_drawn_above_zero() -> None:
    rng = np.random.default_rng(2)
    places = rng.uniform(-60, 60, (3000, 2))
    phi = np.arctan2(places[:, 1], places[:, 0])
    g = -0.1 * np.stack([np.cos(2 * phi), np.sin(2 * phi)], axis=1)
    found = shear_around(np.zeros((3, 2)), places, g, np.geomspace(5.0, 60.0, 5))
    (axis,) = field_shear.shear_around_stars(found, 3).axes
    tangential, cross = (container.lines[0].get_ydata() for container in axis.containers)
    np.testing.assert_allclose(tangential, 0.1)
    np.testing.assert_allclose(cross, 0, atol=1e-12)


def test_a_sky_that_is_left_in_is_not_in_the_colours() -> None:
    places = positions(4, SHAPE)
    images = []
    for sky in (0.0, 500.0):
        axis = field_figure(
            star_field(places, np.full(4, 4000.0), SHAPE, ("i",), sky=sky), rows(looked_at("one")[0], 0)
        ).axes[0]
        images.append(np.asarray(axis.images[0].get_array()))
    np.testing.assert_allclose(images[0], images[1], atol=1e-3)
    assert np.ptp(images[0]) > 0.8


def test_a_sky_that_was_not_taken_off_is_mapped_by_what_it_varies_by() -> None:
    field, look = looked_at("one")
    maps = map_field(field, look.noise, np.empty(0), np.empty(0), np.empty(0))
    high = replace(maps, level=maps.level + 100.0)
    panel, bar = field_maps.sky_maps(high, field.names, SHAPE).axes
    assert panel.get_title().startswith("i: median 100")
    assert panel.images[0].get_clim()[1] < 3
    assert "less" in bar.get_ylabel()
