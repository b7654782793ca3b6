"""What more scenes buy: the shape network on N drawn scenes, with the same number of steps for each N.

Errors of one canonical orientation on the profile's blends of validation galaxies, all bands, photons counted once:
RMS and robust σ (1.4826 MAD) a component, of the observed distortion e in the label band and the intrinsic shear-type
g. No test galaxy is drawn.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.training import Forgetting
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.shapes.model import new_shape_network
from deblend_assets.science.shapes.objective import ShapeObjective
from deblend_assets.science.stamps.quantities import QUANTITIES, PriorMoments
from deblend_assets.science.statistics.metrics import rms, robust_sigma
from deblend_assets.science.training.feeding import Feed
from deblend_assets.science.training.loop import train
from deblend_assets.settings import StageSettings, load_profile, storage_root
from deblend_assets.steps.light import light_of, recombined, stamps_of
from deblend_assets.steps.shapes.blends import posteriors_of_light
from deblend_assets.stores.project import ProjectStore


def main(sizes: list[int], stamps: int, batch: int, device: torch.device) -> None:
    store = ProjectStore(storage_root(), load_profile())
    recipe = store.profile.recipes.shapes.model_copy(update={"batch_size": batch})
    frame = store.frame()
    light = light_of(
        store, RenderingWorkers(), {"train": max(sizes), "validation": recipe.validation_scenes}, lambda line: None
    )
    population, held = PriorMoments.of(light["train"].values), light["validation"]
    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)

    def feed(split: str, count: int) -> Feed:
        values = torch.from_numpy(population.whiten(light[split].values[:count])).float()
        columns = (*(column[:count] for column in stamps_of(light[split])), values)
        return Feed(lambda _: columns, 1, 1, batch, device)

    print(
        f"{stamps:,} stamps shown in batches of {batch}; {len(held.values):,} validation blends; {device}", flush=True
    )
    for size in sizes:
        network = new_shape_network(frame, recipe)
        count = min(size, len(light["train"].values))
        result = train(
            ShapeObjective(network, recipe, sigma, recombine=recombined(store)),
            feed("train", count),
            feed("validation", len(held.values)),
            samples=count,
            recipe=recipe,
            stage=StageSettings(epochs=max(1, math.ceil(stamps / count)), learning_rate=recipe.training.learning_rate),
            device=device,
            saver=Forgetting(),
            log=lambda line: None,
            name="shapes",
        )
        mean = posteriors_of_light(network, None, frame, held, orientations=1, seed=recipe.seed).mean.numpy()
        off = (mean - population.whiten(held.values)) * population.scale
        best = result.history[result.best_epoch - 1]
        row = {
            "scenes": count,
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "validation_nll": best["validation_nll"],
            "training_nll": best["train_nll"],
            "rms_e": _pair(rms, off, "e"),
            "robust_e": _pair(robust_sigma, off, "e"),
            "rms_g": _pair(rms, off, "g"),
            "robust_g": _pair(robust_sigma, off, "g"),
            "stamps_per_second": result.stamps_per_second,
        }
        print(json.dumps(row), flush=True)


def _pair(statistic: object, off: NDArray[np.float64], name: str) -> float:
    columns = [QUANTITIES.index(f"{name}{k}") for k in (1, 2)]
    return float(statistic(off[:, columns].T.ravel()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 80_000])
    parser.add_argument("--stamps", type=int, default=1_500_000, help="shown in all, the same for every size")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    main(arguments.sizes, arguments.stamps, arguments.batch, arguments.device)
