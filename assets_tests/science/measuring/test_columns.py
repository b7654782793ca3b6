"""The registry of catalogue columns: names, units, UCDs, meanings; the documentation's tables are made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd

from deblend_assets.science.measuring.columns import ID, Catalog, catalog_columns
from deblend_assets.steps.measuring.document import PAGES, documented

DOCS = Path(__file__).parents[3] / "docs"
CATALOGS: tuple[Catalog, ...] = ("stamps", "tile")


@pytest.mark.parametrize("catalog", CATALOGS)
@pytest.mark.parametrize(("bands", "label"), [("ugrizy", "r"), ("grizY", "r"), ("VIJ", "I")])
def test_every_column_has_a_unit_a_ucd_of_the_vocabulary_and_an_ascii_meaning(
    catalog: Catalog, bands: str, label: str
) -> None:
    columns = catalog_columns(catalog, tuple(bands), label)
    for name, column in columns.items():
        assert check_ucd(column.ucd, check_controlled_vocabulary=True), (name, column.ucd)
        units.Unit(column.unit, format="fits" if column.unit not in ("electron", "") else None)
        assert name.isascii()
        assert column.meaning.isascii()
        assert column.meaning
        assert "{" not in "".join((name, column.unit, column.ucd, column.meaning))
        assert "_free" not in name or "prior divided out" in column.meaning or "standard error" in column.meaning
    assert sum(column.ucd.endswith("meta.main") for column in columns.values()) == 3


def test_a_thing_has_one_name_in_both_catalogues() -> None:
    """What both catalogues have is measured alike; what only one has is listed here."""
    stamps, tile = (catalog_columns(catalog, ("g", "r"), "r") for catalog in CATALOGS)
    assert set(stamps) - set(tile) == {"stamp", "file", "id", "x", "y", "ln_flux", "ln_flux_err"}
    only_tile = {ID, "tile", "response_g1", "response_g2", "flux_err_g", "flux_err_r", "snr_r", "model_version"}
    assert set(tile) - set(stamps) == only_tile | {"simulated"}
    assert [name for name in stamps if name in tile] == [name for name in tile if name in stamps], "in one order"


@pytest.mark.parametrize("page", PAGES)
def test_the_documentation_has_the_registry_s_tables(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert documented(text, PAGES[page]) == text, "run python -m deblend_assets.steps.measuring.document"


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="not one table between the lines"):
        documented("# A page\n", "tile")
