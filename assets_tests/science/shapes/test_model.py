"""The model and its frame, its calibration, and the evaluation, on numbers whose answer is known."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

from assets_tests.science.shapes.untrained import untrained_shapes
from deblend_assets.science.evaluation.shapes import (
    MEASURED_CLOSE,
    MEASURED_OTHERS,
    evaluate_shapes,
    groups,
    headline,
)
from deblend_assets.science.shapes.calibration import stretch_of
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.simulation.scene_truth import nearest_neighbour
from deblend_assets.science.stamps.quantities import QUANTITIES

BANDS, PIXELS = ("g", "r", "i"), 21


@pytest.fixture(scope="module")
def model() -> ShapePosterior:
    return untrained_shapes(BANDS, PIXELS)


def test_a_checkpoint_gives_the_same_model(model: ShapePosterior) -> None:
    card = {
        "frame": asdict(model.frame),
        "population": asdict(model.population),
        "network": {"widths": [8, 12], "dense": 16},
        "orientations": 2,
        "stretch": model.stretch.tolist(),
    }
    again = ShapePosterior.from_checkpoint(model.state_dict(), json.loads(json.dumps(card)))
    stamps = np.random.default_rng(1).normal(0, 300, (5, 3, PIXELS, PIXELS)).astype(np.float32)
    present = np.ones((5, 3), dtype=bool)
    first, second = (m.measure(stamps, present) for m in (model, again))
    np.testing.assert_array_equal(first.mean, second.mean)
    posteriors = [m.posterior(stamps, present) for m in (model, again)]
    free = [posterior.likelihood_only() for posterior in posteriors]
    np.testing.assert_array_equal(free[0].covariance, free[1].covariance)
    samples = [m.samples(posterior, 8, 3) for m, posterior in zip((model, again), posteriors, strict=True)]
    np.testing.assert_array_equal(samples[0], samples[1])


def test_the_stretch_brings_expected_errors_to_actual_ones() -> None:
    rng = np.random.default_rng(2)
    factors = np.array([1.5, 1.5, 0.7, 0.7, 2.0, 1.0])
    variance = rng.uniform(0.01, 0.1, (20_000, 6))
    truth = rng.normal(size=variance.shape)
    mean = truth + factors * np.sqrt(variance) * rng.normal(size=variance.shape)
    posterior = GaussianPosterior(torch.from_numpy(mean), covariance=torch.from_numpy(variance[:, :, None] * np.eye(6)))
    found = stretch_of(posterior, truth)
    np.testing.assert_allclose(found, factors, rtol=0.02)
    assert found[0] == found[1]
    assert found[2] == found[3]


def table_of(n: int, seed: int, confidence: float = 1.0) -> pd.DataFrame:
    """A copy of `_made`, which takes seconds."""
    return _made(n, seed, confidence).copy()


@functools.cache
def _made(n: int, seed: int, confidence: float) -> pd.DataFrame:
    """Gaussian shapes measured with the floor's errors; posteriors that claim `confidence` times as small ones."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "snr": rng.uniform(10, 100, n),
            "blendedness": rng.uniform(0, 0.2, n),
            "others_light": rng.normal(0.2, 0.1, n),
            "close_chance": rng.uniform(0, 1, n),
        }
    )
    close, far = rng.uniform(0.5, 1.5, n), np.where(rng.random(n) < 0.5, rng.uniform(1.5, 3, n), np.nan)
    table["separation_arcsec"] = np.where(rng.random(n) < table["close_chance"], close, far)
    table["blended_chance"] = (table["blendedness"] > 0.01).astype(float)
    sigma = 1.0 / table["snr"].to_numpy()
    for name in QUANTITIES:
        truth = 0.2 * rng.standard_normal(n)
        measured = truth + sigma * rng.standard_normal(n)
        shrink = 1.0 / (1.0 + (sigma / 0.2) ** 2)
        error = sigma * np.sqrt(shrink) / confidence
        table[name], table[f"{name}_posterior"], table[f"{name}_posterior_err"] = truth, shrink * measured, error
        table[f"{name}_likelihood"], table[f"{name}_likelihood_err"] = measured, sigma
        draws = table[f"{name}_posterior"].to_numpy() + error * rng.standard_normal((400, n))
        table[f"{name}_pit"] = (draws < truth).mean(axis=0)
        table[f"{name}_floor"] = sigma
    return table


