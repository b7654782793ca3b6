"""The figure of the coverage: every group and quantity is on it, at its share."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.reports.figures.sky_coverage import coverage_by_group

NAMES, LEVELS = ("g1 g2", "ln_size"), (0.68, 0.95)


def test_every_group_and_quantity_is_shown() -> None:
    found = {
        group: {"n": n} | {f"{level:.0%}": {name: level - 0.01 * k for k, name in enumerate(NAMES)} for level in LEVELS}
        for group, n in (("all", 3000), ("masked", 200))
    }
    figure = coverage_by_group(found, NAMES, LEVELS)
    assert len(figure.axes) == len(LEVELS)
    for axis, level in zip(figure.axes, LEVELS, strict=True):
        assert f"{level:.0%}" in axis.get_xlabel()
        points = [list(axis.get_lines()[1 + k].get_xdata()) for k in range(len(NAMES))]
        np.testing.assert_allclose(points, [[level] * 2, [level - 0.01] * 2])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["all, 3,000", "masked, 200"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["g1 g2", "ln size"]
