"""The tables of a tile's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from deblend_assets.science.evaluation.against_im3shape import COMPONENTS
from deblend_assets.science.measuring.trust import REASONS
from deblend_assets.science.statistics.accuracy import Evaluation, bin_label
from deblend_assets.science.statistics.format import Table, format_measure

_COMPARISONS = {
    "shear": "our g (intrinsic, shear-type): the same quantity as im3shape's",
    "distortion": "our e (observed distortion): the report's comparison, of two different quantities",
}
_MEASURES = {
    "slope": "slope, least squares",
    "eiv_slope": "slope, errors in variables",
    "intercept": "intercept, least squares",
    "bias": "mean Δ",
    "rms": "RMS Δ",
    "robust_sigma": "robust σ(Δ)",
    "scatter_ratio": "scatter ratio",
}


def comparison_table(name: str, evaluation: Evaluation) -> Table:
    """Measures of one of `against_im3shape.COMPARISONS`."""
    found = evaluation["im3shape"][name]
    rows = [
        (meaning, *(format_measure(found[component][measure]) for component in COMPONENTS))
        for measure, meaning in _MEASURES.items()
    ]
    words = _COMPARISONS[name]
    caption = f"{words[0].upper()}{words[1:]}; N = {found['n']:,}, failures {found['failures']:,}"
    note = (
        "Δ = ours − im3shape's. Robust σ: 1.4826 times the median absolute deviation. Scatter ratio: standard "
        "deviation of ours over im3shape's. The modulus has no errors-in-variables slope: its error has no zero mean."
    )
    return Table(
        ("measure", "component 1", "component 2", "modulus"), rows, caption, note if name == "distortion" else ""
    )


def bins_table(evaluation: Evaluation) -> Table:
    """Our g against im3shape's by S/N, blendedness and bands."""
    labelled = [
        (f"{quantity} {bin_label(b)}" if b["low"] is not None or b["high"] is not None else quantity, b)
        for quantity in ("snr_w", "blendedness")
        for b in evaluation["bins"][quantity]
    ]
    labelled += [("all bands" if b["complete"] else "a band missing", b) for b in evaluation["bins"]["bands"]]
    rows = [
        (
            label,
            f"{found['n']:,}",
            f"{found['failures']:,}",
            *(format_measure(found["both"][measure]) for measure in ("slope", "eiv_slope", "rms")),
        )
        for label, found in labelled
    ]
    columns = ("bin", "N", "failures", "slope", "errors in variables", "RMS Δg")
    return Table(columns, rows, "Our g against im3shape's, both components together")


def counts_table(evaluation: Evaluation) -> Table:
    """Galaxies by missing band."""
    rows = [(f"no image in band {band}", f"{n:,}") for band, n in evaluation["missing_bands"].items()]
    return Table(("condition", "galaxies"), rows, f"Of {evaluation['galaxies']:,} galaxies in the shape catalogue")


def mean_shear_table(evaluation: Evaluation) -> Table:
    """Both catalogues' mean shear and their difference."""
    found = evaluation["mean_shear"]
    names = {
        "im3shape": "im3shape, weighted and calibrated",
        "ours": "ours, plain mean, not calibrated",
        "difference": "ours − im3shape's",
    }
    rows = [(words, *(format_measure(found[f"{key}_{k}"]) for k in (1, 2))) for key, words in names.items()]
    return Table(("catalogue", "component 1", "component 2"), rows, f"The same {found['n']:,} galaxies, sky frame")


