"""Everything that the tables of sums and facts say of each survey and method: bins, conditions, leakage, n_eff."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from deblend_assets.science.field_shear.biases import NAMES, biases, changes, leakage
from deblend_assets.science.field_shear.bins import ALL, REDSHIFT, VARIABLES
from deblend_assets.science.field_shear.design import SURVEYS, ShearField, Survey
from deblend_assets.science.field_shear.effective import effective_number, effective_ratio
from deblend_assets.science.field_shear.fields import CONDITIONS, EXACT, SLICES
from deblend_assets.science.field_shear.names import OURS, TITLES
from deblend_assets.science.field_shear.slices import slice_responses
from deblend_assets.science.field_shear.stacked import Stacked
from deblend_assets.science.field_shear.twin_checks import TwinFacts
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.jackknife import Measure

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
            "slices": list(_slices(sums[sums["method"] == method], stacked, shear, step)),
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


def _slices(rows: pd.DataFrame, exact: Stacked, shear: float, step: float) -> Iterator[Evaluation]:
    of_exact = rows[(rows["condition"] == EXACT.name) & (rows["variable"] == REDSHIFT)]
    for number, condition in enumerate(SLICES):
        under = rows[(rows["condition"] == condition.name) & (rows["variable"] == ALL)]
        inside = of_exact[of_exact["bin"] == number]
        if under["field"].nunique() >= 2 and not inside.empty:
            sheared = Stacked.of(under, step)
            yield {
                "words": condition.words,
                "fields": len(sheared.fields),
                "detections": sheared.detections,
                **_json(slice_responses(sheared, exact, Stacked.of(inside, step), shear)),
            }
