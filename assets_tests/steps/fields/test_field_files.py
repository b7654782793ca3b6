"""Which files a field is made of, when they count as changed, and which are hashed again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deblend_assets.errors import MissingDataError, StorageError
from deblend_assets.progress import Progress
from deblend_assets.steps.fields import inputs
from deblend_assets.steps.fields.inputs import FileSum, changed_files, checksums, content_of, files_of, glance_at
from deblend_assets.stores.field_files import FieldFile, read_field_file

TOML = """
regions = ["stars.reg"]
[bands.r]
image = "r.fits[SCI]"
weight = "r.fits[WGT]"
psf = { path = "psf.fits", oversampling = 2 }
[bands.i]
image = "i.fits"
psf = "measure"
"""
NAMES = ("r.fits", "psf.fits", "i.fits", "stars.reg")


def quiet(line: str) -> None:
    """No log."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_text(name)
    (tmp_path / "a.toml").write_text(TOML)
    return tmp_path / "a.toml"


def sums_of(settings: FieldFile) -> dict[str, FileSum]:
    return checksums(files_of(settings), {}, quiet)


def test_every_file_is_named_once_and_a_measured_psf_is_none(source: Path) -> None:
    assert [path.name for path in files_of(read_field_file(source))] == list(NAMES)


def test_only_files_of_another_size_or_time_are_hashed_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_field_file(source)
    known = sums_of(settings)
    read: list[str] = []
    hashed = inputs._read

    def counted(path: Path, progress: Progress) -> FileSum:
        read.append(path.name)
        return hashed(path, progress)

    monkeypatch.setattr(inputs, "_read", counted)
    assert checksums(files_of(settings), known, quiet) == known
    assert read == []
    (source.parent / "i.fits").write_text("I.fits")
    again = checksums(files_of(settings), known, quiet)
    assert read == ["i.fits"]
    assert {Path(path).name for path in known if again[path] != known[path]} == {"i.fits"}
    assert changed_files(known) == [str(source.parent / "i.fits")]
    assert changed_files(again) == []


def test_the_content_counts_and_not_where_or_when(source: Path, tmp_path: Path) -> None:
    settings = read_field_file(source)
    first = content_of(settings, sums_of(settings))
    os.utime(source.parent / "r.fits", (0, 0))
    assert content_of(settings, sums_of(settings)) == first
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in (*NAMES, "a.toml"):
        (moved / name).write_bytes((source.parent / name).read_bytes())
    (moved / "a.toml").rename(moved / "b.toml")
    elsewhere = read_field_file(moved / "b.toml")
    assert content_of(elsewhere, sums_of(elsewhere)) == first
    for name in NAMES:
        path = moved / name
        path.write_text("another")
        assert content_of(elsewhere, sums_of(elsewhere)) != first, name
        path.write_text(name)
    (moved / "b.toml").write_text('background = "subtract"\n' + TOML)
    changed = read_field_file(moved / "b.toml")
    assert content_of(changed, sums_of(changed)) != first


def test_a_glance_sees_every_file_and_opens_none(source: Path) -> None:
    before = glance_at(source)
    assert glance_at(source) == before
    for name in NAMES:
        path = source.parent / name
        os.utime(path, (10, 10))
        now = glance_at(source)
        assert now.signature != before.signature, name
        path.unlink()
        assert glance_at(source).signature not in (now.signature, before.signature), name
        before = glance_at(source)
    source.write_text("no field at all")
    assert glance_at(source).signature != before.signature
    source.unlink()
    assert glance_at(source).changed == 0


def test_a_file_that_is_missing_or_changes_meanwhile_is_one_line(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_field_file(source)
    stats = iter([(6, 1), (6, 1), (6, 2)])
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "_stat", lambda path: next(stats))
        with pytest.raises(StorageError, match="changed while it was read"):
            checksums([source.parent / "r.fits"], {}, quiet)
    (source.parent / "psf.fits").unlink()
    with pytest.raises(MissingDataError, match="is not a file"):
        sums_of(settings)
