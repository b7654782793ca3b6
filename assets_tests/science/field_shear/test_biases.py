"""Known m, c, response, leakage and n_eff come back, and what is wrong with a run of fields is seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.field_shear.catalogs import SHEAR, STEP, Truth, tables
from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.field_shear.biases import biases, changes, leakage
from deblend_assets.science.field_shear.effective import effective_number, effective_ratio
from deblend_assets.science.field_shear.evaluation import evaluate_fields
from deblend_assets.science.field_shear.stacked import Stacked
from deblend_assets.science.field_shear.sums import sum_catalogs
from deblend_assets.science.field_shear.verdicts import findings, headline, verdict
from deblend_assets.science.statistics.jackknife import Measure

TRUTH = Truth(m1=0.03, m2=-0.05, c1=0.004, c2=-0.002)
# Of the detections: the shape times d ln(probability) / d shear.
RESPONSE = TRUTH.response * (1 + 2 * TRUTH.detection * TRUTH.shape**2)


def stacked(sums: pd.DataFrame) -> Stacked:
    return Stacked.of(sums[sums["variable"] == "all"], STEP)


def within(measure: Measure, value: float, most: float, errors: float = 3.0) -> None:
    """The value lies within some errors, and the error is small enough to say something."""
    assert 0 < measure.error < most
    assert abs(measure.value - value) < errors * measure.error


@pytest.fixture(scope="module")
def known() -> tuple[pd.DataFrame, pd.DataFrame]:
    return tables(TRUTH, fields=24, galaxies=2000)


def test_known_m_c_and_response_come_back(known: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = biases(stacked(known[0]), SHEAR)

    within(found["R11"], RESPONSE, 0.01)
    within(found["R22"], RESPONSE, 0.01)
    # The extra response to the true shear is that of the shape alone.
    within(found["m1"], TRUTH.m1 * TRUTH.response / RESPONSE, 0.02)
    within(found["m2"], TRUTH.m2 * TRUTH.response / RESPONSE, 0.02)
    within(found["c1"], TRUTH.c1 / RESPONSE, 2e-3)
    within(found["c2"], TRUTH.c2 / RESPONSE, 2e-3)
    assert found["m"].value == pytest.approx((found["m1"].value + found["m2"].value) / 2)


def test_errors_are_the_scatter_of_repeated_runs() -> None:
    runs = [stacked(tables(TRUTH, fields=96, galaxies=120)[0])]
    parts = [biases(runs[0].only(np.arange(k, k + 12)), SHEAR) for k in range(0, 96, 12)]

    scatter = np.std([part["m1"].value for part in parts], ddof=1)
    assert 0.4 < np.mean([part["m1"].error for part in parts]) / scatter < 2.5


def test_a_response_without_detection_is_seen() -> None:
    sums, _ = tables(Truth(), fields=24, galaxies=2000)
    # The rows that are detected in the unsheared image, whatever the shear: each galaxy's own response is left.
    rows = sums["catalog"] != "noshear"
    unsheared = sums[~rows].drop(columns="catalog")
    for name, k, sign in (("1p", 1, 1), ("1m", 1, -1), ("2p", 2, 1), ("2m", 2, -1)):
        fixed = unsheared.assign(catalog=name)
        fixed[f"g{k}"] += sign * STEP * Truth().response * fixed["weight"]
        sums = pd.concat([sums[sums["catalog"] != name], fixed])

    within(biases(stacked(sums), SHEAR)["R11"], Truth().response, np.inf, 1e12)
    m = biases(stacked(sums), SHEAR)["m"]
    within(m, 2 * Truth().detection * Truth().shape ** 2, 0.02)
    assert m.value > 3 * m.error


def test_a_component_is_calibrated_by_the_fields_that_are_sheared_on_it() -> None:
    runs = [tables(Truth(response=response, detection=0.0), fields=8)[0] for response in (0.8, 0.5)]
    found = biases(stacked(pd.concat([run[run["component"] == k + 1] for k, run in enumerate(runs)])), SHEAR)

    within(found["m1"], 0.0, 0.05)
    within(found["m2"], 0.0, 0.05)


def test_swapped_twins_are_seen() -> None:
    sums, facts = tables(Truth(), fields=8, swap=True)

    within(biases(stacked(sums), SHEAR)["m1"], -2.0, 0.2)
    assert any("m1 = -" in line for line in findings(evaluate_fields(sums, facts, SHEAR, STEP)))


def test_unpaired_twins_have_larger_errors() -> None:
    paired, unpaired = (
        biases(stacked(tables(Truth(), fields=12, paired=same)[0]), SHEAR)["m1"].error for same in (True, False)
    )

    assert unpaired > 2.5 * paired


def test_swapped_components_are_seen() -> None:
    """As of a cell whose axes are swapped: x becomes y, and g1 changes its sign."""
    sums, _ = tables(Truth(), fields=8)
    swapped = sums.assign(g1=-sums["g1"])

    assert biases(stacked(swapped.assign(catalog=sums["catalog"])), SHEAR)["R11"].value < 0
    # With the response of an image that is not swapped the mean shear has the wrong sign.
    mixed = pd.concat([sums[sums["catalog"] != "noshear"], swapped[sums["catalog"] == "noshear"]])
    within(biases(stacked(mixed), SHEAR)["m1"], -2.0, 0.2)


def test_a_condition_changes_m_and_c_more_precisely_than_either_is_known() -> None:
    exact, wrong = (tables(Truth(m1=m, m2=m, c1=c), fields=8)[0] for m, c in ((0.0, 0.0), (0.01, 0.001)))
    found = changes(stacked(wrong), stacked(exact), SHEAR)

    assert found["m1"].value == pytest.approx(0.01 * Truth().response / RESPONSE, rel=0.1)
    assert found["c1"].value == pytest.approx(0.001 / RESPONSE, rel=0.1)
    assert found["m1"].error < 0.1 * biases(stacked(exact), SHEAR)["m1"].error


def test_leakage_comes_back() -> None:
    within(leakage(stacked(tables(Truth(alpha=0.2), fields=24)[0])), 0.2 / RESPONSE, 0.1)


def test_effective_number_is_that_of_galaxies_without_noise() -> None:
    """Half of the galaxies are detected, and all of their scatter is shape noise."""
    sums, facts = tables(Truth(detection=0.0), fields=64, galaxies=400)
    found = effective_number(stacked(sums), SHEAR, Truth().shape, facts["area"].to_numpy(float), seed=0)

    within(found, 0.5 * 400 / 2.0, 30)


def test_ratio_of_effective_numbers() -> None:
    few, many = (stacked(tables(Truth(detection=0.0), fields=48, galaxies=n)[0]) for n in (200, 400))

    within(effective_ratio(many, few, SHEAR, seed=0), 2.0, 0.8)
    assert effective_ratio(few, few, SHEAR, seed=0).value == 1.0


def test_errors_of_effective_numbers_are_those_of_the_response_too() -> None:
    sums, facts = tables(Truth(detection=0.0), fields=96)
    area = facts["area"].to_numpy(float)
    # Half of the fields respond by three fifths more, half by as much less.
    factor = sums["field"].map(lambda number: 1.6 if number // 2 % 2 else 0.4).where(sums["catalog"] != "noshear", 1.0)
    base = sums[sums["catalog"] == "noshear"].set_index(["field", "sign", "turned"])[["g1", "g2"]]
    at = base.loc[list(zip(sums["field"], sums["sign"], sums["turned"], strict=True))].to_numpy()
    moved = sums.assign(**{f"g{k}": at[:, k - 1] + factor * (sums[f"g{k}"] - at[:, k - 1]) for k in (1, 2)})
    steady, shaky = (effective_number(stacked(table), SHEAR, Truth().shape, area, seed=0) for table in (sums, moved))

    assert shaky.value == pytest.approx(steady.value, rel=0.05)
    assert shaky.error**2 - steady.error**2 == pytest.approx((2 * 0.6 / 96**0.5 * steady.value) ** 2, rel=0.5)


def test_analytic_response() -> None:
    sums, _ = tables(Truth(m1=0.1, detection=0.0), fields=16, galaxies=1000)
    analytic = sums[sums["catalog"] == "noshear"].assign(
        r11=lambda t: 0.8 * t["weight"], r22=lambda t: 0.8 * t["weight"]
    )
    found = biases(stacked(analytic), SHEAR)

    assert found["R11"].value == pytest.approx(0.8)
    within(found["m1"], 0.1, 0.02)


def test_fields_add_up_in_any_order_and_none_counts_twice(known: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    sums, _ = known
    shuffled = sums.sample(frac=1, random_state=0)

    assert biases(stacked(shuffled), SHEAR)["m1"].value == pytest.approx(biases(stacked(sums), SHEAR)["m1"].value)
    with pytest.raises(MismatchError, match="twice"):
        stacked(pd.concat([sums, sums[sums["field"] == 3]]))


def test_failed_rows_are_no_sums() -> None:
    row = pd.DataFrame({"g1": [0.1, np.nan], "g2": 0.0, "psf_g1": 0.0, "psf_g2": 0.0})

    with pytest.raises(MismatchError, match="1 selected rows of 1p"):
        sum_catalogs({"1p": row})
    with pytest.raises(MissingDataError, match="no sums"):
        Stacked.of(tables(Truth(), fields=1, galaxies=4)[0].iloc[:0], STEP)


def test_evaluation_of_a_survey() -> None:
    evaluation = evaluate_fields(*tables(TRUTH, fields=12, bins=True), SHEAR, STEP)
    ours = evaluation["LSST"]["methods"]["ours"]

    assert list(evaluation) == ["LSST"]
    assert [row["fields"] for row in ours["errors"]] == [4, 8, 12]
    assert {row["bin"] for row in ours["bins"]} == {"below 15", "15 to 25", "25 to 50", "50 and more"}
    assert sum(row["detections"] for row in ours["bins"]) == ours["detections"]
    assert ours["milliseconds"] == pytest.approx(1e3 * 4.0 / 8_000)
    assert ours["failures"] == pytest.approx(1 / 20)
    assert evaluation["LSST"]["sigma_g"] == pytest.approx(TRUTH.shape)
    assert headline(evaluation)["c1_ours_LSST"] == ours["all"]["c1"]["value"]
    assert any(line.startswith("LSST: c1") for line in findings(evaluation))


@pytest.mark.parametrize(
    ("value", "error", "words"), [(0.004, 0.002, "met"), (0.006, 0.002, "not met"), (0.0, 0.01, "not known")]
)
def test_verdict(value: float, error: float, words: str) -> None:
    assert verdict({"value": value, "error": error}, 3e-3) == words
    assert verdict({"value": None, "error": None}, 3e-3) == "not known"
