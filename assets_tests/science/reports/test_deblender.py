"""Figures draw whatever the table holds; the report is whole, self-contained and escapes what it is given."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from assets_tests.science.conftest import BANDS
from deblend_assets.science.evaluation.deblender import Evaluation, evaluate
from deblend_assets.science.reports.deblender import evaluation_report
from deblend_assets.science.reports.deblender_text import FIGURES
from deblend_assets.science.reports.figures import accuracy, distributions, ellipticities, style, training
from deblend_assets.science.reports.figures import images as image_figures
from deblend_assets.science.reports.page import Picture, Section, render_report
from deblend_assets.science.stamps.conventions import position_angle
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.statistics.format import Table, format_measure

Make = Callable[..., pd.DataFrame]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def evaluation(make_estimates: Make) -> Evaluation:
    return evaluate(make_estimates(300), BANDS, "r", resamples=20, seed=4)


def stamps(scenes: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(5.0, 40.0, (scenes, 2, 15, 15)).astype(np.float32)


NORMALIZATION = Normalization(("g", "r"), (300.0, 500.0), 2.5)
HISTORY = [
    {"epoch": k + 1.0, "train_total": 9.0 - k, "validation_total": 9.5 - k, "train_kl": 1.0, "validation_kl": 1.1}
    for k in range(3)
]


def figures_of_tables(estimates: pd.DataFrame, evaluation: Evaluation) -> dict[str, Figure]:
    return {
        "similarity": distributions.similarity(estimates),
        "ellipticity_scatter": ellipticities.ellipticity_scatter(estimates),
        "ellipticity_distributions": distributions.ellipticity_distributions(estimates),
        "binned_accuracy": accuracy.binned_accuracy(evaluation),
        "flux_error": accuracy.flux_error(evaluation),
        "loss_stage1": training.loss_curves(HISTORY, "stage 1"),
    }


def figures_of_stamps() -> dict[str, Figure]:
    images, labels = stamps(3)[:, 1], ["a", "b", "c"]
    shapes = np.array([[0.1, 0.2], [-0.3, 0.0], [np.nan, np.nan]])  # the last could not be measured
    look: dict[str, Any] = {"band": "r", "pixel_scale": 0.2}
    return {
        "reconstructions": image_figures.reconstructions(images, images, 0.9 * images, labels=labels, **look),
        "ellipses": ellipticities.ellipses(images, shapes, shapes, labels=labels, **look),
        "dynamic_range": image_figures.dynamic_range(stamps(3), NORMALIZATION),
        "raw_and_normalized": image_figures.raw_and_normalized(stamps(1)[0], NORMALIZATION, **look),
    }


def test_every_figure_is_a_small_png_with_units_on_its_axes(make_estimates: Make, evaluation: Evaluation) -> None:
    for name, figure in (figures_of_tables(make_estimates(300), evaluation) | figures_of_stamps()).items():
        png = style.to_png(figure)
        assert png.startswith(PNG), name
        assert len(png) < 200_000, name
        labels = [axis.get_xlabel() + axis.get_ylabel() for axis in figure.axes]
        assert any(labels), name
        assert name in FIGURES, "a figure without a caption"


@pytest.mark.parametrize("scenes", [1, 2])
def test_figures_bear_tables_of_hardly_any_scene(make_estimates: Make, scenes: int) -> None:
    """All reconstructions of a table of one scene have failed; all estimates are one and the same."""
    estimates = make_estimates(scenes)
    estimates[["e1_regressor", "e2_regressor"]] = 0.0
    for figure in figures_of_tables(estimates, evaluate(estimates, BANDS, "r", resamples=20, seed=4)).values():
        assert style.to_png(figure, dpi=30).startswith(PNG)


def test_the_same_figure_is_the_same_bytes(make_estimates: Make) -> None:
    first, second = (style.to_png(distributions.similarity(make_estimates(50)), dpi=40) for _ in range(2))
    assert first == second


def test_drawn_ellipse_has_the_axis_ratio_and_angle_of_its_distortion() -> None:
    """e = (a² - b²)/(a² + b²), and θ = ½ atan2(e2, e1) from +x towards +y."""
    e1, e2 = -0.3, 0.4
    shape = np.array([[e1, e2]])
    figure = ellipticities.ellipses(stamps(1)[:, 0], shape, -shape, band="r", pixel_scale=0.2, labels=[""])
    true, found = (patch for patch in figure.axes[0].patches if isinstance(patch, Ellipse))
    a2, b2 = true.width**2, true.height**2
    assert (a2 - b2) / (a2 + b2) == pytest.approx(0.5)
    assert np.radians(true.angle) == pytest.approx(position_angle(np.array(e1), np.array(e2)))
    assert abs(true.angle - found.angle) == pytest.approx(90.0), "opposite signs of both components lie across"
    assert figure.axes[0].images[0].origin == "lower"


def test_reconstruction_panels_hold_what_their_titles_say() -> None:
    blended, isolated, found = (stamps(2, seed)[:, 0] for seed in (1, 2, 3))
    figure = image_figures.reconstructions(blended, isolated, found, labels=["a", "b"], band="g", pixel_scale=0.2)
    panels = {axis.get_title(): axis.images[0].get_array() for axis in figure.axes[:4]}
    np.testing.assert_array_equal(panels["blend"], blended[0])
    np.testing.assert_array_equal(panels["isolated truth"], isolated[0])
    np.testing.assert_array_equal(panels["reconstruction"], found[0])
    np.testing.assert_array_equal(panels["difference"], found[0] - isolated[0])


def test_error_contours_hold_their_share_of_a_gaussian(make_estimates: Make) -> None:
    """Of a round Gaussian, 68 % lie within 1.510 σ and 95 % within 2.448 σ: √(-2 ln(1 - share))."""
    assert ellipticities.CONTOURS == (0.68, 0.95)
    estimates = make_estimates(20_000, slope=1.0, noise=0.06)
    axis = ellipticities.ellipticity_scatter(estimates).axes[3]
    regressor = axis.collections[0]
    reach = [path.get_extents().width / 2 / 0.06 for path in regressor.get_paths()]
    outer, inner = reach  # levels rise inwards
    assert inner == pytest.approx(1.510, rel=0.06)
    assert outer == pytest.approx(2.448, rel=0.06)


def test_error_contours_have_no_islands(make_estimates: Make) -> None:
    """A few errors far out are no contour of their own."""
    estimates = make_estimates(2_000, slope=1.0, noise=0.03)
    rows = estimates.index[:40]
    estimates.loc[rows, "e1_regressor"] += np.linspace(-0.3, 0.3, len(rows))
    regressor = ellipticities.ellipticity_scatter(estimates).axes[3].collections[0]
    assert [len(path.to_polygons()) for path in regressor.get_paths()] == [1, 1]


def test_one_epoch_is_shown_as_points_with_their_values() -> None:
    figure = training.loss_curves([HISTORY[0] | {"learning_rate": 1e-6}], "stage 1")
    assert len(figure.axes) == 2, "a panel for each loss, none for the learning rate"
    for axis in figure.axes:
        assert [label.get_text() for label in axis.get_xticklabels()] == ["training", "validation"]
        assert all(len(line.get_xdata()) == 1 and line.get_marker() in "os" for line in axis.lines)
    assert [text.get_text() for text in figure.axes[0].texts] == ["9", "9.5"]
    assert "1e-06" in figure.get_suptitle()


def test_legends_stand_off_the_points(make_estimates: Make, evaluation: Evaluation) -> None:
    """A legend lies outside the panels, or above its own."""
    for name, figure in figures_of_tables(make_estimates(300), evaluation).items():
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes)]
        assert any(legends), name
        for legend in filter(None, legends):
            box = legend.get_window_extent(renderer)
            for axis in figure.axes:
                panel = axis.get_window_extent(renderer)
                assert min(box.x1, panel.x1) - max(box.x0, panel.x0) < 1 or (
                    min(box.y1, panel.y1) - max(box.y0, panel.y0) < 1
                ), name


def test_similarity_figure_marks_our_means_and_the_reports(make_estimates: Make) -> None:
    estimates = make_estimates(100)
    legend = distributions.similarity(estimates).axes[0].get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    assert f"mean {estimates['ssim_stage2'].mean():.4f}" in texts
    assert "the report's mean 0.932" in texts


class Page(HTMLParser):
    """Tags that a page opens, and its images' sources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]


