"""What is evaluated on the referee's stamps: LSST's networks, and the model for every sky."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.deblender.network import Deblender, deblend
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.quantities import QUANTITIES
from deblend_assets.settings import fingerprint
from deblend_assets.steps.measuring.model import available_shapes, available_sky_model
from deblend_assets.steps.training.models import load_regressor, load_vae
from deblend_assets.stores.project import STAGES, ProjectStore

Log = Callable[[str], None]
Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Specialists:
    """The networks that are trained for LSST's stamps alone.

    Attributes:
        shapes: the shape posterior.
        report: the report's configuration, where it was trained.
        version: fingerprint of both.
    """

    shapes: ShapePosterior
    report: Deblender | None
    version: str

    def estimates(self, electrons: NDArray[np.float32]) -> Columns:
        """Columns of stamps (N, band, y, x) [electron] with all bands.

        `posterior_1`, `_2` (mean of the intrinsic shear-type g) and its mean expected error `posterior_err`; `free_1`,
        `_2` (likelihood-only g); `posterior_ln_size` [arcsec], `posterior_ln_flux` [electron]; `report_1`, `_2`
        (observed distortion e) where there is one.
        """
        there = np.ones(electrons.shape[:2], dtype=bool)
        posterior, population = self.shapes.posterior(electrons, there, heads=False), self.shapes.population
        columns = _columns("posterior", posterior.in_own_units(population))
        free = posterior.likelihood_only().in_own_units(population).mean.numpy()
        columns |= {f"free_{k + 1}": free[:, k] for k in (0, 1)}
        if self.report is not None:
            _, regressed = deblend(self.report, electrons, there)
            columns |= {f"report_{k}": np.asarray(regressed[f"e{k}"], float) for k in (1, 2)}
        return columns

    def posterior_g(self, electrons: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean of the intrinsic g, (N, 2), of stamps as `estimates` takes them."""
        found = self.shapes.measure(electrons, np.ones(electrons.shape[:2], dtype=bool))
        g: NDArray[np.float64] = found.mean[:, :2].numpy()
        return g


@dataclass(frozen=True)
class Estimators:
    """What is evaluated under shear.

    Attributes:
        specialists: of LSST's stamps; None for another survey.
        sky: the model for every sky.
        version: fingerprint of both.
    """

    specialists: Specialists | None
    sky: SkyModel
    version: str

    def estimates(self, stamps: ObservedStamps) -> Columns:
        """Columns of stamps in electrons, with all bands of the survey.

        Those of `Specialists.estimates` where there are some, and of the model for every sky: `sky_1`, `_2` (posterior
        mean of the intrinsic shear-type g), its mean expected error `sky_err`, `sky_ln_size` [arcsec] and
        `sky_ln_flux` [electron]; `sky_free_1`, `_2` (likelihood-only g, also where it is flagged: a cut on the flag
        would follow the shear).
        """
        found = self.sky.measure(stamps)
        columns = _columns("sky", found.posterior)
        columns |= {f"sky_free_{k + 1}": found.likelihood.mean.numpy()[:, k] for k in (0, 1)}
        return columns if self.specialists is None else columns | self.specialists.estimates(stamps.pixels)


def _columns(method: str, posterior: GaussianPosterior) -> Columns:
    """Of a posterior in its own units whose first six quantities are QUANTITIES."""
    mean, covariance = posterior.mean.numpy(), posterior.covariance.numpy()
    return {
        **{f"{method}_{k + 1}": mean[:, k] for k in (0, 1)},
        f"{method}_err": np.sqrt(np.einsum("nii->ni", covariance)[:, :2].mean(axis=1)),
        **{f"{method}_{name}": mean[:, QUANTITIES.index(name)] for name in ("ln_size", "ln_flux")},
    }


def available_estimators(store: ProjectStore, main: ProjectStore, torch_device: str, log: Log) -> Estimators:
    """The trained networks, or the shipped ones where they are not trained.

    Args:
        store: of the scenes' survey.
        main: of the LSST leg, which has the model for every sky.
        torch_device: where they compute.
        log: takes what is left out.

    Raises:
        MissingDataError: neither trained nor shipped.
        MismatchError: trained on other stamps.
        CorruptDataError: a checkpoint is not what was written.
    """
    sky, version = available_sky_model(main), main.sky_model_version()
    # Calibration and prior stay on the host.
    sky.network.to(torch.device(torch_device))
    if store.profile.leg != "main":
        return Estimators(None, sky, version)
    specialists = available_specialists(store, torch_device, log)
    return Estimators(specialists, sky, fingerprint(specialists.version, version))


def available_specialists(store: ProjectStore, torch_device: str, log: Log) -> Specialists:
    """LSST's networks, trained or shipped; store of the LSST leg, else as `available_estimators`."""
    device = torch.device(torch_device)
    shapes, version = available_shapes(store, log)
    report, theirs = _report(store, log)
    return Specialists(shapes.to(device), None if report is None else report.to(device), f"{version}-{theirs}")


def _report(store: ProjectStore, log: Log) -> tuple[Deblender | None, str]:
    try:
        version = store.checkpoint("baseline", STAGES[-1]).fingerprint
        network = Deblender(
            load_vae(store, "baseline", STAGES[1]), load_regressor(store, "baseline"), store.normalization()
        )
    except (MissingDataError, MismatchError) as error:
        log(f"left out: the report's configuration ({error.what}); `make baseline` trains it")
        return None, "none"
    return network, version
