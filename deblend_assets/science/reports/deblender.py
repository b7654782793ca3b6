"""The page of the deblender's evaluation on held-out simulated blends."""

from __future__ import annotations

from collections.abc import Mapping

from deblend_assets.science.evaluation.deblender import (
    COMPONENTS,
    ESTIMATORS,
    IMAGES,
    PUBLISHED,
    WITHHELD,
    flat_numbers,
)
from deblend_assets.science.reports import deblender_text as text
from deblend_assets.science.reports.page import Section, placed, render_report
from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS, Evaluation, bin_label
from deblend_assets.science.statistics.format import Table, format_measure
from deblend_assets.science.statistics.metrics import SSIM_WINDOW


def evaluation_report(evaluation: Evaluation, figures: Mapping[str, bytes], provenance: Mapping[str, str]) -> str:
    """The report of the evaluation as HTML.

    Args:
        evaluation: of `evaluation.deblender.evaluate`.
        figures: PNG bytes by name; those of `deblender_text.FIGURES` have their captions and places, any other goes
            to the end under its own name.
        provenance: profile, recipe, fingerprints, versions.
    """
    tables = {
        text.SIMILARITY: _similarity_tables(evaluation),
        text.SHAPES: _shape_tables(evaluation),
        text.BINS: _bin_tables(evaluation),
        text.MISSING: [_withheld_table(evaluation)],
        text.FLUX: [_flux_table(evaluation)],
    }
    pictures = placed(figures, text.FIGURES, text.OTHER)
    sections = [Section("How to read this", text.READING)]
    for title in text.SECTIONS:
        if title in tables or title in pictures:
            sections.append(Section(title, (), tables.get(title, ()), pictures.get(title, ())))
    sections.append(Section("Limits", text.LIMITS))
    title = "Deblending and shapes on held-out simulated blends"
    return render_report(title, _headline(evaluation), sections, provenance)


def _headline(evaluation: Evaluation) -> Table:
    numbers, errors = flat_numbers(evaluation), _errors(evaluation)
    rows = []
    for name, meaning in text.HEADLINE.items():
        published = PUBLISHED.get(name)
        theirs = (_short(published.value), published.source) if published else ("–", "not given")
        rows.append((meaning, format_measure({"value": numbers.get(name), "error": errors.get(name)}), *theirs))
    failures = {name: evaluation["estimators"][name]["failures"] for name in ESTIMATORS}
    note = (
        f"Population: {evaluation['scenes']:,} held-out scenes of {evaluation['targets']:,} different targets, held "
        f"out by galaxy. Shapes: distortion e observed in band {evaluation['label_band']}; "
        f"N = {evaluation['estimators']['regressor']['n']:,} labelled scenes, failures: regressor "
        f"{failures['regressor']:,}, moments of the reconstruction {failures['reconstruction']:,}. "
        "Similarities: against the isolated noiseless target in Eq. 9 space, bands "
        f"{', '.join(evaluation['bands'])}; SSIM averaged over the bands, data range 1, uniform window of "
        f"{SSIM_WINDOW} × {SSIM_WINDOW} pixels; cosine over all bands at once. ±: standard error, "
        f"{evaluation['bootstrap']['resamples']} bootstrap resamples of the scenes. The report: 200,000 LSST scenes of "
        "CatSim galaxies, target i ≤ 24.3, 90 % for training, its own validation scenes."
    )
    return Table(
        ("quantity", "ours", "the report", "source of the report's value"), rows, "Ours and the report's", note
    )


def _errors(evaluation: Evaluation) -> dict[str, float | None]:
    """Errors under the names of `flat_numbers`, for the headline."""
    errors = {"label_scatter": evaluation["label_scatter"]["both"]["error"]}
    for kind, found in evaluation["similarity"].items():
        errors |= {f"{kind}_{name}": values["mean"]["error"] for name, values in found["images"].items()}
    for name, found in evaluation["estimators"].items():
        errors |= {f"{name}_{measure}": measured["error"] for measure, measured in found["both"].items()}
        errors |= {f"{name}_slope_{component}": found[component]["slope"]["error"] for component in COMPONENTS}
    if "shear" in evaluation:
        errors["shear_rms"] = evaluation["shear"]["both"]["rms"]["error"]
        errors |= {f"shear_slope_{c}": evaluation["shear"][c]["slope"]["error"] for c in ("g1", "g2")}
    return errors


