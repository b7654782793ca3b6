"""Figures as PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageColor

from assets_tests.blank_figures.sitecustomize import DRAWING, FUNCTION, blank
from deblend_assets.science.reports.figures import style
from deblend_assets.science.reports.figures.style import MARKS, new_figure, to_png


@pytest.mark.parametrize("dither", [False, True])
def test_a_palette_keeps_the_colours_of_marks(dither: bool) -> None:
    """A few pixels of them over an image of so many colours that it is shown in 256."""
    figure = new_figure(3.5, 3.5)
    axis = figure.subplots()
    axis.imshow(np.random.default_rng(1).normal([0.2, 0.25, 0.3], 0.05, (200, 200, 3)).clip(0, 1))
    for n, mark in enumerate(MARKS):
        axis.plot(35 * n + 25, 100, "s", color=mark, markersize=6)
    with Image.open(io.BytesIO(to_png(figure, dither=dither))) as opened:
        assert opened.mode == "P"
        shown = {colour for _, colour in opened.convert("RGB").getcolors(1 << 20)}
    assert {ImageColor.getrgb(mark) for mark in MARKS} <= shown


def test_figures_that_nobody_looks_at_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn, they take most of a small run's time: the replacement must be of what draws."""
    assert style.__name__ == DRAWING
    monkeypatch.setattr(style, FUNCTION, blank)
    figure = new_figure(2, 2)
    monkeypatch.setattr(FigureCanvasAgg, "draw", None)
    assert to_png(figure) == blank(figure, 90, False)
