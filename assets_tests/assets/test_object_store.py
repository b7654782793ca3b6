"""The smoke lineage and a tile with their storage in an object store: the same bytes as in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from assets_tests.assets.homes import results
from assets_tests.assets.lineage import (
    ALL,
    CATALOG,
    CHAIN,
    SKY,
    TILES_OF_FEW,
    Lineage,
    Made,
    metadata,
    smoke,
)
from assets_tests.object_stores import ObjectStore, object_store
from deblend_assets.settings import store_path
from deblend_assets.stores.files import read_bytes
from deblend_assets.stores.project import STAGES

for _package in ("moto", "s3fs", "upath"):
    pytest.importorskip(_package)
pytestmark = pytest.mark.slow

# A report names when it was made, an answer of the archive when it was given and by which port; a tile's page has
# figures, which are blank here.
DATED = ("reports", "archive", "report.html")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("server")) as running:
        yield running


def sums(server: ObjectStore, lineage: Lineage) -> dict[str, str]:
    """As `homes.results`, of an object store."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in server.objects(lineage.root).items()}


def lasting(found: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in found.items() if not set(DATED) & set(PurePosixPath(name).parts)}


def test_the_simulated_leg_is_the_same_to_the_byte_and_is_kept(
    server: ObjectStore, first_run: tuple[Lineage, Made]
) -> None:
    local, _ = first_run
    lineage = Lineage(server.root / "main", smoke())
    found = metadata(lineage.succeeds(*ALL))
    assert found["simulated/truth"]["path"].startswith("s3://")
    made, expected = sums(server, lineage), results(local.root)
    assert made.keys() == expected.keys()
    assert lasting(made) == lasting(expected)
    assert any("arrays.zarr/blended/c/" in name for name in lasting(made))
    assert all(lineage.store.checkpoint("training", stage).finished for stage in STAGES)
    assert b"<!doctype html" in read_bytes(lineage.store.report_folder("evaluation") / "report.html").lower()

    server.requests()
    again = metadata(lineage.succeeds(*(asset for asset in ALL if not asset.endswith("_evaluation"))))
    assert again["simulated/truth"]["scenes_rendered_now"] == 0
    rewritten = {line.split("/main/smoke/")[1] for line in server.requests() if line.startswith("PUT")}
    assert not {name for name in rewritten if name.split("/")[0] in ("simulated", "checkpoints")}
    assert lasting(sums(server, lineage)) == lasting(made)


def test_tiles_are_the_same_to_the_byte(server: ObjectStore, first_tiles: tuple[Lineage, dict[str, Made]]) -> None:
    local, _ = first_tiles
    lineage = Lineage(server.root / "des", smoke(**TILES_OF_FEW))
    lineage.succeeds(CATALOG, SKY)
    tile, other = lineage.profile.des.sky.tiles
    lineage.succeeds(*CHAIN, tile=tile)
    made, expected = lasting(sums(server, lineage)), lasting(results(local.root))
    expected = {name: digest for name, digest in expected.items() if f"/tiles/{other}/" not in name}
    assert {name for name in made.keys() | expected.keys() if made.get(name) != expected.get(name)} == set()


def test_a_bucket_that_is_not_there_fails_the_step_with_one_line(server: ObjectStore) -> None:
    line = Lineage(store_path("s3://no-such-bucket/runs"), smoke()).failure(CATALOG)
    assert line.startswith("there is no such bucket [s3://no-such-bucket/runs/smoke/catalog/galaxy_catalog.parquet")
