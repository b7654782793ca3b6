"""Two rendering workers against one: scenes drawn a second, the same shards, interleaved rounds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.rendering import galaxies_and_settings, seconds_to_draw
from benchmarks.rows import Row, ratio_row
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.stores.arrays import SimulatedArrays


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table of benchmarks."""
    scenes, shards_a_round, rounds = (50, 2, 2) if quick else (500, 12, 5)
    galaxies, settings = galaxies_and_settings(scenes)
    shards = [shard for shard in all_shards(settings) if shard.split == "train"][:shards_a_round]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        arrays = SimulatedArrays(Path(folder) / "arrays", settings, load_survey(settings.survey).attributes(), {})
        arrays.create()
        with (
            RenderingWorkers(processes=1).start(galaxies, settings) as one,
            RenderingWorkers(processes=2).start(galaxies, settings) as two,
        ):
            for pool in (one, two):
                seconds_to_draw(pool, shards, arrays)  # starts every worker and warms its grids
            for _ in range(rounds):
                for count, pool in ((1, one), (2, two)):
                    seconds[count].append(seconds_to_draw(pool, shards, arrays))
    number = scenes * shards_a_round
    rates = {count: number / np.median(times) for count, times in seconds.items()}
    detail = f"{rates[2]:.0f} against {rates[1]:.0f} scenes/s, {rounds} rounds of {number} scenes, three arrays, LSST"
    what = "scenes/s by two workers, drawn and written to Zarr"
    yield ratio_row(what, "one worker", seconds[2], seconds[1], bar=1.8, detail=detail)
