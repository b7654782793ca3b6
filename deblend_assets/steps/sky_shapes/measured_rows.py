"""Measuring the galaxies of kept fields, by the workers."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.measuring.redshifts import photometry_of
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.redshift.photometry import Photometry
from deblend_assets.science.worlds.kept_fields import kept_field
from deblend_assets.science.worlds.training_fields import REDSHIFT_WORLDS, TrainingField, observe_kept
from deblend_assets.settings import Profile
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.steps.sky_shapes.fields import FieldObservation, Stores, field_stores
from deblend_assets.steps.training.step import Log
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.project import ProjectStore

# Of the one observation of each field that is measured, beside those that the other networks of these fields have.
_OBSERVATION = 5
# Stamps that are measured together.
_AT_ONCE = 64


def measured_rows(
    store: ProjectStore, workers: RenderingWorkers, split: str, number: int, log: Log
) -> tuple[Photometry, Tensor]:
    """What is measured of the galaxies of some fields, and their true redshifts (N,).

    Args:
        store: with the fields.
        workers: observe and measure.
        split: "train" or "validation".
        number: of fields.
        log: takes progress lines.

    Raises:
        MissingDataError: a field is not made.
    """
    opened = functools.partial(OpenMeasuredFields, field_stores(store), store.trained_sky_model())
    fields = [TrainingField(REDSHIFT_WORLDS[split].name, n) for n in range(number)]
    tasks = [FieldObservation(field, (_OBSERVATION, field.number)) for field in fields]
    progress = Progress(f"measuring {split} fields", len(tasks), "fields", log)
    with workers.start(store.read_catalog().iloc[:0], store.profile, opened) as pool:
        found = [arrays for _, arrays in pool.render(tasks, progress, OpenMeasuredFields.measured)]
    *columns, z = (torch.from_numpy(np.concatenate(values)) for values in zip(*found, strict=True))
    return Photometry(*columns), z


class OpenMeasuredFields:
    """What a worker needs to measure kept fields.

    Args:
        stores: of the fields, by the names of their worlds.
        model: folder of the model for every sky; None: the shipped one.
        catalog: not used: a kept field has its sources.
        profile: masks, detection, stamps.
    """

    def __init__(self, stores: Stores, model: CheckpointFolder | None, catalog: pd.DataFrame, profile: Profile) -> None:
        self.stores, self.profile, self.model = stores, profile, load_sky_model(model)

    def measured(self, task: FieldObservation) -> list[np.ndarray]:
        """Columns of the photometry and true redshifts of a field's galaxies, one after the other."""
        kept = kept_field(self.stores[task.field.world].read(task.field.number))
        targets = observe_kept(kept, task.field, task.seed, self.profile)
        truth = targets.truth
        galaxy = (truth["source"] >= 0) & ~truth["star"].astype(bool) & ~truth["spurious"].astype(bool)
        targets = targets.rows(galaxy.to_numpy())
        parts = []
        for start in range(0, len(targets), _AT_ONCE):
            stamps = targets.stamps.rows(slice(start, start + _AT_ONCE))
            parts.append([column.numpy() for column in photometry_of(stamps, measure_scenes(self.model, stamps))])
        z = targets.truth["redshift"].to_numpy(np.float64)
        return [*(np.concatenate(column) for column in zip(*parts, strict=True)), z]
