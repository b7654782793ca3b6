"""Accuracy of shape posteriors: against the truth, their own expected errors, and the Fisher floor.

One row a held-out scene, one column a number (`table_columns`). `posterior` is the mean, which has the
least squared error and is shrunk toward the population; `likelihood` is the estimate with the prior divided out, NaN
(a failure) where flagged. `floor` is the
Cramér-Rao error of the same galaxy in the same blend (`science.fisher`); the floor *with the population* adds the
information that the prior holds (van Trees), which a posterior mean uses and an unbiased estimate does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.measuring.columns import catalog_columns
from deblend_assets.science.shapes.groups import named_thirds, thirds_by_truth
from deblend_assets.science.shapes.heads import COLUMNS
from deblend_assets.science.stamps.quantities import QUANTITIES
from deblend_assets.science.statistics.accuracy import Evaluation, measured, positive, pulls, shapes, values
from deblend_assets.science.statistics.metrics import Floats, rms, robust_sigma

Kind = Literal["e", "g"]
KINDS: tuple[Kind, ...] = ("e", "g")
BLENDED = 0.05
MEASURED_OTHERS, MEASURED_CLOSE = "measured light of others", "chance of a close neighbour"
_LEVELS = (0.68, 0.95)
_FLOOR_MEASURES = ("rms_over_floor", "robust_over_floor", "floor_rms", "floor_robust", "rms_over_floor_with_population")


def table_columns(label_band: str, bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Unit and meaning of the columns that an evaluation adds to the targets' truth."""
    words = {
        "g1": "intrinsic shear-type g1",
        "g2": "intrinsic shear-type g2",
        "e1": f"observed distortion e1, band {label_band}",
        "e2": f"observed distortion e2, band {label_band}",
        "ln_size": "ln of the half-light radius before PSF [arcsec]",
        "ln_flux": f"ln of the total flux, band {label_band} [electron]",
    }
    columns: dict[str, tuple[str, str]] = {
        "ln_size": ("", f"true {words['ln_size']}"),
        "ln_flux": ("", f"true {words['ln_flux']}"),
    }
    for name, meaning in words.items():
        columns[f"{name}_posterior"] = ("", f"posterior mean: {meaning}")
        columns[f"{name}_posterior_err"] = ("", f"posterior standard deviation: {meaning}")
        columns[f"{name}_likelihood"] = ("", f"without the population: {meaning}; NaN where flagged")
        columns[f"{name}_likelihood_err"] = ("", f"its standard error: {meaning}")
        columns[f"{name}_pit"] = ("", f"share of the posterior below the truth: {meaning}")
    for band in bands:
        for k in (1, 2):
            columns[f"e{k}_masked_{band}"] = ("", f"posterior mean of e{k}, band {band} withheld and masked")
    catalog = catalog_columns(bands, label_band)
    return columns | {
        "shape_flags": ("", "bits of the likelihood-only estimate, see science.shapes.posterior.SHAPE_FLAGS"),
        **{name: ("", catalog[name].meaning) for name in COLUMNS},
        "others_light": ("", f"share of the stamp's light that the posterior leaves to others, band {label_band}"),
        "separation_arcsec": ("arcsec", "from the target to its nearest neighbour; NaN without one"),
    }


