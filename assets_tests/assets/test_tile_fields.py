"""Group `tile_fields`: a tile from the archive over HTTP, through the assets of fields, against im3shape."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assets_tests.assets.lineage import FIELD_CHAIN, IM3SHAPE, SKY, TILES_OF_FEW, Lineage, Made, metadata
from assets_tests.assets.reads import differences
from deblend_assets.automation.registries import FIELD_REGISTRY

pytestmark = pytest.mark.slow

TILE = "DES0000+6015"
IMAGES, AGAINST = "tile_fields/tile_images", "tile_fields/against_im3shape"


@pytest.fixture(scope="module")
def made(first_sky: Lineage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lineage, Made]:
    """A tile's im3shape galaxies and its images, then what the group `fields` makes of them; only read."""
    lineage = first_sky.copy(tmp_path_factory.mktemp("tile_field"), **TILES_OF_FEW)
    first = lineage.succeeds(IM3SHAPE, IMAGES, tile=TILE)
    assert FIELD_REGISTRY.registered(lineage.instance) == [TILE], "registered by its images"
    lineage.succeeds(*FIELD_CHAIN[:3], field=TILE)
    assert metadata(first)[IMAGES]["simulated_tile"] is True
    return lineage, Made.by(lineage, AGAINST, tile=TILE)


def test_a_tile_s_field_is_compared_with_im3shape(made: tuple[Lineage, Made]) -> None:
    lineage, compared = made
    found = compared.metadata[AGAINST]
    galaxies = len(lineage.des.tile(TILE).read_table("im3shape_catalog"))
    assert galaxies == found["reference"] >= found["matched"] >= 0.75 * galaxies
    assert found["sources"] >= found["matched"] >= found["good"] >= 5
    assert compared.reported({"matched"}) == {AGAINST: {"signs", "matched"}}
    page = (lineage.des.tile(TILE).folder / "field_report.html").read_text(encoding="utf-8")
    assert f"The field of simulated tile {TILE} against im3shape" in page


def test_every_asset_declares_what_it_reads_and_reads_what_it_declares(made: tuple[Lineage, Made]) -> None:
    lineage, _ = made
    reads = {asset: lineage.reads[asset] for asset in (IMAGES, AGAINST)}
    assert differences(reads, lineage.deps, {}) == []
    assert lineage.deps[IMAGES] == {SKY}
    assert lineage.deps[AGAINST] == {IM3SHAPE, FIELD_CHAIN[2]}


def test_a_retired_field_is_not_registered_by_its_images(surveyed: Callable[..., Lineage]) -> None:
    lineage = surveyed()
    FIELD_REGISTRY.add(lineage.instance, lineage.store.folder, [TILE])
    FIELD_REGISTRY.retire(lineage.instance, lineage.store.folder, [TILE])
    lineage.succeeds(IMAGES, tile=TILE)
    assert FIELD_REGISTRY.registered(lineage.instance) == []
