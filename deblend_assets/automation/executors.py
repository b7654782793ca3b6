"""Where steps run: one after the other in the run's own process, or each as a job on a Ray cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from deblend_assets.automation.dagster_internals import (
    EngineEventData,
    ExecutionPlan,
    PlanOrchestrationContext,
    RetryMode,
)
from deblend_assets.automation.outcome import OUTCOME, RecordedExecutor, recorded
from deblend_assets.errors import DeviceError, SettingsError
from deblend_assets.resources.machine import MACHINE_TAG, machine_name
from deblend_assets.settings import PROFILE_VARIABLE, STORAGE_VARIABLE, RunSettings, storage_root

# Environment variables that a step needs from the run's process. No credentials: Ray shows a job's environment to
# everyone who can see its dashboard.
_PASSED_ON = ("PYTHONPATH", "DEBLEND_POSTGRES_URL")


def build_executor(run: RunSettings) -> dg.ExecutorDefinition:
    """The executor that a profile's `[run] executor` names.

    Raises:
        SettingsError: it is `ray`, and the optional packages are not installed.
    """
    if run.executor == "in_process":
        # Steps are few and long, and each uses every core or a GPU: a process for each would only import torch again.
        return recorded(dg.in_process_executor)
    try:
        from dagster_ray import ray_executor
    except ImportError as error:
        raise SettingsError(
            f"ray needs a package that is not installed ({error.name})",
            where="run.executor",
            remedy="pip install 'deblend_assets[ray]', or choose in_process",
        ) from error

    launch = ray_executor.executor_creation_fn
    assert launch is not None

    def watched(context: dg.InitExecutorContext) -> dg.Executor:
        try:
            return RecordedExecutor(WatchedSteps(launch(context)), OUTCOME)
        except ConnectionError:
            raise DeviceError(
                "Ray's job server does not answer",
                where=run.ray_address,
                remedy="start a cluster (docs/ray.md), or set [run] ray_address or executor",
            ) from None  # four stack traces that add nothing

    definition = dg.ExecutorDefinition(
        "ray",
        config_schema=ray_executor.config_schema.as_field(),
        requirements=dg.multiple_process_executor_requirements(),
        executor_creation_fn=watched,
    )
    # Each step's tags say what it takes of the cluster; values given here would override them.
    return definition.configured(
        {"ray": {"address": run.ray_address, "env_vars": [*_PASSED_ON, *_same_everywhere()]}}, name="ray"
    )


def _same_everywhere() -> list[str]:
    """`KEY=VALUE` of the settings that a step shares with its run, as absolute paths: it starts in another folder."""
    # A step is started as plain `dagster`, and the environment need not be activated here.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    profile = os.environ.get(PROFILE_VARIABLE, "")
    if profile.endswith(".toml"):
        profile = str(Path(profile).resolve())
    given = {"PATH": path, STORAGE_VARIABLE: str(storage_root()), PROFILE_VARIABLE: profile}
    return [f"{name}={value}" for name, value in given.items() if value]


class WatchedSteps(dg.Executor):
    """Runs steps on other machines; first it records the pid and machine of this process in the run's history.

    Otherwise the history would hold the pids of the steps alone, and `recovery` on a cluster's node would take the run
    for dead as soon as a step has ended there.
    """

    def __init__(self, steps: dg.Executor) -> None:
        self._steps = steps

    @property
    def retries(self) -> RetryMode:
        return self._steps.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._steps.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        run, instance, pid = plan_context.dagster_run, plan_context.instance, os.getpid()
        instance.add_run_tags(run.run_id, {MACHINE_TAG: machine_name()})
        instance.report_engine_event(f"Steps run on Ray, watched by pid {pid}", run, EngineEventData.in_process(pid))
        yield from self._steps.execute(plan_context, execution_plan)
