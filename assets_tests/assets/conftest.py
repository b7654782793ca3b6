"""The lineage in process: run once a session at smoke size, copied by the tests that damage it."""

from __future__ import annotations

import base64
import copy
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch

from assets_tests.assets.reads import Reads, declared_deps, recorded_reads
from deblend_assets.definitions import build_defs
from deblend_assets.partitions import TILES
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.science.shapes.heads import HEADS
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.settings import PROFILE_FOLDER, Profile, parse_profile
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.project import ProjectStore

CATALOG = "simulation/galaxy_catalog"
SIMULATED = ("simulated/truth", "simulated/isolated", "simulated/noisy", "simulated/blended")
STATISTICS = "normalization/normalization_statistics"
STAGES = ("training/stage1_vae", "training/stage2_deblender", "training/stage3_regressor")
EVALUATION = "evaluation/simulated_evaluation"
POSTERIOR = (
    "shapes/shape_network",
    *(f"shapes/{head.name}" for head in HEADS),
    "shapes/shape_posterior",
    "shapes/fisher_floor",
    "shapes/shape_evaluation",
)
ALL = (CATALOG, *SIMULATED, STATISTICS, *STAGES, EVALUATION, *POSTERIOR)

DES_SIMULATED = ("des_model/truth", "des_model/isolated", "des_model/noisy", "des_model/blended")
DES_STATISTICS = "des_model/normalization_statistics"
DES_STAGES = ("des_model/stage1_vae", "des_model/stage2_deblender", "des_model/stage3_regressor")
DES_EVALUATION = "des_model/simulated_evaluation"
DES_POSTERIOR = tuple(name.replace("shapes/", "des_model/") for name in POSTERIOR)
DES_MODEL = (CATALOG, *DES_SIMULATED, DES_STATISTICS, *DES_STAGES, DES_EVALUATION, *DES_POSTERIOR)
SKY = "des/simulated_sky"
IM3SHAPE, CUTOUTS, SHAPES, TILE_EVALUATION = CHAIN = (
    "des/im3shape_catalog",
    "des/des_cutouts",
    "des/shape_catalog",
    "des/des_evaluation",
)

BASELINE = tuple(name.replace("training/", "baseline/") for name in STAGES)

# Tiles of some fifteen galaxies, and a model that has learnt nothing: what learning gives is not tested here.
TILES_OF_FEW: dict[str, Any] = {
    "des__sky__cells": 4,
    "des__simulation__scenes__train": 32,
    "des__simulation__scenes__test": 16,
}


