"""Calibrating the network for every sky on new observations of the validation fields, and fitting its prior."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.errors import MismatchError
from deblend_assets.resources.devices import ComputeDevices, account
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.reports.figures.sky_coverage import coverage_by_group
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.calibration import TERMS, SkyCalibration, row_terms
from deblend_assets.science.sky_shapes.coverage import ALL, LEVELS, NAMES, coverage, held, known_groups
from deblend_assets.science.sky_shapes.inputs import GivenStamps
from deblend_assets.science.sky_shapes.model import SkyModel, network_posteriors
from deblend_assets.science.sky_shapes.network import SkyShapeNetwork
from deblend_assets.science.sky_shapes.population import SkyPopulation
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.statistics.format import Table
from deblend_assets.science.worlds.training_fields import TrainingField, training_fields
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.sky_shapes.fields import fixed_stream, observing
from deblend_assets.steps.training.step import Log, weights_of
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.shipped import EVERY, shipped

# `fixed_stream`s; `network` has 0 and 1.
_PRIOR, _CALIBRATION = 2, 3
_GIVEN = len(GivenStamps._fields)
# Largest distance of a coverage from nominal over all rows and in a group, beyond so many binomial errors.
_OFF_OVER_ALL, _OFF_IN_GROUP, _ERRORS = 0.015, 0.03, 2.0
# Groups of fewer galaxies are not held against it.
_LEAST = 100


def calibrate_sky_model(
    store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers, log: logging.Logger
) -> Outcome:
    """Calibrate the finished network, or keep the finished model of exactly these inputs."""
    folder = store.sky_model_checkpoint()
    words: dict[str, str | bool] = {"fingerprint": folder.fingerprint}
    numbers: dict[str, float] = {}
    if folder.finished:
        log.info(f"{folder.asset}: kept the model of the same inputs and settings ({folder.fingerprint})")
    else:
        with devices.allocate_many(folder.asset, 1, log) as leases:
            checkpoint = fit_sky_model(store, workers, torch.device(leases[0].torch_device), log.info)
            folder.finish(checkpoint)
        lease = account(leases)
        words["device"] = f"{lease['device']} ({lease['device_name']})"
        numbers = {name: float(lease[name]) for name in ("peak_memory_gib", "seconds_held")}
    card = folder.read().card
    found, factors = card["coverage"], card["factors"]
    return Outcome(
        figures={"coverage": coverage_by_group(found, NAMES, LEVELS)},
        numbers={
            "calibration_galaxies": found[ALL]["n"],
            "calibration_targets": card["calibration_targets"],
            "prior_galaxies": card["prior_galaxies"],
            **numbers,
        },
        words=words,
        tables={
            "calibration": Table.of(
                {
                    name: {
                        "median factor on the error": factors[name],
                        "share in the tail": card["tails"][name]["share"],
                        "its width": card["tails"][name]["width"],
                    }
                    | {f"held by the {level} interval": found[ALL][level][name] for level in card["levels"]}
                    for name in NAMES
                },
                "quantity",
            )
        },
        paths={"path": folder.path},
        checks=[coverage_check(found)],
    )


def coverage_check(found: Mapping[str, Mapping[str, Any]]) -> Check:
    """Whether every coverage is near its nominal value, as far as so many galaxies can tell.

    Args:
        found: of `science.sky_shapes.coverage.coverage`.
    """
    wrong, largest = [], 0.0
    for group, shares in found.items():
        for level in LEVELS:
            error = np.sqrt(level * (1 - level) / shares["n"])
            allowed = (_OFF_OVER_ALL if group == ALL else _OFF_IN_GROUP) + _ERRORS * error
            for name, share in shares[f"{level:.0%}"].items():
                off = abs(share - level)
                largest = max(largest, off if group == ALL else 0.0)
                if off > allowed and shares["n"] >= _LEAST:
                    wrong.append(f"{name} {level:.0%} in {group}: {share:.3f}")
    return Check(
        "coverage",
        not wrong,
        "; ".join(wrong) or f"within the limits; off by {largest:.3f} at most over all",
        {"largest_over_all": largest, "outside": len(wrong)},
        warn=True,
    )


def fit_sky_model(store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Log) -> Checkpoint:
    """The calibrated model of the finished network, not yet stored.

    Its coverage is measured on fields that the calibration of that measurement was not fitted to: half of them;
    the stored calibration is fitted to all. The shipped calibration is measured on all.

    Raises:
        MissingDataError, MismatchError: the network is not trained with the present inputs; a field is not made; the
            shipped calibration is of another number of orientations.
    """
    trained, recipe, settings = store.sky_checkpoint().read(), store.profile.recipes.sky_model, store.profile
    bands, card = trained.card["bands"], trained.card
    network = SkyShapeNetwork(card["network"]["widths"], card["network"]["dense"], bands)
    network.load_state_dict(trained.weights)
    network.to(device).eval()
    moments = PriorMoments(**card["population"])
    unseen = training_fields(settings.training_fields, "validation")
    rows = _joined(list(_calibration_rows(store, unseen, workers, moments, network)))
    log(f"calibration: {len(rows.true):,} targets of {len(unseen)} fields, observed {recipe.observations} times")
    within = np.full((len(LEVELS), len(rows.true), len(NAMES)), np.nan)
    if recipe.start == EVERY:
        prior, calibration, prior_galaxies = _shipped(recipe.orientations)
        within[:] = _held(calibration, rows)
    else:
        prior = SkyPopulation(bands)
        seen = training_fields(settings.training_fields, "train")[: recipe.prior_fields]
        given, estimates, values = _skies(store, seen, workers, moments, network)
        prior.fit(given, estimates, values, len(seen))
        prior_galaxies = int(values.isfinite().all(dim=1).sum())
        log(f"prior: fitted to {len(values):,} targets of {len(seen)} fields")
        # At random: every other field is of the same surveys.
        order = np.random.default_rng(store.profile.recipes.sky.seed).permutation(len(unseen))
        halves = [order[rows.field] % 2 == half for half in (0, 1)]
        for fitted, kept in (halves, halves[::-1]):
            # A single field is its own measure.
            if kept.any():
                within[:, kept] = _held(_calibrated(rows.some(fitted if fitted.any() else kept)), rows.some(kept))
        calibration = _calibrated(rows)
    factors = (calibration(rows.posterior, rows.terms).errors / rows.posterior.errors).median(dim=0).values
    kinds = {f"fields of {kind}": rows.kind == kind for kind in dict.fromkeys(rows.kind.tolist())}
    parts = {"network": trained.weights, "prior": weights_of(prior), "calibration": weights_of(calibration)}
    first = np.cumsum([0, *(len(name.split()) for name in NAMES)])[:-1]
    return Checkpoint(
        {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()},
        {
            **{name: card[name] for name in ("bands", "population", "quantities", "network", "stamps_seen")},
            "sky_network": trained.fingerprint,
            "recipe": recipe.model_dump(mode="json"),
            "orientations": recipe.orientations,
            "terms": list(TERMS),
            "factors": dict(zip(NAMES, factors[first].tolist(), strict=True)),
            "tails": {name: tail._asdict() for name, tail in zip(NAMES, calibration.tail_of_blocks, strict=True)},
            "levels": [f"{level:.0%}" for level in LEVELS],
            "coverage": coverage(within, known_groups(rows.terms) | kinds),
            "calibration_targets": len(rows.true),
            "prior_galaxies": prior_galaxies,
            "versions": library_versions("torch", "numpy", "scipy"),
        },
        trained.history,
        store.sky_model_checkpoint().fingerprint,
    )


def _shipped(orientations: int) -> tuple[SkyPopulation, SkyCalibration, int]:
    """Prior and calibration of the shipped model, and the number of galaxies that the prior was fitted to."""
    checkpoint = shipped(EVERY, "sky")
    model = SkyModel.from_checkpoint(checkpoint.weights, checkpoint.card)
    if model.orientations != orientations:
        raise MismatchError(
            f"the shipped calibration is of {model.orientations} orientations, not of {orientations}",
            where="recipes.sky_model.orientations",
            remedy=f'set it to {model.orientations}, or start = "fresh"',
        )
    return model.prior, model.calibration, int(checkpoint.card["prior_galaxies"])


@dataclass(frozen=True)
class _Rows:
    """Targets of N stamps that are calibrated on.

    Attributes:
        posterior: of the network, standardized.
        terms: of the calibration, (N, terms).
        values: standardized true ones, (N, 9).
        true: what each of `CHANCES` is of, (N, chances) bool.
        field: number of the field, (N,).
        kind: of the field, (N,).
    """

    posterior: GaussianPosterior
    terms: Tensor
    values: Tensor
    true: Tensor
    field: NDArray[np.int64]
    kind: NDArray[np.str_]

    def some(self, chosen: NDArray[np.bool_]) -> _Rows:
        posterior, rows = self.posterior.rows(chosen), torch.from_numpy(chosen)
        return _Rows(
            posterior, self.terms[rows], self.values[rows], self.true[rows], self.field[chosen], self.kind[chosen]
        )


def _joined(parts: Sequence[_Rows]) -> _Rows:
    return _Rows(
        GaussianPosterior.joined([part.posterior for part in parts]),
        torch.cat([part.terms for part in parts]),
        torch.cat([part.values for part in parts]),
        torch.cat([part.true for part in parts]),
        np.concatenate([part.field for part in parts]),
        np.concatenate([part.kind for part in parts]),
    )


def _skies(
    store: ProjectStore,
    fields: Sequence[TrainingField],
    workers: RenderingWorkers,
    moments: PriorMoments,
    network: SkyShapeNetwork,
) -> tuple[GivenStamps, Tensor, Tensor]:
    """Of the targets of one observation of some fields: what is given without pixels, posterior means, true values."""
    orientations = store.profile.recipes.sky_model.orientations
    skies: list[GivenStamps] = []
    means: list[Tensor] = []
    true: list[Tensor] = []
    with observing(store, fields, workers, moments) as observe:
        for batch in observe(range(len(fields)), fixed_stream(store.profile.recipes.sky, _PRIOR)):
            given = GivenStamps(*batch[:_GIVEN])
            if not len(given.images):
                continue
            estimates = network_posteriors(network, given, orientations).mean
            images = {name: getattr(given, name)[..., :0, :0] for name in ("images", "seen", "neighbours")}
            skies.append(given._replace(**images))
            means.append(estimates)
            true.append(batch[_GIVEN])
    joined = GivenStamps(*(torch.cat(values) for values in zip(*skies, strict=True)))
    return joined, torch.cat(means), torch.cat(true)


def _calibration_rows(
    store: ProjectStore,
    fields: Sequence[TrainingField],
    workers: RenderingWorkers,
    moments: PriorMoments,
    network: SkyShapeNetwork,
) -> Iterator[_Rows]:
    """Those of each observation of each field."""
    recipe = store.profile.recipes.sky_model
    with observing(store, fields, workers, moments) as observe:
        for number in range(recipe.observations):
            batches = observe(range(len(fields)), fixed_stream(store.profile.recipes.sky, _CALIBRATION + number))
            for field, (*tensors, values, true) in enumerate(batches):
                if not len(true):
                    continue
                given = GivenStamps(*tensors)
                posterior = network_posteriors(network, given, recipe.orientations)
                terms = row_terms(network.bands, given, posterior)
                kind = fields[field].world.rpartition("_")[2]
                yield _Rows(posterior, terms, values, true, np.full(len(true), field), np.full(len(true), kind))


def _calibrated(rows: _Rows) -> SkyCalibration:
    found = SkyCalibration()
    found.fit(rows.posterior, rows.terms, rows.values, rows.true)
    return found


def _held(calibration: SkyCalibration, rows: _Rows) -> NDArray[np.float64]:
    return held(calibration, calibration(rows.posterior, rows.terms), rows.values)
