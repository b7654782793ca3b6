"""The chain of fingerprints: what is recognised as made from what, and what is refused."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from assets_tests.stores.test_arrays import write
from deblend_assets.errors import CatalogError, CorruptDataError, MismatchError, MissingDataError, StorageError
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import PROFILE_FOLDER, Profile, parse_profile
from deblend_assets.steps.training.models import normalization_card, require_same_normalization
from deblend_assets.stores import project as module
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import STAGES, ProjectStore

COLUMNS = {"galtileid": ("", "identity"), "split": ("", "of the galaxy")}


def tiny(**changes: Any) -> Profile:
    """The smoke profile with shards of 8 small scenes; `changes` are dotted keys with `__` for the dots."""
    raw = copy.deepcopy(tomllib.loads((PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8")))
    raw["name"] = "tiny"
    raw["simulation"] |= {"shard_scenes": 8, "stamp_pixels": 15, "scenes": {"train": 16, "validation": 8, "test": 8}}
    for key, value in changes.items():
        *path, last = key.split("__")
        section = raw
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return parse_profile(raw, where="tiny.toml")


@pytest.fixture(scope="module")
def survey() -> SurveyModel:
    return load_survey("LSST")


Opener = Callable[..., ProjectStore]


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """The store of the tiny profile, or of a changed one in the same folder."""
    return lambda **changes: ProjectStore(tmp_path / "storage", tiny(**changes))


def galaxies(rows: int = 5) -> pd.DataFrame:
    return pd.DataFrame({"galtileid": range(rows), "split": "train"})


def simulate(store: ProjectStore, survey: SurveyModel) -> None:
    arrays = store.create_arrays(survey)
    for split in ("train", "validation", "test"):
        for shard in arrays.shards(split):
            write(arrays, shard)


STATISTICS = Normalization(tuple("ugrizy"), (10.0, 20.0, 30.0, 40.0, 50.0, 60.0), 2.5)


def train(store: ProjectStore, stage: str, value: float = 1.0) -> str:
    """A made-up finished stage; returns its fingerprint."""
    folder = store.checkpoint("training", stage)
    card = {"best_epoch": 1, "normalization": normalization_card(store.normalization())}
    folder.finish(Checkpoint({"w": torch.tensor(value)}, card, [{"epoch": 1.0}], folder.fingerprint))
    return folder.fingerprint


@pytest.fixture
def store(opened: Opener, survey: SurveyModel) -> ProjectStore:
    """Catalogue, all shards and statistics."""
    made = opened()
    made.write_catalog(galaxies(), COLUMNS, "note", {"source": "made up"})
    simulate(made, survey)
    made.write_normalization(STATISTICS, {"stamps": 16})
    return made


def one_line(error: BaseException, *words: str) -> None:
    line = str(error)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_nothing_there_says_what_to_materialise_first(opened: Opener, survey: SurveyModel) -> None:
    store = opened()
    with pytest.raises(MissingDataError) as caught:
        store.read_catalog()
    one_line(caught.value, "materialise simulation/galaxy_catalog first", str(store.catalog_path))
    with pytest.raises(MissingDataError, match="galaxy_catalog"):
        store.arrays()
    store.write_catalog(galaxies(), COLUMNS, "note", {})
    with pytest.raises(MissingDataError, match="nothing is simulated yet") as caught:
        store.arrays()
    one_line(caught.value, "materialise simulated/{truth,isolated,noisy,blended}")
    arrays = store.create_arrays(survey)
    with pytest.raises(MissingDataError, match="normalization_statistics has not been materialised"):
        store.normalization()
    with pytest.raises(MissingDataError, match="shard train_000 is not finished"):
        store.write_normalization(STATISTICS, {})
    for shard in arrays.shards("train"):
        write(arrays, shard)
    store.write_normalization(STATISTICS, {})
    with pytest.raises(MissingDataError, match="shard validation_000 is not finished"):
        store.checkpoint("training", "stage1_vae")


def test_catalogue_and_statistics_come_back(store: ProjectStore) -> None:
    pd.testing.assert_frame_equal(store.read_catalog(), galaxies())
    assert store.normalization() == STATISTICS
    assert store.arrays().bands == STATISTICS.bands


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("simulation__seed", 77),
        ("simulation__stamp_pixels", 17),
        ("simulation__dither_pixels", 0.25),
        ("simulation__shear_g1", 0.01),
        ("simulation__label_band", "i"),
        ("simulation__scenes__test", 16),
    ],
)
def test_arrays_of_other_settings_are_refused_and_stay(
    opened: Opener, store: ProjectStore, survey: SurveyModel, key: str, value: float | str
) -> None:
    other = opened(**{key: value})
    with pytest.raises(MismatchError, match="the arrays there are of other simulations") as caught:
        other.arrays()
    one_line(caught.value, store.arrays().folder.name, "materialise simulated/{truth,isolated,noisy,blended}")
    with pytest.raises(MismatchError):
        other.normalization()
    simulate(other, survey)
    assert other.arrays().folder != store.arrays().folder
    assert all(store.arrays().is_done(shard) for shard in store.arrays().shards("train"))


def test_another_catalogue_or_library_is_another_simulation(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.arrays().folder
    store.write_catalog(galaxies(), COLUMNS, "note", {"source": "made up"})
    assert store.arrays().folder == before, "the same catalogue written again is the same"
    with monkeypatch.context() as patch:
        patch.setattr(module, "version", lambda name: "99.0")
        with pytest.raises(MismatchError, match="libraries"):
            store.arrays()
    store.write_catalog(galaxies(6), COLUMNS, "note", {"source": "made up"})
    with pytest.raises(MismatchError, match="catalogue"):
        store.arrays()


@pytest.mark.parametrize(
    "changes",
    [
        {"run__workers": 3},
        {"run__memory_gb": 0.1},
        {"recipes__training__latent": 8},
        {"recipes__training__stage3__epochs": 9},
        {"evaluation__seed": 9},
        {"catalog__galaxies": 3000},
    ],
)
def test_what_no_scene_depends_on_leaves_the_simulation_standing(
    opened: Opener, store: ProjectStore, changes: dict[str, Any]
) -> None:
    # The catalogue's own settings count through its bytes, when it is materialised again.
    other = opened(**changes)
    assert other.arrays().folder == store.arrays().folder
    assert other.normalization() == STATISTICS


def test_statistics_of_another_simulation_are_refused(opened: Opener, store: ProjectStore, survey: SurveyModel) -> None:
    other = opened(simulation__seed=77)
    simulate(other, survey)
    arrays = other.arrays()
    shard = arrays.shards("train")[0]
    scenes = arrays.read("noisy", shard)
    assert scenes.shape == (8, 6, 15, 15)
    # Made-up scenes know no seed: draw one shard of the other simulation differently.
    from assets_tests.stores.test_arrays import scenes_of

    changed = scenes_of(arrays, shard)
    changed.noisy[0] += 1
    arrays.write(shard, changed, {})
    with pytest.raises(MismatchError, match="the statistics are of another simulation") as caught:
        other.normalization()
    one_line(caught.value, str(store.statistics_path), "materialise normalization/normalization_statistics again")
    assert store.normalization() == STATISTICS
    other.write_normalization(STATISTICS, {})
    assert other.normalization() == STATISTICS


def test_a_training_shard_drawn_differently_refuses_the_statistics_a_test_shard_does_not(store: ProjectStore) -> None:
    from assets_tests.stores.test_arrays import scenes_of

    arrays = store.arrays()
    for split, refused in (("test", False), ("validation", False), ("train", True)):
        shard = arrays.shards(split)[0]
        scenes = scenes_of(arrays, shard)
        scenes.isolated[0] += 1
        arrays.write(shard, scenes, {})
        if refused:
            with pytest.raises(MismatchError):
                store.normalization()
        else:
            assert store.normalization() == STATISTICS


def test_another_beta_is_refused(opened: Opener, store: ProjectStore) -> None:
    with pytest.raises(MismatchError, match="another beta"):
        opened(normalization__beta=3.0).normalization()


def test_damaged_statistics_are_refused(store: ProjectStore) -> None:
    store.statistics_path.write_bytes(store.statistics_path.read_bytes().replace(b"10.0", b"11.0"))
    with pytest.raises(CorruptDataError, match="materialise normalization/normalization_statistics again"):
        store.normalization()


def fingerprints(store: ProjectStore) -> dict[str, str]:
    return {stage: store.checkpoint("training", stage).fingerprint for stage in STAGES}


def test_a_stage_depends_on_its_own_length_and_its_parents_alone(opened: Opener, store: ProjectStore) -> None:
    for stage in STAGES:
        with pytest.raises(MissingDataError, match="has not been trained"):
            store.checkpoint("training", stage).read()
        train(store, stage)
    before = fingerprints(store)
    assert len(set(before.values())) == 3

    third = opened(recipes__training__stage3__epochs=99)
    assert {s: f for s, f in fingerprints(third).items() if s != STAGES[2]} == {s: before[s] for s in STAGES[:2]}
    assert fingerprints(third)[STAGES[2]] != before[STAGES[2]]
    with pytest.raises(MismatchError, match="training/stage3_regressor was trained from other data or with other"):
        third.checkpoint("training", STAGES[2]).read()

    second = opened(recipes__training__stage2__learning_rate=0.5)
    assert second.checkpoint("training", STAGES[0]).fingerprint == before[STAGES[0]]
    assert second.checkpoint("training", STAGES[1]).fingerprint != before[STAGES[1]]
    with pytest.raises(MismatchError, match="training/stage2_deblender was trained"):
        second.checkpoint("training", STAGES[2])

    every = opened(recipes__training__kl_weight=0.5)
    assert every.checkpoint("training", STAGES[0]).fingerprint != before[STAGES[0]]
    assert fingerprints(opened(run__workers=3, recipes__baseline__latent=4, evaluation__seed=9)) == before
    baseline = store.checkpoint("baseline", STAGES[0])
    assert baseline.fingerprint != before[STAGES[0]]
    assert baseline.folder.parent != store.checkpoint("training", STAGES[0]).folder.parent


def test_a_parent_trained_to_other_weights_is_another_parent(store: ProjectStore) -> None:
    train(store, STAGES[0])
    train(store, STAGES[1])
    before = fingerprints(store)
    train(store, STAGES[0], value=2.0)
    assert store.checkpoint("training", STAGES[0]).fingerprint == before[STAGES[0]]
    assert store.checkpoint("training", STAGES[1]).fingerprint != before[STAGES[1]]
    with pytest.raises(MismatchError):
        store.checkpoint("training", STAGES[1]).read()


def test_a_checkpoint_refuses_another_normalisation() -> None:
    card = {"normalization": normalization_card(STATISTICS)}
    require_same_normalization(card, STATISTICS, "training/stage1_vae")
    for other in (
        Normalization(STATISTICS.bands, STATISTICS.mean_max, 2.4),
        Normalization(STATISTICS.bands, (*STATISTICS.mean_max[:5], 60.0000001), 2.5),
        Normalization(tuple("ugrizY"), STATISTICS.mean_max, 2.5),
        Normalization(tuple("griz"), STATISTICS.mean_max[:4], 2.5),
    ):
        with pytest.raises(MismatchError) as caught:
            require_same_normalization(card, other, "training/stage1_vae")
        one_line(caught.value, "another normalisation", "materialise training/stage1_vae again")


def test_a_report_is_written_whole_into_its_own_folder(store: ProjectStore) -> None:
    files = {"report.html": b"<p>", "estimates.parquet": b"PAR1"}
    folder = store.write_report("evaluation", files, {"recipe": "training"})
    assert folder == store.folder / "reports" / "evaluation"
    assert sorted(p.name for p in folder.iterdir()) == ["estimates.parquet", "estimates.parquet.json", "report.html"]
    for name, files in (("../escape", {}), ("evaluation", {"../escape.html": b""})):
        with pytest.raises(StorageError, match="cannot be a file name"):
            store.write_report(name, files, {})


def test_a_world_is_known_by_the_content_of_the_files_it_is_made_of(
    opened: Opener, store: ProjectStore, tmp_path: Path
) -> None:
    first, moved, other = (tmp_path / name for name in ("first.fits", "moved.fits", "other.fits"))
    for path, data in ((first, b"fits"), (moved, b"fits"), (other, b"others")):
        path.write_bytes(data)

    def folder(name: str, **changes: Any) -> str:
        return str(opened(**changes).world(WORLDS[name]).folder)

    assert folder("sky_new", catalog__cosmos_fits=str(first)) == folder("sky_new", catalog__cosmos_fits=str(moved))
    assert folder("sky_new", catalog__cosmos_fits=str(first)) != folder("sky_new", catalog__cosmos_fits=str(other))
    assert folder("sky_new", catalog__cosmos_fits=str(first)) != folder("sky_new")
    with pytest.raises(CatalogError, match="cannot be read"):
        folder("sky_new", catalog__cosmos_fits=str(tmp_path / "none.fits"))
    brighter = {"simulation__target_i_max": 23.0}
    assert folder("report", **brighter) != folder("report")
    assert folder("sky_lsst", **brighter) == folder("sky_lsst")