def _short(value: float) -> str:
    """As the source prints it: two decimals, or three digits."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.3g}"


def _similarity_tables(evaluation: Evaluation) -> list[Table]:
    meanings = dict(
        zip(
            IMAGES,
            ("the blend itself", "stage 1 on noisy isolated", "t1: stage 1 on blends", "t2: stage 2 on blends"),
            strict=True,
        )
    )
    rows = []
    for kind, name in (("ssim", "SSIM"), ("cosine", "cosine")):
        for image, found in evaluation["similarity"][kind]["images"].items():
            spread = (_plain(found["percentiles"][p]) for p in ("5", "16", "50", "84", "95"))
            rows.append((f"{name}, {meanings[image]}", format_measure(found["mean"]), *spread, f"{found['n']:,}"))
    by_band = [
        (
            band,
            *(
                format_measure(evaluation["similarity"][kind]["stage2_by_band"][band]["mean"])
                for kind in ("ssim", "cosine")
            ),
        )
        for band in evaluation["bands"]
    ]
    return [
        Table(
            ("similarity to the truth", "mean", "5 %", "16 %", "median", "84 %", "95 %", "N"),
            rows,
            "All bands, Eq. 9 space",
        ),
        Table(("band", "SSIM", "cosine"), by_band, "Stage 2 on blends by band (means)"),
    ]


_MEASURES = {
    "slope": "slope",
    "intercept": "intercept",
    "bias": "mean Δe",
    "rms": "RMS Δe",
    "robust_sigma": "robust σ(Δe)",
    "scatter_ratio": "scatter ratio",
    "rms_over_scatter": "RMS / label scatter",
}
_ESTIMATOR_NAMES = {"regressor": "regressor", "reconstruction": "moments of the reconstruction"}


def _shape_tables(evaluation: Evaluation) -> list[Table]:
    note = (
        "Δe = estimate − truth. Robust σ: 1.4826 times the median absolute deviation. Scatter ratio: standard "
        "deviation of the estimates over that of the truth; below 1: shrunk toward zero (round)."
    )
    tables = []
    for name in ESTIMATORS:
        found = evaluation["estimators"][name]
        rows = [
            (meaning, *(format_measure(found[component][measure]) for component in COMPONENTS))
            for measure, meaning in _MEASURES.items()
        ]
        caption = f"{_ESTIMATOR_NAMES[name].capitalize()}: N = {found['n']:,}, failures {found['failures']:,}"
        tables.append(Table(("measure", "e1", "e2", "|e|"), rows, caption, note if name == ESTIMATORS[-1] else ""))
    if "shear" in evaluation:
        found = evaluation["shear"]
        rows = [
            (
                meaning.replace("Δe", "Δg"),
                *(format_measure(found[component][measure]) for component in ("g1", "g2", "g")),
            )
            for measure, meaning in _MEASURES.items()
        ]
        caption = f"Regressor, intrinsic shear-type g: N = {found['n']:,}, failures {found['failures']:,}"
        tables.append(Table(("measure", "g1", "g2", "|g|"), rows, caption))
    return [*tables, _error_table(evaluation)]


def _error_table(evaluation: Evaluation) -> Table:
    names = {"e": "observed distortion e", "g": "intrinsic shear-type g"}
    rows = [
        (names[kind], *(format_measure(found[measure]) for measure in ("expected", "pull", "within")))
        for kind, found in evaluation["errors"].items()
    ]
    note = (
        "The regressor gives an expected error with each estimate. Pull: RMS of (estimate − truth) over the expected "
        "error, 1 for correct errors; within: share of the differences below one expected error, 0.683 for Gaussian "
        "errors."
    )
    return Table(("estimate", "expected error, RMS", "pull", "within 1 σ"), rows, "Expected errors per component", note)


def _withheld_table(evaluation: Evaluation) -> Table:
    rows = [("none", *[format_measure(evaluation["estimators"]["regressor"]["both"]["rms"])] * len(WITHHELD))]
    for band in evaluation["bands"]:
        found = (evaluation["withheld"][way][band]["both"]["rms"] for way in WITHHELD)
        rows.append((band, *(format_measure(measure) for measure in found)))
    note = (
        "RMS of the regressor's error of e per component where one band is withheld from the networks. The mask "
        "marks it as absent; zeros alone, the report's way with DES's u, are taken for a galaxy without light there."
    )
    return Table(("band withheld", "zeros and the mask", "zeros alone"), rows, "One band withheld", note)


def _bin_tables(evaluation: Evaluation) -> list[Table]:
    tables = []
    for quantity, meaning in (("snr", "S/N (target alone, all bands; terciles)"), ("blendedness", "blendedness")):
        rows = []
        for name in ESTIMATORS:
            for found in evaluation["estimators"][name]["bins"][quantity]:
                measures = (
                    found["both"]["rms"],
                    found["both"]["rms_over_scatter"],
                    found["e1"]["slope"],
                    found["e2"]["slope"],
                )
                rows.append(
                    (
                        f"{_ESTIMATOR_NAMES[name]}, {bin_label(found)}",
                        f"{found['n']:,}",
                        f"{found['failures']:,}",
                        *(format_measure(measure) for measure in measures),
                    )
                )
        columns = ("estimator, bin", "N", "failures", "RMS Δe", "RMS / label scatter", "slope e1", "slope e2")
        tables.append(Table(columns, rows, f"By {meaning}"))
    band = evaluation["label_band"]
    note = (
        f"Blendedness in band {band}: 1 − Σ own² / Σ own·all (Bosch et al. 2018). A dash: fewer than "
        f"{MINIMUM_ROWS} scenes. The label scatter is that of the bin's own scenes."
    )
    tables[-1] = Table(tables[-1].columns, tables[-1].rows, tables[-1].caption, note)
    return tables


def _flux_table(evaluation: Evaluation) -> Table:
    rows = []
    for band in evaluation["bands"]:
        found = evaluation["flux_error"][band]
        medians = (format_measure(found[m], 100.0) for m in ("median", "robust_sigma"))
        rows.append((band, *medians, f"{found['n']:,}", f"{found['failures']:,}"))
    note = "Sums over the stamp [electron] after the inverse of Eq. 9. Failures: targets without flux in the band."
    return Table(("band", "median error [%]", "robust σ [%]", "N", "failures"), rows, note=note)


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
