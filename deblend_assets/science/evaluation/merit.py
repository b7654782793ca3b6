"""Figures of merit of estimates against their truth, their own errors and the floor, with bootstrap errors.

A quantity has one or two components; those of a pair are pooled. Accuracy is that of the rows that a method gives and
does not flag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.statistics.accuracy import Evaluation, measured, positive
from deblend_assets.science.statistics.metrics import Floats, line, rms, robust_sigma

ACCURACY = ("slope", "mean", "median", "rms", "robust_sigma")
PULLS = ("pull_mean", "pull_rms", "within_68", "within_95", "beyond_5")
# Half widths of central intervals of a Gaussian, in standard deviations.
_HALF = {"within_68": 1.0, "within_95": 1.959964}
# An error beyond so many of the stated ones is one that the method does not know of.
FAR = 5.0
# Rows of a resampled table: with all of a large world's, medians of hundreds of groups would take minutes.
_MOST_ROWS = 1_000
# The floor, and the floor with the population's prior.
FLOORS = {"floor": "", "floor_population": "_population"}


@dataclass(frozen=True)
class Quantity:
    """Truth, estimates and errors of N rows, (N, component) each; NaN where there is none.

    Attributes:
        truth: what is to be found.
        estimate: what a method gives.
        error: standard errors that it states.
        floor: lowest errors by name, of `FLOORS`.
    """

    truth: Floats
    estimate: Floats
    error: Floats
    floor: Mapping[str, Floats]

    def rows(self, chosen: NDArray[np.bool_]) -> Quantity:
        """Some of the rows."""
        floor = {name: values[chosen] for name, values in self.floor.items()}
        return Quantity(self.truth[chosen], self.estimate[chosen], self.error[chosen], floor)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Rows in which there is something to be found, (N,)."""
        return np.asarray(np.isfinite(self.truth).all(axis=1))

    @property
    def given(self) -> NDArray[np.bool_]:
        """Rows in which there is an estimate too, (N,)."""
        return np.asarray(self.asked & np.isfinite(self.estimate).all(axis=1))

    def pulls(self) -> Floats:
        """Errors in units of the stated ones, (N, component)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.estimate - self.truth) / np.where(self.error > 0, self.error, np.nan))


def merit(quantity: Quantity, kept: NDArray[np.bool_], *, resamples: int, seed: int) -> Evaluation:
    """Every figure of a quantity.

    Args:
        quantity: of N rows.
        kept: rows that the method does not flag, (N,).
        resamples, seed: of the bootstrap over rows.

    Returns:
        `n` rows that ask for it, `failures` among them without an estimate, `used` rows; ACCURACY: of the estimate on
        the truth (slope), of estimate - truth (others); PULLS: mean and RMS of the error over the stated one, share
        within 68 and 95 % intervals, share beyond `FAR`, None where the method states no errors; and for each of FLOORS
        that is known `rms_over_{floor}` and `robust_over_{floor}`, on the `n_floor` rows that have one.
    """
    asked, given = quantity.asked, quantity.given & kept
    found: Evaluation = {
        "n": int(asked.sum()),
        "failures": int((asked & ~quantity.given).sum()),
        "used": int(given.sum()),
    }
    used = quantity.rows(given)
    parts = range(used.truth.shape[1])
    columns = {
        f"{name}{k}": values[:, k] for name, values in (("true", used.truth), ("found", used.estimate)) for k in parts
    }
    found |= measured(lambda c: _accuracy(c, parts), ACCURACY, columns, resamples, seed, _MOST_ROWS)
    pulls = used.pulls()
    stated = np.isfinite(pulls).all(axis=1)
    columns = {f"pull{k}": pulls[stated, k] for k in parts}
    found |= measured(lambda c: _pulls(c, parts), PULLS, columns, resamples, seed, _MOST_ROWS)
    for name, floor in used.floor.items():
        found |= _over_floor(used.estimate - used.truth, floor, name, resamples, seed)
    return found


def share(rows: NDArray[np.bool_], *, resamples: int, seed: int) -> Evaluation:
    """`value` and `error` of the share of rows (N,) that are True; None below ten rows."""
    columns = {"share": rows.astype(float)}
    found = measured(lambda c: c["share"].mean(axis=-1)[None], ("share",), columns, resamples, seed, _MOST_ROWS)
    return dict(found["share"])


def _pooled(columns: Mapping[str, Floats], name: str, parts: Sequence[int]) -> Floats:
    return np.concatenate([columns[f"{name}{k}"] for k in parts], axis=-1)


def _accuracy(columns: Mapping[str, Floats], parts: Sequence[int]) -> Floats:
    truth, estimate = (_pooled(columns, name, parts) for name in ("true", "found"))
    off = estimate - truth
    slope, _ = line(truth, estimate)
    return np.stack([slope, off.mean(axis=-1), np.median(off, axis=-1), rms(off), robust_sigma(off)])


def _pulls(columns: Mapping[str, Floats], parts: Sequence[int]) -> Floats:
    pull = _pooled(columns, "pull", parts)
    size = np.abs(pull)
    shares = [(size < half).mean(axis=-1) for half in _HALF.values()]
    return np.stack([pull.mean(axis=-1), rms(pull), *shares, (size > FAR).mean(axis=-1)])


def _over_floor(off: Floats, floor: Floats, name: str, resamples: int, seed: int) -> Evaluation:
    known, parts = np.isfinite(floor).all(axis=1), range(off.shape[1])
    # One random error a row from its floor: their robust σ is that of errors of many sizes.
    drawn = floor * np.random.default_rng(seed).standard_normal(floor.shape)
    columns = {
        f"{column}{k}": values[known, k]
        for column, values in (("off", off), ("floor", floor), ("drawn", drawn))
        for k in parts
    }

    def ratios(c: Mapping[str, Floats]) -> Floats:
        errors, least, random = (_pooled(c, column, parts) for column in ("off", "floor", "drawn"))
        return np.stack([rms(errors) / positive(rms(least)), robust_sigma(errors) / positive(robust_sigma(random))])

    names = (f"rms_over_{name}", f"robust_over_{name}")
    return {"n_floor": int(known.sum())} | measured(ratios, names, columns, resamples, seed, _MOST_ROWS)
