"""The benchmark of the checks: its damages are what they say, its tables count them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import field_check_fields
from benchmarks.field_check_fields import PSF_CELLS, DamagedField, benchmark_field, other_profile
from benchmarks.field_checks import DAMAGES, JudgedField, found_table, judged, right_table
from deblend_assets.science.images.field_checks.report import CHECKS, Check, FieldReport
from deblend_assets.science.skies.psf import PSFModel
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.settings import CatalogSettings


@pytest.mark.parametrize(
    "psf",
    [
        PSFModel("moffat", 0.8, 2.5, 0.05),
        PSFModel("moffat", 0.8, 4.5),
        PSFModel("kolmogorov", 0.7, g2=-0.03),
        PSFModel("gaussian", 0.9),
    ],
)
def test_another_profile_has_the_same_fwhm_and_shape(psf: PSFModel) -> None:
    right = measure_psf(psf.profile())
    for seed in range(4):
        other = other_profile(psf, np.random.default_rng(seed))
        assert isinstance(other, PSFModel)
        assert (other.atmosphere, other.beta) != (psf.atmosphere, psf.beta)
        wrong = measure_psf(other.profile())
        assert wrong.fwhm == pytest.approx(right.fwhm, rel=2e-3)
        assert abs(wrong.g - right.g) < 1e-3
        assert abs(wrong.sigma / right.sigma - 1) > 0.02


def judged_field(**values: float) -> JudgedField:
    """A field of one band whose checks have value 0 undamaged, and these where their own damage was done."""
    right = FieldReport(tuple(Check.of(name, "i", 0.0, 1e-3, "") for name in CHECKS))
    damaged = {name: [Check.of(check, "i", values.get(check, 9.0), 1e-3, "")] for name, (_, check) in DAMAGES.items()}
    return JudgedField("LSST", {"i": 25}, right, damaged)


def test_tables_count_what_was_found() -> None:
    fields = [judged_field(), judged_field(psf_size=0.02)]
    rows = {row[0]: row[1:] for row in found_table(fields).rows}
    assert rows["PSF 5 % too large or small"] == ("50.0 % (1 of 2)", "psf_size: 50.0 % (1 of 2)", "0.02, 0.47")
    assert rows["unit wrong by 10"][0] == "100.0 % (2 of 2)"
    assert rows["nothing (false alarms)"][0] == "0.0 % (0 of 2)"
    assert {row[0]: row[-1] for row in right_table(fields).rows} == dict.fromkeys(CHECKS, "0.0 % (0 of 2)")


@pytest.mark.slow
def test_a_small_field_is_judged(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_check_fields, "PIXELS", 320)
    galaxies = sky_catalog(table, CatalogSettings(), "validation", "training")
    made = benchmark_field(1, "validation", galaxies)
    field = judged(DamagedField(made.sky, made.light, made.truth, PSF_CELLS, 1, "validation"), 1, "validation")
    assert field.survey == "DES"
    assert not field.right.failed
    assert not field.starry, "on a sixth of the benchmark's area there are too few"
    for name in ("correlated noise called white", "variance wrong by 1.5"):
        check = DAMAGES[name][1]
        assert [c.verdict for c in field.damaged[name] if c.name == check] == ["failed"]