def groups(table: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which rows belong to which group.

    All; alone; terciles of S/N, and among those with a neighbour of blendedness and separation; terciles of what is
    measured of neighbours: light beside the target, and probability of a close one; blendedness above 0.05.

    A maximum-likelihood posterior is calibrated only conditional on the image. In groups by a true property that the
    image does not show, such as the blendedness of a galaxy that looks isolated, its coverage can be off: see
    `calibration`.
    """
    blended = np.isfinite(values(table, "separation_arcsec"))
    chosen = {"all": np.ones(len(table), dtype=bool), "without neighbour": ~blended}
    chosen |= thirds_by_truth(*(values(table, name) for name in ("snr", "blendedness", "separation_arcsec")))
    for name, column in ((MEASURED_OTHERS, "others_light"), (MEASURED_CLOSE, "close_chance")):
        chosen |= named_thirds(name, values(table, column))
    return chosen | {f"blendedness > {BLENDED}": values(table, "blendedness") > BLENDED}


def true_labels(table: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """By column of a probability (`heads.COLUMNS`): whether its criterion holds."""
    return {name: column.holds(table) for name, (_, column) in COLUMNS.items()}


def evaluate_shapes(table: pd.DataFrame, *, resamples: int, seed: int) -> Evaluation:
    """Every number of the evaluation.

    Args:
        table: the targets' truth and `table_columns`; `{g1,g2,e1,e2}_floor` where there is a floor.
        resamples, seed: of the bootstrap over scenes.

    Returns:
        `n`; for "e" and "g": `posterior` and `likelihood` (`accuracy.shapes`), `pulls`, and `scatter_ratio`: scatter of
        the likelihood-only estimate over that of the truth, its own expected noise removed; `coverage`: of central
        intervals at 68 and 95 %, a quantity each; `neighbours`: for each probability its mean (`expected`), the
        `share` of galaxies for which it is true and its Brier `skill` (1 for certain and right, 0 for the share
        itself); `groups`: of each, `n`, `coverage` and for "e" and "g" the RMS, its expected value and, where
        there are floors, the ratios to them. Every measure is `{"value", "error"}`.
    """
    found: Evaluation = {"n": len(table)}
    for kind in KINDS:
        found[kind] = _scatter_ratio(table, kind, resamples, seed)
        for estimator in ("posterior", "likelihood"):
            found[kind][estimator] = shapes(table, kind, estimator, resamples=resamples, seed=seed)
        found[kind]["pulls"] = pulls(table, kind, "posterior", resamples=resamples, seed=seed)
    found["coverage"] = _coverage(table, resamples, seed)
    found["neighbours"] = {
        name: _chance(values(table, name), true, resamples, seed) for name, true in true_labels(table).items()
    }
    found["groups"] = {}
    for name, rows in groups(table).items():
        part = table[rows]
        group: Evaluation = {"n": len(part), "coverage": _coverage(part, resamples, seed)}
        for kind in KINDS:
            group[kind] = _beside_floor(part, kind, resamples, seed)
        found["groups"][name] = group
    return found


def _scatter_ratio(table: pd.DataFrame, kind: Kind, resamples: int, seed: int) -> Evaluation:
    free = table[np.isfinite(table[f"{kind}1_likelihood"]) & np.isfinite(table[f"{kind}2_likelihood"])]
    columns = {
        f"{name}{k}": values(free, f"{kind}{k}{suffix}")
        for k in (1, 2)
        for name, suffix in (("true", ""), ("found", "_likelihood"), ("error", "_likelihood_err"))
    }

    def ratio(rows: Mapping[str, Floats]) -> Floats:
        found, true = (rows[f"{name}1"].var(axis=-1) + rows[f"{name}2"].var(axis=-1) for name in ("found", "true"))
        noise = np.square(rows["error1"]).mean(axis=-1) + np.square(rows["error2"]).mean(axis=-1)
        return np.stack([np.sqrt(np.maximum(found - noise, 0.0) / true)])

    return measured(ratio, ("scatter_ratio",), columns, resamples, seed)


def _coverage(table: pd.DataFrame, resamples: int, seed: int) -> Evaluation:
    columns = {name: values(table, f"{name}_pit") for name in QUANTITIES}

    def within(rows: Mapping[str, Floats]) -> Floats:
        return np.stack([(np.abs(rows[q] - 0.5) < level / 2).mean(axis=-1) for q in QUANTITIES for level in _LEVELS])

    names = [f"{name}_{level:.0%}" for name in QUANTITIES for level in _LEVELS]
    return measured(within, names, columns, resamples, seed)


def _chance(chance: Floats, true: NDArray[np.bool_], resamples: int, seed: int) -> Evaluation:
    def read(rows: Mapping[str, Floats]) -> Floats:
        share, expected = rows["true"].mean(axis=-1), rows["chance"].mean(axis=-1)
        brier = np.square(rows["chance"] - rows["true"]).mean(axis=-1)
        return np.stack([expected, share, 1.0 - brier / positive(share * (1.0 - share))])

    columns = {"chance": chance, "true": true.astype(float)}
    return measured(read, ("expected", "share", "skill"), columns, resamples, seed)


def _beside_floor(table: pd.DataFrame, kind: Kind, resamples: int, seed: int) -> Evaluation:
    columns: dict[str, Floats] = {}
    for k in (1, 2):
        columns[f"off{k}"] = values(table, f"{kind}{k}_posterior") - values(table, f"{kind}{k}")
        columns[f"err{k}"] = values(table, f"{kind}{k}_posterior_err")
    found = measured(_errors, ("rms", "robust_sigma", "expected_rms"), columns, resamples, seed)
    if f"{kind}1_floor" not in table:
        return found
    prior = float(np.sqrt(np.mean([values(table, f"{kind}{k}").var() for k in (1, 2)]))) if len(table) else 0.0
    for k, unit in enumerate(np.random.default_rng(seed).standard_normal((2, len(table))), start=1):
        # One random error for each galaxy from its floor: their robust sigma is that of errors of many sizes.
        columns |= {f"floor{k}": values(table, f"{kind}{k}_floor"), f"unit{k}": unit}
        columns[f"bayes{k}"] = 1.0 / np.sqrt(columns[f"floor{k}"] ** -2.0 + positive(np.array(prior)) ** -2.0)
    return found | measured(_floors, _FLOOR_MEASURES, columns, resamples, seed)


def _both(rows: Mapping[str, Floats], name: str) -> Floats:
    return np.concatenate([rows[f"{name}1"], rows[f"{name}2"]], axis=-1)


def _errors(rows: Mapping[str, Floats]) -> Floats:
    off = _both(rows, "off")
    return np.stack([rms(off), robust_sigma(off), rms(_both(rows, "err"))])


def _floors(rows: Mapping[str, Floats]) -> Floats:
    off, floor = _both(rows, "off"), _both(rows, "floor")
    floors = rms(floor), robust_sigma(floor * _both(rows, "unit"))
    with_population = rms(off) / positive(rms(_both(rows, "bayes")))
    return np.stack([rms(off) / positive(floors[0]), robust_sigma(off) / positive(floors[1]), *floors, with_population])


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The numbers of an evaluation that a row of the UI shows, flat; those that are None are left out."""
    flat: dict[str, float | None] = {"scenes": evaluation["n"]}
    for kind in KINDS:
        part, whole = evaluation[kind], evaluation["groups"]["all"][kind]
        flat[f"rms_{kind}"] = whole["rms"]["value"]
        flat[f"robust_sigma_{kind}"] = whole["robust_sigma"]["value"]
        for name in _FLOOR_MEASURES:
            if name in whole:
                flat[f"{name}_{kind}"] = whole[name]["value"]
        for k in (1, 2):
            flat[f"slope_{kind}{k}_likelihood"] = part["likelihood"][f"{kind}{k}"]["slope"]["value"]
            flat[f"slope_{kind}{k}_posterior"] = part["posterior"][f"{kind}{k}"]["slope"]["value"]
        flat[f"scatter_ratio_{kind}"] = part["scatter_ratio"]["value"]
        flat[f"flagged_{kind}"] = part["likelihood"]["failures"]
    flat |= {f"coverage_{name}": measure["value"] for name, measure in evaluation["coverage"].items()}
    flat |= {f"{name}_skill": found["skill"]["value"] for name, found in evaluation["neighbours"].items()}
    return {name: value for name, value in flat.items() if value is not None}
