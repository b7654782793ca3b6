"""The registry of catalogue columns: names, units, UCDs, meanings; the documentation's tables are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd

from deblend_assets.science.measuring.field_columns import field_columns
from deblend_assets.science.measuring.registry import CatalogColumn, Entry, columns_of
from deblend_assets.science.measuring.sky_columns import ID, sky_columns, tile_columns
from deblend_assets.steps.measuring.document import PAGES, documented

DOCS = Path(__file__).parents[3] / "docs"
CATALOGS: dict[str, Callable[[Sequence[str]], Mapping[str, CatalogColumn[Any]]]] = {
    "field": field_columns,
    "tile": tile_columns,
}


@pytest.mark.parametrize("catalog", CATALOGS)
@pytest.mark.parametrize("bands", ["ugrizy", "grizY", "VIJ"])
def test_every_column_has_a_unit_a_ucd_of_the_vocabulary_and_an_ascii_meaning(catalog: str, bands: str) -> None:
    columns = CATALOGS[catalog](tuple(bands))
    for name, column in columns.items():
        assert check_ucd(column.ucd, check_controlled_vocabulary=True), (name, column.ucd)
        units.Unit(column.unit, format="fits" if column.unit else None)
        assert name.isascii()
        assert column.meaning.isascii()
        assert column.meaning
        assert "{" not in "".join((name, column.unit, column.ucd, column.meaning))
        if name.endswith("_likelihood"):
            assert "prior divided out" in column.meaning
    assert sum(column.ucd.endswith("meta.main") for column in columns.values()) == 3


def test_what_both_catalogues_have_is_the_same_thing() -> None:
    field, tile = (columns(("g", "r")) for columns in CATALOGS.values())
    measured = set(sky_columns(("g", "r")))
    assert set(field) & set(tile) == measured | {"ra", "dec", "model_version"}
    assert all((field[name].unit, field[name].ucd) == (tile[name].unit, tile[name].ucd) for name in measured)


def test_a_tile_adds_identity_and_provenance() -> None:
    measured, tile = sky_columns(("g", "r")), tile_columns(("g", "r"))
    assert set(tile) - set(measured) == {ID, "tile", "ra", "dec", "model_version", "simulated"}
    assert all((tile[name].value is None) == (name not in measured) for name in tile)
    assert [name for name in tile if name in measured] == list(measured)


def test_an_entry_gives_a_column_for_each_index_with_its_number() -> None:
    def value(measured: int, number: int) -> np.ndarray:
        return np.array([measured, number])

    entries = [Entry("a{k}", "", "u;{spectrum}", "of {word}", value), Entry("b_{band}", "", "{spectrum}", "{band}")]
    entries += [
        Entry("c{pair}", "", "", "", value),
        Entry("d{matrix}", "", "", "", value),
        Entry("e", "", "", "", value),
    ]
    columns = columns_of(entries, ("g", "Y"), word="all")
    names = ["a1", "a2", "b_g", "b_Y", "c11", "c12", "c22", "d11", "d12", "d21", "d22", "e"]
    assert list(columns) == names
    assert (columns["b_Y"].ucd, columns["b_Y"].meaning, columns["a1"].meaning) == ("em.opt.I", "Y", "of all")
    numbers = [c.value(7)[1] for c in columns.values() if c.value is not None]
    assert numbers == [0, 1, 0, 1, 2, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("page", PAGES)
def test_the_documentation_has_the_registry_s_tables(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert documented(text, PAGES[page]) == text, "run python -m deblend_assets.steps.measuring.document"


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="not one table between the lines"):
        documented("# A page\n", PAGES["shape_catalog.md"])