def truth_tables(evaluation: Evaluation) -> list[Table]:
    """Shapes, positions and fluxes against the truth."""
    truth = evaluation["truth"]
    shapes = []
    for which, part in (("all", truth), ("no flag", truth["trusted"])):
        for kind, words in (("g", "intrinsic g"), ("e", "observed e")):
            pull, within = (format_measure(part["pulls"][kind][m]) for m in ("pull", "within"))
            for k in (1, 2):
                found = part["shapes"][kind][f"{kind}{k}"]
                measures = (format_measure(found[m]) for m in ("slope", "bias", "rms", "scatter_ratio"))
                shapes.append((f"{words}, component {k}, {which}", *measures, pull, within))
    tables = [
        Table(
            ("estimate", "slope on truth", "mean Δ", "RMS Δ", "scatter ratio", "pull (both)", "within one error"),
            shapes,
            f"Shapes, N = {truth['labelled']:,}, {truth['trusted']['n']:,} without a flag; orientation "
            f"{truth['orientation']}",
            "Pull: RMS of (estimate − truth) over the expected error, 1 where the errors are right; then 0.683 of the "
            "differences are within one error.",
        )
    ]
    position = truth["position"]
    rows = [
        ("mean Δα cos δ", format_measure(position["mean_ra"])),
        ("mean Δδ", format_measure(position["mean_dec"])),
        ("RMS Δα cos δ", format_measure(position["rms_ra"])),
        ("RMS Δδ", format_measure(position["rms_dec"])),
        ("median distance", format_measure(position["median_total"])),
    ]
    tables.append(Table(("position", "catalogue − truth [arcsec]"), rows, f"Positions, N = {truth['matched']:,}"))
    return [*tables, _fluxes(evaluation["bands"], truth)]


def _fluxes(bands: Sequence[str], truth: Evaluation) -> Table:
    rows = []
    for band in bands:
        cutout, ours = truth["cutout_flux"].get(band), truth["flux"][band]
        first = ("–", "0") if cutout is None else (format_measure(cutout["ratio"]), f"{cutout['n']:,}")
        measures = (format_measure(ours[m]) for m in ("median", "robust_sigma", "pull"))
        rows.append((band, *first, *measures, f"{ours['n'] - ours['failures']:,}"))
    return Table(
        ("band", "cutouts / truth", "N", "flux / truth, median", "robust σ", "pull", "N"),
        rows,
        "Fluxes",
        "Cutouts: Σ light in the stamps over Σ true light in them, targets without neighbours. Flux: the catalogue's "
        "over the galaxy's true total flux, of rows without a flag. Pull: RMS of the difference over the error, which "
        "has the sky's noise but not the galaxy's own photons.",
    )


def trust_tables(found: Evaluation) -> list[Table]:
    """Rows by flag, and the comparisons of PSF and noise."""
    reasons = [
        (str(flag.name), f"{part['n']:,}", f"{part['share']:.1%}", words)
        for flag, words in REASONS.items()
        if (part := found["reasons"][str(flag.name)])["n"]
    ]
    caption = f"{found['flagged']:,} of {found['rows']:,} rows have a flag"
    compared = [
        (
            row["quantity"],
            *(row[name] for name in ("given", "measured", "ratio", "limit")),
            row["verdict"],
        )
        for row in found["comparisons"]
    ]
    return [
        Table(("flag", "rows", "share", "reason"), reasons or [("none", "0", "0.0%", "")], caption),
        Table(
            ("quantity", "given", "measured", "ratio", "limit", "verdict"),
            compared,
            "What the model was given, and what is measured on the tile",
            "PSF: im3shape's mean over its exposures. Noise: scatter in the stamps' borders. Limit: of |ratio − 1|.",
        ),
    ]


def attrition_table(table: pd.DataFrame) -> Table:
    """The cuts on im3shape's catalogue."""
    rows = [(str(row.cut), f"{row.removed:,}", f"{row.left:,}") for row in table.itertuples()]
    return Table(("cut", "removed", "left"), rows, "im3shape's galaxies")


def rejections_table(rejections: Mapping[str, int]) -> Table:
    """Galaxies without a usable cutout, by reason."""
    rows = [(reason, f"{n:,}") for reason, n in rejections.items()] or [("none", "0")]
    return Table(("reason", "galaxies"), rows, "Galaxies without a usable cutout")
