"""Everything that the tables of sums and facts say of each survey and method: bins, conditions, leakage, n_eff."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from deblend_assets.science.field_shear.biases import NAMES, biases, changes, leakage
from deblend_assets.science.field_shear.bins import ALL, VARIABLES
from deblend_assets.science.field_shear.design import SURVEYS, ShearField, Survey
from deblend_assets.science.field_shear.effective import effective_number, effective_ratio
from deblend_assets.science.field_shear.fields import CONDITIONS, EXACT
from deblend_assets.science.field_shear.names import OURS, TITLES
from deblend_assets.science.field_shear.stacked import Stacked
from deblend_assets.science.field_shear.twin_checks import TwinFacts
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.jackknife import Measure

# Bars of the exact PSF: LSST's requirement for ten years of data on |m|, and on |c|.
REQUIRED_M, REQUIRED_C = 3e-3, 2e-4
# A jack-knife of fewer fields says little.
LEAST_FIELDS = 4
_SEED = 1
# Detections of a bin, in all images of all fields.
_LEAST_DETECTIONS = 200

FACT_COLUMNS: dict[str, tuple[str, str]] = {
    "survey": ("", "whose skies"),
    "field": ("", "number of the field"),
    "condition": ("", "which PSF was given; exact: the true one"),
    "method": ("", "which method"),
    "correlated": ("", "whether the noise is correlated"),
    "area": ("arcmin2", "unmasked sky within the border, reference band"),
    "galaxies": ("", "galaxies within the border, brighter than the faintest of the field"),
    "sum_g2": ("", "sum of (g1^2 + g2^2) / 2 of these galaxies, true, before the shear"),
    "shared_noise": ("", "least correlation of the noise of two images of the field"),
    "masks_apart": ("", "largest share of masked pixels that differ between images of a pair"),
    "seconds": ("s", "CPU time of the method, all images of the field"),
    "detections": ("", "within the border, in all images and catalogues"),
    "selected": ("", "of these, selected by the method's cuts"),
    "failures": ("", "of these, without a shape"),
}
"""Of the table with one row a field, condition and method."""


def evaluate_fields(sums: pd.DataFrame, facts: pd.DataFrame, shear: float, step: float) -> Evaluation:
    """The evaluation of all surveys that have enough fields.

    Args:
        sums: `SUM_COLUMNS`.
        facts: `FACT_COLUMNS`.
        shear: |g| that was applied.
        step: of the shear that metadetection adds.
    """
    found: Evaluation = {}
    for survey in SURVEYS:
        rows, told = (table[table["survey"] == survey] for table in (sums, facts))
        if rows["field"].nunique() >= LEAST_FIELDS:
            found[survey] = _survey(survey, rows, told, shear, step)
    return found


def _survey(survey: Survey, sums: pd.DataFrame, facts: pd.DataFrame, shear: float, step: float) -> Evaluation:
    exact = sums[sums["condition"] == EXACT.name]
    told = facts[facts["condition"] == EXACT.name]
    fields = told.drop_duplicates("field").sort_values("field")
    sigma_g = float(np.sqrt(fields["sum_g2"].sum() / fields["galaxies"].sum()))
    area = fields.set_index("field")["area"]
    there = set(exact["method"])
    stacks = {method: _whole(exact[exact["method"] == method], step) for method in TITLES if method in there}
    methods = {}
    for method, stacked in stacks.items():
        own = told[told["method"] == method]
        rows = exact[exact["method"] == method]
        methods[method] = {
            "fields": len(stacked.fields),
            "detections": stacked.detections,
            "failures": float(own["failures"].sum() / max(own["detections"].sum(), 1)),
            "seconds": float(own["seconds"].mean()),
            "milliseconds": 1e3 * float(own["seconds"].sum() / max(own["detections"].sum(), 1)),
            "all": _json(biases(stacked, shear)),
            "leakage": leakage(stacked).as_json(),
            "n_eff": effective_number(
                stacked, shear, sigma_g, area.reindex(stacked.fields).to_numpy(float), seed=_SEED
            ).as_json(),
            "bins": list(_bins(rows, shear, step)),
            "noise": _by_noise(stacked, survey, shear),
            "errors": _errors(stacked, shear),
            "changes": _changes(sums[sums["method"] == method], stacked, shear, step),
        }
        if method != OURS and OURS in stacks:
            methods[method]["ours_over_this"] = effective_ratio(stacks[OURS], stacked, shear, seed=_SEED).as_json()
    return {
        "fields": len(fields),
        "area": float(fields["area"].sum()),
        "sigma_g": sigma_g,
        "galaxies": int(fields["galaxies"].sum()),
        "methods": methods,
        "problems": problems(fields),
    }


def problems(fields: pd.DataFrame) -> list[str]:
    """What is wrong with the images of fields, one line each.

    Args:
        fields: rows of facts, one a field.
    """
    found = []
    numbers = fields[["shared_noise", "masks_apart"]].to_numpy(float)
    for row, (shared_noise, masks_apart) in zip(fields.itertuples(), numbers, strict=True):
        facts = TwinFacts(float(shared_noise), float(masks_apart))
        found += [f"{row.survey} field {row.field}: {problem}" for problem in facts.problems]
    return found


def _whole(rows: pd.DataFrame, step: float) -> Stacked:
    return Stacked.of(rows[rows["variable"] == ALL], step)


def _json(measures: dict[str, Measure]) -> Evaluation:
    return {name: measure.as_json() for name, measure in measures.items()}


def _bins(rows: pd.DataFrame, shear: float, step: float) -> Iterator[Evaluation]:
    for variable in VARIABLES:
        chosen = rows[rows["variable"] == variable.name]
        for number in range(variable.count):
            inside = chosen[(chosen["bin"] == number) & (chosen["n"] > 0)]
            if inside.empty:
                continue
            stacked = Stacked.of(inside, step)
            if stacked.detections >= _LEAST_DETECTIONS and len(stacked.fields) >= LEAST_FIELDS:
                yield {
                    "variable": variable.name,
                    "words": variable.words,
                    "bin": variable.label(number),
                    "detections": stacked.detections,
                    **_json(biases(stacked, shear)),
                }


def _by_noise(stacked: Stacked, survey: Survey, shear: float) -> Evaluation:
    found: Evaluation = {}
    for name, correlated in (("white", False), ("correlated", True)):
        fields = [n for n in stacked.fields if ShearField(survey, int(n)).correlated == correlated]
        if len(fields) >= LEAST_FIELDS:
            found[name] = _json(biases(stacked.only(np.array(fields)), shear)) | {"fields": len(fields)}
    return found


def _errors(stacked: Stacked, shear: float) -> list[Evaluation]:
    """σ of m and c of the first fields, 2, 4, 8, … times `LEAST_FIELDS`, and of all."""
    sizes, size = [], LEAST_FIELDS
    while size < len(stacked.fields):
        sizes.append(size)
        size *= 2
    found = []
    for number in [*sizes, len(stacked.fields)]:
        part = biases(stacked.only(stacked.fields[:number]), shear)
        errors = {f"sigma_{name}": part[name].as_json()["error"] for name in NAMES[:6]}
        found.append({"fields": number, "detections": stacked.only(stacked.fields[:number]).detections} | errors)
    return found


def _changes(rows: pd.DataFrame, exact: Stacked, shear: float, step: float) -> Evaluation:
    found: Evaluation = {}
    for name, condition in CONDITIONS.items():
        under = rows[(rows["condition"] == name) & (rows["variable"] == ALL)]
        if name != EXACT.name and under["field"].nunique() >= 2:
            stacked = Stacked.of(under, step)
            found[name] = _json(changes(stacked, exact, shear)) | {
                "words": condition.words,
                "fields": len(stacked.fields),
            }
    return found


def findings(evaluation: Evaluation) -> list[str]:
    """Our m and c beyond the bars by more than two errors under the exact PSF, and fields whose images are no twins."""
    found = [problem for of in evaluation.values() for problem in of["problems"]]
    for survey, of in evaluation.items():
        ours = of["methods"].get(OURS, {"all": {}})["all"]
        for name in ("m1", "m2", "c1", "c2"):
            measure = ours.get(name)
            if measure is None or measure["value"] is None or measure["error"] is None:
                continue
            bar = REQUIRED_M if name[0] == "m" else REQUIRED_C
            if abs(measure["value"]) - bar > 2 * measure["error"]:
                found.append(f"{survey}: {name} = {measure['value']:.2e} ± {measure['error']:.1e}, bar {bar:g}")
    return found


def verdict(measure: Evaluation, bar: float) -> str:
    """Says "met" within the bar and its own error, "not met" beyond, "not known" where the error exceeds the bar.

    Args:
        measure: value and error.
        bar: largest allowed size.
    """
    value, error = measure["value"], measure["error"]
    if value is None or error is None or error > bar:
        return "not known"
    return "met" if abs(value) <= bar + error else "not met"


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The numbers that a row of the UI shows, and that the next run is compared with."""
    found: dict[str, float | None] = {}
    for survey, of in evaluation.items():
        found[f"fields_{survey}"] = of["fields"]
        for method, numbers in of["methods"].items():
            for name in ("m1", "m2", "c1", "c2"):
                found[f"{name}_{method}_{survey}"] = numbers["all"][name]["value"]
                found[f"{name}_{method}_{survey}_error"] = numbers["all"][name]["error"]
            found[f"n_eff_{method}_{survey}"] = numbers["n_eff"]["value"]
    return {name: value for name, value in found.items() if value is not None and np.isfinite(value)}
