"""The page of a tile's evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from deblend_assets.science.des.likeness import LIKE, Likeness
from deblend_assets.science.evaluation.against_im3shape import COMPARISONS
from deblend_assets.science.evaluation.against_truth import AGREEMENT_SIGMAS, TRUTH_KINDS
from deblend_assets.science.reports import tile_text as text
from deblend_assets.science.reports.page import Section, placed, render_report
from deblend_assets.science.reports.tile_tables import (
    attrition_table,
    bins_table,
    comparison_table,
    counts_table,
    likeness_table,
    mean_shear_table,
    rejections_table,
    truth_tables,
)
from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS, Evaluation
from deblend_assets.science.statistics.format import Table, format_measure


def tile_report(
    tile: str,
    evaluation: Evaluation,
    likeness: Likeness,
    attrition: pd.DataFrame,
    rejections: Mapping[str, int],
    figures: Mapping[str, bytes],
    provenance: Mapping[str, str],
    *,
    simulated: bool,
) -> str:
    """The report of a tile as HTML.

    Args:
        tile: its name.
        evaluation: of `evaluate_tile`.
        likeness: of `likeness.compare`.
        attrition: of `cuts.quality_cuts`.
        rejections: galaxies without a cutout, by reason.
        figures: PNG bytes by name; those of `tile_text.FIGURES` have their captions and places, any other goes to
            the end under its own name.
        provenance: profile, archive, fingerprints, versions.
        simulated: whether the tile is; the page says so in its title and in its first line.
    """
    tables: dict[str, list[Table]] = {
        text.LIKE_WITH_LIKE: [comparison_table(name, evaluation) for name in COMPARISONS],
        text.BINS: [bins_table(evaluation), counts_table(evaluation)],
        text.SHEAR: [mean_shear_table(evaluation)],
        text.LIKENESS: [likeness_table(likeness)],
        text.CATALOG: [attrition_table(attrition), rejections_table(rejections)],
    }
    if evaluation["truth"] is not None:
        tables[text.TRUTH] = truth_tables(evaluation)
    pictures = placed(figures, text.FIGURES, text.OTHER)
    sections = [Section("How to read this", text.READING)]
    for title in text.SECTIONS:
        if title in tables or title in pictures:
            words = likeness.warnings if title == text.LIKENESS else ()
            sections.append(Section(title, words, tables.get(title, ()), pictures.get(title, ())))
    sections.append(Section("Limits", text.LIMITS))
    heading = f"Shapes on {text.tile_label(tile, simulated)}"
    return render_report(heading, _headline(evaluation, likeness, simulated), sections, provenance)


def _headline(evaluation: Evaluation, likeness: Likeness, simulated: bool) -> Table:
    shear, distortion = (evaluation["im3shape"][name] for name in ("shear", "distortion"))
    rows = [
        ("galaxies with both shapes", f"{evaluation['matched']:,}", f"{shear['failures']:,} failures"),
        ("slope of our g on im3shape's", format_measure(shear["both"]["slope"]), "least squares, both components"),
        ("the same, errors in variables", format_measure(shear["both"]["eiv_slope"]), "corrected for im3shape's noise"),
        ("RMS Δg per component", format_measure(shear["both"]["rms"]), "im3shape's noise included"),
        ("slope of our e on im3shape's", format_measure(distortion["both"]["slope"]), "the report: 0.4 ± 0.1"),
        ("RMS Δe per component", format_measure(distortion["both"]["rms"]), "the report: about 0.14"),
        ("orientation against im3shape", evaluation["orientation"], "signs of both slopes"),
        (
            "like the training scenes",
            "no" if likeness.warnings else "yes" if LIKE in set(likeness.table["verdict"]) else "unknown",
            "; ".join(likeness.warnings) or "no limit exceeded",
        ),
    ]
    truth = evaluation["truth"]
    if truth is not None:
        for kind, words in (("g", "intrinsic"), ("e", "observed")):
            both = truth["shapes"][kind]["both"]["rms"]
            slopes = ", ".join(format_measure(truth["shapes"][kind][f"{kind}{k}"]["slope"]) for k in (1, 2))
            rows.append((f"slopes of {kind}1, {kind}2 on the truth", slopes, f"{words}; RMS {format_measure(both)}"))
        position = format_measure(truth["position"]["median_total"])
        rows.append(("median distance from the true position [arcsec]", position, "required: below 0.1"))
        if truth["cutout_flux"]:
            ratios = [f"{band}\u00a0{format_measure(found['ratio'])}" for band, found in truth["cutout_flux"].items()]
            rows.append(("light of the cutouts over the truth's", ", ".join(ratios), "required: 1 ± 0.01"))
        if truth["test_blends"] is not None:
            agrees = [truth["test_blends"][name]["agrees"] for name in TRUTH_KINDS]
            said = "undecided" if None in agrees else "yes" if all(agrees) else "no"
            rows.append(("slopes agree with the test blends'", said, f"within {AGREEMENT_SIGMAS:g} errors"))
    note = (
        f"Shapes in band {evaluation['label_band']}, bands {''.join(evaluation['bands'])}, "
        f"snr_w > {evaluation['snr_min']:g}, sky frame. ±: standard error, {evaluation['bootstrap']['resamples']} "
        f"bootstrap resamples of the galaxies; a dash: fewer than {MINIMUM_ROWS} galaxies, or no such number. The "
        "report's values were digitised from its Fig. 17."
    )
    # The caption is the first line of the page.
    caption = text.SIMULATED_NOTICE if simulated else "In short"
    return Table(("quantity", "found", "remark"), rows, caption, note)
