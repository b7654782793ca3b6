"""A lineage at smoke size that runs in this process, the names of its assets, and what a run of it gave."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import shutil
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import dagster as dg
import pandas as pd

from assets_tests.assets.reads import Reads, declared_deps, recorded_reads
from assets_tests.blank_figures.sitecustomize import FUNCTION, blank
from deblend_assets.definitions import build_defs
from deblend_assets.partitions import FIELDS, TILES
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import Open, RenderingWorkers, open_renderer
from deblend_assets.resources.storage import Storage
from deblend_assets.resources.worker_pool import Make, ShardT, WorkerPool
from deblend_assets.science.reports.figures import style
from deblend_assets.science.shapes.heads import HEADS
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.settings import PROFILE_FOLDER, Profile, StorePath, parse_profile
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.fields import FieldsStore
from deblend_assets.stores.project import ProjectStore

Rendered = TypeVar("Rendered")

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

SKY_SHAPES = ("sky_shapes/training_fields", "sky_shapes/sky_network", "sky_shapes/sky_model")
SKY = "des/simulated_sky"
IM3SHAPE, CUTOUTS, SHAPES, TILE_EVALUATION = CHAIN = (
    "des/im3shape_catalog",
    "des/des_cutouts",
    "des/shape_catalog",
    "des/des_evaluation",
)
SIMULATED_FIELD = "fields/simulated_field"
FIELD_IMAGES, FIELD_DETECTIONS, FIELD_CATALOG, FIELD_QUALITY = FIELD_CHAIN = (
    "fields/field_images",
    "fields/field_detections",
    "fields/field_catalog",
    "fields/field_quality",
)
BASELINE = tuple(name.replace("training/", "baseline/") for name in STAGES)

# Tiles of some fifteen galaxies to measure, without most of the fainter ones.
TILES_OF_FEW: dict[str, Any] = {"des__sky__pixels": 400, "field__beyond_limit": 0.5}
# The same in the text of the smoke profile: old and new.
TEXT_OF_FEW = {"pixels = 480\n": "pixels = 400\n", "[field]\n": "[field]\nbeyond_limit = 0.5\n"}
# A field of some ten sources.
SMALL_FIELD: dict[str, Any] = {"fields__simulated": {"pixels": 96}}


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


def smoke_text(**changes: Any) -> str:
    """The same as a file's text, a dotted key a line."""

    def lines(section: dict[str, Any], path: str) -> Iterator[str]:
        for key, value in section.items():
            if isinstance(value, dict):
                yield from lines(value, f"{path}{key}.")
            else:
                yield f"{path}{key} = {json.dumps(value)}"

    return "\n".join(lines(raw_smoke(**changes), ""))


@dataclass(frozen=True)
class Made:
    """What a run gave besides files; unlike Dagster's own result it can be kept in a file.

    Attributes:
        metadata: by asset, the values of its materialisation's metadata.
        checks: every evaluation of a check.
        reads: what each asset has read from the stores, in all runs of the lineage.
    """

    metadata: dict[str, dict[str, Any]]
    checks: list[dg.AssetCheckEvaluation]
    reads: Reads

    @classmethod
    def by(cls, lineage: Lineage, *assets: str, tile: str = "", field: str = "") -> Made:
        """Materialise assets, which must succeed."""
        result = lineage.succeeds(*assets, tile=tile, field=field)
        return cls(metadata(result), list(result.get_asset_check_evaluations()), lineage.reads)

    def reported(self, must_pass: Collection[str]) -> dict[str, set[str]]:
        """Names of the checks of each asset; each carries the numbers it stands on, and some must pass."""
        found: dict[str, set[str]] = {}
        for check in self.checks:
            found.setdefault(check.asset_key.to_user_string(), set()).add(check.check_name)
            assert check.metadata, check.check_name
            if check.check_name in must_pass:
                assert check.passed, f"{check.check_name}: {check.description} {check.metadata}"
        return found


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


