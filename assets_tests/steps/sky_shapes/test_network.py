"""Training the network for every sky: killed and resumed it ends with the same weights; it starts from shipped ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from assets_tests.steps.sky_shapes.test_fields import CPU, Here, small  # noqa: F401 - a fixture
from deblend_assets.errors import DeblendError, MissingDataError
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.worlds.training_fields import TrainingField
from deblend_assets.settings import Profile, SkyRecipe, TrainingFieldsSettings
from deblend_assets.steps.sky_shapes import fields as fields_step
from deblend_assets.steps.sky_shapes import network as network_step
from deblend_assets.steps.sky_shapes.fields import make_training_fields
from deblend_assets.steps.sky_shapes.network import fit_sky_network, new_sky_network
from deblend_assets.stores.project import ProjectStore


@pytest.fixture
def store(
    small: Profile,  # noqa: F811
    catalog: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ProjectStore:
    """With three fields to train on and one to validate on."""

    def listed(settings: TrainingFieldsSettings, split: str) -> list[TrainingField]:
        return [TrainingField(f"{split}_sky", number) for number in ((1, 5, 9) if split == "train" else (1,))]

    for step in (fields_step, network_step):
        monkeypatch.setattr(step, "training_fields", listed)
    made = ProjectStore(tmp_path, small)
    made.write_catalog(catalog, {name: ("", "") for name in catalog}, "", {})
    return made


def dying(words: str) -> Callable[[str], None]:
    """A log that ends the training when it is told some words."""

    def log(line: str) -> None:
        if words in line:
            raise DeblendError("killed", where="test", remedy="start again")

    return log


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_without_fields_it_says_what_to_make(store: ProjectStore) -> None:
    with pytest.raises(MissingDataError, match="training"):
        fit_sky_network(store, Here(), CPU, print)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_as_if_left_alone(store: ProjectStore) -> None:
    make_training_fields(store, Here(), print)
    lines: list[str] = []
    alone, figures = fit_sky_network(store, Here(), CPU, lines.append)
    assert len(alone.history) == 2
    assert figures["resumed_from_epoch"] == 0
    assert alone.card["stamps_seen"] == 2 * alone.card["training_scenes"] > 0
    assert alone.card["network"] == {"widths": [8, 16], "dense": 32}
    assert alone.card["quantities"] == list(QUANTITIES)
    assert np.isfinite([value for row in alone.history for value in row.values()]).all()

    folder = store.sky_checkpoint()
    folder.finish(alone)
    assert same(folder.read().weights, alone.weights)
    folder.path.unlink()
    with pytest.raises(DeblendError, match="killed"):
        fit_sky_network(store, Here(), CPU, dying("epoch 2/2, train"))
    again, figures = fit_sky_network(store, Here(), CPU, lines.append)
    assert any("resuming after epoch" in line for line in lines)
    assert figures["resumed_from_epoch"] == 1
    assert same(again.weights, alone.weights)
    assert again.history == alone.history


def test_what_is_observed_otherwise_is_another_training(store: ProjectStore) -> None:
    def fingerprint(**changes: Any) -> str:
        return ProjectStore(store.root, store.profile.model_copy(update=changes)).sky_checkpoint().fingerprint

    detection = store.profile.detection.model_copy(update={"thresh": 3.3})
    recipes = store.profile.recipes.model_copy(update={"sky": SkyRecipe(seed=8)})
    assert len({fingerprint(), fingerprint(detection=detection), fingerprint(recipes=recipes)}) == 3
    assert fingerprint() == store.sky_checkpoint().fingerprint


def test_it_starts_from_the_shipped_weights() -> None:
    moments = PriorMoments(tuple(np.zeros(len(QUANTITIES))), tuple(map(tuple, np.eye(len(QUANTITIES)))))
    network = new_sky_network(SkyRecipe(), moments)
    assert network.widths == (64, 128, 192)
    again = new_sky_network(SkyRecipe(), moments)
    assert same(network.state_dict(), again.state_dict())
    fresh = new_sky_network(SkyRecipe(start="fresh"), moments)
    assert not same(network.state_dict(), fresh.state_dict())
