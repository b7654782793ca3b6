"""A real Postgres server on a Unix socket in a temporary folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

PATIENCE_SECONDS = 60


def _programs() -> Path | None:
    """Debian keeps the server's programs out of PATH, one folder a version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    return Path(initdb).parent if initdb else None


def _as_user() -> list[str]:
    """Postgres refuses to run as root: Debian's package has made a user for it."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def why_not() -> str:
    """Why no server can be started here; empty where one can."""
    if find_spec("dagster_postgres") is None:
        return "dagster-postgres is not installed (the extra `postgres`)"
    if _programs() is None:
        return "no Postgres server is installed"
    if _as_user() and subprocess.run([*_as_user(), "true"], capture_output=True).returncode:
        return "root has no user `postgres` to run the server as"
    return ""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of an empty database, for as long as the block lasts; nothing listens on the network."""
    programs = _programs()
    assert programs is not None
    # Short, since a socket's path has 107 characters at most, and not below pytest's folders, which are root's alone.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    data, log = folder / "data", folder / "log"

    def run(*command: str) -> None:
        done = subprocess.run(
            [*_as_user(), *command], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        user = "postgres" if _as_user() else getpass.getuser()
        shutil.chown(folder, user)
        run(str(programs / "initdb"), "-D", str(data), "-U", "dagster", "--auth", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        # Its output in a file: the server keeps what it inherits, and a pipe would stay open.
        run(str(programs / "pg_ctl"), "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg2://dagster@/postgres?host={quote(str(folder), safe='')}"
        finally:
            run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
