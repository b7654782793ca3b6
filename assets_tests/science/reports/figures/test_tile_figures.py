"""A tile's figures draw what they are given, in the right frame, and none hides that a tile is simulated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from assets_tests.science.tile_tables import BANDS, TileTables, tile_tables
from deblend_assets.science.evaluation.against_truth import position_offsets
from deblend_assets.science.evaluation.tile_trust import evaluate_trust
from deblend_assets.science.reports.figures import tile_catalog, tile_images, tile_shapes
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.tile_text import FIGURES

TILE = "DES0000+6000"
ATTRITION = pd.DataFrame({"cut": ["rows returned", "snr_w > 20"], "removed": [0, 40], "left": [100, 60]})


def stamps(galaxies: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(5.0, 40.0, (galaxies, len(BANDS), 15, 15)).astype(np.float32)


def drawn(tables: TileTables, galaxies: int, simulated: bool) -> dict[str, Figure]:
    """Every figure of a tile's report."""
    which = {"tile": TILE, "simulated": simulated}
    evaluation = tables.evaluate()
    rows = tables.shapes.merge(tables.reference, on="coadd_objects_id")[:4]
    images = stamps(galaxies)
    images[:2, -1] = np.nan
    trust = evaluate_trust(tables.shapes, {"r": 1.2}, {"g": 1.0, "r": np.nan}, 0.2)
    figures = {
        "ellipses": tile_images.ellipses(
            stamps(len(rows))[:, 1],
            rows[["e_1", "e_2"]].to_numpy(),
            rows[["g1", "g2"]].to_numpy(),
            band="r",
            pixel_scale=0.2637,
            labels=["a", "b", "c", "d"],
            **which,
        ),
        "shapes_against_im3shape": tile_shapes.shapes_against_im3shape(
            tables.shapes, tables.reference, evaluation, **which
        ),
        "shape_distributions": tile_shapes.shape_distributions(tables.shapes, tables.reference, **which),
        "binned_slopes": tile_shapes.binned_slopes(evaluation, **which),
        "trust": tile_images.trust(trust, **which),
        "dynamic_range": tile_images.dynamic_range(images, np.full(images.shape[:2], 40.0), BANDS, **which),
        "catalog_distributions": tile_catalog.catalog_distributions(tables.reference[:galaxies], **which),
        "attrition": tile_catalog.attrition(ATTRITION, **which),
    }
    if simulated:
        offsets = position_offsets(tables.shapes, tables.truth)
        figures["truth_slopes"] = tile_shapes.truth_slopes(evaluation, tile=TILE)
        figures["positions"] = tile_images.positions(offsets["ra"], offsets["dec"], tile=TILE)
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("simulated", [True, False])
def test_every_figure_is_a_small_png_with_axes_named_and_its_tile_in_the_title(simulated: bool) -> None:
    figures = drawn(tile_tables(150), 150, simulated)
    assert set(figures) == {name for name in FIGURES if simulated or name not in ("truth_slopes", "positions")}
    for name, figure in figures.items():
        png = to_png(figure)
        assert len(png) < 200_000, name
        assert any(axis.get_xlabel() for axis in figure.axes), name
        assert TILE in figure.get_suptitle(), name
        assert ("simulated tile" in figure.get_suptitle().lower()) == simulated, name


@pytest.mark.slow
@pytest.mark.parametrize("galaxies", [0, 1, 3])
def test_figures_bear_tiles_of_hardly_any_galaxy(galaxies: int) -> None:
    full = tile_tables(30)
    tables = TileTables(full.shapes[:galaxies], full.reference, full.truth, full.cutout_flux)
    tables.shapes = tables.shapes.assign(g1=np.nan)
    for figure in drawn(tables, galaxies, simulated=True).values():
        to_png(figure, dpi=30)


def ellipse(sky_g: tuple[float, float]) -> Ellipse:
    """The second ellipse, ours, of a galaxy of this shape."""
    g = np.array([sky_g])
    figure = tile_images.ellipses(
        stamps(1)[:, 0], 0 * g, g, band="r", pixel_scale=0.2637, labels=[""], tile=TILE, simulated=False
    )
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, Ellipse)]
    assert patches[0].width == patches[0].height, "a circle for g = 0"
    return patches[1]


