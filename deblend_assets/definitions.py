"""The one place where everything meets: `build_defs` gives Dagster its assets, jobs, resources and executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from deblend_assets.assets.keys import FIELD_ASSETS, TILE_ASSETS
from deblend_assets.automation import command_line
from deblend_assets.automation.executors import build_executor
from deblend_assets.automation.field_sensor import build_field_sensors
from deblend_assets.automation.jobs import build_jobs
from deblend_assets.automation.recovery import dead_runs
from deblend_assets.automation.schedules import build_schedules
from deblend_assets.automation.tile_sensor import build_sensors
from deblend_assets.lineage import build_assets
from deblend_assets.resources.archive import Archive
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.ray_workers import RayWorkers
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile, load_profile, storage_root

_WORKERS = {"in_process": RenderingWorkers, "ray": RayWorkers}


def build_defs(profile: Profile | None = None, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Definitions of one profile.

    Args:
        profile: which; none: the one that `DEBLEND_PROFILE` names.
        resource_overrides: resources that replace the default ones, by name.
    """
    profile = profile or load_profile()
    resources: dict[str, Any] = {
        "storage": Storage(root=str(storage_root())),
        "workers": _WORKERS[profile.run.executor](processes=profile.run.workers),
        "archive": Archive(),
        "devices": ComputeDevices(require_cuda=profile.run.require_cuda),
    }
    return dg.Definitions(
        assets=build_assets(profile),
        jobs=build_jobs(TILE_ASSETS.values(), FIELD_ASSETS.values()),
        schedules=build_schedules(profile, TILE_ASSETS, FIELD_ASSETS),
        sensors=[
            dead_runs,
            *build_sensors(profile, TILE_ASSETS.values()),
            *build_field_sensors(profile, FIELD_ASSETS.values()),
        ],
        resources={**resources, **(resource_overrides or {})},
        # The terminal shows progress and results; the event log keeps everything.
        loggers={"console": dg.colored_console_logger.configured({"log_level": "INFO"})},
        executor=build_executor(profile.run),
    )


command_line.install(lambda: globals().get("defs"))
defs = build_defs()
