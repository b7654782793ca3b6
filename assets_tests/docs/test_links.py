"""Links, anchors and names of files in README and docs/ lead somewhere; every page is in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assets_tests.docs.pages import NOTEBOOKS, PAGES, ROOT, name_of, prose

# Written as in GitHub's and MyST's anchors: small letters, hyphens for spaces, no other signs.
_HEADING = re.compile(r"^#+ (.*)$", flags=re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SOURCE = re.compile(r"`((?:deblend_assets/)?(?:science|steps|assets|stores|vo|resources|automation)/[\w/]+\.py)`")
_FILE = re.compile(r"`((?:deblend_assets|assets_tests|benchmarks|cluster|docs)/[\w/.]+\.\w+)`")


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(heading) for heading in _HEADING.findall(prose(page))}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, prose(page)) == []


def test_a_broken_link_would_be_seen() -> None:
    page = ROOT / "docs" / "index.md"
    text = "[a](nowhere.md) [b](shapes.md#nothing) [c](shapes.md#the-floor) [d](https://example.org)"
    assert broken_links(page, text) == ["nowhere.md", "shapes.md#nothing"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    text = prose(page)
    if page.name == "CHANGELOG.md":
        pytest.skip("names what was there")
    sources = [name.removeprefix("deblend_assets/") for name in _SOURCE.findall(text)]
    assert [name for name in sources if not (ROOT / "deblend_assets" / name).exists()] == []
    assert [name for name in _FILE.findall(text) if not (ROOT / name).exists()] == []


def test_every_page_is_in_the_index_and_its_title_asks() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "index.md" or f"({page.name})" in index, page.name
    for notebook in NOTEBOOKS:
        assert f"(notebooks/{notebook.name})" in index, notebook.name


def test_the_readme_fits_on_its_screen() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8_000
