"""The lineage in process: run once a session at smoke size, copied by the tests that damage it."""

from __future__ import annotations

import copy
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch

from deblend_assets.definitions import build_defs
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.science.scenes import all_shards
from deblend_assets.settings import PROFILE_FOLDER, Profile, parse_profile
from deblend_assets.stores.project import ProjectStore

CATALOG = "simulation/galaxy_catalog"
SIMULATED = ("simulated/truth", "simulated/isolated", "simulated/noisy", "simulated/blended")
STATISTICS = "normalization/normalization_statistics"
STAGES = ("training/stage1_vae", "training/stage2_deblender", "training/stage3_regressor")
EVALUATION = "evaluation/simulated_evaluation"
ALL = (CATALOG, *SIMULATED, STATISTICS, *STAGES, EVALUATION)


def smoke(**changes: Any) -> Profile:
    """The smoke profile; `changes` are dotted keys with `__` for the dots."""
    raw = copy.deepcopy(tomllib.loads((PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8")))
    for key, value in changes.items():
        *path, last = key.split("__")
        section = raw
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return parse_profile({"name": "smoke", **raw}, where="smoke.toml")


class Lineage:
    """A profile on a storage folder of its own.

    Attributes:
        instance: Dagster's history of its runs, in memory.
    """

    def __init__(self, root: Path, profile: Profile) -> None:
        self.root, self.profile = root, profile
        self.instance = dg.DagsterInstance.ephemeral()
        overrides = {"storage": Storage(root=str(root)), "workers": RenderingWorkers(processes=2)}
        self._job = build_defs(profile, overrides).resolve_implicit_global_asset_job_def()

    @property
    def store(self) -> ProjectStore:
        return ProjectStore(self.root, self.profile)

    def run(self, *assets: str, shards: Sequence[str] = ()) -> dg.ExecuteInProcessResult:
        """Materialise assets; of the simulated ones all shards, or the range from the first to the last given."""
        keys = list(shards) or [shard.key for shard in all_shards(self.profile.simulation)]
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        return self._job.execute_in_process(
            asset_selection=[dg.AssetKey(asset.split("/")) for asset in assets],
            tags=tags if set(assets) & set(SIMULATED) else None,
            instance=self.instance,
            raise_on_error=False,
        )

    def failure(self, *assets: str, shards: Sequence[str] = ()) -> str:
        """The line with which the run fails; exactly one step fails, once."""
        result = self.run(*assets, shards=shards)
        assert not result.success
        failed = [event for event in result.all_events if event.is_step_failure]
        assert len(failed) == 1
        assert not [event for event in result.all_events if event.is_step_up_for_retry]
        data = failed[0].step_failure_data
        assert data.user_failure_data is not None, data.error.to_string() if data.error else "no failure data"
        line = data.user_failure_data.description
        assert line and "\n" not in line
        assert " [" in line and "]: " in line, "what [where]: what to do"
        assert len(line) < 500
        return line

    def succeeds(self, *assets: str, shards: Sequence[str] = ()) -> dg.ExecuteInProcessResult:
        result = self.run(*assets, shards=shards)
        assert result.success
        return result

    def copy(self, root: Path, **changes: Any) -> Lineage:
        """The same files elsewhere, under a changed profile."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return Lineage(root, smoke(**changes))


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Small networks are quicker so, and a repetition is bit for bit the same on any machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> tuple[Lineage, dg.ExecuteInProcessResult]:
    lineage = Lineage(tmp_path_factory.mktemp("lineage"), smoke())
    return lineage, lineage.succeeds(*ALL)


@pytest.fixture
def lineage(first_run: tuple[Lineage, Any], tmp_path: Path) -> Callable[..., Lineage]:
    """A copy of the finished lineage to do anything with; takes changes of the profile."""
    return lambda **changes: first_run[0].copy(tmp_path / "copy", **changes)


@pytest.fixture
def empty(tmp_path: Path, one_thread: None) -> Callable[..., Lineage]:
    """A lineage of which nothing is materialised yet; takes changes of the profile."""
    return lambda **changes: Lineage(tmp_path / "empty", smoke(**changes))
