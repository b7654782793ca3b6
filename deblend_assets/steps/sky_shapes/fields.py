"""Making the fields that networks for every sky are trained on, and observing them: both by the workers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.sky_shapes.examples import examples, standardized
from deblend_assets.science.sky_shapes.feed import Observe, SkyFeed, field_seed
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.worlds.kept_fields import kept_field
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.science.worlds.training_fields import (
    SPLITS,
    TRAINING_WORLDS,
    TrainingField,
    observe_kept,
    training_arrays,
    training_fields,
)
from deblend_assets.science.worlds.world_fields import WorldFields
from deblend_assets.settings import Profile, SkyRecipe
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.training_fields import TrainingFieldStore

Stores = Mapping[str, TrainingFieldStore]

# Of the observation that counts a new field's targets.
_COUNTED = (0,)


def field_stores(store: ProjectStore) -> Stores:
    """The stores of all `TRAINING_WORLDS`, by name."""
    return {name: store.training_fields(world) for name, world in TRAINING_WORLDS.items()}


def make_training_fields(store: ProjectStore, workers: RenderingWorkers, log: Callable[[str], None]) -> Outcome:
    """Make the training fields that are missing, of both splits.

    Args:
        store: of the LSST leg.
        workers: render the fields.
        log: takes progress lines.
    """
    profile, stores = store.profile, field_stores(store)
    wanted = [field for split in SPLITS for field in training_fields(profile.training_fields, split)]
    missing = [field for field in wanted if not stores[field.world].is_done(field.number)]
    if len(missing) < len(wanted):
        log(f"training fields: kept {len(wanted) - len(missing)} finished fields of {len(wanted)}")
    started = time.monotonic()
    if missing:
        stores[missing[0].world].require_space(len(missing))
        progress = Progress("training fields", len(missing), "fields", log)
        versions = library_versions("galsim", "surveycodex", "sep", "numpy", "torch")
        with ExitStack() as stack:
            for name in sorted({field.world for field in missing}):
                stack.enter_context(stores[name].lock())
            pool = stack.enter_context(workers.start(store.read_catalog(), profile, OpenTrainingWorlds))
            for _ in pool.render(missing, progress, functools.partial(write_field, stores, {"versions": versions})):
                pass
    seconds = time.monotonic() - started
    rate = {"fields_made_now": len(missing), "fields_per_second": len(missing) / seconds if missing else 0.0}
    return _outcome(stores, wanted, profile, {**rate, "workers": workers.count})


class OpenTrainingWorlds:
    """What a worker needs to make fields: the galaxies of a split and population are made at their first use.

    Args:
        catalog: CatSim columns and `split`.
        profile: settings of fields.
    """

    def __init__(self, catalog: pd.DataFrame, profile: Profile) -> None:
        self.profile = profile
        self._of_split = functools.cache(
            lambda split, population: sky_catalog(catalog, profile.catalog, split, population)
        )

    def fields(self, field: TrainingField) -> WorldFields:
        """The fields of a field's world."""
        world = TRAINING_WORLDS[field.world]
        return WorldFields(world, self.profile, self._of_split(field.split, world.population))


def write_field(stores: Stores, info: Mapping[str, Any], opened: OpenTrainingWorlds, field: TrainingField) -> None:
    """Render a field, count its targets in one observation, and store it; in a worker."""
    arrays = training_arrays(opened.fields(field), field.number)
    targets = observe_kept(kept_field(arrays), field, _COUNTED, opened.profile)
    stores[field.world].write(field.number, arrays, len(targets), info)


@dataclass(frozen=True)
class FieldObservation:
    """A field to observe.

    Attributes:
        field: which.
        seed: of its noise and artefacts.
    """

    field: TrainingField
    seed: tuple[int, ...]

    @property
    def key(self) -> str:
        """See `TrainingField`."""
        return self.field.key

    @property
    def scenes(self) -> int:
        """See `TrainingField`."""
        return self.field.scenes


