"""Measurements appear whole or not at all, and never in the place of something else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.table import Table

from deblend_assets.errors import BusyError, StorageError
from deblend_assets.stores import measurements
from deblend_assets.stores.folders import FilesInPlace
from deblend_assets.stores.measurements import measurements_in
from deblend_assets.stores.tables import column_units

COLUMNS = {"stamp": ("", "position"), "flux": ("nJy", "sum")}


def table(first: int, rows: int) -> pd.DataFrame:
    return pd.DataFrame({"stamp": np.arange(first, first + rows), "flux": np.arange(rows) * 0.5})


def write(folder: Path, parts: int = 3, replace: bool = False, last: Callable[[], None] = lambda: None) -> None:
    """Measurements of 10 stamps a part; `last` is called when they are finished but not yet in their place."""
    with measurements_in(folder, COLUMNS, "a note", replace=replace) as out:
        out.create_images((parts * 10, 1, 2, 2), 10, {"unit": "electron"})
        for k in range(parts):
            out.add(table(10 * k, 10), np.full((10, 1, 2, 2), k, dtype=np.float32))
        out.finish({"model_version": "0123456789ab"})
        last()


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
    rows = Table.read(folder / "measurements.fits")
    pd.testing.assert_frame_equal(rows.to_pandas(), pd.read_parquet(folder / "measurements.parquet"))
    assert (rows["flux"].unit, rows["flux"].description) == ("nJy", "sum")
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
    assert names_in(tmp_path) == []


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
    with pytest.raises(StorageError, match=r"already exists.*--replace"):
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


def rows_of(folder: Path) -> int:
    """Rows of the measurements in a folder, once card and catalogue agree."""
    data, card = (folder / "measurements.parquet").read_bytes(), json.loads((folder / "measurements.json").read_text())
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert zarr.open_array(folder / "deblended.zarr", mode="r").shape[0] == card["rows"]
    return card["rows"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


OURS = ["deblended.zarr", "measurements.fits", "measurements.json", "measurements.parquet"]


def test_other_files_beside_replaced_measurements_stay(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder)
    (folder / "notes.txt").write_text("precious")
    (folder / "plots").mkdir()
    (folder / "plots" / "one.png").write_bytes(b"png")
    write(folder, parts=1, replace=True)
    assert rows_of(folder) == 10
    assert (folder / "notes.txt").read_text() == "precious"
    assert (folder / "plots" / "one.png").read_bytes() == b"png"
    assert names_in(folder) == sorted([*OURS, "notes.txt", "plots"])
    assert names_in(tmp_path) == ["out"]


class Stop(BaseException):
    """Ends a process' work at once."""


def failing_at(monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException) -> list[int]:
    """Let the `call`th renaming fail with `error`; returns the count of renamings, kept up to date."""
    calls, real = [0], Path.rename

    def rename(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == call:
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    return calls


# Three old files move away, the part becomes the new ones, which move to their place.
RENAMINGS = range(1, 10)


@pytest.mark.parametrize("call", RENAMINGS)
@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "Operation not permitted"), KeyboardInterrupt()])
def test_where_replacing_fails_the_old_measurements_stand_and_the_new_ones_are_kept(
    tmp_path: Path, call: int, error: BaseException
) -> None:
    folder = tmp_path / "out"
    write(folder)
    (folder / "notes.txt").write_text("precious")
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, call, error)
        with pytest.raises((StorageError, KeyboardInterrupt)) as caught:
            write(folder, parts=1, replace=True)
    assert rows_of(folder) == 30
    assert (folder / "notes.txt").read_text() == "precious"
    if isinstance(error, OSError):
        kept = tmp_path / "out.new"
        assert f"they are kept in {kept}" in str(caught.value)
        assert "Operation not permitted" in str(caught.value)
        assert rows_of(kept) == 10
        assert names_in(folder) == sorted([*OURS, "notes.txt"])
    else:
        assert rows_of(folder / ".measurements.part") == 10
    write(folder, parts=2, replace=True)
    assert rows_of(folder) == 20
    assert rows_of(tmp_path / "out.new") == 10


