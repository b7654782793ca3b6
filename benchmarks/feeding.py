"""Is feeding the bottleneck? Time to make one batch against the time to train stage 1 on it, in one run.

Synthetic stamps of the demo's shape, resident in memory, as the training keeps them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from importlib.metadata import version

import numpy as np
import torch

from deblend_assets.science.feeding import Feed
from deblend_assets.science.stages import VAEObjective, new_vae
from deblend_assets.settings import load_profile


def main(batches: int) -> None:
    recipe = load_profile("demo").recipes.training
    stamps = torch.rand(500, 6, 45, 45)
    feed = Feed(lambda k: (stamps, stamps), 8, 8, recipe.batch_size)
    objective = VAEObjective(new_vae(6, 45, recipe), recipe)
    optimizer = torch.optim.Adam(objective.network.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    feeding, computing = [], []
    source = feed.epoch(np.random.SeedSequence(0))
    for _ in range(batches + 2):
        started = time.perf_counter()
        batch = next(source)
        fed = time.perf_counter()
        loss = objective.losses(batch, generator, training=True)["total"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        feeding.append(fed - started)
        computing.append(time.perf_counter() - fed)
    feed_s, step_s = statistics.median(feeding[2:]), statistics.median(computing[2:])
    print(
        f"feed {feed_s * 1e3:.2f} ms, step {step_s * 1e3:.1f} ms a batch of {recipe.batch_size}, N = {batches} batches"
    )
    print(f"feeding / step = {feed_s / step_s:.4f}; {recipe.batch_size / (feed_s + step_s):.0f} stamps/s")
    print(f"torch {version('torch')}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=40)
    main(parser.parse_args().batches)