def raw_smoke(**changes: Any) -> dict[str, Any]:
    """The smoke profile as TOML has it; `changes` are dotted keys with `__` for the dots."""
    raw = copy.deepcopy(tomllib.loads((PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8")))
    for key, value in changes.items():
        *path, last = key.split("__")
        section = raw
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return raw


def smoke(**changes: Any) -> Profile:
    return parse_profile({"name": "smoke", **raw_smoke(**changes)}, where="smoke.toml")


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """By asset: the values of every materialisation's metadata."""
    return {
        event.asset_key.to_user_string(): {k: v.value for k, v in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def pictures(entries: dict[str, Any]) -> dict[str, bytes]:
    """Of an asset's metadata: what is shown as a picture."""
    start = "![plot](data:image/png;base64,"
    return {
        name: base64.b64decode(value.removeprefix(start).rstrip(")"))
        for name, value in entries.items()
        if isinstance(value, str) and value.startswith(start)
    }


class Lineage:
    """A profile on a storage folder of its own.

    Attributes:
        instance: Dagster's history of its runs, in memory.
        reads: what each asset has read from the stores, in this process.
        deps: the upstream assets that each asset declares.
    """

    def __init__(self, root: Path, profile: Profile) -> None:
        self.root, self.profile = root, profile
        self.instance = dg.DagsterInstance.ephemeral()
        overrides = {"storage": Storage(root=str(root)), "workers": RenderingWorkers(processes=2)}
        definitions = build_defs(profile, overrides)
        self._job = definitions.resolve_implicit_global_asset_job_def()
        self.reads: Reads = {}
        self.deps = declared_deps(definitions)

    @property
    def store(self) -> ProjectStore:
        return ProjectStore(self.root, self.profile)

    @property
    def des(self) -> DesStore:
        return DesStore(ProjectStore(self.root, self.profile.des_leg))

    def run(self, *assets: str, shards: Sequence[str] = (), tile: str = "") -> dg.ExecuteInProcessResult:
        """Materialise assets; of the simulated ones all shards, or the range from the first to the last given.

        A tile's name is registered first, whatever it is: the UI takes any.
        """
        profile = self.profile.des_leg if set(assets) & set(DES_SIMULATED) else self.profile
        keys = list(shards) or [shard.key for shard in all_shards(profile.simulation)]
        tags: dict[str, str] = {}
        if set(assets) & {*SIMULATED, *DES_SIMULATED}:
            tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        if tile:
            self.instance.add_dynamic_partitions(str(TILES.name), [tile])
        with recorded_reads(self.reads):
            return self._job.execute_in_process(
                asset_selection=[dg.AssetKey(asset.split("/")) for asset in assets],
                tags=tags,
                partition_key=tile or None,
                instance=self.instance,
                raise_on_error=False,
            )

    def failure(self, *assets: str, shards: Sequence[str] = (), tile: str = "") -> str:
        """The line with which the run fails; exactly one step fails, once."""
        result = self.run(*assets, shards=shards, tile=tile)
        assert not result.success
        failed = [event for event in result.all_events if event.is_step_failure]
        assert len(failed) == 1
        assert not [event for event in result.all_events if event.is_step_up_for_retry]
        data = failed[0].step_failure_data
        assert data.user_failure_data is not None, data.error.to_string() if data.error else "no failure data"
        line = data.user_failure_data.description
        assert line
        assert "\n" not in line
        assert " [" in line, "what [where]: what to do"
        assert "]: " in line, "what [where]: what to do"
        assert len(line) < 500
        return line

    def succeeds(self, *assets: str, shards: Sequence[str] = (), tile: str = "") -> dg.ExecuteInProcessResult:
        result = self.run(*assets, shards=shards, tile=tile)
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


@pytest.fixture(scope="session")
def first_model(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Lineage:
    """The DES model and the simulated survey; no tile was asked for yet."""
    lineage = Lineage(tmp_path_factory.mktemp("des_model"), smoke(**TILES_OF_FEW))
    lineage.succeeds(*DES_MODEL, SKY)
    return lineage


@pytest.fixture(scope="session")
def first_tiles(
    first_model: Lineage, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lineage, dict[str, dg.ExecuteInProcessResult]]:
    """Both tiles of the simulated survey, each made in one run."""
    lineage = first_model.copy(tmp_path_factory.mktemp("tiles"), **TILES_OF_FEW)
    return lineage, {tile: lineage.succeeds(*CHAIN, tile=tile) for tile in lineage.profile.des.sky.tiles}


@pytest.fixture
def modelled(first_model: Lineage, tmp_path: Path) -> Callable[..., Lineage]:
    """A copy of the DES model and the survey; takes changes of the profile."""
    return lambda **changes: first_model.copy(tmp_path / "modelled", **{**TILES_OF_FEW, **changes})


@pytest.fixture
def tiled(first_tiles: tuple[Lineage, Any], tmp_path: Path) -> Callable[..., Lineage]:
    """A copy with both tiles made; takes changes of the profile."""
    return lambda **changes: first_tiles[0].copy(tmp_path / "tiled", **{**TILES_OF_FEW, **changes})


@pytest.fixture
def empty(tmp_path: Path, one_thread: None) -> Callable[..., Lineage]:
    """A lineage of which nothing is materialised yet; takes changes of the profile."""
    return lambda **changes: Lineage(tmp_path / "empty", smoke(**changes))
