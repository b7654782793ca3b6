"""What the documentation site makes beside the pages: navigation, reference of Python and settings, inventories.

`make docs` builds the site itself, and fails on any warning.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel
from sphinx.util.inventory import InventoryFile
from sphinx.util.typing import stringify_annotation

from assets_tests.docs.pages import ROOT
from deblend_assets.settings import CatalogSettings, Profile
from deblend_assets.stores.field_files.field_file import BandFile, FieldFile
from site_extensions.api_pages import pages
from site_extensions.docstrings import marked_up, restructured, spaced
from site_extensions.inventories import compiled
from site_extensions.sections import section_page, sections
from site_extensions.settings_keys import page, values
from site_extensions.signatures import readable


def test_every_page_is_in_one_section() -> None:
    found = sections((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    listed = [row.path for rows in found.values() for row in rows]
    assert len(set(listed)) == len(listed)
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= set(listed)


def test_a_sections_page_links_its_pages_and_leads_to_them() -> None:
    (title, rows), *_ = sections("| **One two** | |\n| Why? | [Reason](why.md) |\n").items()
    text = section_page(title, rows)
    assert "| Why? | [Reason](../why.md) |" in text
    assert "\nReason <../why.md>\n" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`Model` of |g| * 2", r"`Model` of \|g\| \* 2"),
        ("`a.b` and `x[0]`", "`a.b` and ``x[0]``"),
        ("two `Block`s", r"two `Block`\ s"),
        ("free_ and _free", r"free\_ and _free"),
        ("* an item with a*b", r"* an item with a\*b"),
    ],
)
def test_only_backticks_are_markup(text: str, expected: str) -> None:
    assert marked_up(text) == expected


def test_an_indented_block_is_code_unless_it_is_a_section() -> None:
    lines = ["Measures.", "", "    measure(a*b)", "", "Args:", "    a: of `b`: c*d.", "", "Returns:", "    m: c."]
    assert restructured(lines)[:7] == ["Measures.", "", "::", "", "    measure(a*b)", "", "Args:"]
    assert restructured(lines)[7] == r"    a: of `b`: c\*d."
    assert ":" not in restructured(lines)[-1], "napoleon would take m for a type"


def test_a_list_needs_no_blank_lines() -> None:
    lines = ["One of", "* a:", "  more", "* b", "text", "", "- c", "- d"]
    assert spaced(lines) == ["One of", "", "* a:", "  more", "* b", "", "text", "", "- c", "- d"]


def test_annotations_say_what_the_code_says() -> None:
    assert readable(f"(a: {stringify_annotation(ArrayLike, mode='smart')})") == "(a: ~numpy.typing.ArrayLike)"
    array = stringify_annotation(NDArray[np.float64], mode="smart")
    assert readable(array) == "~numpy.typing.NDArray[~numpy.float64]"


def keys(model: type[BaseModel]) -> set[str]:
    inner = [field.annotation for field in model.model_fields.values()]
    deeper = [keys(kind) for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return set(model.model_fields).union(*deeper)


def test_every_setting_is_on_the_page() -> None:
    text, known = page(), keys(Profile) | set(BandFile.model_fields) | set(FieldFile.model_fields)
    assert [key for key in sorted(known) if not re.search(rf"[`.\[]{key}[`.\]]", text)] == []


def test_every_setting_has_a_meaning() -> None:
    cells = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert [cell[0] for cell in cells if cell[3] == " |"] == []


def test_values_of_a_key_are_said_with_their_range() -> None:
    schema = CatalogSettings.model_json_schema()["properties"]
    assert values(schema["galaxies"]) == "integer ≥\u00a01000"
    assert values(schema["train"]) == "number >\u00a00, <\u00a01"
    assert values(schema["path"]) == "text"


def test_every_module_of_science_has_a_page() -> None:
    science = importlib.import_module("deblend_assets.science")
    modules = {found.name for found in pkgutil.walk_packages(science.__path__, "deblend_assets.science.")}
    assert modules <= set(pages())


def test_inventories_are_in_sphinx_s_form(tmp_path: Path) -> None:
    mapping = compiled(ROOT / "docs" / "site" / "inventories", tmp_path)
    address, path = mapping["numpy"]
    entries = InventoryFile.loads(Path(path).read_bytes(), uri=address)
    assert entries["py:class", "numpy.ndarray"].uri == f"{address}reference/generated/numpy.ndarray.html#numpy.ndarray"
