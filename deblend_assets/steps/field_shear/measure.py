"""Measuring fields of known shear, one in each worker; a field that is killed is made again, all others are kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby

import pandas as pd
import torch

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.field_shear.design import SPLIT, ShearField
from deblend_assets.science.field_shear.fields import ShearFields
from deblend_assets.science.field_shear.measure import joined, measure_images
from deblend_assets.science.field_shear.methods import PEERS, Method, ours
from deblend_assets.science.field_shear.names import TITLES
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.peers import available
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.settings import FieldShearSettings, MeasurementSettings, Profile
from deblend_assets.steps.field_shear.parts import Part, keep, measured_parts, wanted_parts
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import RefereeReport


@dataclass(frozen=True)
class Task:
    """What a worker measures at a time: the parts of one field that are missing.

    Attributes:
        field: which.
        parts: of it.
    """

    field: ShearField
    parts: tuple[Part, ...]

    @property
    def key(self) -> str:
        """Of the field."""
        return self.field.key

    @property
    def scenes(self) -> int:
        """For the progress line."""
        return 1


def chosen_peers(settings: FieldShearSettings, log: Callable[[str], None]) -> list[Method]:
    """The peers of a run, without those that are not installed."""
    found = []
    for peer in PEERS if settings.peers else ():
        if available(peer):
            found.append(peer)
        else:
            log(f"left out: {TITLES[peer.name]} ({peer.module} is not installed; pip install 'deblend_assets[peers]')")
    return found


class OpenFields:
    """What a worker needs: galaxies of the test split, and the methods.

    Args:
        folder: of the model for every sky; None: the shipped one.
        catalog: CatSim columns and `split`.
        profile: settings.
    """

    def __init__(self, folder: CheckpointFolder | None, catalog: pd.DataFrame, profile: Profile) -> None:
        self._folder, self._catalog, self.profile = folder, catalog, profile

    @functools.cached_property
    def fields(self) -> ShearFields:
        """Makes the fields."""
        profile = self.profile
        galaxies = sky_catalog(self._catalog, profile.catalog, SPLIT, "training")
        return ShearFields(galaxies, profile.field_shear, profile.field, profile.masks)

    @functools.cached_property
    def methods(self) -> dict[str, Method]:
        """By name."""
        torch.set_num_threads(1)
        settings = MeasurementSettings(detection=self.profile.detection, stamps=self.profile.stamps)
        own = ours(NetworkEstimate(load_sky_model(self._folder), settings))
        return {method.name: method for method in (own, *PEERS)}


def measured(report: RefereeReport, opened: OpenFields, task: Task) -> None:
    """Measure a task and keep its results part by part, in a worker that sees the folder."""
    fields, settings = opened.fields, opened.profile.field_shear
    field = fields.field(task.field)
    images = functools.cache(lambda redshifts: fields.observed(task.field, field, redshifts))
    for part in task.parts:
        methods = [opened.methods[part.method]]
        results = [
            measure_images(images(redshifts), task.field, methods, list(conditions), settings)
            for redshifts, conditions in groupby(part.conditions, lambda condition: condition.redshifts)
        ]
        keep(report, part, joined(results))


def measure_fields(
    store: ProjectStore,
    report: RefereeReport,
    versions: Mapping[str, str],
    folder: CheckpointFolder | None,
    workers: RenderingWorkers,
    log: Callable[[str], None],
) -> list[Part]:
    """Measure what is missing; returns all parts that are there, of earlier runs too.

    Args:
        store: of the LSST leg.
        report: keeps the parts.
        versions: of the methods' weights, by method.
        folder: of the model for every sky.
        workers: measure.
        log: takes progress lines.
    """
    there = set(measured_parts(report, versions))
    missing = [part for part in wanted_parts(store.profile.field_shear, versions) if part not in there]
    tasks = [Task(field, tuple(parts)) for field, parts in groupby(missing, lambda part: part.field)]
    if there:
        log(f"kept {len({part.field for part in there})} fields that are measured")
    if tasks:
        progress = Progress("fields of known shear", len(tasks), "fields", log)
        with workers.start(store.read_catalog(), store.profile, functools.partial(OpenFields, folder)) as pool:
            for _ in pool.render(tasks, progress, functools.partial(measured, report)):
                pass
    return measured_parts(report, versions)