# Where no test reads an error.
FEW = 2


@pytest.mark.slow
def test_an_ideal_estimate_stands_at_the_floor_with_slope_one() -> None:
    numbers = headline(evaluate_shapes(table_of(20_000, 3), resamples=FEW, seed=4))
    for kind in "eg":
        assert numbers[f"rms_over_floor_with_population_{kind}"] == pytest.approx(1.0, abs=0.02)
        assert numbers[f"rms_over_floor_{kind}"] < 1.0
        assert numbers[f"scatter_ratio_{kind}"] == pytest.approx(1.0, abs=0.01)
        for k in (1, 2):
            assert numbers[f"slope_{kind}{k}_likelihood"] == pytest.approx(1.0, abs=0.01)
            assert numbers[f"slope_{kind}{k}_posterior"] < 0.98
            assert numbers[f"coverage_{kind}{k}_68%"] == pytest.approx(0.68, abs=0.015)
            assert numbers[f"coverage_{kind}{k}_95%"] == pytest.approx(0.95, abs=0.01)


@pytest.mark.slow
def test_chances_that_hold_as_often_as_they_say_are_seen_to() -> None:
    """Chances from 0 to 1, drawn: a skill of 1 - (1/6)/(1/4); sure and right: 1; the same for all, or turned round."""
    table = table_of(20_000, 3)
    found = evaluate_shapes(table, resamples=50, seed=4)["neighbours"]
    assert found["blended_chance"]["skill"]["value"] == 1.0
    close = found["close_chance"]
    assert close["expected"]["value"] == pytest.approx(table["close_chance"].mean())
    assert abs(close["share"]["value"] - close["expected"]["value"]) < 4 * close["share"]["error"]
    assert close["skill"]["value"] == pytest.approx(1 / 3, abs=4 * close["skill"]["error"])
    assert close["skill"]["error"] < 0.01
    for chance, skill in ((close["share"]["value"], 0.0), (1 - table["close_chance"], -1.0)):
        wrong = evaluate_shapes(table.assign(close_chance=chance), resamples=FEW, seed=4)["neighbours"]["close_chance"]
        assert wrong["skill"]["value"] == pytest.approx(skill, abs=0.04)


@pytest.mark.slow
def test_faults_are_seen() -> None:
    """A factor of 1.01, and errors that are claimed 1.3 times too small."""
    bold = headline(evaluate_shapes(table_of(20_000, 3, confidence=1.3), resamples=FEW, seed=4))
    assert bold["coverage_e1_68%"] < 0.6
    stretched = table_of(20_000, 3)
    right = evaluate_shapes(stretched, resamples=FEW, seed=4)["g"]["likelihood"]["g1"]["slope"]
    stretched["g1_likelihood"] *= 1.02
    wrong = evaluate_shapes(stretched, resamples=50, seed=4)["g"]["likelihood"]["g1"]["slope"]
    assert wrong["value"] / right["value"] == pytest.approx(1.02, rel=1e-6)
    assert wrong["value"] - 1 > 3 * wrong["error"]


def test_groups_are_thirds_of_those_they_are_about() -> None:
    table = table_of(900, 5)
    table.loc[table["separation_arcsec"].isna(), "blendedness"] = 0.0
    chosen = groups(table)
    for name in ("S/N", MEASURED_OTHERS, MEASURED_CLOSE):
        assert sum(chosen[f"{name}, {third} third"].sum() for third in ("low", "middle", "high")) == 900
    blended = int(table["separation_arcsec"].notna().sum())
    for name in ("blendedness", "separation"):
        sizes = [int(chosen[f"{name}, {third} third"].sum()) for third in ("low", "middle", "high")]
        assert sum(sizes) == blended
        assert max(sizes) - min(sizes) <= 2
    assert int(chosen["without neighbour"].sum()) == 900 - blended


def test_the_nearest_neighbour_is_the_targets() -> None:
    truth = pd.DataFrame(
        {
            "scene": [7, 7, 7, 8, 9, 9],
            "member": [0, 1, 2, 0, 0, 1],
            "x_arcsec": [0.1, 3.1, 0.1, 0.0, 0.0, -1.0],
            "y_arcsec": [0.0, 0.0, 2.0, 0.0, 0.0, 0.0],
        }
    )
    np.testing.assert_allclose(nearest_neighbour(truth, np.array([9, 8, 7])), [1.0, np.nan, 2.0])
