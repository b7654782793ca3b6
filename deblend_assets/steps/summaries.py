"""Markdown summaries of the evaluations: the key figures with ± and units, as the UI shows them without a click.

The UI shows Markdown in place below 1,000 characters, and in a window of 1,400 pixels some 45 characters of a line: a
summary is a table of two columns below short lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from deblend_assets.science.evaluation.comparison import FLOOR, title_of
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import Cell, format_cell, format_measure

Rows = Sequence[tuple[str, Cell]]


def key_figures(lines: Sequence[str], rows: Rows, heading: str = "figure", unit: str = "value") -> str:
    """A summary.

    Args:
        lines: above the table: population, conventions.
        rows: name and value of each key figure.
        heading, unit: of the two columns.
    """
    table = [(heading, unit), ("---", "---"), *((name, format_cell(cell)) for name, cell in rows)]
    return "\n\n".join([*lines, "\n".join(f"|{name}|{value}|" for name, value in table)])


def deblender_summary(evaluation: Evaluation) -> str:
    """Of `evaluation.deblender.evaluate`: reconstruction and regressor on held-out blends."""
    regressor, label = evaluation["estimators"]["regressor"], evaluation["label_band"]
    ssim, cosine = (evaluation["similarity"][kind]["images"] for kind in ("ssim", "cosine"))
    rows: Rows = [
        ("SSIM, deblended", ssim["stage2"]["mean"]),
        ("SSIM, blend", ssim["blend"]["mean"]),
        ("cosine, deblended", cosine["stage2"]["mean"]),
        ("cosine, blend", cosine["blend"]["mean"]),
        ("RMS Δe, regressor", regressor["both"]["rms"]),
        ("scatter of the true e", evaluation["label_scatter"]["both"]),
        ("slope of e1, regressor", regressor["e1"]["slope"]),
        ("slope of e2, regressor", regressor["e2"]["slope"]),
        (f"flux error {label}, median", evaluation["flux_error"][label]["median"]),
    ]
    lines = [f"{evaluation['scenes']:,} held-out blends.", "SSIM and cosine: Eq. 9 space, against truth."]
    return key_figures([*lines, "e: observed distortion, per component."], rows)


def shape_summary(evaluation: Evaluation) -> str:
    """Of `evaluation.shapes.evaluate_shapes`: the shape posterior on held-out blends."""
    rows: list[tuple[str, Cell]] = []
    for kind in "ge":
        whole = evaluation["groups"]["all"][kind]
        rows += [
            (f"RMS Δ{kind}", whole["rms"]),
            (f"RMS Δ{kind} / Fisher floor", whole.get("rms_over_floor")),
            (f"slope of {kind}1, mean", evaluation[kind]["posterior"][f"{kind}1"]["slope"]),
            (f"slope of {kind}1, likelihood", evaluation[kind]["likelihood"][f"{kind}1"]["slope"]),
            (f"coverage of {kind}1 at 68 %", evaluation["coverage"][f"{kind}1_68%"]),
        ]
    lines = [f"{evaluation['n']:,} held-out blends, per component.", "g: intrinsic, e: observed distortion."]
    return key_figures(lines, rows)


def redshift_summary(evaluations: Evaluation) -> str:
    """Of `evaluation.redshift.evaluate_redshifts`, by method: accuracy and coverage."""
    words = {"ours": "posterior", "colors_true": "colours, true", "colors_blend": "colours, 1″", "constant": "constant"}
    rows: list[tuple[str, Cell]] = [
        (f"σ_NMAD, {words[name]}", found["sigma_NMAD"]) for name, found in evaluations.items()
    ]
    ours = evaluations["ours"]
    rows += [("bias, posterior", ours["bias"]), ("outliers, posterior", ours["outliers"])]
    rows += [(f"coverage at {level} %", ours["pit"][f"coverage_{level}%"]) for level in (68, 95)]
    return key_figures([f"{ours['n']:,} held-out blends; Δz / (1 + z)."], rows)


def tile_summary(evaluation: Evaluation, *, simulated: bool) -> str:
    """Of `evaluation.tile.evaluate_tile`: our shapes against im3shape's and, where it is known, the truth."""
    shear, truth = evaluation["im3shape"]["shear"]["both"], evaluation["truth"]
    rows: list[tuple[str, Cell]] = [
        ("slope of g on im3shape", shear["slope"]),
        ("errors in variables", shear["eiv_slope"]),
        ("signs against im3shape", evaluation["orientation"]),
    ]
    if truth is not None:
        rows += [
            ("slope of g1 on truth", truth["shapes"]["g"]["g1"]["slope"]),
            ("slope of g2 on truth", truth["shapes"]["g"]["g2"]["slope"]),
            ("RMS Δg per component", truth["shapes"]["g"]["both"]["rms"]),
            ("RMS pull of g, no flag", truth["trusted"]["pulls"]["g"]["pull"]),
            ("position offset [arcsec]", truth["position"]["median_total"]),
        ]
    kind = "Simulated tile" if simulated else "Tile"
    return key_figures([f"{kind}, {evaluation['matched']:,} galaxies."], rows)


def peer_summary(evaluation: Evaluation) -> str:
    """Of `evaluation.comparison.evaluate_peers`: RMS errors of every method on the same blends."""
    found = {method: part["groups"]["all"] for method, part in evaluation["methods"].items()}
    rows: list[tuple[str, Cell]] = [
        (title_of(method), groups["e"]["rms"]) for method, groups in found.items() if groups["e"]["rms"]["value"]
    ]
    # A few unresolved galaxies dominate the RMS of the floor of g.
    shears = [
        f"{title_of(method)}: {format_measure(groups['g']['rms'])}"
        for method, groups in found.items()
        if method != FLOOR and groups["g"]["rms"]["value"]
    ]
    lines = [f"{evaluation['n']:,} test blends, RMS per component."]
    return "\n\n".join([key_figures(lines, rows, "method", "Δe"), "Δg:", "\n".join(f"- {line}" for line in shears)])


def shear_summary(evaluation: Evaluation) -> str:
    """Of `evaluation.shear.evaluate_shear`: biases of posterior means by their own images, and m1 of the others."""
    methods = evaluation["methods"]
    units = {name: "1e-3" if name[0] == "m" else "1e-4" for name in ("m1", "m2", "c1", "c2")}
    rows: list[tuple[str, Cell]] = [
        (f"{name}, {_SHEAR_WORDS[method]} [{unit}]", _bias(found["image_response"]["calibrated"][name], name))
        for method, found in methods.items()
        if "image_response" in found
        for name, unit in units.items()
    ]
    rows += [
        (f"m1, {_SHEAR_WORDS[method]} [1e-3]", _bias(found["calibrated"]["m1"], "m1"))
        for method, found in methods.items()
        if method in ("hsm", "report")
    ]
    lines = [f"{evaluation['n']['blended']:,} scenes.", "Posterior means: by the response of images."]
    return key_figures(lines, rows)


# Short names of the methods.
_SHEAR_WORDS = {"hsm": "REGAUSS", "report": "regressor", "posterior": "LSST's network", "sky": "every sky"}


def _bias(measure: Evaluation, name: str) -> str:
    return format_measure(measure, 1e3 if name[0] == "m" else 1e4)
