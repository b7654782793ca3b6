"""The evaluation of a tile: what was put into its tables is what it finds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.tile_tables import BANDS, SCATTER, TileTables, tile_tables
from deblend_assets.errors import MismatchError
from deblend_assets.science.evaluation.against_truth import errors_hold, position_offsets
from deblend_assets.science.evaluation.tile import flat_numbers, orientation


def within(measure: dict[str, float], expected: float, sigmas: float = 4.0) -> bool:
    return abs(measure["value"] - expected) < sigmas * measure["error"]


def test_noise_of_the_reference_attenuates_one_slope_and_not_the_other() -> None:
    """cov/(var + σ²) against cov/var: 0.8 becomes 0.8 · 0.04/(0.04 + 0.01) = 0.64."""
    tables = tile_tables(8000)
    found = tables.evaluate(known=False)["im3shape"]["shear"]
    for component in ("component1", "component2", "both"):
        assert within(found[component]["slope"], 0.8 * SCATTER**2 / (SCATTER**2 + 0.1**2))
        assert within(found[component]["eiv_slope"], 0.8)
        assert found[component]["slope"]["error"] < 0.02
        assert abs(found[component]["slope"]["value"] - 0.8) > 6 * found[component]["slope"]["error"]
    rms = np.sqrt((0.2 * SCATTER) ** 2 + 0.1**2 + 0.05**2)
    assert found["both"]["rms"]["value"] == pytest.approx(rms, rel=0.03)
    ratio = np.sqrt((0.8 * SCATTER) ** 2 + 0.05**2) / np.hypot(SCATTER, 0.1)
    assert found["component1"]["scatter_ratio"]["value"] == pytest.approx(ratio, rel=0.03)
    assert found["modulus"]["slope"]["value"] is not None
    assert found["modulus"]["eiv_slope"]["value"] is None, "the modulus' error has no zero mean"


def test_exact_reference_has_one_slope() -> None:
    tables = tile_tables(500, noise=0.0, reference_noise=0.0)
    found = tables.evaluate(known=False)["im3shape"]["shear"]
    for component in ("component1", "component2", "both"):
        assert found[component]["slope"]["value"] == pytest.approx(0.8)
        assert found[component]["eiv_slope"]["value"] == pytest.approx(0.8)
    assert found["component1"]["eiv_intercept"]["value"] == pytest.approx(0.0, abs=1e-12)


def test_errors_larger_than_the_scatter_leave_no_slope_rather_than_a_negative_one() -> None:
    tables = tile_tables(100)
    tables.reference["e_sigma"] = 1.0
    assert tables.evaluate(known=False)["im3shape"]["shear"]["component1"]["eiv_slope"]["value"] is None


def test_each_comparison_has_its_own_columns() -> None:
    tables = tile_tables(4000, reference_noise=1e-3, noise=1e-3)
    found = tables.evaluate(known=False)["im3shape"]
    # d(distortion)/dg = 2 for small g, and the tables observe 0.4 of it; the mean slope is a little lower.
    assert found["shear"]["both"]["slope"]["value"] == pytest.approx(0.8, abs=0.01)
    assert found["distortion"]["both"]["slope"]["value"] == pytest.approx(0.8 * 0.4 * 1.75, abs=0.05)


def test_an_offset_of_a_thousandth_is_seen() -> None:
    tables = tile_tables(20_000, noise=0.01, slope=1.0, reference_noise=0.01)
    before = tables.evaluate(known=False)["im3shape"]["shear"]["component1"]["bias"]
    tables.shapes["g1"] += 0.001
    found = tables.evaluate(known=False)
    after = found["im3shape"]["shear"]["component1"]["bias"]
    assert after["value"] - before["value"] == pytest.approx(0.001)
    assert after["value"] > 4 * after["error"]
    assert found["im3shape"]["shear"]["component2"]["bias"]["value"] < 4 * after["error"]


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        ((1, 1), "right"),
        ((1, -1), "component 2 has the wrong sign"),
        ((-1, 1), "component 1 has the wrong sign"),
        ((-1, -1), "both components have the wrong sign"),
    ],
)
def test_a_swapped_sign_is_reported(signs: tuple[int, int], said: str) -> None:
    tables = tile_tables(300)
    for sign, component in zip(signs, ("g1", "g2"), strict=True):
        tables.shapes[component] *= sign
    found = tables.evaluate()
    assert found["orientation"] == said
    assert found["truth"]["orientation"] == said


def test_noise_alone_has_no_orientation() -> None:
    tables = tile_tables(300, slope=0.0)
    assert tables.evaluate(known=False)["orientation"] == "undecided"
    assert orientation({"value": 1.0, "error": None}, {"value": 1.0, "error": 0.1}) == "undecided"


def test_mean_shear_is_that_of_the_formula() -> None:
    """By hand: γ = Σ w (e - c)/Σ w (1 + m), which a division of each galaxy by its 1 + m would not give."""
    tables = tile_tables(12, noise=0.0)
    rng = np.random.default_rng(1)
    e1, w, m = rng.normal(0, 0.2, 12), rng.uniform(5, 20, 12), rng.uniform(-0.2, 0.0, 12)
    tables.reference = tables.reference.assign(e_1=e1, w=w, nbc_m=m, nbc_c1=0.01)
    found = tables.evaluate(known=False)["mean_shear"]
    assert found["n"] == 12
    assert found["im3shape_1"]["value"] == pytest.approx((w * (e1 - 0.01)).sum() / (w * (1 + m)).sum())
    assert found["ours_1"]["value"] == pytest.approx(tables.shapes["g1"].mean())
    difference = found["ours_1"]["value"] - found["im3shape_1"]["value"]
    assert found["difference_1"]["value"] == pytest.approx(difference)


def test_a_known_shear_is_found_by_both_catalogues() -> None:
    tables = tile_tables(20_000, slope=1.0)
    tables.reference["e_1"] = (tables.reference["e_1"] + 0.02) * 0.95 + 1e-3  # the biases that m and c describe
    tables.shapes["g1"] += 0.02
    found = tables.evaluate(known=False)["mean_shear"]
    assert within(found["im3shape_1"], 0.02)
    assert within(found["ours_1"], 0.02)
    assert within(found["difference_1"], 0.0)
    assert found["difference_1"]["error"] < found["ours_1"]["error"], "the scatter of shapes is common to both"


def test_bins_hold_their_own_galaxies() -> None:
    tables = tile_tables(3000, noise=0.0, reference_noise=0.0, slope=1.0)
    much = tables.shapes["blendedness"] >= 0.05
    tables.shapes.loc[much, "g1"] += np.random.default_rng(2).normal(0, 0.3, int(much.sum()))
    bins = tables.evaluate(known=False)["bins"]
    *clean, blended = bins["blendedness"]
    assert [b["component1"]["rms"]["value"] for b in clean] == [0.0, 0.0]
    assert blended["component1"]["rms"]["value"] == pytest.approx(0.3, rel=0.1)
    assert [b["n"] for b in bins["snr_w"]] == [1000, 1000, 1000]
    assert [b["n"] for b in bins["bands"]] == [2940, 60]


def test_missing_bands_are_counted() -> None:
    tables = tile_tables(200)
    tables.shapes.loc[:2, "bands_present"] = "grY"
    assert tables.evaluate(known=False)["missing_bands"] == {"g": 0, "r": 0, "i": 3, "z": 3, "Y": 3}


def test_failures_are_counted_and_left_out() -> None:
    tables = tile_tables(100)
    tables.shapes.loc[3, "g1"] = np.nan
    tables.shapes.loc[4, "g2"] = np.inf
    found = tables.evaluate()
    assert found["im3shape"]["shear"]["failures"] == 2
    assert found["im3shape"]["distortion"]["failures"] == 0
    assert found["truth"]["shapes"]["g"]["failures"] == 2
    assert found["mean_shear"]["n"] == 98


def test_against_truth_slopes_and_pulls_are_those_put_in() -> None:
    found = tile_tables(4000).evaluate()["truth"]
    for kind in ("g", "e"):
        for k in (1, 2):
            assert within(found["shapes"][kind][f"{kind}{k}"]["slope"], 0.8)
    # (0.2 · 0.2)² + 0.05² over 0.05².
    assert found["pulls"]["g"]["pull"]["value"] == pytest.approx(np.sqrt(0.04**2 + 0.05**2) / 0.05, rel=0.03)
    assert (found["matched"], found["labelled"]) == (4000, 4000)


def test_position_offsets_know_the_sphere() -> None:
    """0.1 s of arc eastward at δ = 60° is 0.2 s of right ascension, also across RA 0."""
    shapes = pd.DataFrame({"coadd_objects_id": [1, 2], "ra": [0.1 / 3600, 10.0], "dec": [60.0, 0.0]})
    truth = pd.DataFrame({"coadd_objects_id": [2, 1], "ra": [10.0, 360.0 - 0.1 / 3600], "dec": [0.3 / 3600, 60.0]})
    found = position_offsets(shapes, truth)
    np.testing.assert_allclose(found["ra"], [0.1, 0.0], atol=1e-8)
    np.testing.assert_allclose(found["dec"], [0.0, -0.3], atol=1e-8)
    tables = tile_tables(1000)
    tables.shapes["ra"] = (tables.shapes["ra"] + 0.05 / 3600 / np.cos(np.radians(tables.shapes["dec"]))) % 360.0
    position = tables.evaluate()["truth"]["position"]
    assert position["mean_ra"]["value"] == pytest.approx(0.05, abs=1e-6)
    assert within(position["mean_dec"], 0.0)
    assert position["rms_dec"]["value"] == pytest.approx(0.02, rel=0.1)
    assert 0.05 < position["median_total"]["value"] < 0.07


def test_flux_ratios_are_in_one_unit() -> None:
    found = tile_tables(2000).evaluate()["truth"]
    for band in BANDS:
        assert within(found["cutout_flux"][band]["ratio"], 1.0)
        assert found["cutout_flux"][band]["ratio"]["error"] < 0.01
        assert found["flux"][band]["median"]["value"] == pytest.approx(0.98, abs=0.006)
        assert found["flux"][band]["robust_sigma"]["value"] == pytest.approx(0.05, rel=0.15)
    assert found["cutout_flux"]["r"]["n"] > found["cutout_flux"]["Y"]["n"] > 500


def test_rows_without_a_flag_are_judged_by_themselves() -> None:
    tables = tile_tables(2000, slope=1.0)
    flagged = tables.shapes["flags"] != 0
    tables.shapes.loc[flagged, ["g1", "g2", "flux_r"]] *= 10.0
    truth = tables.evaluate()["truth"]
    assert truth["trusted"]["n"] == int((~flagged).sum()) == 1900
    assert truth["pulls"]["g"]["pull"]["value"] > 5
    assert within(truth["trusted"]["pulls"]["g"]["pull"], 1.0)
    assert within(truth["trusted"]["pulls"]["g"]["within"], 0.6827)
    assert within(truth["trusted"]["shapes"]["g"]["g1"]["slope"], 1.0)
    assert truth["trusted"]["errors_hold"] == {"g": True, "e": True}
    assert truth["flux"]["r"]["n"] == 1900
    assert truth["flux"]["r"]["median"]["value"] == pytest.approx(0.98, abs=0.006)
    tables.shapes[["g_cov_11", "g_cov_22"]] /= 4
    assert tables.evaluate()["truth"]["trusted"]["errors_hold"] == {"g": False, "e": True}


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (1.14, 0.01, True),
        (1.18, 0.02, True),
        (1.2, 0.02, False),
        (0.8, 0.02, False),
        (0.82, 0.02, True),
        (None, 1, None),
    ],
)
def test_errors_hold_within_the_limit_beyond_two_standard_errors(
    value: float | None, error: float, verdict: bool | None
) -> None:
    assert errors_hold({"value": value, "error": error}) is verdict


def test_e_of_another_band_is_not_held_against_the_truth_s() -> None:
    tables = tile_tables(400)
    tables.shapes.loc[:99, "reference_band"] = "i"
    truth = tables.evaluate()["truth"]
    assert truth["shapes"]["e"]["failures"] == 100
    assert truth["shapes"]["g"]["failures"] == 0


def test_the_pull_of_a_flux_is_its_error_s() -> None:
    tables = tile_tables(3000)
    truth = tables.truth.set_index("coadd_objects_id").loc[tables.shapes["coadd_objects_id"]]
    true = truth["flux_i"].to_numpy() * 10 ** (0.4 * (31.4 - 30.0))
    noise = np.random.default_rng(3).normal(size=len(true))
    tables.shapes["flux_i_err"] = 0.1 * true
    tables.shapes["flux_i"] = true * (1 + 0.2 * noise)
    found = tables.evaluate()["truth"]["flux"]["i"]
    assert within(found["pull"], 2.0)
    assert found["median"]["value"] == pytest.approx(1.0, abs=4 * found["median"]["error"])


@pytest.mark.parametrize("galaxies", [0, 1, 9, 10, 60])
@pytest.mark.parametrize("known", [True, False])
def test_json_without_nan_whatever_the_number_of_galaxies(galaxies: int, known: bool) -> None:
    full = tile_tables(60)
    tables = TileTables(full.shapes[:galaxies], full.reference, full.truth, full.cutout_flux)
    evaluation = tables.evaluate(known)
    assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
    slope = evaluation["im3shape"]["shear"]["component1"]["slope"]["value"]
    assert (slope is None) == (galaxies < 10)
    assert (evaluation["truth"] is None) == (not known)
    numbers = flat_numbers(evaluation)
    assert all(isinstance(value, float) and np.isfinite(value) for value in numbers.values())
    assert ("shear_eiv_slope_1" in numbers) == (galaxies >= 10)
    assert ("truth_slope_g2" in numbers) == (known and galaxies >= 10)


def test_same_seed_same_evaluation() -> None:
    assert tile_tables(100).evaluate() == tile_tables(100).evaluate()


def test_wrong_tables_are_refused_in_one_line() -> None:
    tables = tile_tables(30)
    with pytest.raises(MismatchError, match=r"no column e_sigma, w \[im3shape_catalog\]"):
        TileTables(
            tables.shapes, tables.reference.drop(columns=["w", "e_sigma"]), tables.truth, tables.cutout_flux
        ).evaluate()
    twice = pd.concat([tables.reference, tables.reference[:1]])
    with pytest.raises(MismatchError, match="stands twice"):
        TileTables(tables.shapes, twice, tables.truth, tables.cutout_flux).evaluate()
    other = tables.reference.assign(coadd_objects_id=tables.reference["coadd_objects_id"] + 10**10)
    with pytest.raises(MismatchError, match="none of 30 galaxies"):
        TileTables(tables.shapes, other, tables.truth, tables.cutout_flux).evaluate()
