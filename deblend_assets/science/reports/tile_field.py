"""The page of a tile's field against im3shape."""

from __future__ import annotations

from collections.abc import Mapping

from deblend_assets.science.evaluation.against_im3shape import COMPARISONS
from deblend_assets.science.evaluation.field_against_im3shape import MATCH_ARCSEC
from deblend_assets.science.reports.page import Picture, Section, render_report
from deblend_assets.science.reports.tile_tables import comparison_table, mean_shear_table
from deblend_assets.science.reports.tile_text import FIGURES, READING, SIMULATED_NOTICE, tile_label
from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS, Evaluation
from deblend_assets.science.statistics.format import Cell, Table, format_measure

_COMPARED = "shapes_against_im3shape"


def tile_field_report(
    tile: str, evaluation: Evaluation, figure: bytes, provenance: Mapping[str, str], *, simulated: bool
) -> str:
    """The page as HTML.

    Args:
        tile: its name.
        evaluation: of `evaluate_field`.
        figure: PNG bytes of `shapes_against_im3shape`.
        provenance: archive, fingerprints, versions.
        simulated: whether the tile is; the page says so in its title and in its first line.
    """
    sections = [
        Section("How to read this", READING),
        Section(
            "Shapes against im3shape",
            ("Rows that match and have no flag.",),
            [comparison_table(name, evaluation) for name in COMPARISONS],
            [Picture(figure, FIGURES[_COMPARED][1])],
        ),
        Section("Mean shear", (), [mean_shear_table(evaluation)]),
    ]
    heading = f"The field of {tile_label(tile, simulated)} against im3shape"
    return render_report(heading, _headline(evaluation, simulated), sections, provenance)


def headline_rows(evaluation: Evaluation) -> list[tuple[str, Cell]]:
    """The key figures, by name."""
    shear, truth = evaluation["im3shape"]["shear"]["both"], evaluation["truth"]
    rows: list[tuple[str, Cell]] = [
        ("slope of g on im3shape", shear["slope"]),
        ("errors in variables", shear["eiv_slope"]),
        ("RMS Δg per component", shear["rms"]),
        ("signs against im3shape", evaluation["orientation"]),
    ]
    if truth is not None:
        rows += [("slope of g on truth", truth["both"]["slope"]), ("RMS Δg from truth", truth["both"]["rms"])]
    return rows


def _headline(evaluation: Evaluation, simulated: bool) -> Table:
    counts = [
        ("sources of the field", f"{evaluation['sources']:,}"),
        ("im3shape's galaxies", f"{evaluation['reference']:,}"),
        (f"of them with a source within {MATCH_ARCSEC:g} arcsec", f"{evaluation['matched']:,}"),
        ("of those without a flag", f"{evaluation['good']:,}"),
        ("median distance of a match [arcsec]", format_measure(evaluation["separation"]["median"])),
        ("slope of g on im3shape, flagged rows too", format_measure(evaluation["all"]["both"]["slope"])),
    ]
    figures = [
        (name, cell if isinstance(cell, str) else format_measure(cell))  # type: ignore[arg-type]
        for name, cell in headline_rows(evaluation)
    ]
    note = (
        f"Both components together, sky frame (+x west), N = {evaluation['good']:,}. ±: standard error, "
        f"{evaluation['bootstrap']['resamples']} bootstrap resamples of the galaxies; a dash: fewer than "
        f"{MINIMUM_ROWS} galaxies, or no such number. A match: each other's nearest."
    )
    return Table(("quantity", "found"), [*counts, *figures], SIMULATED_NOTICE if simulated else "In short", note)
