"""The rendering pool on a running cluster; `test_ray.py` gives this file to a pytest inside the cluster's namespace."""

from __future__ import annotations

import os
import time

import numpy as np
import pandas as pd
import pytest
import ray
from ray.util.state import list_tasks

from deblend_assets.errors import DeviceError, SettingsError
from deblend_assets.progress import Progress
from deblend_assets.resources import ray_workers
from deblend_assets.resources.ray_workers import RayWorkers
from deblend_assets.resources.rendering_workers import open_renderer, whole_scenes
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard, all_shards
from deblend_assets.settings import Profile, SimulationSettings


def quiet(total: int) -> Progress:
    return Progress("rendering", total, "scenes", lambda line: None)


def submitted() -> int:
    return len(
        list_tasks(filters=[("name", "=", "_render_shard"), ("job_id", "=", ray.get_runtime_context().get_job_id())])
    )


def die(simulation: object, shard: object, made: object) -> None:
    os._exit(1)


def test_the_same_pixels_and_no_more_ahead_than_is_allowed(catalog: pd.DataFrame, profile: Profile) -> None:
    settings = profile.simulation
    shards = all_shards(settings)
    with RayWorkers(processes=2).start(catalog, settings) as pool:
        rendering = pool.render(shards, quiet(112), whole_scenes)
        shard, scenes = next(rendering)
        time.sleep(5)  # a store that takes its time, while the rest could be drawn
        assert submitted() == 2, "one shard is stored, and one ahead of two allowed was given out before it was drawn"
        others = dict(rendering)
    assert [shard, *others] == shards
    alone = open_renderer(catalog, settings).render(shards[-1], 0, 16)
    for name in ("isolated", "noisy", "blended"):
        assert np.array_equal(getattr(others[shards[-1]], name), getattr(alone, name))
    pd.testing.assert_frame_equal(others[shards[-1]].truth, alone.truth)
    assert len(scenes.isolated) == 16


def squared(opened: int, task: Shard) -> int:
    assert ray.get_runtime_context().get_task_id(), "in a task, not in a process of this node"
    return opened**2 + task.index


def test_a_pool_of_anything_opens_it_in_every_task() -> None:
    """As the cells of a field are spread."""
    tasks = [Shard("train", number, number, 1) for number in range(4)]
    with RayWorkers(processes=2).pool("7", int) as pool:
        found = list(pool.render(tasks, quiet(4), squared))
    assert found == [(task, 49 + number) for number, task in enumerate(tasks)]


def test_a_task_that_refuses_says_so_in_its_own_line(catalog: pd.DataFrame, profile: Profile) -> None:
    driver = os.getpid()

    def opened(catalog: pd.DataFrame, settings: SimulationSettings) -> ShardRenderer | None:
        """In tasks alone: the driver would refuse first."""
        return None if os.getpid() == driver else open_renderer(catalog, settings)

    settings = profile.simulation.model_copy(update={"survey": "Nowhere"})
    with (
        RayWorkers().start(catalog, settings, opened) as pool,
        pytest.raises(SettingsError, match="Nowhere") as refused,
    ):
        list(pool.render(all_shards(settings), quiet(112), whole_scenes))
    assert "\n" not in str(refused.value)


def test_a_shard_that_kills_every_worker_is_one_clear_line(
    catalog: pd.DataFrame, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "_render_shard", die)
    monkeypatch.setattr(ray_workers, "_RETRIES", 1)
    settings = profile.simulation
    with RayWorkers(processes=1).start(catalog, settings) as pool:
        expected = r"shard was lost.*2 times.*shard train_000.*same command again"
        with pytest.raises(DeviceError, match=expected):
            list(pool.render(all_shards(settings), quiet(112), whole_scenes))
