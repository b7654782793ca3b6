"""Materialising the shape network, its head, its calibration: resume or reuse, train on a leased device, store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import numpy as np
import torch

from deblend_assets.assets.common import check, plot, rounded, table
from deblend_assets.resources.devices import ComputeDevices, account
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.reports.figures.training import loss_curves
from deblend_assets.science.shapes.heads import CLOSE, NEIGHBOURS
from deblend_assets.science.stamps.quantities import QUANTITIES
from deblend_assets.steps.shapes.calibrate import fit_calibration, fit_head
from deblend_assets.steps.shapes.fit import fit_network
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.project import ProjectStore

# A network whose errors are off by more has not learnt what it does not know.
_LARGEST_STRETCH = 2.0
# Share of pairs told apart by odds that know nothing.
_CHANCE = 0.5


def materialize_network(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    """Train the network, or go on with it, or report the finished checkpoint of exactly these inputs."""
    folder = store.shape_checkpoint("shape_network")
    checkpoint, metadata = finished(
        context, folder, devices, lambda device: fit_network(store, workers, device, context.log.info)
    )
    history, best = checkpoint.history, checkpoint.history[checkpoint.card["best_epoch"] - 1]
    first = history[0]["validation_total"]
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            check(
                "learning",
                best["validation_total"] < first or len(history) == 1,
                f"validation loss {best['validation_total']:.4g} at best, {first:.4g} after the first epoch",
                {"first": first, "best": best["validation_total"]},
                warn=True,
            )
        ],
    )


def materialize_neighbours(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    """Train the head on the finished network's map, or report the finished checkpoint of exactly these inputs."""
    folder = store.shape_checkpoint("neighbour_head")
    checkpoint, metadata = finished(
        context, folder, devices, lambda device: fit_head(store, NEIGHBOURS, workers, device, context.log.info)
    )
    apart = dict(zip(checkpoint.card["questions"], checkpoint.card["auc"], strict=True))
    close = checkpoint.card["auc"][CLOSE]
    rows = {name: {"pairs told apart": "-" if auc is None else f"{auc:.3f}"} for name, auc in apart.items()}
    return dg.MaterializeResult(
        metadata={"told_apart": table(rows, "validation blends"), **metadata},
        check_results=[
            check(
                "neighbours_told",
                close is not None and close > _CHANCE,
                f"{checkpoint.card['questions'][CLOSE]}: "
                + ("none, or all of them" if close is None else f"{close:.1%} of pairs told apart"),
                {} if close is None else {"auc": close},
                warn=True,
            )
        ],
    )


def materialize_posterior(
    context: dg.AssetExecutionContext, store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers
) -> dg.MaterializeResult:
    """Calibrate the network, or report the finished checkpoint of exactly these inputs."""
    folder = store.shape_checkpoint("shape_posterior")
    checkpoint, metadata = finished(
        context, folder, devices, lambda device: (fit_calibration(store, workers, device, context.log.info), {})
    )
    stretch = np.asarray(checkpoint.card["stretch"])
    furthest = float(np.exp(np.abs(np.log(stretch)).max()))
    spread = checkpoint.card["spread"]
    rows = {
        name: {"factor on the expected error": float(s)}
        | {f"spread of the flow, {share} of galaxies": float(spread[share][k]) for share in spread}
        for k, (name, s) in enumerate(zip(QUANTITIES, stretch, strict=True))
    }
    return dg.MaterializeResult(
        metadata={"calibration": table(rows, "quantity"), **metadata},
        check_results=[
            check(
                "errors_believed",
                furthest <= _LARGEST_STRETCH,
                f"expected errors were changed by a factor of {furthest:.3g} at most",
                {"largest_factor": furthest},
                warn=True,
            )
        ],
    )


def finished(
    context: dg.AssetExecutionContext,
    folder: CheckpointFolder,
    devices: ComputeDevices,
    fit: Callable[[torch.device], tuple[Checkpoint, dict[str, float]]],
) -> tuple[Checkpoint, dict[str, Any]]:
    """The finished checkpoint, fitted on a leased device where it was not, and the asset's metadata."""
    metadata: dict[str, Any] = {}
    if folder.finished:
        context.log.info(f"{folder.asset}: kept the checkpoint of the same inputs and settings ({folder.fingerprint})")
    else:
        with devices.allocate_many(folder.asset, 1, context.log) as leases:
            checkpoint, figures = fit(torch.device(leases[0].torch_device))
            folder.finish(checkpoint)
            metadata = account(leases) | figures
    checkpoint = folder.read()
    card, history = checkpoint.card, checkpoint.history
    best = history[card["best_epoch"] - 1]
    return checkpoint, {
        "losses": plot(loss_curves(history, folder.asset)),
        "epochs": len(history),
        "best_epoch": f"{card['best_epoch']} of {len(history)}",
        **rounded({f"best_{k}": v for k, v in best.items() if k.startswith(("train_", "validation_"))}),
        **metadata,
        "parameters_trained": f"{card['parameters_trained']:,}",
        "fingerprint": folder.fingerprint,
        "path": dg.MetadataValue.path(str(folder.path)),
    }
