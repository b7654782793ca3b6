"""Recovers runs whose process was killed, so that they do not block the next training.

A run killed by SIGKILL, the out-of-memory killer or a power cut stays STARTED and keeps its slots in
Dagster's pools; with `granularity: op` and a limit of 1, the next training then waits for ever, also with a
daemon unless run monitoring is set up.
`python -m deblend_assets.automation.recovery` asks the operating system instead of waiting for a time-out, and so
does the sensor `dead_runs` while a daemon runs.
"""

from __future__ import annotations

import dagster as dg
import psutil

from deblend_assets.automation.instance import open_instance
from deblend_assets.automation.slurm_jobs import job_is_over
from deblend_assets.resources.storage import JOB_TAG, MACHINE_TAG, machine_name

# A process that logged an event is older than the event. Clocks are set while computers run, so a process
# must be younger by more than this to count as another one that was given the same pid.
_CLOCK_SLACK_SECONDS = 60.0
DEAD_RUNS_SENSOR = "dead_runs"
_UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_LOGS_PID = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.STEP_WORKER_STARTED}

_MESSAGE = (
    "The process of this run died without a word (killed, out of memory, or the machine went down). "
    "Its pool slots were freed: materialize its assets again."
)


def recover_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fails the runs whose processes have all died on this machine, or whose Slurm job is over; frees their pool slots.

    A run is left alone while any process it logged is alive (a step's worker survives its parent), when it
    logged none, when it is queued, and when it may belong to another machine: its tag `MACHINE_TAG` says
    so or, without that tag, the history is not SQLite and so may be shared. The slots that a finished run
    kept (one terminated by force in the UI after its process was killed) are freed under the same rule.

    Args:
        instance: whose history is searched.

    Returns:
        The ids of the runs that were failed or freed, oldest first.
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
        # read again: a run that has just ended well said so before its process died
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
    """Whether the run belonged to a Slurm job, on whichever node, and Slurm says that it is over."""
    owner, _, start = run.tags.get(JOB_TAG, "").partition(" ")
    return owner == run.run_id and job_is_over(start)


def _may_be_ours(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run's pids mean something here; Dagster itself does not record the machine of a run."""
    if MACHINE_TAG in run.tags:
        return run.tags[MACHINE_TAG] == machine_name()
    return "Sqlite" in type(instance.event_log_storage).__name__


def _is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run logged processes, executors' or step workers', and none of them lives."""
    logged = []
    for entry in instance.all_logs(run_id, of_type=_LOGS_PID):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            logged.append((int(str(pid.value)), entry.timestamp))
    return bool(logged) and not any(_lives(pid, at) for pid, at in logged)


def _lives(pid: int, logged_at: float) -> bool:
    """Whether the process that bore this pid at that time (Unix, seconds) still runs."""
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
    description="Fails runs whose process was killed, so that they keep neither the queue nor a pool from the others.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """`recover_dead_runs` while the daemon lives: a killed run of the command line has no other end."""
    recovered = recover_dead_runs(context.instance)
    return dg.SkipReason(f"recovered {', '.join(recovered)}" if recovered else "no dead runs")


def main() -> None:
    """Recovers the runs of DAGSTER_HOME or, as `dagster asset materialize` does, of ./dagster.yaml."""
    with open_instance() as instance:
        recovered = recover_dead_runs(instance)
    for run_id in recovered:
        print(f"recovered run {run_id}: its process is dead; marked as failed, pool slots freed")
    if not recovered:
        print("no dead runs")


if __name__ == "__main__":
    main()
