"""Scenes on the fly: new ones in each epoch, the same for the same seed, of the training galaxies alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from deblend_assets.science.feeding import Share
from deblend_assets.science.fresh_scenes import FreshScenes
from deblend_assets.science.normalization import Normalization
from deblend_assets.science.rendering import ShardRenderer
from deblend_assets.science.surveys import load_survey
from deblend_assets.settings import Profile

SAMPLES, BATCH = 40, 8
SEED = np.random.SeedSequence(3, spawn_key=(1,))


@pytest.fixture(scope="module")
def renderer(catalog: pd.DataFrame, profile: Profile) -> ShardRenderer:
    return ShardRenderer(catalog, profile.simulation, load_survey("LSST"))


@pytest.fixture(scope="module")
def normalization(renderer: ShardRenderer) -> Normalization:
    return Normalization(renderer.survey.bands, (60.0, 500.0, 900.0, 900.0, 700.0, 400.0), 2.5)


def feed(renderer: ShardRenderer, normalization: Normalization, inputs: str = "blended") -> FreshScenes:
    return FreshScenes(renderer, normalization, inputs, SAMPLES, BATCH, torch.device("cpu"))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_scenes_and_another_seed_others(
    renderer: ShardRenderer, normalization: Normalization
) -> None:
    fresh = feed(renderer, normalization)
    first, again = (list(fresh.epoch(SEED)) for _ in range(2))
    assert [p.samples for p in first] == [BATCH] * 5
    assert fresh.steps(SAMPLES) == len(first)
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.tensors, other.tensors, strict=True))
    other = next(iter(fresh.epoch(np.random.SeedSequence(3, spawn_key=(2,)))))
    assert not torch.equal(first[0].tensors[1], other.tensors[1])
    whole = torch.cat([p.tensors[1] for p in first])
    assert len(torch.unique(whole.flatten(1), dim=0)) == SAMPLES, "no scene twice"


def test_batches_already_seen_are_skipped_and_processes_share_the_rest(
    renderer: ShardRenderer, normalization: Normalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deblend_assets.science.fresh_scenes._SCENES", 2 * BATCH)
    fresh = feed(renderer, normalization)
    whole = list(fresh.epoch(SEED))
    for skip in (0, 1, 3, 5):
        late = list(fresh.epoch(SEED, skip=skip))
        assert len(late) == 5 - skip
        for one, other in zip(whole[skip:], late, strict=True):
            assert torch.equal(one.tensors[0], other.tensors[0])
    halves = [list(fresh.epoch(SEED, Share(rank, 2))) for rank in range(2)]
    for one, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(one.tensors[0], torch.cat([p.tensors[0] for p in parts]))


def test_noise_and_light_are_those_of_stored_scenes(renderer: ShardRenderer) -> None:
    # So wide that no bright core is squeezed beyond what float32 can undo.
    normalization = Normalization(renderer.survey.bands, (1e6,) * 6, 2.5)
    inputs, isolated = (normalization.inverse(t) for t in feed(renderer, normalization, "noisy").draw(60, SEED))
    sky = torch.as_tensor(renderer.sky)
    noise = (inputs - isolated) / (isolated.clamp(min=0) + sky).sqrt()
    pixels = noise[:, 0].numel()
    assert noise.mean(dim=(0, 2, 3)).numpy() == pytest.approx(np.zeros(6), abs=5 / pixels**0.5)
    assert noise.var(dim=(0, 2, 3)).numpy() == pytest.approx(np.ones(6), abs=5 * (2 / pixels) ** 0.5)
    blended, target = (normalization.inverse(t) for t in feed(renderer, normalization).draw(60, SEED))
    assert torch.equal(target, isolated), "the same layout for the same seed"
    assert (blended - target).sum(dim=(1, 2, 3)).median() > 0, "neighbours bring light"


def test_only_galaxies_of_the_training_split_are_drawn(
    renderer: ShardRenderer, normalization: Normalization, catalog: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    drawn = FreshScenes.draw
    fresh = feed(renderer, normalization)
    tensor = fresh._drawer.draw_tensor
    monkeypatch.setattr(fresh._drawer, "draw_tensor", lambda row, *rest: (seen.append(row), tensor(row, *rest))[1])
    drawn(fresh, 200, SEED)
    assert set(catalog["split"].to_numpy()[np.concatenate(seen)]) == {"train"}
