"""A tile's figures draw what they are given, in the right frame, and none hides that a tile is simulated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from assets_tests.science.tile_tables import BANDS, TileTables, make_test_blends, tile_tables
from deblend_assets.science.des.likeness import Sample, compare
from deblend_assets.science.evaluation.against_truth import position_offsets
from deblend_assets.science.reports.figures import tile_catalog, tile_images, tile_shapes
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.tile_text import FIGURES
from deblend_assets.science.stamps.normalization import Normalization

TILE = "DES0000+6000"
NORMALIZATION = Normalization(BANDS, (300.0, 500.0, 600.0, 700.0, 400.0), 2.5)
ATTRITION = pd.DataFrame({"cut": ["rows returned", "snr_w > 20"], "removed": [0, 40], "left": [100, 60]})


def stamps(galaxies: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(5.0, 40.0, (galaxies, len(BANDS), 15, 15)).astype(np.float32)


def drawn(tables: TileTables, galaxies: int, simulated: bool) -> dict[str, Figure]:
    """Every figure of a tile's report."""
    which = {"tile": TILE, "simulated": simulated}
    evaluation = tables.evaluate(test_blends=make_test_blends(60))
    rows = tables.shapes.merge(tables.reference, on="coadd_objects_id")[:4]
    fluxes = np.random.default_rng(1).lognormal(8, 1, galaxies)
    samples = [Sample({"g": 20.0 * k, "r": 30.0}, {"r": 1.0}, fluxes) for k in (1, 2)]
    present = np.ones((galaxies, len(BANDS)), dtype=bool)
    present[:2, -1] = False
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
        "likeness": tile_images.likeness(compare(*samples, "r"), *samples, label_band="r", **which),
        "dynamic_range": tile_images.dynamic_range(stamps(galaxies), present, stamps(5, 2), NORMALIZATION, **which),
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


def test_ellipse_toward_the_north_east_points_up_and_left() -> None:
    """g2 > 0 in the sky frame is elongated along +x = +y, north-east: in pixels, where east is left, at 135°."""
    assert ellipse((0.0, 0.4)).angle % 180 == pytest.approx(135.0)
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


def test_dynamic_range_leaves_out_bands_without_image() -> None:
    """Zeros that stand for an absent band would be a spike at 0."""
    images = stamps(4) + 1e4
    present = np.ones((4, len(BANDS)), dtype=bool)
    present[0, 2], images[0, 2] = False, 0.0
    figure = tile_images.dynamic_range(images, present, stamps(3, 2), NORMALIZATION, tile=TILE, simulated=True)
    tile, _ = figure.axes[2].patches
    shares, edges, _ = tile.get_data()
    assert shares[edges[:-1] > 5e3].sum() > 0
    assert shares[edges[1:] < 5e3].sum() == 0


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
