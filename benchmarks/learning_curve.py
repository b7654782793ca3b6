"""What more scenes buy: stage 1 trained on N stored scenes and on fresh ones, with the same number of steps.

Validation loss of Eq. 6 (l2, sum) and its reconstruction term on the same 1,000 validation scenes, LSST, six bands,
Eq. 9 space; the network, schedule and seed of the demo. No test scene is drawn.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from benchmarks.rendering import galaxies_and_settings
from benchmarks.training import Forgetting
from deblend_assets.science.feeding import Feed
from deblend_assets.science.fresh_scenes import FreshScenes
from deblend_assets.science.normalization import mean_maximum
from deblend_assets.science.rendering import ShardRenderer
from deblend_assets.science.scenes import all_shards
from deblend_assets.science.stages import VAEObjective, new_vae
from deblend_assets.science.surveys import load_survey
from deblend_assets.science.training import train
from deblend_assets.settings import StageSettings, load_profile

_SHARD, _BATCH = 500, 32


def main(sizes: list[int], epochs: int, scenes_an_epoch: int) -> None:
    galaxies, settings = galaxies_and_settings(_SHARD)
    survey, recipe = load_survey("LSST"), load_profile("demo").recipes.training
    recipe = recipe.model_copy(update={"batch_size": _BATCH})
    renderer = ShardRenderer(galaxies, settings, survey)
    shards = all_shards(settings)
    training = [s for s in shards if s.split == "train"][: -(-max(sizes) // _SHARD)]
    drawn = [renderer.render(shard, 0, _SHARD) for shard in training]
    held = [renderer.render(s, 0, _SHARD) for s in shards if s.split == "validation"]
    normalization = mean_maximum((d.isolated for d in drawn), survey.bands).normalization(2.5)

    def stamps(parts: list[Any], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        noisy, isolated = (
            torch.from_numpy(np.concatenate([getattr(p, n) for p in parts])) for n in ("noisy", "isolated")
        )
        return normalization.forward(noisy[:count]), normalization.forward(isolated[:count])

    validation = Feed(lambda k: stamps(held, len(held) * _SHARD), 1, 1, 256)
    print(f"{epochs} x {scenes_an_epoch:,} stamps in batches of {_BATCH}; {len(held) * _SHARD:,} validation scenes")
    for size in [*sizes, None]:
        if size is None:
            feed: Any = FreshScenes(renderer, normalization, "noisy", scenes_an_epoch, _BATCH, torch.device("cpu"))
            passes, samples = epochs, scenes_an_epoch
        else:
            feed = Feed(lambda k, n=size: stamps(drawn, n), 1, 1, _BATCH)
            passes, samples = round(epochs * scenes_an_epoch / size), size
        started = time.monotonic()
        result = train(
            VAEObjective(new_vae(len(survey.bands), settings.stamp_pixels, recipe), recipe),
            feed,
            validation,
            samples=samples,
            recipe=recipe,
            stage=StageSettings(epochs=passes, learning_rate=1e-3),
            device=torch.device("cpu"),
            saver=Forgetting(),
            log=lambda line: None,
            name="stage 1",
        )
        last, best = result.history[-1], result.history[result.best_epoch - 1]
        print(
            f"{f'{size:,} stored' if size else 'fresh'}: validation {best['validation_total']:.3f} (reconstruction "
            f"{best['validation_reconstruction']:.3f}) at epoch {result.best_epoch} of {passes}, at the end "
            f"{last['validation_total']:.3f}; training {last['train_total']:.3f}; "
            f"{result.stamps_per_second:.0f} stamps/s, {time.monotonic() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10000])
    parser.add_argument("--epochs", type=int, default=6, help="passes over --scenes, and as many steps for every size")
    parser.add_argument("--scenes", type=int, default=10000)
    arguments = parser.parse_args()
    main(arguments.sizes, arguments.epochs, arguments.scenes)
