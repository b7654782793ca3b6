"""Measures of an estimate against a reference, with bootstrap errors: the parts of every evaluation.

An undefined number is None, so that an evaluation is JSON without NaN. Below `MINIMUM_ROWS` rows a bootstrap error is
meaningless, and every measure is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from deblend_assets.science.statistics.metrics import Floats, Statistic, bootstrap, line, rms, robust_sigma

MINIMUM_ROWS = 10
_MEASURES = ("slope", "intercept", "bias", "rms", "robust_sigma", "scatter_ratio", "rms_over_scatter")

Evaluation = dict[str, Any]


def shapes(rows: pd.DataFrame, kind: Literal["e", "g"], estimator: str, *, resamples: int, seed: int) -> Evaluation:
    """Measures of one estimator of an ellipticity against the truth.

    Args:
        rows: columns `{kind}1`, `{kind}2` (truth) and `{kind}1_{estimator}`, `{kind}2_{estimator}`.
        kind: "e" the distortion, "g" the shear-type.
        estimator: suffix of the estimate's columns.
        resamples, seed: of the bootstrap.

    Returns:
        `n`, `failures` (estimates that are not finite, left out), the measures of `{kind}1`, `{kind}2` and of the
        modulus `{kind}`, and `both`: RMS per component over both together.
    """
    columns = {
        f"{side}{k}": values(rows, f"{kind}{k}{suffix}")
        for side, suffix in (("true", ""), ("found", f"_{estimator}"))
        for k in (1, 2)
    }
    worked = np.isfinite(columns["found1"]) & np.isfinite(columns["found2"])
    columns = {name: column[worked] for name, column in columns.items()}
    pairs = {
        f"{kind}1": (columns["true1"], columns["found1"]),
        f"{kind}2": (columns["true2"], columns["found2"]),
        kind: (np.hypot(columns["true1"], columns["true2"]), np.hypot(columns["found1"], columns["found2"])),
    }
    found: Evaluation = {"n": len(rows), "failures": int((~worked).sum())}
    for component, (truth, estimate) in pairs.items():
        table = {"truth": truth, "estimate": estimate}
        found[component] = measured(_component, _MEASURES, table, resamples, seed)
    found["both"] = measured(_both, ("rms", "rms_over_scatter"), columns, resamples, seed)
    return found


def pulls(rows: pd.DataFrame, kind: Literal["e", "g"], estimator: str, *, resamples: int, seed: int) -> Evaluation:
    """Expected errors of both components against the actual ones.

    Args:
        rows: as for `shapes`, and `{kind}1_{estimator}_err`, `{kind}2_{estimator}_err`.
        kind, estimator, resamples, seed: as for `shapes`.

    Returns:
        `pull`: RMS of (estimate - truth) / expected error, 1 for correct errors; `within`: share of the
        differences below one expected error, 0.683 for Gaussian errors; `expected`: RMS of the expected errors.
    """
    difference = np.stack([values(rows, f"{kind}{k}_{estimator}") - values(rows, f"{kind}{k}") for k in (1, 2)])
    expected = np.stack([values(rows, f"{kind}{k}_{estimator}_err") for k in (1, 2)])
    worked = np.isfinite(difference).all(axis=0) & np.isfinite(expected).all(axis=0)
    columns = {
        f"{name}{k}": stack[k, worked] for name, stack in (("off", difference), ("err", expected)) for k in (0, 1)
    }
    return measured(_pulls, ("pull", "within", "expected"), columns, resamples, seed)


def median_and_scatter(numbers: Floats, *, resamples: int, seed: int) -> Evaluation:
    """`n`, `failures` (not numbers, left out), `median` and `robust_sigma` of (N,) numbers."""
    worked = numbers[np.isfinite(numbers)]
    measures = measured(
        lambda c: np.stack([np.median(c["v"], axis=-1), robust_sigma(c["v"])]),
        ("median", "robust_sigma"),
        {"v": worked},
        resamples,
        seed,
    )
    return {"n": len(numbers), "failures": len(numbers) - len(worked), **measures}


def values(rows: pd.DataFrame, column: str) -> Floats:
    """A column as float64."""
    return rows[column].to_numpy(dtype=np.float64)


def positive(numbers: Floats) -> Floats:
    """The numbers, NaN where they are not above 0: a divisor."""
    return np.where(numbers > 0, numbers, np.nan)


def pooled_scatter(columns: Mapping[str, Floats]) -> Floats:
    """Standard deviation per component of `true1` and `true2` together."""
    return np.asarray(np.sqrt(0.5 * (columns["true1"].var(axis=-1) + columns["true2"].var(axis=-1))))


def measured(
    statistic: Statistic,
    names: Sequence[str],
    columns: Mapping[str, Floats],
    resamples: int,
    seed: int,
    most_rows: int | None = None,
) -> Evaluation:
    """Named measures `{"value", "error"}` of a statistic; all None below `MINIMUM_ROWS` rows; see `bootstrap`."""
    if min(len(column) for column in columns.values()) < MINIMUM_ROWS:
        return {name: {"value": None, "error": None} for name in names}
    found, errors = bootstrap(statistic, columns, resamples, seed, most_rows)
    return {
        name: {"value": number(value), "error": number(error)}
        for name, value, error in zip(names, found, errors, strict=True)
    }


def number(value: float) -> float | None:
    """The value, None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def _component(columns: Mapping[str, Floats]) -> Floats:
    truth, estimate = columns["truth"], columns["estimate"]
    difference, scatter = estimate - truth, positive(truth.std(axis=-1))
    off = rms(difference)
    return np.stack(
        [
            *line(truth, estimate),
            difference.mean(axis=-1),
            off,
            robust_sigma(difference),
            estimate.std(axis=-1) / scatter,
            off / scatter,
        ]
    )


def _both(columns: Mapping[str, Floats]) -> Floats:
    off = [columns["found1"] - columns["true1"], columns["found2"] - columns["true2"]]
    per_component = np.sqrt(0.5 * (rms(off[0]) ** 2 + rms(off[1]) ** 2))
    return np.stack([per_component, per_component / positive(pooled_scatter(columns))])


def _pulls(columns: Mapping[str, Floats]) -> Floats:
    ratio = [columns[f"off{k}"] / positive(columns[f"err{k}"]) for k in (0, 1)]
    within = 0.5 * sum((np.abs(r) < 1).mean(axis=-1) for r in ratio)
    expected = np.sqrt(0.5 * (rms(columns["err0"]) ** 2 + rms(columns["err1"]) ** 2))
    return np.stack([np.sqrt(0.5 * (rms(ratio[0]) ** 2 + rms(ratio[1]) ** 2)), np.asarray(within), expected])


def bin_label(found: Evaluation) -> str:
    """Range of a bin, such as "0.01–0.05"."""
    low, high = found["low"], found["high"]
    if low is None:
        return f"< {high:.3g}"
    return f"≥ {low:.3g}" if high is None else f"{low:.3g}–{high:.3g}"