def test_there_are_as_many_renamings_as_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out")
    calls = failing_at(monkeypatch, 0, Stop())
    write(tmp_path / "out", parts=1, replace=True)
    assert calls[0] == len(RENAMINGS)


@pytest.mark.parametrize("call", RENAMINGS)
def test_killed_while_replacing_old_and_new_survive_and_the_next_run_finds_one_whole(tmp_path: Path, call: int) -> None:
    folder = tmp_path / "out"
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, call, Stop())
        patch.setattr(FilesInPlace, "_take_back", lambda self: None)  # a killed process takes nothing back
        with pytest.raises(Stop):
            write(folder, parts=1, replace=True)
    lengths = sorted(len(pd.read_parquet(path)) for path in tmp_path.rglob("measurements.parquet"))
    assert lengths == [10, 30]
    with pytest.raises(StorageError, match=r"already exists.*--replace"):
        write(folder, parts=2)
    assert rows_of(folder) == (30 if call <= 5 else 10)
    write(folder, parts=2, replace=True)
    assert rows_of(folder) == 20
    assert names_in(folder) == OURS


def test_old_files_that_cannot_be_deleted_do_not_spoil_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an open file on NFS, whose folder cannot be deleted until it is closed."""
    folder, real = tmp_path / "out", measurements.shutil.rmtree
    write(folder)

    def rmtree(path: Path, **options: bool) -> None:
        if Path(path).name == ".measurements.old" and Path(path).exists():
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements.shutil, "rmtree", rmtree)
        write(folder, parts=1, replace=True)
        assert rows_of(folder) == 10
        with pytest.raises(StorageError, match=r"cannot be deleted .*busy.*\.measurements\.old.*delete this folder"):
            write(folder, parts=2, replace=True)
        assert rows_of(folder) == 10
    write(folder, parts=2, replace=True)
    assert rows_of(folder) == 20
    assert names_in(folder) == OURS


def test_what_appears_in_the_place_meanwhile_stays_and_the_measurements_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def come_between() -> None:
        folder.mkdir()
        (folder / "chapter.tex").write_text("dear to me")

    with pytest.raises(StorageError, match=r"cannot be moved there \(.*not empty.*kept in .*out\.new: move"):
        write(folder, parts=1, last=come_between)
    assert names_in(folder) == ["chapter.tex"]
    assert rows_of(tmp_path / "out.new") == 10


def test_finished_measurements_that_a_killed_process_left_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "out", parts=1)
    (tmp_path / "out").rename(tmp_path / ".out.part")
    (tmp_path / "out.new").write_bytes(b"")
    write(tmp_path / "out")
    assert rows_of(tmp_path / "out") == 30
    assert rows_of(tmp_path / "out.new1") == 10


def test_a_full_disk_leaves_the_old_measurements(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder)

    def fill_the_disk() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="no space left"):
        write(folder, replace=True, last=fill_the_disk)
    assert rows_of(folder) == 30
    assert names_in(folder) == OURS


def test_the_present_folder_and_one_that_nothing_can_be_written_beside_hold_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that is mounted, say: its parent is read-only, and the folder itself cannot be renamed."""
    folder = tmp_path / "above" / "out"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o555)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder.parent and access(path, mode))
    monkeypatch.chdir(folder)
    for parts in (3, 1):
        write(folder, parts=parts, replace=parts == 1)
        assert rows_of(Path.cwd()) == 10 * parts
    assert names_in(folder) == OURS
    assert names_in(folder.parent) == ["out"]
    folder.parent.chmod(0o755)


@pytest.mark.parametrize("length", [250, 256])
def test_a_name_too_long_is_one_clear_line(tmp_path: Path, length: int) -> None:
    with pytest.raises(StorageError, match="the name is too long"):
        write(tmp_path / ("b" * length))
    assert names_in(tmp_path) == []


def test_more_rows_than_fits_takes_are_in_parquet_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out")
    monkeypatch.setattr(measurements, "_MOST_FITS", 29)
    write(tmp_path / "out", replace=True)
    assert names_in(tmp_path / "out") == [name for name in OURS if name != "measurements.fits"]
