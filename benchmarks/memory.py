"""Is memory flat? Largest resident set of each step of the lineage, and of `measure`, as N grows tenfold.

Every step and size in a fresh process; the kernel's own mark of it (VmHWM), workers added. Training streams: its
memory limit holds a few shards.
"""

from __future__ import annotations

import re
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import plain
from benchmarks.processes import in_fresh_process
from benchmarks.rows import Row, limit_row, not_measured
from deblend_assets.settings import PROFILE_FOLDER, Profile, parse_profile
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.steps.measuring.ready import measure_stored
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.stamps import open_stamps

_LIMIT = 1.2


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table of benchmarks."""
    if not Path("/proc/self/status").exists():
        yield not_measured("peak memory", "N", f"≤ {_LIMIT:g}", "needs Linux's /proc")
        return
    scenes, shard = (1_000, 50) if quick else (2_000, 250)
    sizes = (scenes, 10 * scenes)
    peaks: dict[str, list[float]] = {name: [] for name in STEPS}
    for number in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for name in STEPS:
                peaks[name].append(in_fresh_process(peak_of, name, Path(folder), number, shard))
    for name, (small, large) in peaks.items():
        if name not in _NOT_COMPARED:
            yield limit_row(
                f"peak memory of {name}",
                f"N = {sizes[0]:,}",
                [large / small],
                bar=_LIMIT,
                detail=f"{large:,.0f} MiB at N = {sizes[1]:,} against {small:,.0f} MiB, fresh processes",
            )


def profile_of(number: int, shard: int) -> Profile:
    """The smoke profile with so many training scenes, as many for the test, in shards; training holds four of them."""
    raw: dict[str, Any] = tomllib.loads((PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8"))
    raw["catalog"]["galaxies"] = 20_000
    raw["simulation"] |= {"shard_scenes": shard, "scenes": {"train": number, "validation": shard, "test": number}}
    raw["recipes"]["training"] |= {k: {"epochs": 1, "learning_rate": 1e-3} for k in ("stage1", "stage2", "stage3")}
    stamp_bytes = 2 * 4 * 6 * 45 * 45
    raw["run"] = {"memory_gb": 4 * shard * stamp_bytes / 2**30}
    return parse_profile({"name": "smoke", **raw}, where="benchmarks.memory")


def _measured(store: ProjectStore) -> None:
    stamps = open_stamps(Path(store.arrays().zarr_path) / "blended")
    measure_stored(stamps, load_sky_model(None), "shipped", Path(store.folder) / "measured", images=True, log=print)


STEPS: dict[str, Callable[[ProjectStore], None]] = {
    "the catalogue": plain.galaxies,
    "simulation": plain.simulate,
    "the statistics": plain.normalize,
    "training, three stages": plain.train,
    "evaluation": plain.evaluate,
    "measure": _measured,
}
# Its size does not depend on the number of scenes.
_NOT_COMPARED = ("the catalogue",)


def peak_of(step: str, folder: Path, number: int, shard: int) -> float:
    """Do a step here; the largest resident set of this process and that of its workers together [MiB]."""
    marks: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        # A worker's mark goes with it: it is read while the worker lives.
        while not ended.wait(0.1):
            for child in psutil.Process().children(recursive=True):
                marks[child.pid] = max(marks.get(child.pid, 0.0), _mark(child.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        STEPS[step](ProjectStore(folder, profile_of(number, shard)))
    finally:
        ended.set()
        watching.join()
    return _mark("self") + sum(marks.values())


def _mark(process: int | str) -> float:
    """VmHWM [MiB]; unlike getrusage's, it begins anew with the program."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0
