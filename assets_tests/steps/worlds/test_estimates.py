"""Estimates in the worlds: a new network measures what is its own, and the other methods' parts stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.sky_shapes.test_model import model  # noqa: F401 - a fixture
from assets_tests.science.sky_shapes.test_network import DENSE, WIDTHS
from assets_tests.steps.sky_shapes.test_fields import Here, small  # noqa: F401 - a fixture
from deblend_assets.science.measuring.sky_observed import SKY_LIKELIHOOD, SKY_POSTERIOR, measure_sky
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import Profile
from deblend_assets.steps.referee.kept_evaluations import table_of
from deblend_assets.steps.worlds import estimates
from deblend_assets.steps.worlds.estimates import NOTE, Weights, columns, measure_worlds
from deblend_assets.steps.worlds.targets import make_worlds
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import RefereeReport

NAME = "sky_des"
SEP = "sep_hsm"


@pytest.fixture
def empty(small: Profile, catalog: pd.DataFrame, tmp_path: Path) -> ProjectStore:  # noqa: F811
    """With galaxies alone."""
    made = ProjectStore(tmp_path, small)
    made.write_catalog(catalog, {name: ("", "") for name in catalog}, "", {})
    return made


@pytest.fixture
def store(empty: ProjectStore, monkeypatch: pytest.MonkeyPatch) -> ProjectStore:
    """With one world."""
    monkeypatch.setattr(estimates, "WORLDS", {NAME: WORLDS[NAME]})
    make_worlds(empty, [WORLDS[NAME]], Here(), print)
    return empty


def stored(model: SkyModel, folder: Path, fingerprint: str) -> CheckpointFolder:  # noqa: F811
    card = {
        "bands": list(model.bands),
        "network": {"widths": list(WIDTHS), "dense": DENSE},
        "population": asdict(model.population),
        "orientations": 1,
    }
    found = CheckpointFolder(folder, fingerprint, "sky_shapes/sky_model")
    found.finish(Checkpoint(dict(model.state_dict()), card, [], fingerprint))
    return found


def table(
    store: ProjectStore, peers: Mapping[str, int | None], weights: Weights, identity: str
) -> tuple[pd.DataFrame, list[str]]:
    """The whole table, and the keys of what was measured for it."""
    report, workers = RefereeReport(store, "worlds", "worlds/test", identity, "world"), Here()
    found = table_of(
        store, report, lambda: measure_worlds(store, report, peers, weights, workers, print), columns(), NOTE, print
    )
    return found, workers.made


def test_a_new_network_measures_alone(
    store: ProjectStore,
    model: SkyModel,  # noqa: F811
    tmp_path: Path,
) -> None:
    without = Weights({}, None, None)
    before, made = table(store, {SEP: None}, without, "one")
    assert made == [f"{NAME}_00000_10_{SEP}"]
    one = Weights({}, "first", stored(model, tmp_path / "sky", "first"))
    after, made = table(store, {SEP: None}, one, "two")
    assert made == [f"{NAME}_00000_10_sky_model_first"]
    pd.testing.assert_frame_equal(after[after["method"] == SEP].reset_index(drop=True), before)
    # Another model replaces it, and the parts of the first go.
    two = Weights({}, "second", stored(model, tmp_path / "sky", "second"))
    again, made = table(store, {SEP: None}, two, "three")
    assert made == [f"{NAME}_00000_10_sky_model_second"]
    pd.testing.assert_frame_equal(again, after)
    kept = {path.name for path in (store.report_folder("worlds") / "parts" / "world").glob("*.parquet")}
    assert kept == {f"{NAME}_00000_10_{SEP}.parquet", f"{NAME}_00000_10_sky_model_second.parquet"}
    # Fewer targets are another part.
    fewer, made = table(store, {SEP: 4}, two, "four")
    assert made == [f"{NAME}_00000_4_{SEP}"]
    assert (fewer["method"] == SEP).sum() == 4

    expected = measure_sky(model, store.world(WORLDS[NAME]).read(0).stamps)
    for method in (SKY_POSTERIOR, SKY_LIKELIHOOD):
        rows = after[after["method"] == method].sort_values("target")
        np.testing.assert_array_equal(rows["target"], np.arange(10))
        np.testing.assert_allclose(rows["g1"], expected[method]["g1"], rtol=1e-5, atol=1e-6)


def test_the_model_for_every_sky_is_the_trained_or_the_shipped_one_or_none(
    empty: ProjectStore,
    model: SkyModel,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Weights.of(empty)
    assert found.folder is None
    assert found.shipped  # LSST's at least
    folder = stored(model, tmp_path / "sky", "first")
    monkeypatch.setattr(estimates, "trained_sky_model", lambda store: folder)
    trained = Weights.of(empty)
    assert (trained.sky, trained.folder) == ("first", folder)
    assert trained.methods == found.methods | {"sky_model": "first"}
