"""A Ray cluster of two nodes in a network namespace of its own, for as long as this script's standard input is open.

Ray listens on all interfaces whatever it is told: the namespace has no interface but its own loopback, whose two
addresses are the nodes'. Started by `Cluster`, through unshare(1), as the first process of a PID namespace: with it
everything ends that it has started.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 600.0
HEAD, SECOND = "10.77.0.1", "10.77.0.2"
ADDRESS = f"{HEAD}:6379"
JOBS_URL = f"http://{HEAD}:8265"
CORES_A_NODE = 2
GPUS = 2  # declared on the second node; there is none
_NAMESPACE = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


@functools.cache
def why_not() -> str:
    """Why no cluster can be started here; empty where one can."""
    if find_spec("ray") is None or find_spec("dagster_ray") is None:
        return "Ray is not installed (the extra `ray`)"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "ip (iproute2) or nsenter (util-linux) is missing"
    try:
        tried = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True, timeout=30)
    except OSError as error:
        return f"unshare cannot be run: {error}"
    return "" if tried.returncode == 0 else f"no namespace may be made here: {tried.stderr.strip()}"


class Cluster:
    """The running cluster.

    Args:
        namespace: its unshare process.
    """

    def __init__(self, namespace: subprocess.Popen[str]) -> None:
        self._namespace = psutil.Process(namespace.pid)
        (self._first,) = self._namespace.children()

    def command(self, command: Sequence[str], folder: Path) -> list[str]:
        """The same command, run inside, in a folder."""
        inside = ["nsenter", "--target", str(self._first.pid), "--net", "--pid", "--mount", f"--wd={folder}"]
        return [*inside, *command]

    def workers(self, task: str) -> list[psutil.Process]:
        """Processes of the cluster that run a task of that name at this moment."""
        found = []
        for process in self._namespace.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[:1] == [f"ray::{task}"]:
                    found.append(process)
        return found


@contextlib.contextmanager
def running(environment: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster until the block ends.

    Args:
        environment: of its nodes.
    """
    # Short: Ray's sockets lie below it, and a socket's path has 107 characters at most.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    try:
        namespace = subprocess.Popen(
            [*_NAMESPACE, sys.executable, "-m", "assets_tests.cluster.ray_nodes", folder],
            cwd=CHECKOUT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert namespace.stdout is not None
            lines = iter(namespace.stdout.readline, "")
            said = list(_until(lines, "ready\n"))
            assert said[-1:] == ["ready\n"], f"the cluster did not start:\n{''.join(said)[-3000:]}"
            yield Cluster(namespace)
        finally:
            namespace.kill()
            namespace.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _until(lines: Iterator[str], last: str) -> Iterator[str]:
    for line in lines:
        yield line
        if line == last:
            return


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: waited in vain"
        time.sleep(0.05)


def _start(folder: str, *arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--disable-usage-stats"]
    command += ["--num-cpus", str(CORES_A_NODE), "--object-store-memory", "100000000", *arguments]
    # A file: the daemons inherit it, and a pipe would stay open with them.
    log = Path(folder, "start.log")
    with log.open("wb") as stream:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
    if run.returncode:
        sys.exit(log.read_text(errors="replace"))


def main(folder: str) -> None:
    for address in (HEAD, SECOND):
        subprocess.run(["ip", "address", "add", f"{address}/24", "dev", "lo"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    head = ["--head", "--node-ip-address", HEAD, "--port", ADDRESS.partition(":")[2], "--dashboard-host", HEAD]
    _start(folder, *head, "--temp-dir", folder)
    # On one host, a second agent needs a port of its own.
    second = ["--address", ADDRESS, "--node-ip-address", SECOND, "--dashboard-agent-listen-port", "52366"]
    _start(folder, *second, "--num-gpus", str(GPUS))
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (subprocess.SubprocessError, SystemExit) as problem:
        print(problem, flush=True)
        sys.exit(1)
