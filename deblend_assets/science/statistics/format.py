"""Numbers as text, value ± error above all, and one table that prints as plain text, Markdown and HTML.

Every page, summary and terminal table of the project formats its numbers here, so that a number looks the same
wherever it is shown.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

MISSING = "–"
# Unbreakable: a value, its ± and its error stay on one line.
_PLUS_MINUS = "\u00a0±\u00a0"
_MINUS = "−"
# Spaces after a sign of comparison and before %, σ and ±.
_WITHIN_NUMBERS = re.compile(r"(?<=[<>≤≥=±]) (?=[\d−.])|(?<=\d) (?=[%σ±])")

# `{"value": ..., "error": ...}`, as `statistics.accuracy` makes them, or anything that `format_cell` takes.
Measure = Mapping[str, Any]
Cell = str | bool | int | float | None | Measure


def format_number(number: float | None, digits: int = 4) -> str:
    """A number without an error, to so many significant digits; whole numbers and large ones with thousands commas.

    Args:
        number: None and NaN give a dash.
        digits: significant digits of a number that is not whole.
    """
    if number is None or math.isnan(number):
        return MISSING
    whole = isinstance(number, Integral) or abs(number) >= 10**digits
    # Plus 0 turns a negative zero into 0.
    return (f"{number:,.0f}" if whole else f"{number + 0.0:.{digits}g}").replace("-", _MINUS)


def format_measure(measure: Measure | None, factor: float = 1.0) -> str:
    """Value ± error: the error to two significant digits, the value to as many decimal places.

    Args:
        measure: `value` and `error`. Without a value the text is a dash; without an error, or with an error of 0,
            it is the value to four digits.
        factor: what both are multiplied by, such as 100 for per cent.
    """
    value, error = (None, None) if measure is None else (measure["value"], measure.get("error"))
    if value is None or math.isnan(value):
        return MISSING
    if not error or not math.isfinite(error):
        return format_number(factor * float(value))
    scaled = abs(factor * error)
    places = max(0, 1 - int(f"{scaled:.1e}".split("e")[1]))
    return f"{factor * value:,.{places}f}{_PLUS_MINUS}{scaled:,.{places}f}".replace("-", _MINUS)


def format_cell(cell: Cell) -> str:
    """A table's cell as text: strings as they are, numbers by `format_number`, measures by `format_measure`."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, Mapping):
        return format_measure(cell)
    return format_number(cell)


@dataclass(frozen=True)
class Table:
    """A small table; the first cell of a row names it.

    Attributes:
        columns: headings.
        rows: cells as `format_cell` takes them, one for each heading.
        caption: what the table shows, above it.
        note: population, definitions and errors, below it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    note: str = ""

    @classmethod
    def of(cls, rows: Mapping[str, Mapping[str, Cell]], corner: str, caption: str = "", note: str = "") -> Table:
        """A table of named rows with the same keys, in the order of the first row.

        Args:
            rows: cells by row and column.
            corner: heading of the column of names.
            caption, note: as in the class.
        """
        names = list(next(iter(rows.values()), ()))
        cells = [(name, *(row[column] for column in names)) for name, row in rows.items()]
        return cls((corner, *names), cells, caption, note)

    @property
    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[format_cell(cell) for cell in row] for row in self.rows]

    def text(self) -> str:
        """For a terminal: columns aligned, two spaces apart; caption and note on lines of their own."""
        lines = ["  ".join(line).rstrip() for line in _aligned([list(self.columns), *self.cells])]
        return "\n".join(part for part in (self.caption, *lines, self.note) if part)

    def markdown(self) -> str:
        """For Markdown, aligned so that its source can be read too; a | in a cell is escaped."""
        lines = [[cell.replace("|", "\\|") for cell in line] for line in ([*self.columns], *self.cells)]
        # The rule is aligned with the rest, so that it has the widths of the columns.
        *lines, rule = _aligned([*lines, ["---"] * len(self.columns)])
        rule = [cell.replace(" ", "-") for cell in rule]
        table = "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
        return "\n\n".join(part for part in (self.caption and f"**{self.caption}**", table, self.note) if part)

    def html(self) -> str:
        """For a page: `<table>` in `<div class="scroll">`, then the note as `<p class="note">`; all text escaped."""
        caption = f"<caption>{_unbroken(self.caption)}</caption>" if self.caption else ""
        head = "".join(f'<th scope="col">{_unbroken(column)}</th>' for column in self.columns)
        body = "\n".join(
            "<tr>"
            + "".join(
                f'<th scope="row">{_unbroken(cell)}</th>' if k == 0 else f"<td>{_unbroken(cell)}</td>"
                for k, cell in enumerate(row)
            )
            + "</tr>"
            for row in self.cells
        )
        note = f'\n<p class="note">{_unbroken(self.note)}</p>' if self.note else ""
        table = f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
        return f'<div class="scroll">{table}</div>{note}'


def _unbroken(text: str) -> str:
    """Escaped text with unbreakable spaces between a number and its sign or unit."""
    return html.escape(_WITHIN_NUMBERS.sub("\u00a0", text))


def _aligned(lines: list[list[str]]) -> list[list[str]]:
    """Cells of one column made equally wide; not the last column's, which may be long."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    widths[-1] = 0
    return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
