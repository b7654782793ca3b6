"""The evaluation: what was put into a table of estimates is what it finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.conftest import BANDS
from deblend_assets.errors import MismatchError
from deblend_assets.science.evaluation.deblender import PUBLISHED, evaluate, flat_numbers

Make = Callable[..., pd.DataFrame]


def evaluated(estimates: pd.DataFrame) -> dict[str, Any]:
    return evaluate(estimates, BANDS, "r", resamples=60, seed=4)


def within(measure: dict[str, float], expected: float, sigmas: float = 4.0) -> bool:
    return abs(measure["value"] - expected) < sigmas * measure["error"]


def test_injected_slope_offset_and_noise_are_recovered(make_estimates: Make) -> None:
    estimates = make_estimates(4000, slope=0.8, noise=0.06, offset=0.01)
    evaluation = evaluated(estimates)
    regressor = evaluation["estimators"]["regressor"]
    for component in ("e1", "e2"):
        found = regressor[component]
        assert within(found["slope"], 0.8)
        assert within(found["intercept"], 0.01)
        assert within(found["bias"], 0.01)
        rms = np.sqrt((0.2 * 0.13) ** 2 + 0.06**2 + 0.01**2)
        assert within(found["rms"], rms)
        assert within(found["robust_sigma"], np.sqrt((0.2 * 0.13) ** 2 + 0.06**2))
        assert within(found["scatter_ratio"], np.sqrt((0.8 * 0.13) ** 2 + 0.06**2) / 0.13)
    assert within(evaluation["label_scatter"]["both"], 0.13)
    assert within(regressor["both"]["rms"], rms)
    assert within(regressor["both"]["rms_over_scatter"], rms / 0.13)


def test_a_constant_answer_has_slope_0_and_rms_over_scatter_1(make_estimates: Make) -> None:
    estimates = make_estimates(500)
    estimates[["e1_regressor", "e2_regressor"]] = estimates[["e1", "e2"]].mean().to_numpy()
    found = evaluated(estimates)["estimators"]["regressor"]
    assert found["both"]["rms_over_scatter"]["value"] == pytest.approx(1.0)
    assert found["e1"]["slope"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert found["e1"]["scatter_ratio"]["value"] == pytest.approx(0.0, abs=1e-12)


def test_the_truth_itself_is_found_perfect(make_estimates: Make) -> None:
    estimates = make_estimates(500)
    estimates[["e1_regressor", "e2_regressor"]] = estimates[["e1", "e2"]]
    found = evaluated(estimates)["estimators"]["regressor"]
    for component in ("e1", "e2", "e"):
        assert found[component]["slope"]["value"] == pytest.approx(1.0)
        assert found[component]["rms"]["value"] == 0.0
        assert found[component]["scatter_ratio"]["value"] == 1.0


def test_a_stretch_of_one_percent_is_seen(make_estimates: Make) -> None:
    estimates = make_estimates()
    before = evaluated(estimates)["estimators"]["regressor"]
    estimates[["e1_regressor", "e2_regressor"]] *= 1.01
    after = evaluated(estimates)["estimators"]["regressor"]
    for component in ("e1", "e2", "e"):
        for measure in ("slope", "scatter_ratio"):
            assert after[component][measure]["value"] == pytest.approx(1.01 * before[component][measure]["value"])


def test_an_offset_is_seen_in_its_component_alone(make_estimates: Make) -> None:
    estimates = make_estimates()
    before = evaluated(estimates)["estimators"]["regressor"]
    estimates["e1_regressor"] += 0.02
    after = evaluated(estimates)["estimators"]["regressor"]
    assert after["e1"]["bias"]["value"] == pytest.approx(before["e1"]["bias"]["value"] + 0.02)
    assert after["e1"]["robust_sigma"]["value"] == pytest.approx(before["e1"]["robust_sigma"]["value"])
    assert after["e2"] == before["e2"]


def test_a_swapped_sign_of_e2_is_seen_though_the_modulus_hides_it(make_estimates: Make) -> None:
    estimates = make_estimates()
    before = evaluated(estimates)["estimators"]["regressor"]
    estimates["e2_regressor"] *= -1
    after = evaluated(estimates)["estimators"]["regressor"]
    assert after["e2"]["slope"]["value"] == pytest.approx(-before["e2"]["slope"]["value"])
    assert after["both"]["rms"]["value"] > 1.5 * before["both"]["rms"]["value"]
    assert after["e"]["slope"]["value"] == pytest.approx(before["e"]["slope"]["value"])


def test_failures_are_counted_in_all_and_in_each_bin(make_estimates: Make) -> None:
    estimates = make_estimates()
    found = evaluated(estimates)["estimators"]
    assert found["regressor"]["failures"] == 0
    assert found["reconstruction"]["failures"] == 20
    assert found["reconstruction"]["n"] == 2000
    for bins in found["reconstruction"]["bins"].values():
        assert sum(b["failures"] for b in bins) == 20
        assert sum(b["n"] for b in bins) == 2000


def test_half_a_shape_is_a_failure(make_estimates: Make) -> None:
    estimates = make_estimates(100)
    estimates.loc[5, "e1_regressor"] = np.nan
    estimates.loc[6, "e2_regressor"] = np.inf
    assert evaluated(estimates)["estimators"]["regressor"]["failures"] == 2


def test_scenes_without_label_are_set_apart(make_estimates: Make) -> None:
    estimates = make_estimates(100)
    estimates.loc[:6, ["e1", "e2"]] = np.nan
    evaluation = evaluated(estimates)
    assert (evaluation["scenes"], evaluation["unlabelled"]) == (100, 7)
    assert evaluation["estimators"]["regressor"]["n"] == 93
    estimates[["e1", "e2"]] = np.nan
    with pytest.raises(MismatchError, match="none of 100 scenes has a label"):
        evaluated(estimates)


def test_bins_hold_their_own_scenes(make_estimates: Make) -> None:
    """Estimates made worse only where a target is much blended, or faint, are worse in that bin only."""
    estimates = make_estimates()
    truth, noise = estimates["e1"].copy(), np.random.default_rng(1).normal(0, 0.3, len(estimates))
    estimates["e1_regressor"] = truth + np.where(estimates["blendedness"] >= 0.05, noise, 0)
    estimates["e2_regressor"] = estimates["e2"]
    least, middle, most = evaluated(estimates)["estimators"]["regressor"]["bins"]["blendedness"]
    assert (least["low"], least["high"], most["low"], most["high"]) == (None, 0.01, 0.05, None)
    assert least["e1"]["rms"]["value"] == middle["e1"]["rms"]["value"] == 0
    assert most["e1"]["rms"]["value"] == pytest.approx(0.3, rel=0.2)

    faint = estimates["snr"] < np.quantile(estimates["snr"], 1 / 3)
    estimates["e1_regressor"] = truth + np.where(faint, noise, 0)
    low, _, high = evaluated(estimates)["estimators"]["regressor"]["bins"]["snr"]
    assert low["e1"]["rms"]["value"] == pytest.approx(0.3, rel=0.2)
    assert high["e1"]["rms"]["value"] == 0
    assert low["median"] < low["high"] <= high["low"] < high["median"]


def test_flux_error_is_relative_and_robust(make_estimates: Make) -> None:
    estimates = make_estimates(1000)
    noise = np.random.default_rng(2).normal(0, 0.05, 1000)
    noise[:20] = 1000.0
    estimates["flux_reconstruction_g"] = estimates["flux_isolated_g"] * (0.9 + noise)
    estimates.loc[990:, "flux_isolated_g"] = 0.0
    found = evaluated(estimates)["flux_error"]["g"]
    assert found["failures"] == 10
    assert within(found["median"], -0.1)
    assert found["robust_sigma"]["value"] == pytest.approx(0.05, rel=0.15)


def test_similarity_tells_stages_apart(make_estimates: Make) -> None:
    estimates = make_estimates(50)
    estimates["ssim_stage2"] = np.linspace(0.9, 1.0, 50)
    estimates.loc[0, "cosine_blend"] = np.nan
    similarity = evaluated(estimates)["similarity"]
    found = similarity["ssim"]["images"]["stage2"]
    assert found["mean"]["value"] == pytest.approx(0.95)
    assert found["percentiles"]["50"] == pytest.approx(0.95)
    assert found["percentiles"]["5"] == pytest.approx(0.905)
    assert similarity["cosine"]["images"]["blend"]["failures"] == 1


@pytest.mark.parametrize("scenes", [1, 9, 10, 40])
def test_json_without_nan_whatever_the_number_of_scenes(make_estimates: Make, scenes: int) -> None:
    estimates = make_estimates(scenes)
    estimates["e1"] = 0.1  # no slope can be had
    evaluation = evaluated(estimates)
    text = json.dumps(evaluation, allow_nan=False)
    assert json.loads(text) == evaluation
    assert evaluation["estimators"]["regressor"]["e1"]["slope"]["value"] is None
    numbers = flat_numbers(evaluation)
    assert all(isinstance(value, float) and np.isfinite(value) for value in numbers.values())
    assert "regressor_slope_e1" not in numbers
    assert ("regressor_rms" in numbers) == (scenes >= 10)


def test_same_seed_same_evaluation(make_estimates: Make) -> None:
    estimates = make_estimates(200)
    assert evaluated(estimates) == evaluated(estimates)
    assert evaluate(estimates, BANDS, "r", resamples=60, seed=5) != evaluated(estimates)


def test_flat_numbers_name_what_was_published(make_estimates: Make) -> None:
    numbers = flat_numbers(evaluated(make_estimates(200)))
    assert set(PUBLISHED) <= set(numbers)
    assert {"flux_error_median_r", "flux_error_scatter_y", "ssim_stage2_u", "regressor_failures"} <= set(numbers)


def test_published_row() -> None:
    """Facts of the report, each with its source; the ratio is that of its own parts."""
    assert PUBLISHED["ssim_stage1_blended"].value == 0.895
    assert PUBLISHED["ssim_stage2"].value == 0.932
    assert PUBLISHED["regressor_rms_over_scatter"].value == pytest.approx(0.546, abs=5e-4)
    assert all(published.source for published in PUBLISHED.values())


def test_missing_columns_are_named(make_estimates: Make) -> None:
    estimates = make_estimates(20).drop(columns=["ssim_stage2_z", "e2_regressor"])
    with pytest.raises(MismatchError, match="e2_regressor, ssim_stage2_z"):
        evaluated(estimates)
