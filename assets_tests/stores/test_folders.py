"""A new folder takes the place of an old one, or the old one stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from deblend_assets.errors import StorageError
from deblend_assets.stores.folders import replace_folder, staging_folder


def put(folder: Path, content: str) -> None:
    """Replace a folder by one that holds a file."""
    with staging_folder(folder) as new:
        (new / "file").write_text(content)
        replace_folder(new, folder)


def test_a_folder_appears_and_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    put(folder, "old")
    (folder / "more").write_text("old")
    put(folder, "new")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("file", "new")]
    assert os.listdir(tmp_path) == ["folder"]


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    def build() -> None:
        with staging_folder(tmp_path / "folder") as new:
            (new / "file").touch()
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        build()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("call", [1, 2])
def test_where_replacing_fails_the_old_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    folder, calls, real = tmp_path / "folder", [0], Path.replace
    put(folder, "old")

    def replace(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == call:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(StorageError, match=r"cannot be written .*busy"):
            put(folder, "new")
    assert (folder / "file").read_text() == "old"
    put(folder, "new")
    assert (folder / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["folder"]


def test_what_a_killed_process_put_aside_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".folder.old-abc").mkdir()
    (tmp_path / ".folder.part").mkdir()
    (tmp_path / ".folder.part" / "half").write_text("")
    put(tmp_path / "folder", "new")
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == ["file"]
