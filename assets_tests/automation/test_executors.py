"""Where steps run: the setting, what a step on a cluster is told, and what the history knows of the one who watches."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deblend_assets.assets.declare import DISTRIBUTING, accelerated, cores
from deblend_assets.automation.executors import WatchedSteps, build_executor
from deblend_assets.definitions import build_defs
from deblend_assets.errors import DeviceError, SettingsError
from deblend_assets.resources.machine import MACHINE_TAG, machine_name
from deblend_assets.settings import Profile, RunSettings, load_profile

RAY = RunSettings(executor="ray", ray_address="http://127.0.0.1:9")  # the port of nobody
CONFIG = "dagster-ray/config"


def test_steps_run_in_process_unless_the_profile_says_otherwise(profile: Profile) -> None:
    assert build_executor(profile.run).name == dg.in_process_executor.name


def test_without_the_optional_packages_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name == "dagster_ray":
            raise ModuleNotFoundError("No module named 'dagster_ray'", name="dagster_ray")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SettingsError, match=r"dagster_ray.*\[run.executor\].*deblend_assets\[ray\]"):
        build_executor(RAY)


def test_a_step_is_told_profile_and_storage_by_absolute_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("dagster_ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEBLEND_PROFILE", "mine.toml")
    monkeypatch.setenv("DEBLEND_STORAGE", "here")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not to be passed on")
    told = build_executor(RAY).apply_config_mapping({"config": {}}).value["config"]["ray"]
    assert told["address"] == RAY.ray_address
    variables = dict(v.partition("=")[::2] for v in told["env_vars"])
    assert variables["DEBLEND_PROFILE"] == str(tmp_path / "mine.toml")
    assert variables["DEBLEND_STORAGE"] == str(tmp_path / "here")
    assert (Path(variables["PATH"].split(os.pathsep)[0]) / "dagster").exists()
    assert not any("AWS" in v for v in told["env_vars"])


@dg.op
def something() -> None:
    """Anything."""


def on_ray() -> dg.JobDefinition:
    return dg.GraphDefinition("on_ray", node_defs=[something]).to_job(executor_def=build_executor(RAY))


def test_a_server_that_does_not_answer_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("dagster_ray")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        expected = r"^Ray's job server does not answer \[http://127.0.0.1:9\]: start a cluster"
        with pytest.raises(DeviceError, match=expected):
            dg.execute_job(dg.reconstructable(on_ray), instance)


def test_tags_say_what_a_step_takes(profile: Profile) -> None:
    on_cpu, on_gpu = RunSettings(step_cores=4), RunSettings(step_cores=4, require_cuda=True)
    hidden = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    assert accelerated(on_gpu) == {CONFIG: {"num_cpus": 4, "num_gpus": 1}}
    assert accelerated(on_gpu, 2)[CONFIG]["num_gpus"] == 2
    assert accelerated(on_cpu) == cores(4) == {CONFIG: {"num_cpus": 4, "runtime_env": hidden}}
    assert DISTRIBUTING[CONFIG]["num_cpus"] < 1


def test_every_asset_says_what_it_takes_of_a_cluster(profile: Profile) -> None:
    job = build_defs(profile).resolve_implicit_global_asset_job_def()
    plain = {node.name for node in job.nodes if CONFIG not in node.definition.tags}
    assert plain == set()
    configs = {node.name: json.loads(node.definition.tags[CONFIG]) for node in job.nodes}
    assert configs["simulated_shards"]["num_cpus"] == 0.5


class Remote(WatchedSteps):
    """Stands for steps elsewhere: looks what the history knows by the time the first one would be sent off."""

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        run = plan_context.instance.get_run_by_id(plan_context.run_id)
        assert run.tags[MACHINE_TAG] == machine_name()
        told = plan_context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        pids = [entry.dagster_event.engine_event_data.metadata.get("pid") for entry in told]
        assert [str(pid.value) for pid in pids if pid is not None] == [str(os.getpid())]
        yield from self._steps.execute(plan_context, execution_plan)


def watched(context: dg.InitExecutorContext) -> dg.Executor:
    return WatchedSteps(Remote(dg.in_process_executor.executor_creation_fn(context)))


def on_another_machine() -> dg.JobDefinition:
    executor = dg.ExecutorDefinition(
        "watched",
        config_schema=dg.in_process_executor.config_schema.as_field(),
        executor_creation_fn=watched,
    )
    return dg.GraphDefinition("elsewhere", node_defs=[something]).to_job(executor_def=executor)


def test_the_history_knows_who_watches_before_the_first_step(tmp_path: Path) -> None:
    """Or recovery on a node of the cluster would take the run for dead when a step has ended there."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        result = dg.execute_job(dg.reconstructable(on_another_machine), instance, raise_on_error=True)
        assert result.success


def test_the_smoke_profile_on_ray_takes_the_clusters_workers() -> None:
    pytest.importorskip("dagster_ray")
    profile = load_profile("smoke")
    on_ray = profile.model_copy(update={"run": RAY})
    assert type(build_defs(profile).resources["workers"]).__name__ == "RenderingWorkers"
    assert type(build_defs(on_ray).resources["workers"]).__name__ == "RayWorkers"
