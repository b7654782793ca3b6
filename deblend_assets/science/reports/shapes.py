"""The page of the shape posterior's evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from deblend_assets.science.evaluation.shapes import KINDS, Kind
from deblend_assets.science.reports.page import Picture, Section, render_report
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import Table, format_measure

_TITLE = "Shape posterior on held-out galaxies"
_WORDS: dict[Kind, str] = {
    "e": "distortion e = (a² − b²)/(a² + b²), observed, label band",
    "g": "shear-type g = (a − b)/(a + b), intrinsic",
}
_CAPTIONS = {
    "calibration": "Estimates against truth, both components together. The posterior mean is drawn towards round, as "
    "the estimate of least error must be; the prior-free summary follows the line.",
    "expected_errors": "Left: the error that the posterior expects against the one it makes. Right: both beside the "
    "Fisher floor of the same galaxies, by S/N.",
    "errors_by_group": "Error over the floor by S/N, blendedness and separation, bootstrap errors. Without prior an "
    "estimate cannot come below 1; a posterior mean can where the photons say little.",
    "neighbours": "How often a chance holds, against what it says: bins of equal number of galaxies, binomial errors; "
    "blendedness in the label band.",
    "coverage": "Rank of the truth in the posterior (flat when calibrated), and how often central intervals hold it; "
    "grey: within 3 points.",
}


def shape_report(evaluation: Evaluation, pictures: Mapping[str, bytes], provenance: Mapping[str, str]) -> str:
    """One HTML page.

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
                    "The posterior mean is the estimate of least squared error. For a sum over many galaxies use the "
                    "prior-free summary: its slope on the truth is 1, its scatter is that of the galaxies and of its "
                    f"own noise. Flags: {flags}. Neither is calibrated for shear."
                ],
                figures=[figures["calibration"]],
            ),
            Section(
                "How near is it to the photons' limit?",
                [
                    "The Fisher floor is the Cramér-Rao error of the target in its blend, with its position, size and "
                    "fluxes and every neighbour's parameters unknown. With the population: the information of the "
                    "prior added, as a posterior has it."
                ],
                [_groups(evaluation)],
                [figures["errors_by_group"], figures["expected_errors"]],
            ),
            Section("Are its errors to be believed?", [], [_coverage(evaluation)], [figures["coverage"]]),
            Section(
                "What does it see of neighbours?",
                [
                    "From the same look at the stamp: the chance that another galaxy is close, and that its light "
                    "matters. Scenes are as crowded as in training; where the sky is not, chances are off with it."
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
            "quantity, a component",
            "RMS error",
            "robust σ",
            "RMS / Fisher floor",
            "RMS / floor with population",
            "slopes, prior-free",
            "scatter, prior-free, noise removed",
            "flagged",
        ),
        rows,
        note=f"N = {evaluation['n']:,} test scenes; errors by bootstrap over scenes. RMS and robust σ are of the "
        "posterior mean; slopes and scatter of the prior-free summary, flagged galaxies left out.",
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
    return Table(columns, rows, note="A component; the floor is the RMS of the galaxies' own floors.")


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
        ("chance", "mean", "share of galaxies that it is true of", "Brier skill"),
        rows,
        note="Skill: 1 when sure and right, 0 when every galaxy is given the share.",
    )
