"""The server that workers are forked from may be started ahead of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from deblend_assets.resources.fork_server import START
from deblend_assets.resources.rendering_workers import RenderingWorkers


def test_workers_have_the_modules_of_a_server_that_was_started_ahead() -> None:
    script = """
        import multiprocessing, os
        from concurrent.futures import ProcessPoolExecutor
        from deblend_assets.resources.fork_server import START, start_server

        os.environ["OMP_NUM_THREADS"] = "7"
        start_server(["colorsys"])
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(START)) as executor:
            print(executor.submit(eval, "'colorsys' in __import__('sys').modules").result())
            print(executor.submit(os.getenv, "OMP_NUM_THREADS").result(), os.environ["OMP_NUM_THREADS"])
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout == "True\n1 7\n", run.stderr


@pytest.mark.skipif(START != "forkserver", reason="spawned workers have this process's environment")
def test_what_this_process_loads_beside_a_pool_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library reads the number when it is loaded, and torch may be loaded within the block."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with RenderingWorkers(processes=1).pool("3", int, ()) as pool:
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert pool._executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
