"""The comparison with the peers: faults are seen, failures counted, ties called ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.evaluation.comparison import (
    FLOOR,
    OURS,
    evaluate_peers,
    findings,
    headline,
    worst,
)
from deblend_assets.science.statistics.noise import LIMIT, repeated_noise
from deblend_assets.science.statistics.regression import worse

BANDS = ("g", "r")
N = 2_000


def rows(
    method: str, *, noise: float = 0.02, seed: int = 1, fault: Callable[..., np.ndarray] | None = None
) -> pd.DataFrame:
    """A method that errs by `noise`; `fault` changes its estimates (N, 2) of e and g."""
    truth, own = np.random.default_rng(0), np.random.default_rng(seed)
    shapes = truth.normal(0, 0.2, (2, N, 2))
    found = shapes + own.normal(0, noise, shapes.shape)
    if fault is not None:
        found = np.stack([fault(f) for f in found])
    table: dict[str, object] = {
        "scene": np.arange(N),
        "method": method,
        "galtileid": np.arange(N),
        "snr": truth.uniform(10, 100, N),
        "blendedness": truth.uniform(0, 0.2, N),
        "separation_arcsec": np.where(truth.random(N) < 0.3, np.nan, truth.uniform(0.5, 3, N)),
        "delta_mag": truth.uniform(0, 3, N),
        "ssim": 0.9,
        "cosine": 0.99,
        "milliseconds": 2.0,
    }
    for kind, true, estimate in zip("eg", shapes, found, strict=True):
        for k in (1, 2):
            table[f"{kind}{k}"], table[f"{kind}{k}_est"] = true[:, k - 1], estimate[:, k - 1]
    for band in BANDS:
        table[f"flux_{band}"], table[f"flux_{band}_est"] = 100.0, 100.0 * (1.05 + own.normal(0, 0.01, N))
    return pd.DataFrame(table)


def evaluated(*tables: pd.DataFrame) -> dict:
    return evaluate_peers(pd.concat(tables, ignore_index=True), BANDS, resamples=60, seed=1)


def test_a_method_is_described_as_it_is() -> None:
    found = evaluated(rows(OURS))["methods"][OURS]
    everything = found["groups"]["all"]["e"]
    assert everything["rms"]["value"] == pytest.approx(0.02, rel=0.03)
    assert everything["rms"]["error"] == pytest.approx(0.02 / np.sqrt(4 * N), rel=0.3)
    assert everything["slope1"]["value"] == pytest.approx(1.0, abs=0.008)
    assert found["flux"]["r"]["median"]["value"] == pytest.approx(0.05, abs=0.002)
    assert found["groups"]["without neighbour"]["e"]["n"] == pytest.approx(0.3 * N, rel=0.1)
    assert findings(evaluated(rows(OURS))) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda v: 1.01 * v, "slope of e1: 1.01"),
        (lambda v: v + np.array([0.001, 0.0]), "bias of e1: 0.00"),
        (lambda v: v * np.array([1.0, -1.0]), "slope of e2: −"),
    ],
    ids=["multiplied by 1.01", "0.001 added to e1", "sign of e2 swapped"],
)
def test_a_fault_is_reported(fault: Any, words: str) -> None:
    """With errors of 0.005, what 2,000 blends can tell; with larger ones the constant-shear scenes are asked."""
    found = findings(evaluated(rows(OURS, noise=0.005, fault=fault)))
    assert any(words in line for line in found), found


def test_frozen_noise_is_seen() -> None:
    fresh = np.random.default_rng(1).normal(0, 100, (12, 2, 45, 45)).astype(np.float32)
    assert repeated_noise(fresh) < LIMIT
    frozen = np.repeat(fresh[:1], 12, axis=0) + np.random.default_rng(2).normal(0, 10, fresh.shape).astype(np.float32)
    assert repeated_noise(frozen) > 0.9


def test_failures_are_counted_and_not_dropped_silently() -> None:
    theirs = rows("hsm")
    theirs.loc[theirs.index < 100, ["e1_est", "g2_est"]] = np.nan
    found = evaluated(rows(OURS), theirs)["methods"]["hsm"]
    assert found["groups"]["all"]["e"]["failures"] == 100
    assert found["groups"]["all"]["e"]["n"] == N
    assert found["beside"]["e"]["n"] == N - 100


def test_a_difference_below_its_error_is_a_tie_and_a_larger_one_is_not() -> None:
    found = evaluated(rows(OURS), rows("worse", seed=3, noise=0.04))["methods"]
    assert found["worse"]["beside"]["e"]["better"] == OURS
    assert found["worse"]["beside"]["e"]["ratio"]["value"] == pytest.approx(0.5, rel=0.05)
    twice = evaluated(rows(OURS), rows("itself"))["methods"]["itself"]["beside"]["e"]
    assert twice["better"] == "tie"
    assert twice["difference"]["value"] == 0


def test_the_floor_is_the_rms_of_the_galaxies_least_errors() -> None:
    floor = rows(FLOOR)
    for name in ("e1_est", "e2_est"):
        floor[name] = np.where(floor["scene"] < N // 2, 0.01, 0.03)
    value = evaluated(rows(OURS), floor)["methods"][FLOOR]["groups"]["all"]["e"]["rms"]["value"]
    assert value == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2))


def test_the_worst_come_first_failures_before_all() -> None:
    theirs = rows("hsm")
    theirs.loc[5, "e1_est"] = np.nan
    theirs.loc[9, "e2_est"] = theirs["e2_est"][9] + 3.0
    assert list(worst(theirs, "hsm", 2)["scene"]) == [5, 9]


def test_what_grew_beyond_its_errors_is_named() -> None:
    before = {"rms_e_ours": 0.020, "rms_e_ours_error": 0.0002, "other": 1.0}
    assert worse(before, {"rms_e_ours": 0.0203, "rms_e_ours_error": 0.0002, "other": 9.0}) == []
    assert "rms_e_ours" in worse(before, {"rms_e_ours": 0.022, "rms_e_ours_error": 0.0002})[0]
    assert worse({}, {"rms_e_ours": 0.022, "rms_e_ours_error": 0.0002}) == []
    assert worse({"m1": -0.01, "m1_error": 1e-3}, {"m1": 0.002, "m1_error": 1e-3}) == [], "smaller is no regression"


def test_the_ui_gets_numbers_with_their_errors() -> None:
    flat = headline(evaluated(rows(OURS)))
    assert flat["rms_e_ours"] == pytest.approx(0.02, rel=0.05)
    assert flat["rms_e_ours_error"] > 0
    assert flat["failures_e_ours"] == 0
    assert flat["scenes"] == N
