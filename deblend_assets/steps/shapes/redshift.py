"""Training the redshift posterior, and evaluating it on the test blends beside redshifts from colours."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from deblend_assets.progress import Progress
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.redshift import evaluate_redshifts
from deblend_assets.science.redshift.color_redshifts import ColorRedshifts
from deblend_assets.science.redshift.mixture import RedshiftScale
from deblend_assets.science.redshift.redshift import RedshiftNetwork, RedshiftObjective
from deblend_assets.science.shapes.model import new_shape_network
from deblend_assets.science.shapes.orientations import canonical
from deblend_assets.science.stamps.batches import in_batches
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.stamps.symmetries import transform_images
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.settings import ShapeRecipe, fingerprint
from deblend_assets.steps.light import light_of, recombined
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.shapes.blends import blend_feeds, card_of, outcome_card, sky_sigma_of
from deblend_assets.steps.summaries import redshift_summary
from deblend_assets.steps.training.step import Log, Training, finished, fit
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore

Floats = NDArray[np.float64]
# Radius of the aperture in which a blend's colours are measured [arcsec]: in a larger one the light of neighbours costs
# more than the missing light of the target in a smaller one.
_APERTURE = 1.0
_BATCH = 128
_METHODS = {
    "ours": "posterior, on the blend",
    "colors_true": "gradient boosting on colours: true fluxes with noise",
    "colors_blend": "gradient boosting on colours: 1 arcsec apertures on the blend",
    "constant": "the training galaxies' median for all",
}


def train_redshift(
    store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers, log: logging.Logger
) -> Outcome:
    """Train the network, resume it, or keep the finished one of the same inputs, and evaluate it.

    Writes `numbers.json`.

    Args:
        store: with the finished shape network and the arrays.
        devices: are leased for the training and for the evaluation.
        workers: render the blends.
        log: of the asset.
    """
    folder = store.shape_checkpoint("redshift_posterior")
    checkpoint, outcome = finished(folder, devices, log, lambda device: fit_redshift(store, workers, device, log.info))
    with devices.allocate(folder.asset, log) as lease:
        found = evaluate_redshift(store, checkpoint, torch.device(lease.torch_device), log.info)
    identity = fingerprint(checkpoint.fingerprint, store.profile.evaluation, CODE_VERSIONS["redshift"])
    path = store.write_report(
        "shapes_redshift",
        {"numbers.json": to_json({"evaluation": found, "provenance": {"evaluation": identity}, "methods": _METHODS})},
        {"evaluation": identity},
    )
    numbers = {
        "sigma_NMAD": found["ours"]["sigma_NMAD"]["value"] or math.nan,
        "sigma_NMAD_constant": found["constant"]["sigma_NMAD"]["value"] or math.nan,
    }
    pit = found["ours"]["pit"]
    coverage = {name: pit[name]["value"] for name in ("coverage_68%", "coverage_95%", "kolmogorov")}
    known = {name: value for name, value in coverage.items() if value is not None}
    return replace(
        outcome,
        summary=redshift_summary(found),
        numbers={**known, **numbers, **outcome.numbers},
        paths={**outcome.paths, "numbers": path / "numbers.json"},
        checks=[
            Check(
                "learning",
                numbers["sigma_NMAD"] < numbers["sigma_NMAD_constant"],
                f"σ_NMAD {numbers['sigma_NMAD']:.4f}, with one redshift for all {numbers['sigma_NMAD_constant']:.4f}",
                numbers,
                warn=True,
            )
        ],
    )


def fit_redshift(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Log
) -> tuple[Checkpoint, dict[str, float]]:
    """Train the mixture and the trunk before it, starting from the finished shape network; see `step.fit`."""
    recipe, frame = store.profile.recipes.shapes, store.frame()
    shapes = new_shape_network(frame, recipe)
    shapes.load_state_dict(store.shape_checkpoint("shape_network").read().weights)
    light = light_of(store, workers, {"train": recipe.scenes, "validation": recipe.validation_scenes}, log)
    torch.manual_seed(recipe.seed + 2)
    network = RedshiftNetwork(shapes.trunk, recipe.dense, RedshiftScale.of(light["train"].redshift))
    samples = len(light["train"].redshift)

    def card(result: TrainingResult) -> dict[str, Any]:
        population = PriorMoments.of(light["train"].values)
        return card_of(store, frame, population) | outcome_card(network, samples, result)

    objective = RedshiftObjective(network, recipe, sky_sigma_of(frame, device), recombine=recombined(store))
    feeds = blend_feeds(light, lambda part: np.log1p(part.redshift)[:, None], recipe, device)
    training = Training(objective, *feeds, samples, recipe, recipe.redshift, card)
    return fit(training, store.shape_checkpoint("redshift_posterior"), device, log)


def load_redshift(checkpoint: Checkpoint, frame: StampFrame, recipe: ShapeRecipe) -> RedshiftNetwork:
    """The trained network in evaluation mode."""
    trunk = new_shape_network(frame, recipe).trunk
    network = RedshiftNetwork(trunk, recipe.dense, RedshiftScale(0.0, 1.0))
    network.load_state_dict(checkpoint.weights)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def redshifts(network: RedshiftNetwork, stamps: NDArray[np.float32], true_z: Floats) -> tuple[Floats, Floats]:
    """Median redshift of stamps with all bands, and the posterior's probability below the true redshift.

    Args:
        network: on its device.
        stamps: (N, band, y, x) in units of the sky's noise.
        true_z: (N,).
    """
    device = next(network.parameters()).device

    @torch.inference_mode()
    def compute(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(stamps[rows]).to(device)
        present = torch.ones(images.shape[:2], dtype=torch.bool, device=device)
        turned = transform_images(images, canonical(images, present))
        found = network(turned.contiguous(memory_format=torch.channels_last), present)
        truth = torch.from_numpy(np.log1p(true_z[rows])).float().to(device)
        return torch.expm1(found.median()).cpu(), found.cdf(truth[:, None])[:, 0].cpu()

    medians, below = zip(*in_batches(compute, len(stamps), _BATCH, device), strict=True)
    return torch.cat(medians).double().numpy(), torch.cat(below).double().numpy()


def evaluate_redshift(
    store: ProjectStore, checkpoint: Checkpoint, device: torch.device, log: Log
) -> dict[str, Evaluation]:
    """Accuracy of our redshifts and the peers' on the test blends, by the keys of `_METHODS`."""
    arrays, frame, settings = store.arrays(), store.frame(), store.profile.evaluation
    network = load_redshift(checkpoint, frame, store.profile.recipes.shapes).to(device)
    sigma = np.asarray(frame.sky_sigma, dtype=np.float32)[:, None, None]
    shards = arrays.shards("test")
    progress = Progress("redshifts", sum(s.scenes for s in shards), "scenes", log)
    targets, estimates, ranks = [], [], []
    for shard in shards:
        targets.append(arrays.targets([shard]))
        found, below = redshifts(
            network, (arrays.read("blended", shard) / sigma).astype(np.float32), targets[-1]["redshift"].to_numpy(float)
        )
        estimates.append(found)
        ranks.append(below)
        progress.add(shard.scenes)
    truth = pd.concat(targets)["redshift"].to_numpy(float)
    training, held = (_fluxes(arrays, frame, split, settings.seed) for split in ("train", "test"))
    bootstrap = {"resamples": settings.bootstrap, "seed": settings.seed}
    evaluations = {"ours": evaluate_redshifts(truth, np.concatenate(estimates), np.concatenate(ranks), **bootstrap)}
    for name in ("colors_true", "colors_blend"):
        flux, errors = training[name]
        peer = ColorRedshifts(settings.seed).fit(flux, errors, training["redshift"][0])
        evaluations[name] = evaluate_redshifts(truth, peer.predict(*held[name]), None, **bootstrap)
    constant = np.full(len(truth), np.median(training["redshift"][0]))
    return evaluations | {"constant": evaluate_redshifts(truth, constant, None, **bootstrap)}


