"""Rewrites the tables of catalogue columns and flags in the documentation from their registry.

    python -m deblend_assets.steps.measuring.document [FOLDER]

FOLDER is that of the documentation, `docs` where none is given. A table stands between two comments, of which the first
says which one it is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from deblend_assets.science.measuring.columns import Catalog, described, entries, flags_of

# Catalogue of each page.
PAGES: dict[str, Catalog] = {"measuring.md": "stamps", "shape_catalog.md": "tile"}
_TABLE = "<!-- {kind}: made by python -m deblend_assets.steps.measuring.document -->\n"
_END = "<!-- end -->\n"


def columns_table(catalog: Catalog) -> str:
    """The columns of a catalogue as a Markdown table."""
    lines = ["| column | unit | meaning | UCD |", "| --- | --- | --- | --- |"]
    for entry in entries(catalog):
        name, unit, ucd, meaning = described(entry, catalog, "{label band}", k="{k}", band="{band}")
        names = [name.replace("{k}", k) for k in "12"] if "{k}" in name else [name]
        words = "bits, see below; 0 is good" if name == "flags" else _escaped(meaning)
        lines.append(f"| {', '.join(f'`{n}`' for n in names)} | {unit} | {words} | `{ucd}` |")
    return "\n".join(lines) + "\n"


def flags_table(catalog: Catalog) -> str:
    """The bits of the column `flags` as a Markdown table."""
    rows = [f"| {bit} | {_escaped(meaning)} |" for bit, meaning in flags_of(catalog).items()]
    return "\n".join(["| bit of `flags` | meaning |", "| --- | --- |", *rows]) + "\n"


def documented(page: str, catalog: Catalog) -> str:
    """A page with its tables as the registry has them.

    Raises:
        ValueError: the page has no place for one of them.
    """
    for kind, table in (("columns", columns_table(catalog)), ("flags", flags_table(catalog))):
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
    for name, catalog in PAGES.items():
        path = folder / name
        path.write_text(documented(path.read_text(encoding="utf-8"), catalog), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
