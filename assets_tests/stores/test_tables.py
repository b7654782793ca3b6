"""Parquet: units and meanings survive, the same table is the same bytes, and anything else is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse_single_table
from astropy.table import Table

from deblend_assets.errors import CorruptDataError
from deblend_assets.stores.tables import column_units, from_parquet, to_parquet

COLUMNS = {
    "galtileid": ("", "identity"),
    "a_d": ("arcsec", "half-light semi-major axis"),
    "e1": ("", "distortion (a²-b²)/(a²+b²), Eq. 12"),
    "split": ("", "train, validation or test"),
    "member": ("", "0: the target"),
    "unused": ("m", "not in the table"),
}
NOTE = "One row a galaxy; β and σ and ″ survive."


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "galtileid": np.array([2**53 + 1, -7, 0], np.int64),
            "a_d": [0.1, 1e-300, np.inf],
            "e1": [0.25, np.nan, -0.5],
            "split": ["train", "validation", "test"],
            "member": np.array([0, 1, 2], np.int16),
        }
    )


def test_rows_dtypes_units_and_meanings_survive(table: pd.DataFrame) -> None:
    data = to_parquet(table, COLUMNS, NOTE)
    pd.testing.assert_frame_equal(from_parquet(data, where="x", asset="y"), table)
    assert column_units(data) == {name: COLUMNS[name] for name in table}
    schema = pq.read_schema(io.BytesIO(data))
    assert schema.metadata[b"description"].decode() == NOTE


def test_the_same_table_is_the_same_bytes_and_another_is_not(table: pd.DataFrame) -> None:
    data = to_parquet(table, COLUMNS, NOTE)
    assert to_parquet(table.copy(), COLUMNS, NOTE) == data
    assert to_parquet(table.set_axis([5, 6, 7]), COLUMNS, NOTE) == data, "the index is not a column"
    assert to_parquet(table.assign(a_d=[0.1, 1e-300, 3.0]), COLUMNS, NOTE) != data
    assert to_parquet(table, {**COLUMNS, "a_d": ("deg", "other")}, NOTE) != data


def test_a_column_without_unit_and_meaning_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match="secret"):
        to_parquet(table.assign(secret=1), COLUMNS, NOTE)


def test_pandas_astropy_and_readers_of_votable_see_units_and_meanings(table: pd.DataFrame, tmp_path: Path) -> None:
    """Case 15."""
    columns = {name: (*words, "meta.id") if name == "split" else words for name, words in COLUMNS.items()}
    path = tmp_path / "t.parquet"
    path.write_bytes(to_parquet(table.assign(n=pd.array([1, None, 3], "Int64")), {**columns, "n": ("nJy", "n")}, NOTE))
    read = Table.read(path)
    assert {name: str(read[name].unit) for name in read.colnames if read[name].unit} == {"a_d": "arcsec", "n": "nJy"}
    assert read["e1"].description == COLUMNS["e1"][1]
    assert read["split"].meta["ucd"] == "meta.id"
    assert read.meta["description"] == NOTE
    assert list(read["galtileid"]) == list(table["galtileid"])
    assert list(read["split"]) == list(table["split"])
    attributes = pd.read_parquet(path).attrs
    assert attributes["units"] == {"a_d": "arcsec", "n": "nJy"}
    assert attributes["descriptions"]["e1"] == COLUMNS["e1"][1]
    assert attributes["description"] == NOTE
    metadata = pq.read_schema(path).metadata
    fields = parse_single_table(io.BytesIO(metadata[b"IVOA.VOTable-Parquet.content"])).fields
    assert [field.name for field in fields] == [*table, "n"]
    assert {field.name: str(field.unit) for field in fields if field.unit is not None} == attributes["units"]
    assert next(field for field in fields if field.name == "split").ucd == "meta.id"
    assert b"<DATA" not in metadata[b"IVOA.VOTable-Parquet.content"]


@pytest.mark.parametrize("kind", ["int8", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "bool"])
def test_numbers_of_any_type_are_kept(table: pd.DataFrame, kind: str) -> None:
    other = table.assign(member=np.array([0, 1, 1], kind))
    assert from_parquet(to_parquet(other, COLUMNS, NOTE), where="x", asset="y")["member"].dtype == kind


def test_an_empty_table_keeps_its_columns(table: pd.DataFrame) -> None:
    data = to_parquet(table[:0], COLUMNS, NOTE)
    assert list(from_parquet(data, where="x", asset="y")) == list(table)


@pytest.mark.parametrize("cut", [0, 1, 7, -1, -8], ids=["nothing", "a byte", "a few", "one less", "eight less"])
def test_what_is_not_parquet_is_one_line_with_place_and_remedy(table: pd.DataFrame, cut: int) -> None:
    data = to_parquet(table, COLUMNS, NOTE)[:cut]
    with pytest.raises(CorruptDataError, match="is not a Parquet table") as caught:
        from_parquet(data, where="truth/train_000.parquet", asset="the simulated shard")
    line = str(caught.value)
    assert "\n" not in line
    assert "[truth/train_000.parquet]: delete it and materialise the simulated shard again" in line
