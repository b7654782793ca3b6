"""The sections of the site: a page for each section of the table in docs/index.md, and the navigation between them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx

_SECTION = re.compile(r"\| \*\*(.+)\*\* \| \|")
_ROW = re.compile(r"\| (.+) \| \[(.+)\]\((.+)\) \|")

_FILE_LINK = re.compile(r"\[(?:[\w.]+/)*(\w+\.md)\]\(([^)]+)\)")


class Row(NamedTuple):
    """A page: the question that it answers, its short name, and its path from docs/."""

    question: str
    name: str
    path: str


# Pages that are made for the site, by section.
MADE = {
    "Reference": [
        Row("Which settings are there?", "Settings", "sections/settings_keys.md"),
        Row("Which functions and classes are there?", "Python", "api/index.rst"),
    ]
}


def sections(index: str) -> dict[str, list[Row]]:
    """The rows of each section of the index, in its order, with the pages that are made."""
    found: dict[str, list[Row]] = {}
    for line in index.splitlines():
        if title := _SECTION.fullmatch(line):
            rows = found.setdefault(title[1], [])
        elif row := _ROW.fullmatch(line):
            rows.append(Row(*row.groups()))
    return {title: rows + MADE.get(title, []) for title, rows in found.items()}


def slug(title: str) -> str:
    """Name of a section's page."""
    return re.sub(r"\W+", "_", title.lower())


def section_page(title: str, rows: list[Row]) -> str:
    """A section's page: its questions, and its part of the navigation."""
    table = [f"| {row.question} | [{row.name}](../{row.path}) |" for row in rows]
    toctree = ["```{toctree}", ":hidden:", "", *(f"{row.name} <../{row.path}>" for row in rows), "```"]
    return "\n".join([f"# {title}", "", "| question | page |", "| --- | --- |", *table, "", *toctree, ""])


def write_pages(app: Sphinx) -> None:
    """Write the sections' pages into docs/sections."""
    docs = Path(app.srcdir, "docs")
    for title, rows in sections((docs / "index.md").read_text(encoding="utf-8")).items():
        write(docs / "sections" / f"{slug(title)}.md", section_page(title, rows))


def write(path: Path, text: str) -> None:
    """Write a page, unless it is there as it is: Sphinx reads again what is newer than its last build."""
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _add_navigation(app: Sphinx, name: str, content: list[str]) -> None:
    """The sections below the home page; in every page a link that shows a file's name shows the page's name."""
    found = sections(Path(app.srcdir, "docs", "index.md").read_text(encoding="utf-8"))
    names = {Path("docs", row.path).name: row.name for rows in found.values() for row in rows}
    content[0] = _FILE_LINK.sub(lambda link: f"[{names.get(link[1], link[1])}]({link[2]})", content[0])
    if name == app.config.root_doc:
        pages = [f"docs/sections/{slug(title)}" for title in found]
        content[0] += "\n".join(["\n```{toctree}", ":hidden:", "", *pages, "All pages <docs/index>", "```", ""])


def _add_index(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        home = Path(app.outdir, f"{app.config.root_doc}.html").read_text(encoding="utf-8")
        Path(app.outdir, "index.html").write_text(home, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _add_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
