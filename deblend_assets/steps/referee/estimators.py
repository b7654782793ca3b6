"""Our estimators and the report's, applied to the referee's stamps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.deblender.network import Deblender, deblend
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.steps.measuring.model import available_shapes
from deblend_assets.steps.training.models import load_regressor, load_vae
from deblend_assets.stores.project import STAGES, ProjectStore

Log = Callable[[str], None]


@dataclass(frozen=True)
class Estimators:
    """What is evaluated.

    Attributes:
        shapes: the shape posterior.
        report: the report's configuration, where it was trained.
        version: fingerprint of both.
    """

    shapes: ShapePosterior
    report: Deblender | None
    version: str

    def estimates(self, electrons: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Columns of stamps (N, band, y, x) [electron] with all bands.

        `posterior_1`, `_2` (mean of the intrinsic shear-type g) and its mean expected error `posterior_err`; `free_1`,
        `_2` (likelihood-only g); `ln_size` [arcsec], `ln_flux` [electron]; `report_1`, `_2` (observed distortion e)
        where there is one.
        """
        there = np.ones(electrons.shape[:2], dtype=bool)
        posterior, population = self.shapes.posterior(electrons, there, heads=False), self.shapes.population
        found = posterior.in_own_units(population)
        mean, covariance = found.mean.numpy(), found.covariance.numpy()
        free = posterior.likelihood_only().in_own_units(population).mean.numpy()
        errors = np.sqrt(np.einsum("nii->ni", covariance)[:, :2].mean(axis=1))
        columns = {"posterior_err": errors, "ln_size": mean[:, 4], "ln_flux": mean[:, 5]}
        for k in (0, 1):
            columns[f"posterior_{k + 1}"], columns[f"free_{k + 1}"] = mean[:, k], free[:, k]
        if self.report is not None:
            _, regressed = deblend(self.report, electrons, there)
            columns |= {f"report_{k}": np.asarray(regressed[f"e{k}"], float) for k in (1, 2)}
        return columns

    def posterior_g(self, electrons: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean of the intrinsic g, (N, 2), of stamps as `estimates` takes them."""
        found = self.shapes.measure(electrons, np.ones(electrons.shape[:2], dtype=bool))
        g: NDArray[np.float64] = found.mean[:, :2].numpy()
        return g


def available_estimators(store: ProjectStore, torch_device: str, log: Log) -> Estimators:
    """The trained networks, or the survey's shipped weights where the shapes are not trained.

    Raises:
        MissingDataError: neither trained nor shipped.
        MismatchError: trained on other stamps.
        CorruptDataError: a checkpoint is not what was written.
    """
    device = torch.device(torch_device)
    shapes, version = available_shapes(store, log)
    report, theirs = _report(store, log)
    return Estimators(shapes.to(device), None if report is None else report.to(device), f"{version}-{theirs}")


def _report(store: ProjectStore, log: Log) -> tuple[Deblender | None, str]:
    if store.profile.leg != "main":
        return None, "none"
    try:
        fingerprint = store.checkpoint("baseline", STAGES[-1]).fingerprint
        network = Deblender(
            load_vae(store, "baseline", STAGES[1]), load_regressor(store, "baseline"), store.normalization()
        )
    except (MissingDataError, MismatchError) as error:
        log(f"left out: the report's configuration ({error.what}); `make baseline` trains it")
        return None, "none"
    return network, fingerprint
