"""`dagster dev` as `make ui` starts it: on loopback, in a folder of its own, asked through GraphQL, watched, ended."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).resolve().parents[2]
# A non-interactive shell has its background jobs ignore SIGINT, and children inherit that.
_MAIN = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('dagster', run_name='__main__', alter_sys=True)"
)


class DagsterDev:
    """A webserver, a daemon and a code server over a copy of the project's own dagster.yaml and workspace.yaml.

    Attributes:
        folder: the working folder, which the servers take for the checkout.
        listening: (address, port) of every socket on which one of the processes was seen to listen.
        reached: addresses outside loopback that one of the processes was seen to be connected to.
        stray: files outside `folder` and the system's temporary folder that one was seen to hold open for writing.
    """

    def __init__(self, folder: Path, profile: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(CHECKOUT / name, folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.listening: set[tuple[str, int]] = set()
        self.reached: set[str] = set()
        self.stray: set[str] = set()
        self._storage = str(folder / "storage")
        inherited = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME" and not k.startswith("XDG_")}
        self._log = folder / "dagster_dev.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, "dev", "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=folder,
                env={
                    **inherited,
                    "HOME": str(self.home),
                    "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")])),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "DEBLEND_PROFILE": profile,
                    "DEBLEND_STORAGE": self._storage,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL query or mutation; AssertionError with the server's words where it has errors."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        assert "errors" not in found, found["errors"]
        return found["data"]

    def page(self, path: str) -> str:
        """A page of the UI, as the browser gets it before any script runs."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def until(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true answer of `condition`, asked every second while the processes are watched."""
        deadline = time.monotonic() + seconds
        while True:
            self.watch()
            assert self._process.poll() is None, f"dagster dev ended\n{self.log()}"
            try:
                answer = condition()
            except (OSError, urllib.error.URLError):  # not listening yet
                answer = None
            if answer:
                return answer
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s\n{self.log()}"
            time.sleep(1.0)

    def processes(self) -> list[psutil.Process]:
        """All that descend from this one, orphans and those in other sessions too: they share its storage variable."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("DEBLEND_STORAGE") == self._storage
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def watch(self) -> None:
        """Note what the processes listen on, are connected to and write, at this moment."""
        within = [self.folder.resolve(), Path(tempfile.gettempdir()).resolve(), Path("/dev"), Path("/proc")]
        for process in self.processes():
            try:
                sockets, files = process.net_connections("inet"), process.open_files()
            except psutil.Error:  # ended meanwhile
                continue
            for found in sockets:
                if found.raddr:
                    if not ipaddress.ip_address(found.raddr.ip).is_loopback:
                        self.reached.add(found.raddr.ip)
                elif found.laddr:
                    self.listening.add((found.laddr.ip, found.laddr.port))
            for file in files:
                # macOS does not tell how a file was opened
                if getattr(file, "mode", "r") != "r" and not any(Path(file.path).is_relative_to(w) for w in within):
                    self.stray.add(file.path)

    def log(self) -> str:
        """The last lines of all the servers and of runs that the daemon started."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-60:])

    def interrupt(self, seconds: float) -> int:
        """Ctrl-C, and the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End whatever is left, one way or the other."""
        try:
            self.interrupt(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
        finally:
            left = self.processes()
            for process in left:
                process.kill()
            psutil.wait_procs(left, 30)
