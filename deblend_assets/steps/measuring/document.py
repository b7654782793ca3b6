"""Rewrites the tables of catalogue columns and flags in the documentation from their registries.

    python -m deblend_assets.steps.measuring.document [FOLDER]

FOLDER is that of the documentation, `docs` where none is given. A table stands between two comments, of which the first
says which one it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deblend_assets.science.measuring.field_columns import FIELD_ENDS, FIELD_IDENTITY
from deblend_assets.science.measuring.registry import Entry
from deblend_assets.science.measuring.sky_columns import IDENTITY, MEASURED, PROVENANCE
from deblend_assets.science.measuring.trust import REASONS


class Tables(NamedTuple):
    """What a page documents.

    Attributes:
        entries: of the catalogue's registry.
        flags: meaning of each bit of the column `flags`.
    """

    entries: Sequence[Entry[Any]]
    flags: Mapping[int, str]


PAGES = {
    "measuring_images.md": Tables(
        (*FIELD_IDENTITY, *MEASURED, *FIELD_ENDS),
        {int(flag): f"{flag.name}: {words}" for flag, words in REASONS.items()},
    ),
    "shape_catalog.md": Tables(
        (*IDENTITY, *MEASURED, *PROVENANCE),
        {int(flag): f"{flag.name}: {words}" for flag, words in REASONS.items()},
    ),
}
_TABLE = "<!-- {kind}: made by python -m deblend_assets.steps.measuring.document -->\n"
_END = "<!-- end -->\n"


def columns_table(tables: Tables) -> str:
    """The columns of a catalogue as a Markdown table."""
    lines = ["| column | unit | meaning | UCD |", "| --- | --- | --- | --- |"]
    for entry in tables.entries:
        kept = {"k": "{k}", "pair": "{pair}", "matrix": "{ij}", "bands": "{bands}"}
        _, unit, ucd, meaning = entry.described({**kept, "band": "{band}"})
        # Of one band there is no pair.
        names = [entry.described(words)[0] for words in entry.varied(("{band}",))] or [entry.name]
        words = "bits, see below; 0 is good" if entry.name == "flags" else _escaped(meaning)
        lines.append(f"| {', '.join(f'`{n}`' for n in names)} | {unit} | {words} | `{ucd}` |")
    return "\n".join(lines) + "\n"


def flags_table(tables: Tables) -> str:
    """The bits of the column `flags` as a Markdown table."""
    rows = [f"| {bit} | {_escaped(meaning)} |" for bit, meaning in tables.flags.items()]
    return "\n".join(["| bit of `flags` | meaning |", "| --- | --- |", *rows]) + "\n"


def documented(page: str, tables: Tables) -> str:
    """A page with its tables as the registry has them.

    Raises:
        ValueError: the page has no place for one of them.
    """
    for kind, table in (("columns", columns_table(tables)), ("flags", flags_table(tables))):
        begin = _TABLE.format(kind=kind)
        before, *rest = page.split(begin)
        if len(rest) != 1 or _END not in rest[0]:
            raise ValueError(f"not one table between the lines {begin!r} and {_END!r}")
        page = before + begin + table + rest[0][rest[0].index(_END) :]
    return page


def _escaped(meaning: str) -> str:
    # A bar would end the cell; * and < are markup, and ~ and _ are not within words.
    return re.sub(r"([|*<])", r"\\\1", meaning)


def main(folder: Path) -> None:
    """Rewrite the pages."""
    for name, tables in PAGES.items():
        path = folder / name
        path.write_text(documented(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