def _fluxes(arrays: SimulatedArrays, frame: StampFrame, split: str, seed: int) -> dict[str, tuple[Floats, Floats]]:
    """Fluxes of a split's targets and their sky-limited errors in each band [electron], by kind; and redshifts."""
    bands, shards = arrays.bands, arrays.shards(split)
    targets = arrays.targets(shards)
    true = targets[[f"flux_{b}" for b in bands]].to_numpy(float)
    # Error of a matched filter on the isolated galaxy.
    errors = true / np.maximum(targets[[f"snr_{b}" for b in bands]].to_numpy(float), 1e-3)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(len(split),)))
    noisy = true + errors * rng.standard_normal(true.shape)
    middle = (frame.pixels - 1) / 2
    y, x = np.mgrid[: frame.pixels, : frame.pixels] - middle
    inside = np.hypot(x, y) * frame.pixel_scale < _APERTURE
    apertures = np.concatenate([arrays.read("blended", s)[..., inside].sum(axis=-1, dtype=np.float64) for s in shards])
    limits = np.asarray(frame.sky_sigma) * math.sqrt(inside.sum())
    return {
        "colors_true": (noisy, np.median(errors, axis=0)),
        "colors_blend": (apertures, limits),
        "redshift": (targets["redshift"].to_numpy(float), limits),
    }
