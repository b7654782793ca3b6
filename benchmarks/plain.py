"""The lineage as a plain script: the same functions as the assets call, without Dagster around them.

    DEBLEND_PROFILE=smoke DEBLEND_STORAGE=/tmp/plain python -m benchmarks.plain

Galaxies, shards with their checks, statistics, the three stages, the evaluation with its report, the shape posterior,
its floor and its evaluation; no picture but the reports', and nothing for a UI.
"""

from __future__ import annotations

import torch

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.shapes.heads import HEADS
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS, assign_split
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.population_checks import check_population
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.stamps.normalization import mean_maximum
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.steps.evaluation.simulated_evaluation import write_evaluation
from deblend_assets.steps.shapes.calibration import fit_calibration
from deblend_assets.steps.shapes.evaluation import write_shape_evaluation
from deblend_assets.steps.shapes.floor import write_floor
from deblend_assets.steps.shapes.heads import fit_head
from deblend_assets.steps.shapes.network import fit_network
from deblend_assets.steps.simulation.galaxy_catalog import CATALOG_NOTE
from deblend_assets.steps.simulation.shard_checks import ShardChecks
from deblend_assets.steps.training.fit import fit_stage
from deblend_assets.stores.project import STAGES, ProjectStore

_DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"


def galaxies(store: ProjectStore) -> None:
    """Draw the catalogue and look whether it follows the relations it was made after."""
    settings = store.profile.catalog
    table = generate_population(settings.galaxies, settings.seed)
    split = assign_split(table["galtileid"].to_numpy(), settings.fractions, salt=str(settings.seed))
    columns = {name: (column.unit, column.meaning) for name, column in CATSIM_COLUMNS.items()}
    columns["split"] = ("", "train, validation or test, by a hash of the id")
    store.write_catalog(table.assign(split=split), columns, CATALOG_NOTE, {"rows": len(table)})
    check_population(table)


def simulate(store: ProjectStore) -> None:
    """Draw, store and check every shard."""
    profile, survey, catalog = store.profile, load_survey(store.profile.simulation.survey), store.read_catalog()
    arrays, shards = store.create_arrays(survey), all_shards(profile.simulation)
    progress = Progress("rendering", sum(shard.scenes for shard in shards), "scenes", print)
    with RenderingWorkers(processes=profile.run.workers).start(catalog, profile.simulation) as pool:
        for _ in pool.render(shards, progress, arrays.writer({})):
            pass
    checks = ShardChecks(profile, arrays, catalog, survey)
    for shard in shards:
        checks.add(shard)
    checks.results()


def normalize(store: ProjectStore) -> None:
    """Measure what Eq. 9 needs."""
    arrays = store.arrays()
    found = mean_maximum((arrays.read("noisy", shard) for shard in arrays.shards("train")), arrays.bands)
    store.write_normalization(found.normalization(store.profile.normalization.beta), {"stamps": found.count})


def train(store: ProjectStore) -> None:
    """The three stages."""
    for stage in STAGES:
        checkpoint, _ = fit_stage(store, "training", stage, torch.device(_DEVICE), RenderingWorkers(), print)
        store.checkpoint("training", stage).finish(checkpoint)


def evaluate(store: ProjectStore) -> None:
    """The evaluation on held-out galaxies, with its report."""
    write_evaluation(store, "training", "evaluation", _DEVICE, print)


def shapes(store: ProjectStore) -> None:
    """The shape posterior, its calibration, the floor and the evaluation."""
    workers, device = RenderingWorkers(processes=store.profile.run.workers), torch.device(_DEVICE)
    network, _ = fit_network(store, workers, device, print)
    store.shape_checkpoint("shape_network").finish(network)
    for head in HEADS:
        classifier, _ = fit_head(store, head, workers, device, print)
        store.shape_checkpoint(head.name).finish(classifier)
    store.shape_checkpoint("shape_posterior").finish(fit_calibration(store, workers, device, print)[0])
    write_floor(store, workers, print)
    write_shape_evaluation(store, _DEVICE, print)


def main() -> None:
    store = ProjectStore(storage_root(), load_profile())
    for step in (galaxies, simulate, normalize, train, evaluate, shapes):
        step(store)


if __name__ == "__main__":
    main()
