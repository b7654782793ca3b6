"""What the finished shape network tells of neighbours, and its calibration: a head and a flow fitted to blends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.networks.transfer import load_matching
from deblend_assets.science.shapes.calibration import FlowObjective, coverage_groups, fit_spread, stretch_of
from deblend_assets.science.shapes.model import gaussian, new_flow, new_neighbour_head
from deblend_assets.science.shapes.neighbours import (
    CLOSE,
    QUESTIONS,
    NeighbourHead,
    NeighbourObjective,
    answers,
)
from deblend_assets.science.shapes.network import GaussianPosterior, ShapeNetwork
from deblend_assets.science.simulation.light import BlendLight
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import QUANTITIES, PriorMoments
from deblend_assets.science.training.feeding import Feed
from deblend_assets.steps.light import light_of, recombined
from deblend_assets.steps.shapes.fit import (
    blend_feeds,
    card_of,
    fitted,
    frame_of,
    part_of,
    posteriors_of_light,
    trained_network,
    weights_of,
)
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import shipped

# Of the validation galaxies, those that the flow is not fitted to: they say when to stop, and how far to spread.
_HELD_SHARE = 0.3
# Whatever the network took: galaxies are few here, and steps must not be.
_CALIBRATION_BATCH = 256


def fit_neighbours(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Callable[[str], None]
) -> tuple[Checkpoint, dict[str, float]]:
    """Train the neighbour head on the finished network's map.

    On as many blends of training galaxies as the calibration has of others.
    """
    recipe, frame, folder = store.profile.shape_recipe, frame_of(store), store.shape_checkpoint("neighbour_head")
    network, _ = trained_network(store, device)
    scenes = {"train": recipe.calibration_scenes, "validation": recipe.validation_scenes}
    light = light_of(store, workers, scenes, log)
    head = new_neighbour_head(frame, recipe)
    if recipe.start != "fresh":
        where = f"shipped weights of {recipe.start}"
        load_matching(head, part_of(shipped(recipe.start, "shapes"), "head"), where)
    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)

    band = frame.bands.index(frame.label_band)
    objective = NeighbourObjective(head, network, recipe, sigma, band, recombine=recombined(store))
    feeds, samples = blend_feeds(light, lambda part: part.nearest[:, None], recipe, device), len(light["train"].nearest)
    result, figures = fitted(objective, feeds, samples, recipe, recipe.neighbours, folder, device, log)
    card = card_of(store, frame, PriorMoments.of(light["train"].values)) | {
        "questions": list(QUESTIONS),
        "auc": _told_apart(network, head.eval(), frame, light["validation"], recipe.seed),
        "training_scenes": samples,
        "best_epoch": result.best_epoch,
        "parameters_trained": sum(p.numel() for p in head.parameters()),
    }
    return Checkpoint(weights_of(head), card, result.history, folder.fingerprint), figures


def _told_apart(
    network: ShapeNetwork, head: NeighbourHead, frame: StampFrame, light: BlendLight, seed: int
) -> list[float | None]:
    """Of each question, the share of pairs of blends with different answers that one orientation's odds tell apart."""
    odds = posteriors_of_light(network, head, frame, light, 1, seed).neighbours
    band = frame.bands.index(frame.label_band)
    own, others = (torch.from_numpy(part[:, band]).float() for part in (light.target, light.others))
    true = answers(own, own + others, torch.from_numpy(light.nearest)).numpy()
    return [
        float(roc_auc_score(true[:, k], odds[:, k])) if 0 < true[:, k].mean() < 1 else None
        for k in range(true.shape[1])
    ]


def fit_calibration(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Callable[[str], None]
) -> Checkpoint:
    """Calibrate the finished network on validation galaxies; the finished checkpoint, not yet stored."""
    recipe, folder = store.profile.shape_recipe, store.shape_checkpoint("shape_posterior")
    network, trained = trained_network(store, device)
    frame, population = StampFrame.from_card(trained.card["frame"]), PriorMoments(**trained.card["population"])
    told = store.shape_checkpoint("neighbour_head").read()
    head = new_neighbour_head(frame, recipe)
    head.load_state_dict(told.weights)
    head.to(device).eval()
    light = light_of(store, workers, {"validation": recipe.calibration_scenes}, log)["validation"]
    found = posteriors_of_light(network, head, frame, light, recipe.orientations, recipe.seed)
    truth = population.whiten(light.values)
    stretch = stretch_of(found.mean, found.covariance, truth)
    posterior = gaussian(found.mean, found.covariance * np.outer(stretch, stretch), torch.device("cpu"))
    neighbours = torch.from_numpy(found.neighbours).float()
    columns = (posterior.mean, posterior.cholesky, neighbours, torch.from_numpy(truth).float())
    held = held_galaxies(light.values, recipe.seed)
    flow = new_flow(recipe)

    def feed(rows: NDArray[np.bool_]) -> Feed:
        chosen = tuple(column[rows] for column in columns)
        return Feed(lambda _: chosen, 1, 1, _CALIBRATION_BATCH, device)

    feeds, samples = (feed(~held), feed(held)), int((~held).sum())
    result, _ = fitted(FlowObjective(flow), feeds, samples, recipe, recipe.calibration, folder, device, log)
    mean, lower, odds, true = (column[held].to(device) for column in columns)
    truths = (light.snr[held], light.blendedness[held], light.nearest[held])
    groups = coverage_groups(*truths, found.neighbours[held, CLOSE])
    generator = torch.Generator(device).manual_seed(recipe.seed)
    fit_spread(flow, true, GaussianPosterior(mean, lower), odds, groups, generator)
    spread = flow.spread(odds)[0].double().cpu().numpy()
    card = card_of(store, frame, population) | {
        "network": {"widths": list(recipe.widths), "dense": recipe.dense},
        "questions": told.card["questions"],
        "orientations": recipe.orientations,
        "stretch": stretch.tolist(),
        "spread": {f"{q:.0%}": np.quantile(spread, q, axis=0).tolist() for q in (0.05, 0.5, 0.95)},
        "training_scenes": trained.card["training_scenes"],
        "calibration_scenes": len(truth),
        "best_epoch": result.best_epoch,
        "parameters_trained": trained.card["parameters_trained"]
        + told.card["parameters_trained"]
        + sum(p.numel() for p in flow.parameters()),
    }
    parts = {"network": trained.weights, "head": told.weights, "flow": weights_of(flow)}
    weights = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    return Checkpoint(weights, card, result.history, folder.fingerprint)


def held_galaxies(values: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Which blends the flow is not fitted to, (N,): all of some galaxies.

    A galaxy is the same in all its blends but for its position angle. A flow that has overfitted a galaxy is too narrow
    on others.

    Args:
        values: true quantities (N, 6).
        seed: of the choice.
    """
    turned_never = [QUANTITIES.index(name) for name in ("ln_size", "ln_flux")]
    _, galaxy = np.unique(values[:, turned_never], axis=0, return_inverse=True)
    chance = np.random.default_rng(seed).random(galaxy.max() + 1)
    return np.asarray(chance < np.quantile(chance, _HELD_SHARE))[galaxy.ravel()]