def test_report_holds_every_figure_and_needs_nothing_else(evaluation: Evaluation) -> None:
    given = {name: PNG + name.encode() for name in (*FIGURES, "something_new")}
    html = evaluation_report(evaluation, given, {"profile": "smoke"})
    page = Page(html)
    shown = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in page.sources]
    assert sorted(shown) == sorted(given.values())
    assert all(source.startswith("data:") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http" not in html
    for _, caption in FIGURES.values():
        assert caption in unescape(html)


def test_report_states_the_numbers_beside_the_published(evaluation: Evaluation) -> None:
    text = re.sub(
        r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", evaluation_report(evaluation, {}, {"profile": "smoke"})))
    )
    ours = format_measure(evaluation["similarity"]["ssim"]["images"]["stage2"]["mean"]).replace("\u00a0", " ")
    assert f"SSIM, stage 2 on blends (t2) {ours} 0.932 digitised from the report's Fig. 13" in text
    slope = format_measure(evaluation["estimators"]["regressor"]["e2"]["slope"]).replace("\u00a0", " ")
    assert f"regressor: slope, e2 {slope} 0.70" in text
    assert "300 held-out scenes" in text
    assert "moments of the reconstruction 3." in text, "failures are stated"
    assert "profile smoke" in text


def test_report_of_hardly_any_scene_has_dashes(make_estimates: Make) -> None:
    html = evaluation_report(evaluate(make_estimates(3), BANDS, "r", resamples=20, seed=4), {}, {})
    assert "–" in html
    assert "None" not in html
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)


def test_hostile_text_is_escaped_everywhere() -> None:
    hostile = "<script>alert('x')</script>\"&"
    table = Table((hostile,), ((hostile,),), hostile, hostile)
    section = Section(hostile, (hostile,), (table,), (Picture(PNG, hostile),))
    html = render_report(hostile, table, [section], {hostile: hostile})
    assert "script" not in Page(html).tags
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 17
