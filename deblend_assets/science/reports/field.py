"""The quality page of a field: can its catalogue be trusted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deblend_assets.science.reports import field_text as text
from deblend_assets.science.reports.page import Section, placed, render_report
from deblend_assets.science.statistics.format import Table


def field_report(
    name: str,
    summary: Table,
    lines: Sequence[str],
    tables: Mapping[str, Sequence[Table]],
    figures: Mapping[str, bytes],
    provenance: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        name: of the field.
        summary: question, answer, verdict.
        lines: what the measurement printed last.
        tables: by the titles of `field_text.SECTIONS`.
        figures: PNG bytes by the names of `field_text.FIGURES`.
        provenance: what the numbers were made from.
    """
    words = [*lines[:1], "; ".join(lines[1:])] if len(lines) > 1 else lines
    pictures = placed(figures, text.FIGURES, text.IMAGES)
    sections = [
        Section(title, words if title == text.IMAGES else (), tables.get(title, ()), pictures.get(title, ()))
        for title in text.SECTIONS
        if title in tables or title in pictures
    ]
    sections.append(Section("Limits", text.LIMITS))
    return render_report(f"Quality of the catalogue of {name}", summary, sections, provenance)