def test_ellipse_has_the_axis_ratio_of_a_shear_type_g() -> None:
    found = ellipse((0.3, 0.4))
    assert found.height / found.width == pytest.approx((1 - 0.5) / (1 + 0.5))


def test_ellipse_toward_the_north_west_points_up_and_right() -> None:
    """g2 > 0 in our catalogue's frame is elongated along +x = +y, north-west: at 45° in pixels, where west is right."""
    assert ellipse((0.0, 0.4)).angle % 180 == pytest.approx(45.0)
    assert ellipse((0.4, 0.0)).angle % 180 == pytest.approx(0.0)
    assert ellipse((-0.4, 0.0)).angle % 180 == pytest.approx(90.0)


def test_lines_are_those_of_the_evaluation() -> None:
    tables = tile_tables(300)
    evaluation = tables.evaluate()
    figure = tile_shapes.shapes_against_im3shape(tables.shapes, tables.reference, evaluation, tile=TILE, simulated=True)
    lines = {line.get_label().split(":")[0]: line for line in figure.axes[1].lines}
    for name, measure in (("least squares", "slope"), ("errors in variables", "eiv_slope")):
        x, y = lines[name].get_data()
        slope = evaluation["im3shape"]["shear"]["component2"][measure]["value"]
        assert np.diff(y)[0] / np.diff(x)[0] == pytest.approx(slope)
    points = figure.axes[1].lines[0]
    assert sorted(points.get_ydata()) == sorted(tables.shapes["g2"])


def test_dynamic_range_shows_present_bands_in_units_of_their_noise() -> None:
    images = np.random.default_rng(2).normal(0, 40.0, (4, len(BANDS), 31, 31)).astype(np.float32)
    images[0, 2] = np.nan
    images[1, 2] = 1e4
    figure = tile_images.dynamic_range(images, np.full((4, len(BANDS)), 40.0), BANDS, tile=TILE, simulated=True)
    for axis, place, unit in ((figure.axes[2], 1e4, 40.0), (figure.axes[len(BANDS) + 2], 250.0, 1.0)):
        (tile,) = axis.patches
        density, edges, _ = tile.get_data()
        shares = density * np.diff(np.arcsinh(edges / unit))
        assert shares.sum() == pytest.approx(1.0)
        assert shares[(edges[:-1] < 1.01 * place) & (edges[1:] > 0.99 * place)].sum() == pytest.approx(1 / 3)
        # Noise of the sky alone is the dashed line, but for the third that is not.
        x, y = axis.lines[0].get_data()
        here = np.interp(0.0, x, y)
        assert density[np.searchsorted(edges, 0.0) - 1] == pytest.approx(2 / 3 * here, rel=0.2)


def test_flags_and_comparisons_are_drawn_as_they_are() -> None:
    found = evaluate_trust(tile_tables(200).shapes, {"r": 1.2}, {"g": 1.0}, 0.2)
    left, right = tile_images.trust(found, tile=TILE, simulated=True).axes
    assert [bar.get_width() for bar in left.patches] == pytest.approx([5.0, 5.0, 5.0])
    assert [label.get_text() for label in left.get_yticklabels()] == ["any", "SKY", "BAD_FIT"]
    (dots,) = [c for c in right.collections if c.get_label().startswith("measured")]
    assert dots.get_offsets()[:, 0].tolist() == pytest.approx([1.25, 1.0])


def test_attrition_bars_are_the_counts() -> None:
    figure = tile_catalog.attrition(ATTRITION, tile=TILE, simulated=True)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [100, 60, 0, 40]


def test_positions_are_drawn_as_on_the_sky() -> None:
    figure = tile_images.positions(np.array([0.05]), np.array([0.01]), tile=TILE)
    low, high = figure.axes[0].get_xlim()
    assert low > high, "east is to the left"


def same_bytes(draw: Callable[[], Figure]) -> bool:
    return to_png(draw(), dpi=40) == to_png(draw(), dpi=40)


def test_the_same_figure_is_the_same_bytes() -> None:
    tables = tile_tables(60)
    assert same_bytes(lambda: tile_catalog.catalog_distributions(tables.reference, tile=TILE, simulated=True))
