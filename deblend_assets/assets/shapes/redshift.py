"""Fitting and evaluating the redshift posterior."""

from __future__ import annotations

import math
from collections.abc import Callable

import dagster as dg
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from deblend_assets.assets.common import check, table
from deblend_assets.assets.shapes.run import finished
from deblend_assets.progress import Progress
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.redshift import evaluate_redshifts
from deblend_assets.science.redshift.color_redshifts import ColorRedshifts
from deblend_assets.science.redshift.redshift import RedshiftNetwork, RedshiftObjective, RedshiftScale
from deblend_assets.science.shapes.model import new_shape_network
from deblend_assets.science.shapes.orientations import canonical
from deblend_assets.science.stamps.batches import in_batches
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.stamps.symmetries import transform_images
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.settings import ShapeRecipe, fingerprint
from deblend_assets.steps.light import light_of, recombined
from deblend_assets.steps.shapes.fit import blend_feeds, card_of, fitted, frame_of, weights_of
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore

Floats = NDArray[np.float64]
# Radius of the aperture in which a blend's colours are measured [arcsec]: where neighbours begin to matter more than
# the light that is left out.
_APERTURE = 1.0
_BATCH = 128
_WORDS = {
    "ours": "posterior, on the blend",
    "colors_true": "gradient boosting on colours: true fluxes with noise",
    "colors_blend": "gradient boosting on colours: 1 arcsec apertures on the blend",
    "constant": "the training galaxies' median for all",
}


def fit_redshift(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Callable[[str], None]
) -> tuple[Checkpoint, dict[str, float]]:
    """Train the head and the trunk before it, from the finished shape network."""
    recipe, frame = store.profile.shape_recipe, frame_of(store)
    folder = store.shape_checkpoint("redshift_posterior")
    shapes = new_shape_network(frame, recipe)
    shapes.load_state_dict(store.shape_checkpoint("shape_network").read().weights)
    light = light_of(store, workers, {"train": recipe.scenes, "validation": recipe.validation_scenes}, log)
    torch.manual_seed(recipe.seed + 2)
    network = RedshiftNetwork(shapes.trunk, recipe.dense, RedshiftScale.of(light["train"].redshift))

    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)
    objective = RedshiftObjective(network, recipe, sigma, recombine=recombined(store))
    feeds = blend_feeds(light, lambda part: np.log1p(part.redshift)[:, None], recipe, device)
    samples = len(light["train"].redshift)
    result, figures = fitted(objective, feeds, samples, recipe, recipe.redshift, folder, device, log)
    card = card_of(store, frame, PriorMoments.of(light["train"].values)) | {
        "training_scenes": samples,
        "best_epoch": result.best_epoch,
        "parameters_trained": sum(p.numel() for p in network.parameters()),
    }
    return Checkpoint(weights_of(network), card, result.history, folder.fingerprint), figures


def load_redshift(checkpoint: Checkpoint, frame: StampFrame, recipe: ShapeRecipe) -> RedshiftNetwork:
    """The trained network in evaluation mode."""
    trunk = new_shape_network(frame, recipe).trunk
    network = RedshiftNetwork(trunk, recipe.dense, RedshiftScale(0.0, 1.0))
    network.load_state_dict(checkpoint.weights)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def redshifts(network: RedshiftNetwork, stamps: NDArray[np.float32], true_z: Floats) -> tuple[Floats, Floats]:
    """Median redshift of stamps, and the posterior's probability below the true one; all bands there.

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


def evaluate(
    store: ProjectStore, checkpoint: Checkpoint, device: torch.device, log: Callable[[str], None]
) -> dict[str, Evaluation]:
    """Our redshifts and the peers' on the test blends; keys of `_WORDS`."""
    arrays, frame, settings = store.arrays(), frame_of(store), store.profile.evaluation
    network = load_redshift(checkpoint, frame, store.profile.shape_recipe).to(device)
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
    learnt, held = (_fluxes(arrays, frame, split, settings.seed) for split in ("train", "test"))
    draws = {"resamples": settings.bootstrap, "seed": settings.seed}
    evaluations = {"ours": evaluate_redshifts(truth, np.concatenate(estimates), np.concatenate(ranks), **draws)}
    for name in ("colors_true", "colors_blend"):
        flux, errors = learnt[name]
        peer = ColorRedshifts(settings.seed).fit(flux, errors, learnt["redshift"][0])
        evaluations[name] = evaluate_redshifts(truth, peer.predict(*held[name]), None, **draws)
    constant = np.full(len(truth), np.median(learnt["redshift"][0]))
    return evaluations | {"constant": evaluate_redshifts(truth, constant, None, **draws)}


def _fluxes(arrays: SimulatedArrays, frame: StampFrame, split: str, seed: int) -> dict[str, tuple[Floats, Floats]]:
    """Fluxes of a split's targets and their sky-limited errors a band [electron], by kind; and their redshifts."""
    bands, shards = arrays.bands, arrays.shards(split)
    targets = arrays.targets(shards)
    true = targets[[f"flux_{b}" for b in bands]].to_numpy(float)
    # What a matched filter on the galaxy alone would know.
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


def materialize_redshift(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    """Train or keep the network, and evaluate it."""
    folder = store.shape_checkpoint("redshift_posterior")
    checkpoint, metadata = finished(
        context, folder, devices, lambda device: fit_redshift(store, workers, device, context.log.info)
    )
    with devices.allocate(folder.asset, context.log) as lease:
        evaluations = evaluate(store, checkpoint, torch.device(lease.torch_device), context.log.info)
    identity = fingerprint(checkpoint.fingerprint, store.profile.evaluation, CODE_VERSIONS["redshift"])
    path = store.write_report(
        store.shapes_report + "_redshift",
        {
            "numbers.json": to_json(
                {"evaluation": evaluations, "provenance": {"evaluation": identity}, "methods": _WORDS}
            )
        },
        {"evaluation": identity},
    )
    rows = {
        _WORDS[name]: {
            measure: f"{found[measure]['value']:.4f} ± {found[measure]['error']:.1g}"
            for measure in ("sigma_NMAD", "bias", "outliers")
        }
        for name, found in evaluations.items()
        if found["sigma_NMAD"]["value"] is not None
    }
    numbers = {
        "sigma_NMAD": evaluations["ours"]["sigma_NMAD"]["value"] or math.nan,
        "sigma_NMAD_constant": evaluations["constant"]["sigma_NMAD"]["value"] or math.nan,
    }
    pit = evaluations["ours"]["pit"]
    coverage = {name: pit[name]["value"] for name in ("coverage_68%", "coverage_95%", "kolmogorov")}
    return dg.MaterializeResult(
        metadata={
            "accuracy": table(rows, f"N = {evaluations['ours']['n']:,} test blends, Δz / (1 + z)"),
            **{name: value for name, value in coverage.items() if value is not None},
            **numbers,
            **metadata,
            "numbers": dg.MetadataValue.path(str(path / "numbers.json")),
        },
        check_results=[
            check(
                "learning",
                numbers["sigma_NMAD"] < numbers["sigma_NMAD_constant"],
                f"σ_NMAD {numbers['sigma_NMAD']:.4f}, of one redshift for all {numbers['sigma_NMAD_constant']:.4f}",
                numbers,
                warn=True,
            )
        ],
    )