class RenderingHere(RenderingWorkers):
    """Renders in this process: starting others takes longer than the scenes of a test."""

    @contextlib.contextmanager
    def start(self, catalog: pd.DataFrame, settings: Any, opened: Open = open_renderer) -> Iterator[WorkerPool]:
        yield _Here(opened(catalog, settings))

    @contextlib.contextmanager
    def pool(self, given: Any, opened: Callable[[Any], Any], modules: Sequence[str] = ()) -> Iterator[WorkerPool]:
        yield _Here(opened(given))


class _Here(WorkerPool):
    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def render(
        self, shards: Sequence[ShardT], progress: Progress, made: Make[Rendered]
    ) -> Iterator[tuple[ShardT, Rendered]]:
        for shard in shards:
            result = made(self._opened, shard)
            progress.add(shard.scenes)
            yield shard, result


class Lineage:
    """A profile on a storage folder of its own.

    Args:
        root: the storage folder.
        profile: its settings.
        whole: run as for a user; else scenes are rendered in this process, and figures are blank.
        reads: of the runs that made the folder, if any.

    Attributes:
        instance: Dagster's history of its runs, in memory.
        reads: what each asset has read from the stores, in the process that ran it.
        deps: the upstream assets that each asset declares.
    """

    def __init__(self, root: StorePath, profile: Profile, *, whole: bool = False, reads: Reads | None = None) -> None:
        self.root, self.profile, self.whole = root, profile, whole
        self.instance = dg.DagsterInstance.ephemeral()
        workers = RenderingWorkers(processes=2) if whole else RenderingHere()
        overrides = {"storage": Storage(root=str(root)), "workers": workers}
        definitions = build_defs(profile, overrides)
        self._job = definitions.resolve_implicit_global_asset_job_def()
        self.reads: Reads = {} if reads is None else reads
        self.deps = declared_deps(definitions)

    @property
    def store(self) -> ProjectStore:
        return ProjectStore(self.root, self.profile)

    @property
    def des(self) -> DesStore:
        return DesStore(self.store)

    @property
    def fields(self) -> FieldsStore:
        return FieldsStore(self.store)

    def run(
        self, *assets: str, shards: Sequence[str] = (), tile: str = "", field: str = ""
    ) -> dg.ExecuteInProcessResult:
        """Materialise assets; of the simulated ones all shards, or the range from the first to the last given.

        The name of a tile or field is registered first, whatever it is: the UI takes any.
        """
        keys = list(shards) or [shard.key for shard in all_shards(self.profile.simulation)]
        tags: dict[str, str] = {}
        if set(assets) & set(SIMULATED):
            tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        for partitions, name in ((TILES, tile), (FIELDS, field)):
            if name:
                self.instance.add_dynamic_partitions(str(partitions.name), [name])
        figures = contextlib.nullcontext() if self.whole else mock.patch.object(style, FUNCTION, blank)
        with figures, recorded_reads(self.reads):
            return self._job.execute_in_process(
                asset_selection=[dg.AssetKey(asset.split("/")) for asset in assets],
                tags=tags,
                partition_key=tile or field or None,
                instance=self.instance,
                raise_on_error=False,
            )

    def failure(self, *assets: str, shards: Sequence[str] = (), tile: str = "", field: str = "") -> str:
        """The line with which the run fails; exactly one step fails, once."""
        result = self.run(*assets, shards=shards, tile=tile, field=field)
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

    def succeeds(
        self, *assets: str, shards: Sequence[str] = (), tile: str = "", field: str = ""
    ) -> dg.ExecuteInProcessResult:
        result = self.run(*assets, shards=shards, tile=tile, field=field)
        assert result.success
        return result

    def copy(self, root: Path, *, whole: bool = False, **changes: Any) -> Lineage:
        """The same files elsewhere, under a changed profile; `whole` as the class takes it."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return Lineage(root, smoke(**changes), whole=whole)
