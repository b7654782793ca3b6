"""Training the heads of the finished shape network, and its calibration: a flow fitted to blends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.networks.transfer import load_matching
from deblend_assets.science.shapes.calibration import FlowObjective, coverage_groups, fit_spread, stretch_of
from deblend_assets.science.shapes.classifier import HeadObjective, MapClassifier, true_labels
from deblend_assets.science.shapes.heads import CLOSE, HEADS, NEIGHBOURS, Head
from deblend_assets.science.shapes.model import new_classifier, new_flow, weight_prefix
from deblend_assets.science.shapes.network import ShapeNetwork
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
    posteriors_of_light,
    trained_network,
    weights_of,
    weights_of_network,
)
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import shipped

# Share of the validation galaxies that the flow is not fitted to: they decide when to stop and how far to spread.
_HELD_SHARE = 0.3
# Independent of the network's: galaxies are few here, and the flow needs many steps.
_CALIBRATION_BATCH = 256


def fit_head(
    store: ProjectStore, head: Head, workers: RenderingWorkers, device: torch.device, log: Callable[[str], None]
) -> tuple[Checkpoint, dict[str, float]]:
    """Train a head on the finished network's map.

    It sees as many blends of training galaxies as the calibration sees of validation galaxies.
    """
    recipe, frame, folder = store.profile.shape_recipe, frame_of(store), store.shape_checkpoint(head.name)
    network, _ = trained_network(store, device)
    scenes = {"train": recipe.calibration_scenes, "validation": recipe.validation_scenes}
    light = light_of(store, workers, scenes, log)
    classifier = new_classifier(head, frame, recipe)
    if recipe.start != "fresh":
        # A head that was added after the weights were shipped starts afresh.
        begun = weights_of_network(shipped(recipe.start, "shapes"), weight_prefix(head))
        if begun:
            load_matching(classifier, begun, f"shipped weights of {recipe.start}")
    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)

    band = frame.bands.index(frame.label_band)
    objective = HeadObjective(head, classifier, network, recipe, sigma, band, recombine=recombined(store))
    feeds = blend_feeds(light, lambda part: getattr(part, head.truth)[:, None], recipe, device)
    samples, length = len(light["train"].values), getattr(recipe, head.length)
    result, figures = fitted(objective, feeds, samples, recipe, length, folder, device, log)
    card = card_of(store, frame, PriorMoments.of(light["train"].values)) | {
        "questions": list(head.criteria),
        "auc": _areas(head, network, classifier.eval(), frame, light["validation"], recipe.seed),
        "training_scenes": samples,
        "best_epoch": result.best_epoch,
        "parameters_trained": sum(p.numel() for p in classifier.parameters()),
    }
    return Checkpoint(weights_of(classifier), card, result.history, folder.fingerprint), figures


def _areas(
    head: Head, network: ShapeNetwork, classifier: MapClassifier, frame: StampFrame, light: BlendLight, seed: int
) -> list[float | None]:
    """Area under the ROC curve for each criterion, from one orientation's log-odds.

    It is the share of pairs of blends with different labels that the log-odds order rightly.
    """
    odds = posteriors_of_light(network, {head.name: classifier}, frame, light, 1, seed).log_odds[head.name].numpy()
    band = frame.bands.index(frame.label_band)
    own, others = (torch.from_numpy(part[:, band]).float() for part in (light.target, light.others))
    true = true_labels(head, own, own + others, torch.from_numpy(getattr(light, head.truth))).numpy()
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
    finished = {head: store.shape_checkpoint(head.name).read() for head in HEADS}
    classifier = new_classifier(NEIGHBOURS, frame, recipe)
    classifier.load_state_dict(finished[NEIGHBOURS].weights)
    classifiers = {NEIGHBOURS.name: classifier.to(device).eval()}
    light = light_of(store, workers, {"validation": recipe.calibration_scenes}, log)["validation"]
    found = posteriors_of_light(network, classifiers, frame, light, recipe.orientations, recipe.seed)
    truth = population.whiten(light.values)
    stretch = stretch_of(found, truth)
    posterior = found.stretched(stretch).single(torch.device("cpu"))
    values = torch.from_numpy(truth).float()
    columns = (posterior.mean, posterior.cholesky, posterior.log_odds[NEIGHBOURS.name], values)
    held = held_galaxies(light.values, recipe.seed)
    flow = new_flow(recipe)

    def feed(rows: NDArray[np.bool_]) -> Feed:
        chosen = tuple(column[rows] for column in columns)
        return Feed(lambda _: chosen, 1, 1, _CALIBRATION_BATCH, device)

    feeds, samples = (feed(~held), feed(held)), int((~held).sum())
    result, _ = fitted(FlowObjective(flow), feeds, samples, recipe, recipe.calibration, folder, device, log)
    withheld = posterior.rows(held).single(device)
    truths = (light.snr[held], light.blendedness[held], light.nearest[held])
    groups = coverage_groups(*truths, found.log_odds[NEIGHBOURS.name][held, CLOSE].numpy())
    generator = torch.Generator(device).manual_seed(recipe.seed)
    fit_spread(flow, values[held].to(device), withheld, groups, generator)
    spread = flow.spread(withheld)[0].double().cpu().numpy()
    card = card_of(store, frame, population) | {
        "network": {"widths": list(recipe.widths), "dense": recipe.dense},
        "questions": finished[NEIGHBOURS].card["questions"],
        "orientations": recipe.orientations,
        "stretch": stretch.tolist(),
        "spread": {f"{q:.0%}": np.quantile(spread, q, axis=0).tolist() for q in (0.05, 0.5, 0.95)},
        "training_scenes": trained.card["training_scenes"],
        "calibration_scenes": len(truth),
        "best_epoch": result.best_epoch,
        "parameters_trained": trained.card["parameters_trained"]
        + sum(part.card["parameters_trained"] for part in finished.values())
        + sum(p.numel() for p in flow.parameters()),
    }
    parts = {"network": trained.weights}
    parts |= {weight_prefix(head): checkpoint.weights for head, checkpoint in finished.items()}
    parts |= {"flow": weights_of(flow)}
    weights = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    return Checkpoint(weights, card, result.history, folder.fingerprint)


def held_galaxies(values: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Which blends the flow is not fitted to, (N,): all blends of a galaxy together.

    A galaxy is the same in all its blends but for its position angle, and a flow fitted to it is too narrow for others.

    Args:
        values: true quantities (N, 6).
        seed: of the random choice.
    """
    unchanged = [QUANTITIES.index(name) for name in ("ln_size", "ln_flux")]
    _, galaxy = np.unique(values[:, unchanged], axis=0, return_inverse=True)
    chance = np.random.default_rng(seed).random(galaxy.max() + 1)
    return np.asarray(chance < np.quantile(chance, _HELD_SHARE))[galaxy.ravel()]
