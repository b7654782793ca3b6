"""The referee's page: accuracy beside other methods, failures, cost, and shear calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deblend_assets.science.evaluation.comparison import FLOOR, OURS, title_of
from deblend_assets.science.evaluation.shapes import BLENDED
from deblend_assets.science.evaluation.shear import METHODS, with_image_response
from deblend_assets.science.peers import PEERS
from deblend_assets.science.reports.page import Picture, Section, render_report
from deblend_assets.science.shear.calibration import REQUIRED_C, REQUIRED_M
from deblend_assets.science.statistics.format import Cell, Table, format_measure, format_number

Evaluation = Mapping[str, Any]
_WORDS = {p.name: p.words for p in PEERS} | {
    OURS: "mean of the shape posterior, and the deblender of stage 2; no positions given",
    "ours, prior-free": "the same posterior with the prior divided out; flagged galaxies count as failures",
    "report": "the report's three stages, retrained on these simulations; its regressor gives e only",
    FLOOR: "lowest error of an unbiased estimate: Fisher matrix with neighbours, positions, sizes and fluxes unknown",
}
CAPTIONS = {
    "errors": "RMS error of every method, for all test blends and for the strongly blended ones; grey: the Fisher "
    "floor.",
    "cost": "Error against the time for one galaxy on one core.",
    "errors_by_group_e": "RMS error of e by thirds of S/N, blendedness, separation of the nearest neighbour and "
    "magnitude difference to the brightest one.",
    "errors_by_group_g": "The same for the intrinsic g.",
    "worst_failures": "The ten largest errors of every method: the blend in the label band, the true shape and the "
    "estimated one, both with one size for all; bl: blendedness.",
}
_SHEAR_CAPTIONS = {
    "biases": "m and c with jack-knife errors. Open: uncalibrated; filled: divided by the mean response of validation "
    "galaxies. The axis is linear within the requirement and logarithmic beyond.",
    "groups": "m by thirds of the true S/N, size, blendedness and redshift with one response for all galaxies: the "
    "bias of a sample selected in one of them, unless it is calibrated by its own response.",
    "responses": "Responses of posterior means from pairs of simulations (open) and from the images alone (filled), by "
    "the same thirds.",
}


def referee_report(
    peers: Evaluation,
    shear: Mapping[str, Evaluation],
    pictures: Mapping[str, bytes],
    provenance: Mapping[str, str],
    density: Mapping[str, float],
) -> str:
    """One HTML page.

    Args:
        peers: of `comparison.evaluate_peers`.
        shear: of `shear.evaluation.evaluate_shear`, by the survey's name.
        pictures: PNG bytes: CAPTIONS, and `{survey}_{name}` of the shear's figures.
        provenance: what the numbers were made from.
        density: of the generated population's targets, by the survey's name [1 / arcmin²].
    """
    show = {name: Picture(pictures[name], words) for name, words in CAPTIONS.items() if name in pictures}
    return render_report(
        "Comparison with other methods, and shear calibration",
        _methods(peers),
        [
            Section(
                "Is it better than what I run today?",
                [
                    "Every method measures the same blends with its own recommended settings. e is the observed "
                    "distortion (a² − b²)/(a² + b²) of the label band, from unweighted moments of "
                    "the noiseless target; adaptive moments measure another quantity, and their errors include that "
                    "difference. g is the intrinsic shear-type (a − b)/(a + b). Failures are "
                    "counted and left out. The ratio to ours uses the blends where both methods worked; a difference "
                    "below its error is a tie.",
                ],
                [_described(peers), _slopes(peers), _images(peers)],
                [show[n] for n in ("errors",) if n in show],
            ),
            Section(
                "Where does it fail?",
                [],
                [_groups(peers, "e"), _groups(peers, "g")],
                [show[n] for n in ("errors_by_group_e", "errors_by_group_g", "worst_failures") if n in show],
            ),
            Section("How fast is it?", [], [], [show[n] for n in ("cost",) if n in show]),
            *(_calibration(survey, evaluation, pictures, density[survey]) for survey, evaluation in shear.items()),
        ],
        provenance,
    )


def _methods(peers: Evaluation) -> Table:
    rows = []
    for method, found in peers["methods"].items():
        groups, blended = found["groups"]["all"], found["groups"][f"blendedness > {BLENDED}"]
        beside = found.get("beside", {})
        rows.append(
            [
                title_of(method),
                groups["e"]["rms"],
                groups["e"].get("robust_sigma"),
                blended["e"]["rms"],
                "–" if method == FLOOR else groups["g"]["rms"],
                groups["g"].get("robust_sigma"),
                *(_verdict(beside.get(kind)) for kind in "eg"),
                "–" if method == FLOOR else _failures(groups),
                format_number(found.get("milliseconds"), 3),
            ]
        )
    return Table(
        (
            "method",
            "RMS Δe",
            "robust σ Δe",
            f"RMS Δe, blendedness > {BLENDED}",
            "RMS Δg",
            "robust σ Δg",
            "ours / this, e",
            "ours / this, g",
            "failures",
            "time [ms]",
        ),
        rows,
        note=f"N = {peers['n']:,} held-out test blends; per component, both pooled; errors by bootstrap over blends. "
        "The floor of g is left out: a few unresolved galaxies dominate its RMS. Time: per galaxy, on one core.",
    )


def _described(peers: Evaluation) -> Table:
    rows = [(title_of(method), method, _WORDS.get(method, "")) for method in peers["methods"]]
    return Table(("method", "name in the table of estimates", "settings and inputs"), rows, "The methods")


def _failures(groups: Evaluation) -> str:
    given = [groups[k] for k in "eg" if groups[k]["rms"]["value"] is not None]
    return f"{max(g['failures'] for g in given):,}" if given else "all"


def _verdict(beside: Evaluation | None) -> str:
    if beside is None or beside["ratio"]["value"] is None:
        return "–"
    tie = " (tie)" if beside["better"] == "tie" else ""
    return f"{format_measure(beside['ratio'])}{tie}"


def _slopes(peers: Evaluation) -> Table:
    names = [f"{n}{k}, {kind}" for kind in "eg" for n in ("slope", "bias") for k in (1, 2)]
    rows = []
    for method, found in peers["methods"].items():
        if method == FLOOR:
            continue
        everything = found["groups"]["all"]
        rows.append(
            [
                title_of(method),
                *(
                    format_measure(everything[kind].get(f"{n}{k}"), 1.0 if n == "slope" else 1e3)
                    for kind in "eg"
                    for n in ("slope", "bias")
                    for k in (1, 2)
                ),
            ]
        )
    return Table(
        ("method", *names),
        rows,
        "Slope on the truth and bias [10⁻³]",
        "A posterior mean is shrunk toward zero (round), which minimises the squared error: its slope is below 1.",
    )


def _images(peers: Evaluation) -> Table:
    bands = list(next(f["flux"] for f in peers["methods"].values() if "flux" in f))
    rows = []
    for method, found in peers["methods"].items():
        if method != FLOOR and (found["ssim"]["value"] is not None or found["flux"][bands[0]]["median"]["value"]):
            fluxes = [
                "–"
                if (f := found["flux"][b])["median"]["value"] is None
                else f"{100 * f['median']['value']:+.1f} / {100 * f['robust_sigma']['value']:.1f}".replace("-", "−")
                for b in bands
            ]
            rows.append([title_of(method), found["ssim"], found["cosine"], *fluxes])
    return Table(
        ("method", "SSIM", "cosine", *(f"flux {b} [%]" for b in bands)),
        rows,
        "The deblended target",
        "SSIM and cosine in Eq. 9 space, all bands, against the noiseless isolated target. Fluxes: median and robust σ "
        "of estimate / truth − 1, where the truth is the light in the stamp.",
    )


def _groups(peers: Evaluation, kind: str) -> Table:
    given = [m for m in peers["methods"] if peers["methods"][m]["groups"]["all"][kind]["rms"]["value"] is not None]
    methods = [m for m in given if kind == "e" or m != FLOOR]
    names = list(peers["methods"][methods[0]]["groups"])
    rows = []
    for name in names:
        found = [peers["methods"][m]["groups"][name][kind] for m in methods]
        rows.append([name, f"{found[0]['n']:,}", *(f["rms"] for f in found)])
    words = "observed distortion e" if kind == "e" else "intrinsic shear-type g"
    return Table(("blends", "N", *map(title_of, methods)), rows, f"RMS error of the {words}, per component")


def _calibration(survey: str, evaluation: Evaluation, pictures: Mapping[str, bytes], density: float) -> Section:
    figures = [
        Picture(pictures[f"{survey}_{name}"], words)
        for name, words in _SHEAR_CAPTIONS.items()
        if f"{survey}_{name}" in pictures
    ]
    n = evaluation["n"]
    return Section(
        f"How do I calibrate it? {survey}",
        [
            f"{n['blended']:,} scenes of test galaxies under ± shear on either component, upright and turned by 90°, "
            f"with the same noise under + and −. The calibration uses {n['calibration']:,} scenes of validation "
            "galaxies. ⟨ĝ⟩ = (1 + m) g + c; shear-type, pixel frame; jack-knife errors over target galaxies.",
            "Use γ = Σ w ĝ / Σ w R with ĝ the posterior mean and R its response, from your own images or from "
            "simulations like these. Do not divide one galaxy's ĝ by its own R: a single R is mostly noise.",
            "The model for every sky is given each condition's PSF, the noise, and the stamp's centre as position, and "
            "no other detections.",
        ],
        [
            _biases(evaluation),
            _routes(evaluation),
            _changes(evaluation),
            _selection(evaluation),
            _noise(evaluation, density),
        ],
        figures,
    )


def _biases(evaluation: Evaluation) -> Table:
    rows = []
    for method, found in evaluation["methods"].items():
        words, failures = METHODS[method], found["failures"]
        for which in ("uncalibrated", "calibrated"):
            rows.append(_bias_row(words, which, found["response"], found[which], failures))
        if "image_response" in found:
            images = found["image_response"]
            own = "calibrated by its own images"
            rows.append(_bias_row(words, own, images["images"], images["calibrated"], failures))
    return Table(
        ("method", "", "response", "m1 [10⁻³]", "m2 [10⁻³]", "c1 [10⁻⁴]", "c2 [10⁻⁴]", "failures", "requirement"),
        rows,
        "Bias under constant shear",
        f"Requirement: |m| < {REQUIRED_M:g} and |c| < {REQUIRED_C:g}, their errors below it too.",
    )


def _bias_row(words: str, which: str, response: Evaluation, found: Evaluation, failures: float) -> Sequence[Cell]:
    biases = [format_measure(found[f"{q}{k}"], scale) for q, scale in (("m", 1e3), ("c", 1e4)) for k in (1, 2)]
    return [words, which, response, *biases, f"{failures:.1%}", "met" if found["met"] else "not shown"]


def _routes(evaluation: Evaluation) -> Table:
    measured = {m: evaluation["methods"][m]["image_response"] for m in with_image_response(evaluation)}
    rows = []
    for method, found in measured.items():
        for name, group in {"all": found, **found["groups"]}.items():
            rows.append([METHODS[method], name, *(group[k] for k in ("images", "pairs", "difference"))])
    scenes = ", ".join(f"{found['n']:,}" for found in measured.values())
    return Table(
        ("method", "galaxies", "from the images alone", "from pairs of simulations", "difference"),
        rows,
        "Two routes to the response of the posterior mean of g",
        f"The same scenes for both routes (N = {scenes}). From the images: each stamp is sheared through its PSF, "
        "noise included, and the contribution of the sheared noise is removed with noise of the same variance "
        "(science.shear.response; of the model for every sky science.sky_shapes.response).",
    )


def _changes(evaluation: Evaluation) -> Table:
    rows = []
    for method, found in evaluation["methods"].items():
        for change in found["conditions"].values():
            rows.append(
                [
                    METHODS[method],
                    change["words"],
                    f"{change['n']:,}",
                    format_measure(change["change_of_m"], 1e3),
                    change.get("leakage"),
                    change.get("leakage_known"),
                ]
            )
    return Table(
        ("method", "condition", "scenes", "change of m [10⁻³]", "leakage α, PSF unknown", "leakage α, PSF known"),
        rows,
        "What changes m",
        "The same galaxies and noise, so that the difference is more precise than either number. α = ∂c₁/∂g₁ of the "
        "PSF. Where the condition's PSF is not given, REGAUSS is given the survey's; LSST's networks have no input for "
        "a PSF.",
    )


def _selection(evaluation: Evaluation) -> Table:
    rows = [
        [METHODS[method], words, format_measure(cut["m"], 1e3), format_measure(cut["selection"], 1e3)]
        for method, found in evaluation["methods"].items()
        for words, cut in found["selection"].items()
    ]
    return Table(
        ("method", "cut on the estimate", "m of the selected galaxies [10⁻³]", "contribution of the selection [10⁻³]"),
        rows,
        "Selection",
        "With the response of the whole population. The last column: galaxies that enter and leave the sample with the "
        "shear.",
    )


def _noise(evaluation: Evaluation, density: float) -> Table:
    rows = []
    for method, found in evaluation["methods"].items():
        noise = found["shape_noise"]
        share = noise["effective_share"]
        rows.append([METHODS[method], f"{noise['sigma']:.3f}", f"{share:.3f}", f"{share * density:.1f}"])
    true = evaluation["methods"]["sky"]["shape_noise"]["sigma_true"]
    if "floor_share" in evaluation:
        share = evaluation["floor_share"]
        rows.append(["Fisher floor", "–", f"{share:.3f}", f"{share * density:.1f}"])
    return Table(
        (
            "method",
            "σ of the calibrated estimate, per component",
            "effective share of the galaxies",
            "n_eff [arcmin⁻²]",
        ),
        rows,
        "Effective number of galaxies",
        f"The standard deviation of the true shapes is {true:.3f}. Effective share: their variance over that of the "
        "calibrated estimate, with equal weights, failures counted as lost. n_eff: this share of the "
        f"{density:.1f} targets per arcmin² of the generated population. The floor weights galaxies by their errors; "
        "the others do not.",
    )
