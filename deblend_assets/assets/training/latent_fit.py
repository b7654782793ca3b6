"""Fitting the latent's flow, and evaluating both priors on validation galaxies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import dagster as dg
import torch
from torch import Tensor

from deblend_assets.assets.common import check, plot, rounded, table
from deblend_assets.assets.shapes.run import finished
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.science.deblender.latent_prior import LatentFlow, LatentFlowObjective, gaussian_log_prob
from deblend_assets.science.evaluation.round_bias import decoded_band, kl_gain, latent_comparison, shape_distribution
from deblend_assets.science.networks import VAE, Latent
from deblend_assets.science.reports.figures.latent import ellipticity_distributions, rate_distortion
from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.training.feeding import Feed
from deblend_assets.steps.shapes.fit import fitted, weights_of
from deblend_assets.steps.training.data import StageData
from deblend_assets.steps.training.models import latent_flow_of, load_vae, new_latent_flow, normalization_card
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import STAGES, ProjectStore, library_versions

_RECIPE = "training"
# Validation galaxies that are decoded: the roundness of a thousand is known to 0.005.
_EVALUATED = 2_000
# Draws of q(z|x) a galaxy behind its KL.
_DRAWS = 8


def fit_flow(
    store: ProjectStore, device: torch.device, log: Callable[[str], None]
) -> tuple[Checkpoint, dict[str, float]]:
    """Encode the noisy isolated stamps with the finished stage 1 and fit the flow; the checkpoint, not yet stored."""
    recipe, folder = store.profile.recipes.training, store.latent_flow()
    network = load_vae(store, _RECIPE, STAGES[0]).to(device)
    latents = {split: encoded(store, network, split, device)[0] for split in ("train", "validation")}
    torch.manual_seed(recipe.seed + 3)
    flow = new_latent_flow(recipe)
    flow.whiten(latents["train"])

    def feed(split: str) -> Feed:
        columns = latents[split].mean, latents[split].log_variance
        return Feed(lambda _: columns, 1, 1, recipe.batch_size, device)

    samples = len(latents["train"].mean)
    feeds = feed("train"), feed("validation")
    result, figures = fitted(LatentFlowObjective(flow), feeds, samples, recipe, recipe.flow, folder, device, log)
    card = {
        "recipe": recipe.model_dump(mode="json"),
        "normalization": normalization_card(store.normalization()),
        "training_scenes": samples,
        "best_epoch": result.best_epoch,
        "parameters_trained": sum(p.numel() for p in flow.parameters()),
        "versions": library_versions("torch", "numpy", "zuko"),
    }
    return Checkpoint(weights_of(flow), card, result.history, folder.fingerprint), figures


@torch.inference_mode()
def encoded(
    store: ProjectStore, network: VAE, split: str, device: torch.device, most: int | None = None
) -> tuple[Latent, Tensor]:
    """q(z|x) of a split's noisy isolated stamps, and these galaxies without noise in Eq. 9 space, all on the CPU.

    Args:
        store: of the arrays.
        network: with the encoder.
        split: which galaxies.
        device: of the network.
        most: how many at most; the targets of none, where no number is given.
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


def materialize_flow(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices
) -> dg.MaterializeResult:
    """Fit the flow, or keep the finished one of the same inputs, and evaluate it."""
    checkpoint, metadata = finished(
        context, store.latent_flow(), devices, lambda device: fit_flow(store, device, context.log.info)
    )
    found, gain, figures = evaluate_priors(store, latent_flow_of(checkpoint, store.profile.recipes.training))
    normal, learned = found["N(0, 1)"], found["flow"]
    # Not known of a handful of galaxies, or where the flow has left the numbers.
    known = {} if gain["value"] is None else {"kl_gain_nats": gain["value"], "kl_gain_error": gain["error"]}
    return dg.MaterializeResult(
        metadata={
            "priors": table({k: _row(v, store) for k, v in found.items()}, "prior"),
            **figures,
            **rounded(known),
            **metadata,
        },
        check_results=[
            check(
                "flow_gains",
                bool(known) and gain["value"] > gain["error"],
                f"KL {_number(normal['kl'])} nats under N(0, 1), {_number(learned['kl'])} under the flow; "
                f"the difference, galaxy by galaxy: {_number(gain)}",
                {"galaxies": normal["n"], **known},
                warn=True,
            )
        ],
    )


def evaluate_priors(
    store: ProjectStore, flow: LatentFlow
) -> tuple[dict[str, Evaluation], Evaluation, dict[str, dg.MetadataValue]]:
    """`round_bias.latent_comparison` for N(0, 1) and the flow, `round_bias.kl_gain` of the flow, and their figures."""
    settings, label = store.profile.evaluation, store.profile.simulation.label_band
    network, normalization = load_vae(store, _RECIPE, STAGES[0]), store.normalization()
    latent, targets = encoded(store, network, "validation", torch.device("cpu"), _EVALUATED)
    generator = torch.Generator().manual_seed(settings.seed)
    count, size = len(latent.mean), latent.mean.shape[1]
    noise = torch.randn((_DRAWS, count, size), generator=generator)
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
                drawn,
                normalization,
                label_band=label,
                noise=noise,
                resamples=settings.bootstrap,
                seed=settings.seed,
            )
            for name, drawn in samples.items()
        }
    gain = kl_gain(latent, flow.log_prob, noise, resamples=settings.bootstrap, seed=settings.seed)
    electrons = partial(decoded_band, network.decoder, normalization=normalization, band=label)
    which = normalization.bands.index(label)
    truth, _ = shape_distribution(normalization.inverse(targets)[:, which].numpy())
    made = {"reconstructions": shape_distribution(electrons(z=latent.mean))[0]} | {
        f"samples of {name}": shape_distribution(electrons(z=drawn))[0] for name, drawn in samples.items()
    }
    distances = {"reconstructions": found["flow"]["round_bias"]["reconstructions"]} | {
        f"samples of {name}": found[name]["round_bias"]["samples"] for name in samples
    }
    beta = store.profile.recipes.training.kl_weight
    return (
        found,
        gain,
        {
            "shapes": plot(ellipticity_distributions(truth, made, distances, label)),
            # One stage 1 is one β: the same decoder, at the rate that either prior pays for it.
            "rate_distortion": plot(rate_distortion({name: {beta: each} for name, each in found.items()})),
        },
    )


def _row(found: Evaluation, store: ProjectStore) -> dict[str, object]:
    label = store.profile.simulation.label_band
    of_samples, of_images = (found["round_bias"][name] for name in ("samples", "reconstructions"))
    flux = found["flux_error"][label]
    return {
        "galaxies": found["n"],
        "KL [nats]": _number(found["kl"]),
        "squared difference (Eq. 9), one draw": _number(found["reconstruction_error"]),
        "RMS Δe of reconstructions": _number(found["shape_error"]),
        "distance of |e|, samples": _number(of_samples),
        "expected if equal": _number({"value": of_samples["expected"], "error": of_samples["expected_error"]}),
        "distance of |e|, reconstructions": _number(of_images),
        "mean |e| of samples less the truth's": _number(of_samples["shift"]),
        f"flux error {label}, median": _number(flux["median"]),
        f"flux error {label}, robust σ": _number(flux["robust_sigma"]),
        "samples without a shape": found["failures"]["samples"],
    }


def _number(measure: Evaluation) -> str:
    value, error = measure["value"], measure["error"]
    return "–" if value is None else f"{value:.4g}" + ("" if error is None else f" ± {error:.1g}")
