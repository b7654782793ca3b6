"""Does cost grow linearly? Seconds a scene, drawn and stored, at 1,000, 10,000 and 100,000 scenes.

Before each larger number the smallest is drawn again, so that both stand beside each other in time. What is written is
removed; 100,000 scenes need some 15 GiB of the temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rendering import galaxies_and_settings, seconds_to_draw
from benchmarks.rows import Row, limit_row
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.worker_pool import WorkerPool
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.settings import SimulationSettings
from deblend_assets.stores.arrays import SimulatedArrays


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table of benchmarks."""
    smallest, larger, shard_scenes = (100, (1_000,), 50) if quick else (1_000, (10_000, 100_000), 250)
    galaxies, settings = galaxies_and_settings(shard_scenes)
    workers = RenderingWorkers()
    with workers.start(galaxies, settings) as pool:
        _seconds_a_scene(pool, settings, smallest)  # warms the workers
        for number in larger:
            base = _seconds_a_scene(pool, settings, smallest)
            found = _seconds_a_scene(pool, settings, number)
            yield limit_row(
                f"seconds a scene at {number:,} scenes, drawn and stored",
                f"at {smallest:,}",
                [found / base],
                bar=1.10,
                detail=f"{1e3 * found:.2f} against {1e3 * base:.2f} ms, {workers.count} workers, one run each",
            )


def _seconds_a_scene(pool: WorkerPool, settings: SimulationSettings, number: int) -> float:
    counts = settings.scenes.model_copy(update={"train": number})
    larger = settings.model_copy(update={"scenes": counts})
    shards = [shard for shard in all_shards(larger) if shard.split == "train"]
    with tempfile.TemporaryDirectory() as folder:
        arrays = SimulatedArrays(Path(folder) / "arrays", larger, load_survey(larger.survey).attributes(), {})
        arrays.create()
        arrays.require_space(len(shards))
        return seconds_to_draw(pool, shards, arrays) / number
