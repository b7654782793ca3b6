"""The page of a tile's evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from deblend_assets.science.evaluation.against_im3shape import COMPARISONS
from deblend_assets.science.evaluation.against_truth import PULL_LIMIT
from deblend_assets.science.reports import tile_text as text
from deblend_assets.science.reports.page import Section, placed, render_report
from deblend_assets.science.reports.tile_tables import (
    attrition_table,
    bins_table,
    comparison_table,
    counts_table,
    mean_shear_table,
    rejections_table,
    trust_tables,
    truth_tables,
)
from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS, Evaluation
from deblend_assets.science.statistics.format import Table, format_measure


def tile_report(
    tile: str,
    evaluation: Evaluation,
    trust: Evaluation,
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
        trust: of `evaluate_trust`.
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
        text.TRUST: trust_tables(trust),
        text.CATALOG: [attrition_table(attrition), rejections_table(rejections)],
    }
    if evaluation["truth"] is not None:
        tables[text.TRUTH] = truth_tables(evaluation)
    pictures = placed(figures, text.FIGURES, text.OTHER)
    sections = [Section("How to read this", text.READING)]
    for title in text.SECTIONS:
        if title in tables or title in pictures:
            words = trust["warnings"] if title == text.TRUST else ()
            sections.append(Section(title, words, tables.get(title, ()), pictures.get(title, ())))
    sections.append(Section("Limits", text.LIMITS))
    heading = f"Shapes on {text.tile_label(tile, simulated)}"
    return render_report(heading, _headline(evaluation, trust, simulated), sections, provenance)


def _headline(evaluation: Evaluation, trust: Evaluation, simulated: bool) -> Table:
    shear, distortion = (evaluation["im3shape"][name] for name in ("shear", "distortion"))
    rows = [
        ("galaxies with both shapes", f"{evaluation['matched']:,}", f"{shear['failures']:,} failures"),
        ("slope of our g on im3shape's", format_measure(shear["both"]["slope"]), "least squares, both components"),
        ("the same, errors in variables", format_measure(shear["both"]["eiv_slope"]), "corrected for im3shape's noise"),
        ("RMS Δg per component", format_measure(shear["both"]["rms"]), "im3shape's noise included"),
        ("slope of our e on im3shape's", format_measure(distortion["both"]["slope"]), "the report: 0.4 ± 0.1"),
        ("RMS Δe per component", format_measure(distortion["both"]["rms"]), "the report: about 0.14"),
        ("orientation against im3shape", evaluation["orientation"], "signs of both slopes"),
        ("rows without a flag", f"{1 - trust['share']:.1%}", "; ".join(trust["warnings"]) or "no limit exceeded"),
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
        for kind, found in truth["trusted"]["pulls"].items():
            pull = f"{format_measure(found['pull'])}, {format_measure(found['within'])}"
            rows.append((f"RMS pull of {kind}, share within one error", pull, f"no flag; required: 1 ± {PULL_LIMIT:g}"))
    note = (
        f"Bands {''.join(evaluation['bands'])}, snr_w > {evaluation['snr_min']:g}, sky frame (+x west). ±: "
        f"standard error, {evaluation['bootstrap']['resamples']} bootstrap resamples of the galaxies; a dash: fewer "
        f"than {MINIMUM_ROWS} galaxies, or no such number. The report's values were digitised from its Fig. 17."
    )
    # The caption is the first line of the page.
    caption = text.SIMULATED_NOTICE if simulated else "In short"
    return Table(("quantity", "found", "remark"), rows, caption, note)
