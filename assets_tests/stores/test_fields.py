"""A field on disk: where its files lie, vouched tables of the right inputs, parts of runs that did not end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from deblend_assets.errors import BusyError, CorruptDataError, MismatchError, MissingDataError, SettingsError
from deblend_assets.settings import StorePath, load_profile
from deblend_assets.stores.field_catalogs import FieldParts
from deblend_assets.stores.fields import FieldsStore, FieldStore, field_name
from deblend_assets.stores.project import ProjectStore

TABLE = pd.DataFrame({"x": [1.0, 2.0]})
COLUMNS = {"x": ("pixel", "position")}


def use(root: StorePath) -> None:
    """What holds in a folder and in an object store."""
    field = FieldStore(root, "mine")
    with pytest.raises(MissingDataError, match=r"no field\.toml is known of mine \["):
        _ = field.source
    assert field.attempt is None
    field.source, field.attempt = Path("/data/field.toml"), "0123"
    again = FieldStore(root, "mine")
    assert (again.source, again.attempt) == (Path("/data/field.toml"), "0123")
    assert field.find("images") is None
    with pytest.raises(MissingDataError, match="fields/field_images of mine has not been materialised"):
        field.read("images")
    field.write("images", TABLE, COLUMNS, "note", "first", {"content": "abc"})
    table, record = field.read("images", "first")
    pd.testing.assert_frame_equal(table, TABLE)
    assert (record["content"], record["rows"], record["field"]) == ("abc", 2, "mine")
    with pytest.raises(MismatchError, match="fields/field_images of mine was made from other inputs"):
        field.read("images", "second")
    assert field.find("images", "second") is None

    parts = field.parts("first")
    parts.keep("rows_0_0", TABLE)
    pd.testing.assert_frame_equal(field.parts("first").read("rows_0_0"), TABLE)
    assert parts.read("rows_0_1") is None
    assert field.parts("second").read("rows_0_0") is None
    assert FieldParts(field.folder / "parts" / "first").read("rows_0_0") is None, "those of other inputs are deleted"
    parts = field.parts("second")
    parts.keep("rows_0_0", TABLE)
    parts.delete()
    assert parts.read("rows_0_0") is None


def test_a_field_in_a_folder(tmp_path: Path) -> None:
    use(tmp_path)
    assert list((tmp_path / "mine" / "parts").iterdir()) == [], "no folder is left behind"


def test_what_a_killed_writer_left_among_the_parts_goes_with_them(tmp_path: Path) -> None:
    field = FieldStore(tmp_path, "mine")
    field.parts("first").keep("rows_0_0", TABLE)
    (tmp_path / "mine" / "parts" / "first" / ".rows_0_1.parquet.x.part").touch()
    field.parts("second").keep("rows_0_0", TABLE)
    assert [path.name for path in (tmp_path / "mine" / "parts").iterdir()] == ["second"]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data + b" "])
def test_a_damaged_table_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    field = FieldStore(tmp_path, "mine")
    field.write("catalog", TABLE, COLUMNS, "", "first", {})
    path = Path(str(field.path("catalog")))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptDataError, match="materialise fields/field_catalog of mine again"):
        field.read("catalog")
    assert field.find("catalog") is None


def test_a_field_is_held_by_one_run(tmp_path: Path) -> None:
    with FieldStore(tmp_path, "mine").lock(), pytest.raises(BusyError, match="field mine is being written by process"):
        FieldStore(tmp_path, "mine").lock().__enter__()


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a b", "a\n", "-a", "_retired.json", "x" * 90, "é"])
def test_what_cannot_be_a_folder_is_no_name(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be the name of a field"):
        field_name(name)


def test_the_watched_folder_is_in_the_storage_or_where_the_profile_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile("smoke")
    assert FieldsStore(ProjectStore(tmp_path, profile)).watched == tmp_path / "fields"
    named = profile.model_copy(update={"fields": profile.fields.model_copy(update={"folder": "mine"})})
    monkeypatch.chdir(tmp_path)
    assert FieldsStore(ProjectStore(tmp_path / "storage", named)).watched == tmp_path / "mine"
