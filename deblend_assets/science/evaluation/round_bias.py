"""Distances between distributions of |e|: decoded galaxies against the galaxies of the training.

Reconstructions and samples of an autoencoder may have smaller ellipticities than its training galaxies. The distance is
Wasserstein-1, in units of |e|: the mean change of ellipticity that turns one distribution into the other. It is
positive for two samples of one distribution too; that expected distance is given with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from deblend_assets.science.deblender.latent_prior import LogProb, gaussian_log_prob, kl_nats
from deblend_assets.science.networks import Latent
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS, Evaluation, measured, median_and_scatter, positive
from deblend_assets.science.statistics.metrics import Floats, Statistic, rms

_BATCH = 128  # stamps decoded at a time


def wasserstein_with_error(a: np.ndarray, b: np.ndarray, resamples: int, seed: int) -> Evaluation:
    """Wasserstein-1 distance of two samples on a line, its error, and what equal distributions would show.

    Rows are assumed independent, between the samples too: where they are paired (a galaxy and its reconstruction),
    `error` and `expected` are upper limits.

    Args:
        a, b: (N,) and (M,), finite.
        resamples: of bootstrap and permutation each, at least 2.
        seed: of the draws; the same seed gives the same numbers.

    Returns:
        `value`; `error`, its standard deviation over samples drawn with replacement; `expected`, the mean distance of
        two samples of these sizes from one distribution, by permutation of the pooled sample; `expected_error`, the
        standard deviation of that distance from pair to pair. A value is significant where it is several of the last
        above `expected`. All are None where a sample has fewer than `accuracy.MINIMUM_ROWS` rows.
    """
    if min(len(a), len(b)) < MINIMUM_ROWS:
        return dict.fromkeys(("value", "error", "expected", "expected_error"))
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    pooled = np.concatenate([a, b])
    drawn, equal = np.empty(resamples), np.empty(resamples)
    for k in range(resamples):
        drawn[k] = wasserstein_distance(generator.choice(a, len(a)), generator.choice(b, len(b)))
        mixed = generator.permutation(pooled)
        equal[k] = wasserstein_distance(mixed[: len(a)], mixed[len(a) :])
    return {
        "value": float(wasserstein_distance(a, b)),
        "error": float(drawn.std(ddof=1)),
        "expected": float(equal.mean()),
        "expected_error": float(equal.std(ddof=1)),
    }


def shape_distribution(images: np.ndarray) -> tuple[Floats, int]:
    """|e| of the distortion (Eq. 12) of stamps, and how many have none.

    Args:
        images: (N, y, x), any flux unit.

    Returns:
        (K,) float64 without NaN, and the N - K failures of `image_moments`.
    """
    moments = image_moments(images)
    return _moduli(moments.e1, moments.e2)


@torch.no_grad()
def decoded_band(decoder: nn.Module, z: Tensor, normalization: Normalization, band: str) -> np.ndarray:
    """One band of decoded latents.

    Args:
        decoder: (N, latent) to (N, band, y, x) in Eq. 9 space, in evaluation mode.
        z: (N, latent), on the decoder's device.
        normalization: Eq. 9.
        band: one of its bands.

    Returns:
        (N, y, x) float32 [electron].
    """
    which = normalization.bands.index(band)
    return np.concatenate([normalization.inverse(decoder(part))[:, which].cpu().numpy() for part in z.split(_BATCH)])


def latent_comparison(
    decoder: nn.Module,
    latent: Latent,
    target: Tensor,
    log_prob: LogProb,
    samples: Tensor,
    normalization: Normalization,
    *,
    label_band: str,
    noise: Tensor,
    resamples: int,
    seed: int,
) -> Evaluation:
    """Rate, distortion and round bias of one decoder with one prior.

    Only `kl` and the measures of `samples` depend on the prior; the others are the same for every prior.

    Args:
        decoder: as for `decoded_band`.
        latent: q(z|x) of held-out galaxies, (N, latent).
        target: these galaxies, isolated and noiseless, (N, band, y, x) in Eq. 9 space.
        log_prob: ln p of the prior, (M, latent) to (M,).
        samples: draws of the prior, (M, latent); about as many as galaxies.
        normalization: Eq. 9, with the bands of the target.
        label_band: where ellipticities are measured.
        noise: ε ~ N(0, 1), (S, N, latent), the draws of q for the KL; the first also for the reconstruction error.
        resamples, seed: of the bootstraps.

    Returns:
        Measures are `{"value", "error"}`, errors by bootstrap over galaxies; undefined ones are None.

        * `n`: galaxies.
        * `kl`: D_KL(q(z|x) || p) [nats], mean.
        * `reconstruction_error`: squared difference to the target in Eq. 9 space, summed over bands and pixels, mean,
          of one draw of q (Eq. 3: the distortion that belongs to `kl`); `reconstruction_error_of_mean`: of its mean.
        * `shape_error`: RMS Δe per component, reconstruction of the mean against the target, in the label band.
        * `round_bias`: for `reconstructions` (of the mean) and `samples` the `wasserstein_with_error` of |e| to the
          targets', and `shift`, the difference of the mean |e|, negative where they are rounder than the targets.
        * `failures`: stamps without a shape among `target`, `reconstructions` and `samples`.
        * `flux_error`: by band the `median_and_scatter` of reconstructed over true flux over the stamp - 1.
    """
    found = _by_galaxy(decoder, latent, target, log_prob, normalization, label_band, noise)
    off = {k: found[f"{k}_mean"] - found[f"{k}_target"] for k in ("e1", "e2")}
    both = np.isfinite(off["e1"]) & np.isfinite(off["e2"])
    truth, of_truth = _moduli(found["e1_target"], found["e2_target"])
    made = {
        "reconstructions": _moduli(found["e1_mean"], found["e2_mean"]),
        "samples": shape_distribution(decoded_band(decoder, samples, normalization, label_band)),
    }

    def mean(values: Floats) -> Evaluation:
        return _mean(values, resamples, seed)

    return {
        "n": len(target),
        "kl": mean(found["kl"]),
        "reconstruction_error": mean(found["difference_draw"]),
        "reconstruction_error_of_mean": mean(found["difference_mean"]),
        "shape_error": _one(_both_components, {k: values[both] for k, values in off.items()}, resamples, seed),
        "round_bias": {
            name: {**wasserstein_with_error(moduli, truth, resamples, seed), "shift": _shift(moduli, truth)}
            for name, (moduli, _) in made.items()
        },
        "failures": {"target": of_truth, **{name: failures for name, (_, failures) in made.items()}},
        "flux_error": {
            band: median_and_scatter(
                found["flux_mean"][:, k] / positive(found["flux_target"][:, k]) - 1.0, resamples=resamples, seed=seed
            )
            for k, band in enumerate(normalization.bands)
        },
    }


@torch.no_grad()
def kl_gain(latent: Latent, log_prob: LogProb, noise: Tensor, *, resamples: int, seed: int) -> Evaluation:
    """By how much a prior lowers the KL under N(0, 1) [nats]: `{"value", "error"}`, None below `MINIMUM_ROWS` galaxies.

    Both use the same galaxies and random numbers, whose scatter is most of the error of each. The error of the
    difference is therefore a bootstrap over the galaxies' differences.

    Args:
        latent, log_prob, noise, resamples, seed: as for `latent_comparison`.
    """
    gains = []
    for start in range(0, len(latent.mean), _BATCH):
        rows = slice(start, start + _BATCH)
        q = Latent(latent.mean[rows], latent.log_variance[rows])
        normal, other = (kl_nats(q, prior, noise[:, rows]) for prior in (gaussian_log_prob, log_prob))
        gains.append(_numbers(normal - other))
    return _mean(np.concatenate(gains), resamples, seed)


@torch.no_grad()
def _by_galaxy(
    decoder: nn.Module,
    latent: Latent,
    target: Tensor,
    log_prob: LogProb,
    normalization: Normalization,
    label_band: str,
    noise: Tensor,
) -> dict[str, Floats]:
    """The summands of `latent_comparison`, (N,), fluxes (N, band); in batches, one stack of stamps at a time."""
    which = normalization.bands.index(label_band)
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(target), _BATCH):
        rows = slice(start, start + _BATCH)
        q = Latent(latent.mean[rows], latent.log_variance[rows])
        stamps = {"target": target[rows], "mean": decoder(q.mean), "draw": decoder(q.sample(noise[0, rows]))}
        part = {"kl": _numbers(kl_nats(q, log_prob, noise[:, rows]))}
        for name in ("mean", "draw"):
            part[f"difference_{name}"] = _numbers((stamps[name] - stamps["target"]).square().sum(dim=(1, 2, 3)))
        for name in ("target", "mean"):
            electrons = _numbers(normalization.inverse(stamps[name]))
            moments = image_moments(electrons[:, which])
            part |= {f"e1_{name}": moments.e1, f"e2_{name}": moments.e2, f"flux_{name}": electrons.sum(axis=(2, 3))}
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _one(statistic: Statistic, columns: Mapping[str, Floats], resamples: int, seed: int) -> Evaluation:
    measure: Evaluation = measured(lambda c: statistic(c)[None], ("it",), columns, resamples, seed)["it"]
    return measure


def _mean(values: Floats, resamples: int, seed: int) -> Evaluation:
    return _one(lambda c: np.asarray(c["v"].mean(axis=-1)), {"v": values}, resamples, seed)


def _numbers(values: Tensor) -> Floats:
    return np.asarray(values.cpu().numpy(), dtype=np.float64)


def _moduli(e1: Floats, e2: Floats) -> tuple[Floats, int]:
    """|e| where it is a number, and how often it is not."""
    modulus = np.hypot(e1, e2)
    known: Floats = modulus[np.isfinite(modulus)]
    return known, len(modulus) - len(known)


def _both_components(columns: Mapping[str, Floats]) -> Floats:
    return np.asarray(np.sqrt(0.5 * (rms(columns["e1"]) ** 2 + rms(columns["e2"]) ** 2)))


def _shift(moduli: Floats, truth: Floats) -> Evaluation:
    """Difference of the means, with the error of independent samples."""
    if min(len(moduli), len(truth)) < MINIMUM_ROWS:
        return {"value": None, "error": None}
    error = np.sqrt(moduli.var(ddof=1) / len(moduli) + truth.var(ddof=1) / len(truth))
    return {"value": float(moduli.mean() - truth.mean()), "error": float(error)}
