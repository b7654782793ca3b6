"""What a killed process leaves outside the storage: the next one deletes it, and nothing of a process that lives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deblend_assets.stores.temporary import sweep, temporary_folder

CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120

# A process whose folder has gone with its block, and which has sockets of multiprocessing until it ends.
LATER = """
import time
from deblend_assets.stores.temporary import temporary_folder

with temporary_folder():
    pass
print(flush=True)
time.sleep(600)
"""
# A process that has a folder with a file, and a pool of two processes that share semaphores.
HOLDER = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from deblend_assets.stores.temporary import name_semaphores, temporary_folder

if __name__ == "__main__":
    with temporary_folder() as folder:
        (folder / "catalog.parquet").write_text("large")
        name_semaphores()
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:
            pool.submit(abs, 1).result()
            print(folder, flush=True)
            time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@contextlib.contextmanager
def running(tmp_path: Path, temporary: Path, code: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process, and the path that it writes first."""
    script = tmp_path / "holder.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        if process.poll() is None:
            kill_group(process)
        process.stdout.close()


@pytest.fixture
def holder(tmp_path: Path, temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The process and its folder."""
    with running(tmp_path, temporary, HOLDER) as held:
        yield held


def kill_group(process: subprocess.Popen[str]) -> None:
    """`kill -9` of the process and of everything that would tidy up after it."""
    members = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(members, PATIENCE_SECONDS)


def semaphores(pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"sem.*-{pid}-*"))


def test_a_folder_goes_with_its_block(temporary: Path) -> None:
    with temporary_folder() as folder:
        (folder / "a").touch()
        with temporary_folder() as other:
            assert other != folder
            assert (folder / "a").exists()
    assert not list(temporary.glob("deblend-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory in /dev/shm")
def test_what_a_killed_process_left_goes_with_the_next_one(
    temporary: Path, holder: tuple[subprocess.Popen[str], Path]
) -> None:
    process, folder = holder
    sweep()
    assert (folder / "catalog.parquet").exists(), "it lives"
    assert semaphores(process.pid)
    assert list(temporary.glob("pymp-*"))
    kill_group(process)
    assert (folder / "catalog.parquet").exists()
    ours = set(temporary.glob("pymp-*"))
    with temporary_folder() as mine:
        left = {path.name for path in temporary.iterdir() if not path.name.startswith("pymp-")}
        assert left == {mine.parent.name}
        assert not any(path.exists() for path in ours), "multiprocessing's sockets"
    assert not semaphores(process.pid)
    assert not (folder.parent).exists()


def test_sockets_of_a_process_that_was_killed_after_its_block_go_too(tmp_path: Path, temporary: Path) -> None:
    with running(tmp_path, temporary, LATER) as (process, _):
        sweep()
        assert len(list(temporary.iterdir())) == 1, "it lives"
        kill_group(process)
        sweep()
        assert not list(temporary.iterdir())


def test_a_folder_that_a_process_was_killed_in_making_goes_later(temporary: Path) -> None:
    half, mine, linked = temporary / "deblend-half", temporary / "other-things", temporary / "deblend-link"
    for path in (half, mine):
        path.mkdir()
    linked.symlink_to(mine)
    sweep()
    assert half.exists()
    long_ago = time.time() - 7 * 86400
    for path in (half, mine):
        os.utime(path, (long_ago, long_ago))
    sweep()
    assert sorted(path.name for path in temporary.iterdir()) == ["deblend-link", "other-things"]
