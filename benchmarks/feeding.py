"""Is feeding the bottleneck? Time to make one batch against the time to train stage 1 on it, in one run.

Synthetic stamps of the demo's shape, resident in memory, as the training keeps them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from benchmarks.rows import Row, limit_row
from benchmarks.training import BANDS, PIXELS, stepper
from deblend_assets.science.training.feeding import Feed


def main(batches: int, batch: int) -> dict[str, Any]:
    """Shares of a step, batch by batch.

    Returns:
        `ratios`: time of feeding over time of training, one a batch; `detail`: figures in words.
    """
    stamps = torch.rand(500, BANDS, PIXELS, PIXELS)
    feed = Feed(lambda number: (stamps, stamps), 8, 8, batch)
    step = stepper(1, batch, torch.device("cpu"))
    source = feed.epoch(np.random.SeedSequence(0))
    feeding, computing = [], []
    for _ in range(batches + 2):
        started = time.perf_counter()
        next(source)
        fed = time.perf_counter()
        step()
        feeding.append(fed - started)
        computing.append(time.perf_counter() - fed)
    feed_s, step_s = statistics.median(feeding[2:]), statistics.median(computing[2:])
    detail = (
        f"feed {feed_s * 1e3:.2f} ms, step {step_s * 1e3:.1f} ms a batch of {batch}, N = {batches} batches, "
        f"{torch.get_num_threads()} threads, torch {version('torch')}"
    )
    return {"ratios": [a / b for a, b in zip(feeding[2:], computing[2:], strict=True)], "detail": detail}


def measure(quick: bool) -> Iterator[Row]:
    """The rows of `python -m benchmarks`."""
    found = main(5 if quick else 40, 16)
    yield limit_row("feeding a batch", "a step on it, stage 1", found["ratios"], bar=None, detail=found["detail"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    found = main(given.batches, given.batch)
    print(found["detail"])
    print(f"feeding / step = {statistics.median(found['ratios']):.4f}")
