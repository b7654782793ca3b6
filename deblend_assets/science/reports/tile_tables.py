"""The tables of a tile's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from deblend_assets.science.des.likeness import Likeness
from deblend_assets.science.evaluation.against_im3shape import COMPONENTS
from deblend_assets.science.evaluation.against_truth import TRUTH_KINDS
from deblend_assets.science.measuring.measured import FLAGS, MISSING_BAND
from deblend_assets.science.statistics.accuracy import Evaluation, bin_label
from deblend_assets.science.statistics.format import Table, format_measure

_COMPARISONS = {
    "shear": "our g (intrinsic, shear-type): the same quantity as im3shape's",
    "distortion": "our e (observed distortion): the report's comparison, of two different quantities",
    "moments": "moments of the deblended image (observed distortion): the report's other comparison",
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
    return Table(("measure", "component 1", "component 2", "modulus"), rows, caption, note if name == "moments" else "")


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
    """Missing bands with their cost on test blends, and flags."""
    costs = evaluation["withheld"] or {}
    unknown = {"value": None, "error": None}
    rows = [("images in all bands", f"{_complete(evaluation):,}", format_measure(costs.get("none", unknown)))]
    for band, n in evaluation["missing_bands"].items():
        rows.append((f"no image in band {band}", f"{n:,}", format_measure(costs.get(band, unknown))))
    rows += [(f"flag {bit}: {FLAGS[int(bit)]}", f"{n:,}", "") for bit, n in evaluation["flags"].items()]
    note = (
        "The last column is the RMS error of the observed e per component on the model's simulated test blends with "
        "that band withheld (zeros and the mask): what a missing band costs. A band that the model never had, such as "
        "DES's u, costs nothing here; the evaluation of the LSST model shows what u is worth."
    )
    caption = f"Of {evaluation['galaxies']:,} galaxies in the shape catalogue"
    return Table(("condition", "galaxies", "RMS Δe on test blends"), rows, caption, note)


def _complete(evaluation: Evaluation) -> int:
    """Galaxies with an image in every band."""
    return int(evaluation["galaxies"] - evaluation["flags"][str(MISSING_BAND)])


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
    """Shapes, slopes compared with the test blends', positions and fluxes against the truth."""
    truth = evaluation["truth"]
    shapes = []
    for kind, words in (("g", "intrinsic g"), ("e", "observed e")):
        for k in (1, 2):
            found = truth["shapes"][kind][f"{kind}{k}"]
            measures = (format_measure(found[m]) for m in ("slope", "bias", "rms", "scatter_ratio"))
            shapes.append((f"{words}, component {k}", *measures, format_measure(truth["pulls"][kind]["pull"])))
    tables = [
        Table(
            ("estimate", "slope on truth", "mean Δ", "RMS Δ", "scatter ratio", "pull (both)"),
            shapes,
            f"Shapes, N = {truth['labelled']:,}; orientation {truth['orientation']}",
            "Pull: RMS of (estimate − truth) over the network's expected error, 1 where the errors are right.",
        )
    ]
    if truth["test_blends"] is not None:
        found = truth["test_blends"]
        rows = [
            (
                name,
                *(format_measure(found[name][key]) for key in ("tile", "test_blends", "difference")),
                "–" if found[name]["sigmas"] is None else f"{found[name]['sigmas']:+.1f}".replace("-", "−"),
            )
            for name in TRUTH_KINDS
        ]
        caption = f"Slope on truth: {found['n_tile']:,} targets of the tile, {found['n_test_blends']:,} test blends"
        tables.append(Table(("component", "tile", "test blends", "difference", "in errors"), rows, caption))
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
        cutout, deblended = truth["cutout_flux"].get(band), truth["deblended_flux"][band]
        first = ("–", "0") if cutout is None else (format_measure(cutout["ratio"]), f"{cutout['n']:,}")
        measures = (format_measure(deblended[m]) for m in ("median", "robust_sigma"))
        rows.append((band, *first, *measures, f"{deblended['n'] - deblended['failures']:,}"))
    return Table(
        ("band", "cutouts / truth", "N", "deblended / truth, median", "robust σ", "N"),
        rows,
        "Fluxes",
        "Cutouts: Σ light in the stamps over Σ true light in them, targets without neighbours. Deblended: flux of the "
        "deblended image in the stamp over the galaxy's true total flux.",
    )


def likeness_table(found: Likeness) -> Table:
    """The comparison with the training scenes."""
    rows = [
        (
            str(row["quantity"]),
            *(row[name] for name in ("tile", "training", "ratio", "limit")),
            str(row["verdict"]),
        )
        for row in found.table.to_dict("records")
    ]
    note = "Limit: of |ratio − 1|; of fluxes, of the share itself."
    if found.ks_distance is not None and found.ks_p is not None:
        note += (
            f" Fluxes, Kolmogorov–Smirnov: distance {found.ks_distance:.3f}, p = {found.ks_p:.2g}; with many galaxies "
            "p is small for differences that do not matter."
        )
    return Table(("quantity", "tile", "training", "ratio or share", "limit", "verdict"), rows, "", note)


def attrition_table(table: pd.DataFrame) -> Table:
    """The cuts on im3shape's catalogue."""
    rows = [(str(row.cut), f"{row.removed:,}", f"{row.left:,}") for row in table.itertuples()]
    return Table(("cut", "removed", "left"), rows, "im3shape's galaxies")


def rejections_table(rejections: Mapping[str, int]) -> Table:
    """Galaxies without a usable cutout, by reason."""
    rows = [(reason, f"{n:,}") for reason, n in rejections.items()] or [("none", "0")]
    return Table(("reason", "galaxies"), rows, "Galaxies without a usable cutout")
