"""`field_catalog` in processes that are killed: at most the parts under way are lost, and the end is the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.assets import small_parts
from assets_tests.assets.homes import Home, assert_all_gone, results
from assets_tests.assets.lineage import FIELD_CHAIN, Lineage, Made
from deblend_assets.partitions import FIELDS
from deblend_assets.settings import PROFILE_FOLDER
from deblend_assets.stores.fields import FieldsStore

pytestmark = pytest.mark.slow

PROFILE = (PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8") + "\n[run]\nworkers = 2\n"


class FieldHome(Home):
    """A home with one field, whose images lie elsewhere."""

    def __init__(self, folder: Path, source: Path) -> None:
        selection = ["--select", 'key:"fields/field_*"', "--partition", source.stem]
        super().__init__(folder, "fields", PROFILE, selection, small_parts.__name__)
        self.field = FieldsStore(self.store).field(source.stem)
        self.field.source = source
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            instance.add_dynamic_partitions(str(FIELDS.name), [source.stem])

    def parts(self) -> set[str]:
        return {path.name for path in Path(str(self.field.folder)).glob("parts/*/rows_*.parquet")}


@pytest.fixture
def killed(first_field: tuple[Lineage, str, Made, Made], tmp_path: Path) -> Iterator[FieldHome]:
    home = FieldHome(tmp_path / "killed", first_field[0].fields.field(first_field[1]).source)
    yield home
    home.end()


def test_killed_while_it_measures_a_field_loses_the_parts_under_way_alone(killed: FieldHome, tmp_path: Path) -> None:
    assert_all_gone(killed.kill_when(lambda: bool(killed.parts()), group=False))
    assert len(killed.recover()) == 1
    kept = len(killed.parts())
    killed.finish()
    log = killed.log()
    assert "kept the detections of the same images" in log
    told = re.search(r"measuring: (\d+) of \d+ galaxies are kept of an earlier run", log)
    assert told is not None
    assert 4 * (kept - 1) < int(told[1]) <= 4 * kept, "parts of at most four targets"
    assert killed.parts() == set()

    alone = Lineage(tmp_path / "alone", killed.profile)
    field = alone.fields.field(killed.field.name)
    field.source = killed.field.source
    alone.succeeds(*FIELD_CHAIN, field=killed.field.name)
    expected, found = (results(Path(str(folder))) for folder in (field.folder, killed.field.folder))
    assert found.keys() == expected.keys(), "nothing is left behind"
    assert {name for name in expected if found[name] != expected[name]} == set()
