"""Recovery of runs whose process was killed, so that they do not block the next training.

A run killed by SIGKILL, the out-of-memory killer or a power cut stays STARTED and keeps its slots in Dagster's pools;
with `granularity: op` and a limit of 1 the next training then waits for ever, unless a daemon with run monitoring runs.
`python -m deblend_assets.automation.recovery` looks up which processes live, in the operating system, instead of
waiting for a time-out. The sensor `dead_runs` does the same while a daemon runs.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import psutil

from deblend_assets.automation.instance import open_instance
from deblend_assets.automation.slurm_jobs import job_is_over
from deblend_assets.automation.temporary_homes import sweep_homes
from deblend_assets.resources.machine import JOB_TAG, MACHINE_TAG, machine_name

# A process is older than the events that it logged; a younger one has been given the same pid since. Clocks are set
# while computers run, hence the tolerance.
_CLOCK_SLACK_SECONDS = 60.0
DEAD_RUNS_SENSOR = "dead_runs"
_UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_LOGS_PID = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.STEP_WORKER_STARTED}

_MESSAGE = (
    "The process of this run ended without reporting it (killed, out of memory, or the machine went down). "
    "Its pool slots were freed: materialize its assets again."
)


def recover_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose processes on this machine have all died or whose Slurm job is over; free their slots.

    A run is left alone while any process that it logged lives (a step's worker survives its parent), when it logged
    none, when it is queued, and when it may belong to another machine: its tag `MACHINE_TAG` says so or, without
    that tag, the history is not SQLite and may therefore be shared. A finished run may have kept slots (terminated by
    force in the UI after its process was killed); they are freed under the same rule.

    Args:
        instance: whose history is searched.

    Returns:
        The ids of these runs, oldest first.
    """
    storage = instance.event_log_storage
    limits_pools = storage.supports_global_concurrency_limits
    holders = storage.get_concurrency_run_ids() if limits_pools else set()
    candidates = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))}
    for run in instance.get_runs(dg.RunsFilter(run_ids=list(holders))) if holders else []:
        if run.is_finished:
            candidates[run.run_id] = run
    recovered = []
    for run_id, run in reversed(candidates.items()):
        if not _slurm_ended(run) and not (_may_be_ours(instance, run) and _is_dead(instance, run_id)):
            continue
        # Read again: a run may have ended well since, before its process ended.
        latest = instance.get_run_by_id(run_id)
        if latest is None or (latest.is_finished and run_id not in holders):
            continue
        if limits_pools:
            storage.free_concurrency_slots_for_run(run_id)
        if not latest.is_finished:
            instance.report_run_failed(latest, _MESSAGE)
        recovered.append(run_id)
    return recovered


def _slurm_ended(run: dg.DagsterRun) -> bool:
    """Whether the run belonged to a Slurm job, on any node, that Slurm reports as over."""
    owner, _, start = run.tags.get(JOB_TAG, "").partition(" ")
    return owner == run.run_id and job_is_over(start)


def _may_be_ours(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run's pids belong to this machine; Dagster itself does not record the machine of a run."""
    if MACHINE_TAG in run.tags:
        return run.tags[MACHINE_TAG] == machine_name()
    return "Sqlite" in type(instance.event_log_storage).__name__


def _is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run logged processes (of executors or step workers) and none of them lives."""
    logged = []
    for entry in instance.all_logs(run_id, of_type=_LOGS_PID):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            logged.append((int(str(pid.value)), entry.timestamp))
    return bool(logged) and not any(_lives(pid, at) for pid, at in logged)


def _lives(pid: int, logged_at: float) -> bool:
    """Whether the process that had this pid at that time (Unix, seconds) still runs."""
    try:
        process = psutil.Process(pid)
        same = float(process.create_time()) <= logged_at + _CLOCK_SLACK_SECONDS
        return same and str(process.status()) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@dg.sensor(
    name=DEAD_RUNS_SENSOR,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process was killed, so that they block neither the queue nor a pool.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """`recover_dead_runs` while the daemon runs: nothing else ends a killed run of the command line."""
    recovered = recover_dead_runs(context.instance)
    return dg.SkipReason(f"recovered {', '.join(recovered)}" if recovered else "no dead runs")


def main() -> None:
    """Recover the dead runs of the instance that `dagster asset materialize` uses; delete what killed commands left."""
    with open_instance() as instance:
        recovered = recover_dead_runs(instance)
    for run_id in recovered:
        print(f"recovered run {run_id}: its process is dead; marked as failed, pool slots freed")
    if not recovered:
        print("no dead runs")
    if homes := sweep_homes(Path.cwd()):
        print(f"deleted {len(homes)} temporary homes of killed commands")


if __name__ == "__main__":
    main()