class OpenKeptFields:
    """What a worker needs to observe kept fields.

    Args:
        stores: of the fields, by the names of their worlds.
        catalog: not used: a kept field has its sources.
        profile: masks, detection, stamps.
    """

    def __init__(self, stores: Stores, catalog: pd.DataFrame, profile: Profile) -> None:
        self.stores, self.profile = stores, profile

    def observed(self, task: FieldObservation) -> list[np.ndarray]:
        """`examples` of the targets of a new observation, as arrays: tensors would be sent by shared memory."""
        kept = kept_field(self.stores[task.field.world].read(task.field.number))
        targets = observe_kept(kept, task.field, task.seed, self.profile)
        return [tensor.numpy() for tensor in examples(targets)]


@contextmanager
def observing(
    store: ProjectStore,
    fields: Sequence[TrainingField],
    workers: RenderingWorkers,
    prior: PriorMoments | None = None,
) -> Iterator[Observe]:
    """Workers that observe kept fields, for the feeds; they end with the block.

    Args:
        store: of the LSST leg.
        fields: which numbers 0, 1, … stand for.
        workers: observe.
        prior: units of the true values, see `standardized`; none: not standardized.
    """
    opened = functools.partial(OpenKeptFields, field_stores(store))
    with workers.start(store.read_catalog().iloc[:0], store.profile, opened) as pool:

        def observe(numbers: Sequence[int], seed: np.random.SeedSequence) -> Iterator[Batch]:
            tasks = [FieldObservation(fields[n], tuple(field_seed(seed, n))) for n in numbers]
            progress = Progress("observing", len(tasks), "fields", lambda line: None)
            for _, arrays in pool.render(tasks, progress, OpenKeptFields.observed):
                batch = tuple(torch.from_numpy(values) for values in arrays)
                yield batch if prior is None else standardized(batch, prior)

        yield observe


def fixed_stream(recipe: SkyRecipe, which: int) -> np.random.SeedSequence:
    """Random numbers of an observation that does not change with the epoch.

    Args:
        recipe: of the network.
        which: number of the observation; each has its own.
    """
    # Epochs have the keys 0, 1, … of the same seed.
    return np.random.SeedSequence(recipe.seed, spawn_key=(which, 1))


def sky_feed(
    store: ProjectStore,
    fields: Sequence[TrainingField],
    observe: Observe,
    group: int,
    batch_size: int,
    device: torch.device,
) -> SkyFeed:
    """Batches of some kept fields.

    Args:
        store: of the LSST leg.
        fields: those that `observe` observes.
        observe: of `observing`.
        group, batch_size, device: see `SkyFeed`.

    Raises:
        MissingDataError: a field is not made.
    """
    stores = field_stores(store)
    targets = [stores[field.world].targets(field.number) for field in fields]
    return SkyFeed(observe, targets, group, batch_size, device)


def _outcome(stores: Stores, fields: Sequence[TrainingField], profile: Profile, rate: Mapping[str, float]) -> Outcome:
    targets = {name: 0 for name in stores}
    for field in fields:
        targets[field.world] += stores[field.world].targets(field.number)
    foreign = sum(_foreign(stores[field.world], field, profile) for field in fields if field.number == 0)
    return Outcome(
        numbers={"fields": len(fields), **{f"targets_{name}": number for name, number in targets.items()}, **rate},
        paths={"path": next(iter(stores.values())).folder.parents[1]},
        checks=[
            Check(
                "of_their_split",
                not foreign,
                f"{foreign} galaxies of other splits in the first field of each kind",
                {"foreign": foreign},
            )
        ],
    )


def _foreign(store: TrainingFieldStore, field: TrainingField, profile: Profile) -> int:
    """Galaxies of a field that are not of its split."""
    truth = kept_field(store.read(field.number)).truth
    ids = truth.loc[~truth["star"], "id"].to_numpy()
    return int((assign_split(ids, profile.catalog.fractions, salt=str(profile.catalog.seed)) != field.split).sum())
