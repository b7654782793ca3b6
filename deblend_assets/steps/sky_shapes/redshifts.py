"""Training the redshifts of catalogues' rows: on galaxies without images, and on galaxies that are measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.redshift import evaluate_redshifts
from deblend_assets.science.redshift.mixture import RedshiftScale
from deblend_assets.science.redshift.mock_rows import mock_rows
from deblend_assets.science.redshift.photometry import Photometry
from deblend_assets.science.redshift.row_redshifts import RowObjective, RowRedshifts
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.shapes.blends import outcome_card
from deblend_assets.steps.sky_shapes.measured_rows import measured_rows
from deblend_assets.steps.training.step import Log, Training, finished, fit, sole_feed
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.project import ProjectStore, library_versions


def train_row_redshifts(
    store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers, log: logging.Logger
) -> Outcome:
    """Train the network, resume it, or keep the finished one of the same inputs.

    Args:
        store: of the LSST leg, with the catalogue and the training fields.
        devices: are leased for the training.
        workers: observe and measure the fields.
        log: of the asset.
    """
    folder = store.row_redshifts_checkpoint()
    checkpoint, outcome = finished(
        folder, devices, log, lambda device: fit_row_redshifts(store, workers, device, log.info)
    )
    found = checkpoint.card["validation"]
    ours, constant = (found[name]["sigma_NMAD"]["value"] for name in ("ours", "constant"))
    known = ours is not None and constant is not None
    numbers = {"sigma_NMAD": ours, "sigma_NMAD_constant": constant} if known else {}
    words = f"σ_NMAD {ours:.3f}, with one redshift for all {constant:.3f}" if known else "too few validation galaxies"
    return replace(
        outcome,
        numbers={"validation_galaxies": found["ours"]["n"], **numbers, **outcome.numbers},
        checks=[Check("learning", not known or ours < constant, words, numbers, warn=True)],
    )


def fit_row_redshifts(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Log
) -> tuple[Checkpoint, dict[str, float]]:
    """The finished network, not yet stored, and numbers about this run; see `step.fit`.

    Raises:
        MissingDataError: a field is not made.
        TrainingError, TrainingStopped: see `science.training.loop.train`.
    """
    profile, recipe = store.profile, store.profile.recipes.redshifts
    measured = measured_rows(
        store, workers, "train", min(recipe.fields, profile.training_fields.fields("sky", "train")), log
    )
    unseen = measured_rows(store, workers, "validation", profile.training_fields.fields("sky", "validation"), log)
    galaxies = sky_catalog(store.read_catalog(), profile.catalog, "train", "training").galaxies
    return fit_rows(
        (galaxies.flux.sum(axis=2), galaxies.redshift),
        measured,
        unseen,
        profile,
        store.row_redshifts_checkpoint(),
        device,
        log,
    )


def fit_rows(
    galaxies: tuple[np.ndarray, np.ndarray],
    measured: tuple[Photometry, Tensor],
    unseen: tuple[Photometry, Tensor],
    profile: Profile,
    folder: CheckpointFolder,
    device: torch.device,
    log: Log,
) -> tuple[Checkpoint, dict[str, float]]:
    """`fit_row_redshifts` where galaxies and measured rows are at hand.

    Args:
        galaxies: fluxes (G, 6) [nJy] and redshifts (G,) of training galaxies.
        measured, unseen: rows of training and validation fields, and their true redshifts (N,).
        profile: recipe, least S/N, seed.
        folder: keeps the state of the training.
        device, log: see `step.fit`.
    """
    recipe = profile.recipes.redshifts
    noise, common = (getattr(measured[0], name).double().numpy() for name in ("noise", "common"))
    rng = np.random.default_rng(recipe.seed)
    mocks = mock_rows(*galaxies, noise, common, recipe.galaxies, profile.worlds.least_snr, rng)
    rows = Photometry(*(torch.from_numpy(part.astype(np.float32)) for part in mocks[:4]))
    parts = [_batch(rows, torch.from_numpy(mocks.z), exact=True), *[_batch(*measured, exact=False)] * recipe.repeats]
    batch = [torch.cat(columns) for columns in zip(*parts, strict=True)]
    torch.manual_seed(recipe.seed)
    network = RowRedshifts(RedshiftScale.of(mocks.z), recipe.widths, recipe.components)

    def card(result: TrainingResult) -> dict[str, Any]:
        return {
            "network": {"widths": list(network.widths), "components": network.components},
            "recipe": recipe.model_dump(mode="json"),
            "measured_rows": len(measured[1]),
            "validation": _validation(network.cpu(), *unseen, profile),
            "versions": library_versions("torch", "numpy"),
        } | outcome_card(network, len(batch[0]), result)

    training = Training(
        RowObjective(network, recipe.band_dropout),
        sole_feed(batch, recipe.batch_size, device),
        sole_feed(_batch(*unseen, exact=False), recipe.batch_size, device),
        len(batch[0]),
        recipe,
        recipe.training,
        card,
    )
    return fit(training, folder, device, log)


def _batch(rows: Photometry, z: Tensor, *, exact: bool) -> Batch:
    """As `RowObjective` takes it."""
    return (*rows, torch.full((len(z),), exact), z.log1p().float()[:, None])


def _validation(network: RowRedshifts, rows: Photometry, true_z: Tensor, profile: Profile) -> Mapping[str, Evaluation]:
    """Of validation rows: our estimates, and one redshift for all."""
    bootstrap = {"resamples": profile.evaluation.bootstrap, "seed": profile.evaluation.seed}
    z = true_z.numpy()
    with torch.inference_mode():
        below = network(rows).cdf(true_z.log1p().float()[:, None])[:, 0].double().numpy()
    return {
        "ours": evaluate_redshifts(z, network.estimates(rows).z, below, **bootstrap),
        "constant": evaluate_redshifts(z, np.full(len(z), np.median(z)), None, **bootstrap),
    }
