"""A Slurm of one node, started for a test in a folder of its own: munged, slurmctld and slurmd on loopback.

Nothing is shared with a Slurm that the machine may have: configuration, key, sockets, ports, spool and logs lie in the
folder. The daemons stay in the foreground, so that they end with the block that started them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

PATIENCE_SECONDS = 60.0
_DAEMONS = ("munged", "slurmctld", "slurmd")
_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
# Slurm forgets a job this long after its end; until then `scontrol show job` tells how it ended.
_REMEMBERED_SECONDS = 3600
# Set by pytest-xdist, the same in all its workers.
_TEST_RUN = "PYTEST_XDIST_TESTRUNUID"

# The addresses of the two GPUs are files that every machine has; they are counted, allotted and masked like real ones.
_GPUS = ("/dev/null", "/dev/zero")

# `linuxproc` and `task/none` need no control groups, which a container may not have. KillWait is the time between
# SIGTERM and SIGKILL, 30 s by default.
_SLURM_CONF = """
ClusterName=deblend-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=0
ReturnToService=2
KillWait=10
DefMemPerCPU={memory_per_cpu}
MinJobAge={remembered}
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=60 DefaultTime=30 State=UP
"""


def why_not() -> str | None:
    """Why no Slurm can be started here; None where it can."""
    missing = [name for name in (*_DAEMONS, *_COMMANDS) if _find(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    if any(process.info["name"] in ("slurmctld", "slurmd") for process in _others(psutil.process_iter(["name"]))):
        return "a Slurm runs on this machine already"
    return None


def _others(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    """Those that no worker of this very test run has started."""
    run = os.environ.get(_TEST_RUN)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if run is None or process.environ().get(_TEST_RUN) != run:
                yield process


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class SlurmNode:
    """A running Slurm and its commands.

    Attributes:
        folder: its configuration, state and logs.
        environment: in which Slurm's commands talk to this Slurm and to no other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        self.environment = {**variables, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Bring the daemons up; returns when the node takes jobs."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        ctld_port, slurmd_port = _free_ports(2)
        host = socket.gethostname().partition(".")[0]
        memory = psutil.virtual_memory().total >> 20
        values = {"host": host, "folder": self.folder, "ctld_port": ctld_port, "slurmd_port": slurmd_port}
        cpus = os.cpu_count() or 1
        values |= {"cpus": cpus, "memory": memory, "memory_per_cpu": memory // cpus}
        values |= {"gpus": len(_GPUS), "remembered": _REMEMBERED_SECONDS}
        (self.folder / "slurm.conf").write_text(_SLURM_CONF.format(**values))
        (self.folder / "gres.conf").write_text("".join(f"Name=gpu File={path}\n" for path in _GPUS))
        munge = [f"--{what}-file={self.folder}/munge.{what}" for what in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *munge)
        wait_until(lambda: (self.folder / "munge.socket").exists(), "munged did not start")
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        wait_until(lambda: self._state() == "idle", f"the node is not ready; see {self.folder}")

    def _start(self, name: str, *arguments: str) -> None:
        command = _find(name)
        assert command is not None
        with (self.folder / f"{name}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    [command, *arguments],
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )

    def _state(self) -> str:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=self.environment, capture_output=True, text=True, timeout=60
        )
        return answer.stdout.strip()

    def command(self, *words: str, **variables: str) -> str:
        """The output of one of Slurm's commands or of a script that calls them; it must succeed."""
        answer = subprocess.run(
            words, env={**self.environment, **variables}, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert answer.returncode == 0, f"{words}: {answer.stdout}{answer.stderr}"
        return answer.stdout.strip()

    def show(self, job: str) -> list[dict[str, str]]:
        """What Slurm knows of a job: one entry, or one a task of an array."""
        lines = self.command("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line]

    def states(self, job: str) -> set[str]:
        return {entry["JobState"] for entry in self.show(job)}

    def wait(self, job: str, seconds: float) -> set[str]:
        """The states in which a job, or the tasks of an array, ended."""
        going = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"}
        wait_until(lambda: not self.states(job) & going, f"job {job} did not end", seconds)
        return self.states(job)

    def kill(self, job: str) -> None:
        """Kill what a job's steps run, as the kernel does where memory runs out: Slurm itself always warns first."""
        for process, environment in self._processes():
            if environment.get("SLURM_JOB_ID") == job and "SLURM_STEP_ID" in environment:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def stop(self) -> None:
        """End all jobs and daemons, whatever state they are in."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.command("scancel", "--signal=KILL", "--full", "--state=RUNNING", "--user=root")
            self.command("scancel", "--user=root")
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)
        # What slurmd has started outlives it, and may have been starting a moment ago.
        wait_until(self._none_left, f"processes of {self.folder} cannot be killed")

    def _processes(self) -> list[tuple[psutil.Process, dict[str, str]]]:
        """Processes of this Slurm with their environment, which names its configuration."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                # Not psutil's `environ`, which ends where slurmstepd has written its title over the first variables.
                raw = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")
                environment = dict(entry.split("=", 1) for entry in raw.split("\0") if "=" in entry)
                if environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    found.append((process, environment))
        return found

    def _none_left(self) -> bool:
        """Whether no process of this Slurm was there; those that were are killed."""
        found = self._processes()
        for process, _ in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return not found


def _free_ports(count: int) -> Sequence[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(opened.getsockname()[1]) for opened in sockets]


def wait_until(condition: Callable[[], bool], otherwise: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)


@contextlib.contextmanager
def slurm_node(folder: Path) -> Iterator[SlurmNode]:
    """A Slurm for the length of the block; the test is skipped, with the reason, where none can be started."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    node = SlurmNode(folder)
    try:
        node.start()
        yield node
    finally:
        node.stop()
