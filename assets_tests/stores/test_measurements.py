"""Measurements appear whole or not at all, and never in the place of something else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr

from deblend_assets.errors import BusyError, StorageError
from deblend_assets.stores import measurements
from deblend_assets.stores.measurements import measurements_in
from deblend_assets.stores.tables import column_units

COLUMNS = {"stamp": ("", "position"), "flux": ("electron", "sum")}


def table(first: int, rows: int) -> pd.DataFrame:
    return pd.DataFrame({"stamp": np.arange(first, first + rows), "flux": np.arange(rows) * 0.5})


def write(folder: Path, parts: int = 3, replace: bool = False) -> None:
    with measurements_in(folder, COLUMNS, "a note", replace=replace) as out:
        out.create_images((parts * 10, 1, 2, 2), 10, {"unit": "electron"})
        for k in range(parts):
            out.add(table(10 * k, 10), np.full((10, 1, 2, 2), k, dtype=np.float32))
        out.finish({"model_version": "0123456789ab"})


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "_ROWS", 20)


def test_rows_that_come_in_parts_stand_in_one_catalogue(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder)
    data = (folder / "measurements.parquet").read_bytes()
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "measurements.parquet"),
        pd.concat([table(10 * k, 10) for k in range(3)], ignore_index=True),
    )
    assert column_units(data) == COLUMNS
    assert pq.ParquetFile(folder / "measurements.parquet").num_row_groups == 2
    card = json.loads((folder / "measurements.json").read_text())
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert (card["rows"], card["bytes"], card["model_version"]) == (30, len(data), "0123456789ab")
    images = zarr.open_array(folder / "deblended.zarr", mode="r")
    assert images.metadata.dimension_names == ("stamp", "band", "y", "x")
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.repeat([0, 1, 2], 10))


def test_an_error_half_way_leaves_nothing(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(ZeroDivisionError),
        measurements_in(tmp_path / "out", COLUMNS, "", replace=False) as out,
    ):
        out.add(table(0, 30), np.zeros((30, 1, 2, 2)))
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]


def test_what_a_killed_process_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    part = tmp_path / ".out.part"
    part.mkdir()
    (part / "measurements.parquet").write_bytes(b"half of it")
    write(tmp_path / "out")
    assert not part.exists()
    assert len(pd.read_parquet(tmp_path / "out" / "measurements.parquet")) == 30


def test_finished_measurements_go_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder)
    with pytest.raises(StorageError, match=r"is there already.*--replace"):
        write(folder, parts=1)
    assert len(pd.read_parquet(folder / "measurements.parquet")) == 30
    write(folder, parts=1, replace=True)
    assert len(pd.read_parquet(folder / "measurements.parquet")) == 10


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_of_something_else_stays(tmp_path: Path, replace: bool) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("dear to me")
    with pytest.raises(StorageError, match="give another name"):
        write(folder, replace=replace)
    assert (folder / "chapter.tex").read_text() == "dear to me"


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert (tmp_path / "out" / "measurements.json").exists()


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with measurements_in(tmp_path / "out", COLUMNS, "", replace=False) as out:
        with pytest.raises(BusyError):
            write(tmp_path / "out")
        out.add(table(0, 1), np.zeros((1, 1, 2, 2)))
        out.finish({})
    assert len(pd.read_parquet(tmp_path / "out" / "measurements.parquet")) == 1
