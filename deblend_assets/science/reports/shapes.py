"""The page of the shape posterior's evaluation on held-out galaxies."""

from __future__ import annotations

from collections.abc import Mapping

from deblend_assets.science.evaluation.shapes import KINDS, Kind
from deblend_assets.science.reports.page import Picture, Section, render_report
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import Table, format_measure

_TITLE = "Shape posterior on held-out galaxies"
_WORDS: dict[Kind, str] = {
    "e": "observed distortion e in the label band",
    "g": "intrinsic shear-type g",
}
_CAPTIONS = {
    "calibration": "Estimates against the truth, both components together. The posterior mean is shrunk toward zero "
    "(round): it minimises the squared error. The likelihood-only estimate follows the line.",
    "expected_errors": "Left: the actual error against the error that the posterior expects. Right: both, and the "
    "Fisher floor of the same galaxies, by S/N.",
    "errors_by_group": "Error over the floor by S/N, blendedness and separation, with bootstrap errors. No unbiased "
    "estimate is below 1; a posterior mean is where the pixels hold less information than the prior.",
    "neighbours": "Share of galaxies with a neighbour against the predicted probability: bins of equal number of "
    "galaxies, binomial errors, blendedness in the label band.",
    "coverage": "Above: rank of the truth in the posterior, flat for a calibrated one. Below: share of galaxies with "
    "the truth in the central interval, bootstrap errors; grey: within 3 points of the nominal share.",
}


def shape_report(evaluation: Evaluation, pictures: Mapping[str, bytes], provenance: Mapping[str, str]) -> str:
    """The report of the shape posterior as one HTML page.

    Args:
        evaluation: of `evaluate_shapes`.
        pictures: PNG bytes by the names of the figures.
        provenance: what the numbers were made from.
    """
    figures = {name: Picture(pictures[name], caption) for name, caption in _CAPTIONS.items()}
    flags = "; ".join(f"{bit} {words}" for bit, words in SHAPE_FLAGS.items())
    return render_report(
        _TITLE,
        _summary(evaluation),
        [
            Section(
                "Is it unbiased?",
                [
                    "Two ellipticities: the distortion e = (a² − b²)/(a² + b²), as observed in the "
                    "label band, and the intrinsic shear-type g = (a − b)/(a + b).",
                    "The posterior mean has the least squared error for one galaxy. Sums over many galaxies need the "
                    "likelihood-only estimate (prior divided out): its slope on the truth is 1, and its scatter is "
                    "that of the galaxies and of its own noise. Neither is calibrated for shear. "
                    f"Flags: {flags}.",
                ],
                figures=[figures["calibration"]],
            ),
            Section(
                "How close is it to the limit of the pixels?",
                [
                    "The Fisher floor is the Cramér-Rao error of the target in its blend, where its position, size and "
                    "fluxes and all parameters of every neighbour are unknown. The floor with the population adds the "
                    "information of the prior, which a posterior has too."
                ],
                [_groups(evaluation)],
                [figures["errors_by_group"], figures["expected_errors"]],
            ),
            Section("Are its errors right?", [], [_coverage(evaluation)], [figures["coverage"]]),
            Section(
                "Does it recognise neighbours?",
                [
                    "The network also predicts the probability that another galaxy is close, and that its light "
                    "matters. The test scenes are as crowded as the training scenes; on a sky of another density the "
                    "probabilities are off."
                ],
                [_neighbours(evaluation)],
                [figures["neighbours"]],
            ),
        ],
        provenance,
    )


def _summary(evaluation: Evaluation) -> Table:
    rows = []
    for kind in KINDS:
        part, whole = evaluation[kind], evaluation["groups"]["all"][kind]
        rows.append(
            [
                _WORDS[kind],
                whole["rms"],
                whole["robust_sigma"],
                whole.get("rms_over_floor"),
                whole.get("rms_over_floor_with_population"),
                ", ".join(format_measure(part["likelihood"][f"{kind}{k}"]["slope"]) for k in (1, 2)),
                part["scatter_ratio"],
                f"{part['likelihood']['failures']:,}",
            ]
        )
    return Table(
        (
            "quantity, per component",
            "RMS error",
            "robust σ",
            "RMS / Fisher floor",
            "RMS / floor with population",
            "slopes, likelihood only",
            "scatter ratio, likelihood only, noise removed",
            "flagged",
        ),
        rows,
        note=f"N = {evaluation['n']:,} test scenes; errors by bootstrap over scenes. RMS and robust σ are of the "
        "posterior mean; slopes and scatter of the likelihood-only estimate, without flagged galaxies.",
    )


def _groups(evaluation: Evaluation) -> Table:
    columns = ["galaxies", "N"]
    for kind in KINDS:
        columns += [f"RMS Δ{kind}", f"floor, {kind}", f"RMS / floor, {kind}", f"robust / floor, {kind}"]
    rows = []
    for name, group in evaluation["groups"].items():
        cells = [name, f"{group['n']:,}"]
        for kind in KINDS:
            found = group[kind]
            measures = ("rms", "floor_rms", "rms_over_floor", "robust_over_floor")
            cells += [found.get(measure) for measure in measures]
        rows.append(cells)
    return Table(columns, rows, note="Per component. The floor is the RMS of the galaxies' own floors.")


def _coverage(evaluation: Evaluation) -> Table:
    names = ("g1", "g2", "e1", "e2", "ln_size", "ln_flux")
    rows = []
    for group, found in evaluation["groups"].items():
        measures = [found["coverage"][f"{name}_{level}%"] for level in (68, 95) for name in names]
        rows.append([group, *("–" if m["value"] is None else f"{100 * m['value']:.1f}" for m in measures)])
    columns = ["galaxies", *(f"{name}, {level} %" for level in (68, 95) for name in names)]
    return Table(columns, rows, "Truth within the posterior's central interval [%]")


def _neighbours(evaluation: Evaluation) -> Table:
    rows = [
        [name, found["expected"], found["share"], found["skill"]] for name, found in evaluation["neighbours"].items()
    ]
    return Table(
        ("probability that", "mean", "share of galaxies for which it is true", "Brier skill"),
        rows,
        note="Brier skill: 1 for certain and right predictions, 0 for predicting the share for every galaxy.",
    )
