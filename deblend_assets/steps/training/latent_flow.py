"""Fitting the prior of the latent, a flow, and evaluating it beside N(0, 1) on validation galaxies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.science.deblender.latent_prior import LatentFlow, LatentFlowObjective, gaussian_log_prob
from deblend_assets.science.evaluation.round_bias import decoded_band, kl_gain, latent_comparison, shape_distribution
from deblend_assets.science.networks import VAE, Latent
from deblend_assets.science.reports.figures.latent import ellipticity_distributions, rate_distortion
from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import Cell, Table, format_measure
from deblend_assets.science.training.feeding import Feed
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.training.data import StageData
from deblend_assets.steps.training.models import latent_flow_of, load_vae, new_latent_flow, normalization_card
from deblend_assets.steps.training.step import Log, Training, finished, fit, parameters_of, sole_feed
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import STAGES, ProjectStore, library_versions

_RECIPE = "training"
# Validation galaxies that are decoded: enough for an uncertainty of 0.005 on the distance of |e|.
_EVALUATED = 2_000
# Samples of q(z|x) for each galaxy's KL.
_SAMPLES = 8


def train_latent_flow(store: ProjectStore, devices: ComputeDevices, log: logging.Logger) -> Outcome:
    """Fit the flow, or keep the finished one of the same inputs, and evaluate it.

    Args:
        store: with the finished stage 1 and the arrays.
        devices: are leased for the training.
        log: of the asset.
    """
    checkpoint, outcome = finished(store.latent_flow(), devices, log, lambda device: fit_flow(store, device, log.info))
    found, gain, figures = evaluate_priors(store, latent_flow_of(checkpoint, store.profile.recipes.training))
    normal, learned = found["N(0, 1)"], found["flow"]
    # Unknown for a handful of galaxies, or where the flow diverges.
    known = {} if gain["value"] is None else {"kl_gain_nats": gain["value"], "kl_gain_error": gain["error"]}
    return replace(
        outcome,
        figures={**figures, **outcome.figures},
        numbers={**known, **outcome.numbers},
        tables={"priors": Table.of({name: _row(part, store) for name, part in found.items()}, "prior")},
        checks=[
            Check(
                "flow_gains",
                bool(known) and gain["value"] > gain["error"],
                f"KL {format_measure(normal['kl'])} nats under N(0, 1), {format_measure(learned['kl'])} under the "
                f"flow; the difference, galaxy by galaxy: {format_measure(gain)}",
                {"galaxies": normal["n"], **known},
                warn=True,
            )
        ],
    )


def fit_flow(store: ProjectStore, device: torch.device, log: Log) -> tuple[Checkpoint, dict[str, float]]:
    """Encode the noisy isolated stamps with the finished stage 1 and fit the flow; see `step.fit`."""
    recipe = store.profile.recipes.training
    network = load_vae(store, _RECIPE, STAGES[0]).to(device)
    latents = {split: encoded(store, network, split, device)[0] for split in ("train", "validation")}
    torch.manual_seed(recipe.seed + 3)
    flow = new_latent_flow(recipe)
    flow.whiten(latents["train"])
    samples = len(latents["train"].mean)

    def feed(split: str) -> Feed:
        return sole_feed((latents[split].mean, latents[split].log_variance), recipe.batch_size, device)

    def card(result: TrainingResult) -> dict[str, Any]:
        return {
            "recipe": recipe.model_dump(mode="json"),
            "normalization": normalization_card(store.normalization()),
            "training_scenes": samples,
            "best_epoch": result.best_epoch,
            "parameters_trained": parameters_of(flow),
            "versions": library_versions("torch", "numpy", "zuko"),
        }

    feeds = feed("train"), feed("validation")
    training = Training(LatentFlowObjective(flow), *feeds, samples, recipe, recipe.flow, card)
    return fit(training, store.latent_flow(), device, log)


@torch.inference_mode()
def encoded(
    store: ProjectStore, network: VAE, split: str, device: torch.device, most: int | None = None
) -> tuple[Latent, Tensor]:
    """q(z|x) of a split's noisy isolated stamps, and the same galaxies without noise in Eq. 9 space, on the CPU.

    Args:
        store: with the arrays.
        network: with the encoder.
        split: which galaxies.
        device: of the network.
        most: largest number of galaxies; none: all, without their targets.
    """
    recipe = store.profile.recipes.training
    feed = StageData(store.profile, recipe, store.arrays(), store.normalization(), split).images("noisy", device)
    means, variances, targets, count = list[Tensor](), list[Tensor](), list[Tensor](), 0
    for portion in feed.in_order():
        stamps, target = portion.tensors
        latent = network.encoder(stamps, all_present(stamps))
        means.append(latent.mean.cpu())
        variances.append(latent.log_variance.cpu())
        if most is not None:
            targets.append(target.cpu())
            count += len(target)
            if count >= most:
                break
    kept = Latent(torch.cat(means)[:most], torch.cat(variances)[:most])
    return kept, torch.cat(targets)[:most] if targets else torch.empty(0)


def evaluate_priors(
    store: ProjectStore, flow: LatentFlow
) -> tuple[dict[str, Evaluation], Evaluation, Mapping[str, Figure]]:
    """`round_bias.latent_comparison` for N(0, 1) and the flow, `round_bias.kl_gain` for the flow, and their figures."""
    settings, label = store.profile.evaluation, store.profile.simulation.label_band
    network, normalization = load_vae(store, _RECIPE, STAGES[0]), store.normalization()
    latent, targets = encoded(store, network, "validation", torch.device("cpu"), _EVALUATED)
    generator = torch.Generator().manual_seed(settings.seed)
    count, size = len(latent.mean), latent.mean.shape[1]
    noise = torch.randn((_SAMPLES, count, size), generator=generator)
    samples = {
        "N(0, 1)": torch.randn((count, size), generator=generator),
        "flow": flow.sample(count, generator),
    }
    densities = {"N(0, 1)": gaussian_log_prob, "flow": flow.log_prob}
    with torch.no_grad():
        found = {
            name: latent_comparison(
                network.decoder,
                latent,
                targets,
                densities[name],
                sample,
                normalization,
                label_band=label,
                noise=noise,
                resamples=settings.bootstrap,
                seed=settings.seed,
            )
            for name, sample in samples.items()
        }
    gain = kl_gain(latent, flow.log_prob, noise, resamples=settings.bootstrap, seed=settings.seed)
    electrons = partial(decoded_band, network.decoder, normalization=normalization, band=label)
    which = normalization.bands.index(label)
    truth, _ = shape_distribution(normalization.inverse(targets)[:, which].numpy())
    made = {"reconstructions": shape_distribution(electrons(z=latent.mean))[0]} | {
        f"samples of {name}": shape_distribution(electrons(z=sample))[0] for name, sample in samples.items()
    }
    distances = {"reconstructions": found["flow"]["round_bias"]["reconstructions"]} | {
        f"samples of {name}": found[name]["round_bias"]["samples"] for name in samples
    }
    beta = store.profile.recipes.training.kl_weight
    return (
        found,
        gain,
        {
            "shapes": ellipticity_distributions(truth, made, distances, label),
            # There is one stage 1 and so one β: the same decoder, at the rate under either prior.
            "rate_distortion": rate_distortion({name: {beta: part} for name, part in found.items()}),
        },
    )


def _row(found: Evaluation, store: ProjectStore) -> dict[str, Cell]:
    label = store.profile.simulation.label_band
    samples, reconstructions = (found["round_bias"][name] for name in ("samples", "reconstructions"))
    flux = found["flux_error"][label]
    return {
        "galaxies": found["n"],
        "KL [nats]": found["kl"],
        "squared difference (Eq. 9), one sample of z": found["reconstruction_error"],
        "RMS Δe of reconstructions": found["shape_error"],
        "distance of |e|, samples": samples,
        "expected if equal": {"value": samples["expected"], "error": samples["expected_error"]},
        "distance of |e|, reconstructions": reconstructions,
        "mean |e|, samples - truth": samples["shift"],
        f"flux error {label}, median": flux["median"],
        f"flux error {label}, robust σ": flux["robust_sigma"],
        "samples without a shape": found["failures"]["samples"],
    }
