"""The page of the worlds: every method and world is on it, what is unknown is a dash."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from assets_tests.science.evaluation.world_tables import BANDS, estimate_table, floor_table, true_table
from deblend_assets.science.evaluation.world_methods import METHODS, title_of
from deblend_assets.science.evaluation.worlds import evaluate_world
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.figures.world_methods import over_floor, pair_fluxes, silent_failures, slopes
from deblend_assets.science.reports.worlds import CAPTIONS, worlds_report


@lru_cache(maxsize=1)
def worlds() -> dict[str, dict[str, Any]]:
    truth = true_table(250)
    tables = {
        "network": estimate_table(truth, slope=0.9, seed=4),
        "sep_hsm": estimate_table(truth, size=2.0),
        "scarlet2": estimate_table(truth, stated=None, flux=0.1).head(120),
    }
    floor = floor_table(truth)
    return {
        name: evaluate_world(truth, tables, floor, BANDS, pairs=name == "pairs", resamples=3, seed=1)
        for name in ("sky_lsst", "pairs")
    }


def test_every_world_and_method_is_on_the_page() -> None:
    figures = {"sky_lsst": {"over_floor": b"one"}}
    page = worlds_report(worlds(), {"pairs": "Two sources."}, figures, b"two", {"seed": "1"})
    for text in ("sky_lsst", "pairs", "Two sources.", "pair: &lt;\u00a01.2 FWHM, within 1 mag"):
        assert text in page
    for name in ("network", "sep_hsm", "scarlet2"):
        assert title_of(name) in page
        assert METHODS[name][1].split(" (")[0].replace("'", "&#x27;") in page
    assert page.count("<figure>") == 2
    assert CAPTIONS["over_floor"] in page
    assert "None" not in page
    assert ">nan<" not in page


@pytest.mark.parametrize("name", ["over_floor", "slopes_g", "slopes_e", "pair_fluxes", "silent_failures"])
def test_figures_show_every_method(name: str) -> None:
    pairs = worlds()["pairs"]
    figure = {
        "over_floor": lambda: over_floor(pairs, "r"),
        "slopes_g": lambda: slopes(pairs, "g", "r"),
        "slopes_e": lambda: slopes(pairs, "e", "r"),
        "pair_fluxes": lambda: pair_fluxes(pairs, "r"),
        "silent_failures": lambda: silent_failures(worlds()),
    }[name]()
    assert to_png(figure).startswith(b"\x89PNG")
    labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert labels == {title_of(method) for method in pairs["methods"]}
    for axis in figure.axes:
        assert axis.get_xlabel() or axis.get_subplotspec().rowspan.stop < 2
