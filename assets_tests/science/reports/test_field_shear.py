"""The page and figures of fields of known shear."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pandas as pd
import pytest

from assets_tests.science.field_shear.catalogs import SHEAR, STEP, Truth, tables
from deblend_assets.science.field_shear.evaluation import evaluate_fields
from deblend_assets.science.reports.field_shear import field_shear_report
from deblend_assets.science.reports.figures.shear_of_fields import errors, methods_beside, our_bins
from deblend_assets.science.reports.figures.style import to_png


@lru_cache(maxsize=1)
def evaluation() -> dict[str, Any]:
    sums, facts = tables(Truth(m1=0.01), fields=8, galaxies=300, bins=True)
    shown = [("sep_hsm", "exact"), ("ours", "exact"), ("ours", "size_1")]
    parts = [[table.assign(method=m, condition=c) for m, c in shown] for table in (sums, facts)]
    return evaluate_fields(*(pd.concat(part, ignore_index=True) for part in parts), SHEAR, STEP)


def test_every_method_condition_and_bin_is_on_the_page() -> None:
    page = field_shear_report(evaluation(), {"methods": b"1", "bins_LSST": b"2"}, {"seed": "1"})

    assert page.index("LSST: ours") < page.index("LSST: SEP + HSM")
    for text in ("LSST: ours", "LSST: SEP + HSM", "PSF given 1\u00a0% too large", "15 to 25", "not known", "n_eff"):
        assert text in page
    assert page.count("data:image/png") == 2


def test_figures_have_axes_with_units_and_legends() -> None:
    found = evaluation()
    for figure in (methods_beside(found), errors(found), our_bins(found["LSST"]["methods"]["ours"], "LSST")):
        assert all(axis.get_xlabel() for axis in figure.axes)
        assert figure.legends
    left, right = methods_beside(found).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["LSST: ours", "LSST: SEP + HSM"]
    assert "10$^{-4}$" in right.get_xlabel()


def test_points_are_the_numbers() -> None:
    found = evaluation()
    left = methods_beside(found).axes[0]
    first = left.containers[0].lines[0].get_xdata()[0]

    assert first == pytest.approx(1e3 * found["LSST"]["methods"]["ours"]["all"]["m1"]["value"])


@pytest.mark.parametrize("empty", [0, 1])
def test_fields_without_galaxies_have_a_page_without_their_n_eff(empty: int) -> None:
    sums, facts = tables(Truth(), fields=4, galaxies=20)
    sums.loc[sums["field"] > empty, ["n", "weight", "g1", "g2", "psf_g1", "psf_g2"]] = 0.0
    found = evaluate_fields(sums, facts, SHEAR, STEP)
    ours = found["LSST"]["methods"]["ours"]

    assert ours["all"]["m2"]["value" if empty == 0 else "error"] is None
    assert ours["all"]["m"]["error"] is None
    assert (ours["n_eff"]["value"] is None) == (empty == 0)
    assert ours["n_eff"]["value"] is None or ours["n_eff"]["error"] > 0
    assert "not known" in field_shear_report(found, {"methods": to_png(methods_beside(found))}, {})
