"""Figures of the comparison with other methods, and of m and c: their names and their scales."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from deblend_assets.science.evaluation.comparison import FLOOR, title_of
from deblend_assets.science.evaluation.shear import METHODS
from deblend_assets.science.peers import PEERS
from deblend_assets.science.reports.figures.peers import by_group, cost, errors
from deblend_assets.science.reports.figures.shear import biases, groups, responses
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.shear.calibration import REQUIRED_M

NAMES = ["ours", "ours, prior-free", "report", *(peer.name for peer in PEERS)]


def measure(value: float, error: float = 0.001) -> dict[str, float]:
    return {"value": value, "error": error}


def comparison() -> dict[str, Any]:
    groups = ["all", "blendedness > 0.05", "S/N, low third", "S/N, high third"]
    methods = {
        name: {
            "groups": {g: {kind: {"rms": measure(0.03 + 0.01 * k)} for kind in "eg"} for g in groups},
            "milliseconds": 10.0 * (k + 1),
        }
        for k, name in enumerate([*NAMES, FLOOR])
    }
    return {"n": 100, "methods": methods}


@pytest.mark.parametrize("figure", [errors(comparison()), by_group(comparison(), "e"), cost(comparison())])
def test_methods_have_their_proper_names(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    texts = [text.get_text() for text in figure.findobj(Text)]
    shown = " | ".join(texts)
    assert "sep_hsm" not in shown
    assert "prior-free" not in shown
    for name in NAMES:
        assert title_of(name) in texts, name


def test_every_peer_has_a_title_of_its_own() -> None:
    assert len({title_of(name) for name in [*NAMES, FLOOR]}) == len(NAMES) + 1


def shear(m: float) -> dict[str, Any]:
    sizes = {f"{q}{k}": measure(m if q == "m" else 1e-4, 1e-4) for q in "mc" for k in (1, 2)}
    routes = {"images": measure(0.9), "pairs": measure(0.91)}
    thirds = {f"{name}, {which} third": routes for name in ("S/N", "size") for which in ("low", "high")}
    methods: dict[str, Any] = {name: {"uncalibrated": sizes, "calibrated": sizes} for name in METHODS}
    for name in ("posterior", "sky"):
        methods[name]["image_response"] = {"calibrated": sizes, "groups": thirds}
    return {"methods": methods}


def test_every_calibration_of_every_method_has_a_row_and_every_route_a_name() -> None:
    rows = [label.get_text() for label in biases(shear(0.01)).axes[0].get_yticklabels()]
    assert len(rows) == len(set(rows)) == 2 * len(METHODS) + 2
    assert [row.split("\n")[0] for row in rows if row.endswith("own images")] == [METHODS["posterior"], METHODS["sky"]]
    figure = responses(shear(0.01))
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    names = {text.get_text() for text in legend.get_texts()}
    assert {name.split("\n")[0] for name in names} == {METHODS["posterior"], METHODS["sky"]}
    assert len(names) == 4
    assert 0 <= legend.get_window_extent().x0 < legend.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("m", [0.001, 0.04, 0.4])
def test_the_requirement_and_every_point_can_be_read(m: float) -> None:
    """The band of the requirement takes a tenth of the axis at least, the points lie inside, ticks do not overlap."""
    figure = biases(shear(m))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axis = figure.axes[0]
    place = axis.transData.transform
    ends = [place((x, 0))[0] for x in axis.get_xlim()]
    band = [place((x, 0))[0] for x in (-REQUIRED_M / 1e-3, REQUIRED_M / 1e-3)]
    assert band[1] - band[0] > 0.1 * (ends[1] - ends[0])
    assert ends[0] < place((m / 1e-3, 0))[0] < ends[1]
    boxes = sorted((label.get_window_extent().x0, label.get_window_extent().x1) for label in axis.get_xticklabels())
    assert all(after[0] > before[1] for before, after in itertools.pairwise(boxes))
    assert to_png(figure).startswith(b"\x89PNG")


def test_the_legend_of_every_method_fits_beneath_the_thirds() -> None:
    thirds = {f"{name}, {which} third": {"m": measure(0.01)} for name in ("S/N", "size") for which in ("low", "high")}
    figure = groups({"methods": {name: {"groups": thirds} for name in METHODS}})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == len(METHODS)
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
