"""Kept fields on disk: what was written is read, what is damaged or half-written is not trusted."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import BusyError, CorruptDataError, MismatchError, MissingDataError, StorageError
from deblend_assets.science.worlds.training_fields import TRAINING_WORLDS
from deblend_assets.settings import Profile, load_profile
from deblend_assets.stores.files import write_vouched
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.training_fields import TrainingFieldStore

ARRAYS = {
    "light": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "bands": np.array(["r", "i"]),
    "survey": np.array("LSST"),
    "boxes": np.zeros((0, 4), np.int32),
    "truth_star": np.array([True, False]),
}


@pytest.fixture
def store(tmp_path: Path) -> TrainingFieldStore:
    store = TrainingFieldStore(tmp_path / "train_sky" / "abc")
    with store.lock():
        store.write(3, ARRAYS, 120, {"versions": {}})
    return store


def test_a_field_comes_back_as_it_was(store: TrainingFieldStore) -> None:
    found = store.read(3)
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)
    assert store.targets(3) == 120
    assert store.is_done(3)
    assert not store.is_done(4)
    with pytest.raises(MissingDataError, match="has not been materialised"):
        store.read(4)


def test_the_same_field_gives_the_same_bytes(store: TrainingFieldStore) -> None:
    first = store.sha256(3)
    store.write(3, ARRAYS, 120, {"versions": {}})
    assert store.sha256(3) == first
    store.write(3, {**ARRAYS, "light": ARRAYS["light"] + np.float16(1)}, 120, {"versions": {}})
    assert store.sha256(3) != first


def test_a_cut_or_changed_file_and_one_without_its_record_are_not_trusted(store: TrainingFieldStore) -> None:
    path = Path(str(store.folder)) / "field_000003.npz"
    data = path.read_bytes()
    for wrong in (data[:-7], data[:40] + b"?" + data[41:]):
        path.write_bytes(wrong)
        assert not store.is_done(3)
        with pytest.raises(CorruptDataError, match="checksum"):
            store.read(3)
    path.write_bytes(data)
    assert store.is_done(3)
    path.with_name(path.name + ".json").unlink()  # killed before it was vouched for
    assert not store.is_done(3)
    with pytest.raises(MissingDataError):
        store.targets(3)


def test_nothing_but_arrays_of_numbers_and_letters_is_read(store: TrainingFieldStore, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="light of objects"):
        store.write(5, {"light": np.array([{}], dtype=object)}, 1, {})
    path = Path(str(store.folder)) / "field_000005.npz"
    np.savez(tmp_path / "objects.npz", light=np.array([{}], dtype=object))
    write_vouched(path, (tmp_path / "objects.npz").read_bytes(), {"targets": 1})
    with pytest.raises(ValueError, match="allow_pickle"):
        store.read(5)


def test_one_run_at_a_time_makes_fields_and_only_where_there_is_space(
    store: TrainingFieldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.lock(), pytest.raises(BusyError, match="fields of train_sky"), store.lock():
        pass
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**40, 0, 2**30))
    store.require_space(10)
    with pytest.raises(StorageError, match="1000 fields of train_sky may take"):
        store.require_space(1000)


def test_fields_are_others_with_other_galaxies_skies_or_seeds_but_not_with_other_masks(tmp_path: Path) -> None:
    profile = load_profile("smoke")
    columns = {"galtileid": ("", "id")}

    def folder(changed: Profile, world: str = "train_sky") -> str:
        return str(ProjectStore(tmp_path, changed).training_fields(TRAINING_WORLDS[world]).folder)

    ProjectStore(tmp_path, profile).write_catalog(pd.DataFrame({"galtileid": [1]}), columns, "", {})
    own = folder(profile)
    assert own == folder(profile)
    assert Path(own).parent.name == "train_sky"
    for section, update, same in (
        ("masks", {"missing": 0.5}, True),
        ("detection", {"thresh": 4.0}, True),
        ("simulation", {"seed": 99}, True),
        ("field", {"pixels": 100}, False),
        ("worlds", {"seed": 8}, False),
        ("worlds", {"pairs": 99}, True),
        ("stamps", {"psf_side": 33}, False),
    ):
        changed = profile.model_copy(update={section: getattr(profile, section).model_copy(update=update)})
        assert (folder(changed) == own) == same, (section, update)
    report = profile.model_copy(update={"simulation": profile.simulation.model_copy(update={"seed": 99})})
    assert folder(report, "train_report") != folder(profile, "train_report")
    ProjectStore(tmp_path, profile).write_catalog(pd.DataFrame({"galtileid": [2]}), columns, "", {})
    assert folder(profile) != own
