"""The pool: the same pixels as one process, and one clear line where a worker dies."""

from __future__ import annotations

import os
import signal

import numpy as np
import pandas as pd
import psutil
import pytest

from deblend_assets.errors import DeviceError
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers, whole_scenes
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard, all_shards
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.settings import Profile


def quiet(total: int) -> Progress:
    return Progress("rendering", total, "scenes", lambda line: None)


def test_a_pool_draws_what_one_process_draws(catalog: pd.DataFrame, profile: Profile) -> None:
    settings = profile.simulation
    shards = all_shards(settings)[3:5]
    with RenderingWorkers(processes=2).start(catalog, settings) as pool:
        drawn = list(pool.render(shards, quiet(32), whole_scenes))
    alone = ShardRenderer(catalog, settings, load_survey("LSST"))
    assert [shard for shard, _ in drawn] == shards
    for shard, scenes in drawn:
        expected = alone.render(shard, 0, shard.scenes)
        for name in ("isolated", "noisy", "blended"):
            assert np.array_equal(getattr(scenes, name), getattr(expected, name))
        pd.testing.assert_frame_equal(scenes.truth, expected.truth)


def variable(renderer: ShardRenderer, shard: Shard) -> str | None:
    """What a worker finds in its environment."""
    return os.environ.get("DEBLEND_TEST_VARIABLE")


def test_workers_of_every_pool_have_the_environment_of_their_parent(
    catalog: pd.DataFrame, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that forks them keeps that of the first pool."""
    shards = all_shards(profile.simulation)[:1]
    found = []
    for value in ("first", "second"):
        monkeypatch.setenv("DEBLEND_TEST_VARIABLE", value)
        with RenderingWorkers(processes=1).start(catalog, profile.simulation) as pool:
            found += [made for _, made in pool.render(shards, quiet(16), variable)]
    assert found == ["first", "second"]


def test_a_worker_that_is_killed_is_one_clear_line(catalog: pd.DataFrame, profile: Profile) -> None:
    settings = profile.simulation
    # Other tests' processes, ended and not yet waited for, are children of this one too.
    others = psutil.Process().children(recursive=True)
    with RenderingWorkers(processes=1).start(catalog, settings) as pool:
        rendering = pool.render(all_shards(settings), quiet(112), whole_scenes)
        next(rendering)
        # Below the server that forks them, or below this process where they are spawned.
        started = set(psutil.Process().children(recursive=True)) - set(others)
        workers = [child for child in started if not child.children() and "tracker" not in " ".join(child.cmdline())]
        assert workers
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(DeviceError, match=r"rendering process died.*shard .*same command again"):
            list(rendering)
