"""Making and observing training fields with the workers' pool, and with one that works here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from deblend_assets.errors import DeblendError, MissingDataError
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.sky_shapes.quantities import prior_of
from deblend_assets.science.worlds.training_fields import TrainingField
from deblend_assets.settings import Profile, TrainingFieldsSettings
from deblend_assets.steps.sky_shapes import fields as fields_step
from deblend_assets.steps.sky_shapes.fields import field_stores, make_training_fields, observing, sky_feed
from deblend_assets.stores.project import ProjectStore

CPU = torch.device("cpu")


class Here:
    """Workers that work in this process.

    Attributes:
        made: keys of what was made.
        dies_at: how many are made before it breaks.
    """

    count = 1

    def __init__(self, dies_at: int = 10**6) -> None:
        self.made, self.dies_at = list[str](), dies_at

    @contextmanager
    def start(self, catalog: pd.DataFrame, settings: Any, opened: Callable[..., Any]) -> Iterator[Here]:
        self.opened = opened(catalog, settings)
        yield self

    def render(self, tasks: Sequence[Any], progress: Progress, made: Callable[..., Any]) -> Iterator[tuple[Any, Any]]:
        for task in tasks:
            if len(self.made) == self.dies_at:
                raise DeblendError("killed", where="test", remedy="start again")
            self.made.append(task.key)
            progress.add(task.scenes)
            yield task, made(self.opened, task)


@pytest.fixture
def sky_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainingFieldsSettings, str], list[TrainingField]]:
    """Fields of one survey alone, which take a second each, those of pairs and of the report several."""

    def listed(settings: TrainingFieldsSettings, split: str) -> list[TrainingField]:
        return [TrainingField(f"{split}_sky", number) for number in ((1, 5, 9) if split == "train" else (1,))]

    monkeypatch.setattr(fields_step, "training_fields", listed)
    return listed


@pytest.fixture(scope="module")
def small(profile: Profile) -> Profile:
    return profile.model_copy(update={"field": profile.field.model_copy(update={"pixels": 80})})


@pytest.fixture
def store(small: Profile, catalog: pd.DataFrame, tmp_path: Path) -> ProjectStore:
    store = ProjectStore(tmp_path, small)
    store.write_catalog(catalog, {name: ("", "") for name in catalog}, "", {})
    return store


def test_fields_are_made_once_resumed_where_they_stopped_and_observed_anew(
    store: ProjectStore, sky_only: Callable[[TrainingFieldsSettings, str], list[TrainingField]]
) -> None:
    lines: list[str] = []
    first = Here(dies_at=2)
    with pytest.raises(DeblendError, match="killed"):
        make_training_fields(store, first, lines.append)
    second = Here()
    outcome = make_training_fields(store, second, lines.append)
    wanted = [f.key for split in ("train", "validation") for f in sky_only(store.profile.training_fields, split)]
    assert first.made + second.made == wanted
    assert "training fields: kept 2 finished fields of 4" in lines
    assert outcome.numbers["fields"] == 4
    assert outcome.numbers["fields_made_now"] == 2
    assert all(check.passed for check in outcome.checks)
    third = Here()
    assert make_training_fields(store, third, lines.append).numbers["fields_made_now"] == 0
    assert third.made == []

    fields = sky_only(store.profile.training_fields, "train")
    with observing(store, fields, Here()) as observe:
        seed = np.random.SeedSequence(1)
        one, again = (list(observe([2, 0], seed)) for _ in range(2))
        alone = next(observe([0], seed))
        prior = prior_of(np.concatenate([batch[-2].numpy() for batch in one]))
    for x, y in zip((*one[0], *one[1]), (*again[0], *alone), strict=True):
        assert torch.equal(x.nan_to_num(9), y.nan_to_num(9))
    with observing(store, fields, Here(), prior) as observe:
        feed = sky_feed(store, fields, observe, 2, 16, CPU)
        assert feed.samples == sum(field_stores(store)[f.world].targets(f.number) for f in fields)
        portions = list(feed.epoch(np.random.SeedSequence(2)))
    assert len(portions) <= feed.steps(feed.samples)
    assert sum(portion.samples for portion in portions) == pytest.approx(feed.samples, rel=0.3)
    values = torch.cat([portion.tensors[-2] for portion in portions])
    assert values.dtype == torch.float32
    assert values[values.isfinite().all(dim=1)].abs().mean() == pytest.approx(0.8, abs=0.3)


def test_a_field_that_is_not_made_has_no_feed(store: ProjectStore) -> None:
    with pytest.raises(MissingDataError, match="training_fields"):
        sky_feed(store, [TrainingField("train_sky", 0)], lambda numbers, seed: iter(()), 2, 16, CPU)


@pytest.mark.slow
def test_the_pool_makes_and_observes_the_same_fields_as_one_process(
    store: ProjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [TrainingField("train_sky", 1), TrainingField("train_pairs", 1), TrainingField("train_report", 0)]
    monkeypatch.setattr(fields_step, "training_fields", lambda settings, split: fields if split == "train" else [])
    workers = RenderingWorkers(processes=2)
    make_training_fields(store, workers, print)
    here, catalog = ProjectStore(tmp_path / "here", store.profile), store.read_catalog()
    here.write_catalog(catalog, {name: ("", "") for name in catalog}, "", {})
    make_training_fields(here, Here(), print)
    of_pool, of_one = field_stores(store), field_stores(here)
    for field in fields:
        assert of_pool[field.world].sha256(field.number) == of_one[field.world].sha256(field.number)
        assert of_pool[field.world].targets(field.number) == of_one[field.world].targets(field.number)
    seed = np.random.SeedSequence(1)
    with observing(store, fields, workers) as observe, observing(here, fields, Here()) as observe_here:
        for one, other in zip(observe(range(3), seed), observe_here(range(3), seed), strict=True):
            for x, y in zip(one, other, strict=True):
                assert torch.equal(x.nan_to_num(9), y.nan_to_num(9))
