"""Figures are the same whoever draws them."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.reports.figures.style import new_figure
from deblend_assets.steps.fields.drawing import drawn


def test_processes_draw_what_one_draws() -> None:
    figures = {}
    for k, name in enumerate(("first", "second", "third")):
        figures[name] = new_figure(2, 1)
        figures[name].subplots().imshow(np.arange(12.0).reshape(3, 4) ** k)
    alone, together = (drawn(figures, ("second",), processes) for processes in (1, 2))
    assert list(alone) == list(together) == list(figures)
    assert alone == together
    assert len(set(alone.values())) == 3
