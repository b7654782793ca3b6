"""Rendering the simulated shards: truth, isolated, noisy and blended stamps in one pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
from matplotlib.figure import Figure

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.reports.figures.scenes import scenes
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.steps.outcome import Outcome
from deblend_assets.steps.simulation.shard_checks import ShardChecks
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.project import ProjectStore, library_versions

_STAMPS = ("isolated", "noisy", "blended")


def render_shards(
    store: ProjectStore, shards: Sequence[Shard], workers: RenderingWorkers, log: Callable[[str], None]
) -> dict[str, Outcome]:
    """Render the shards that are not finished, and check all of them.

    Args:
        store: of the profile.
        shards: at least one.
        workers: render the scenes.
        log: takes progress lines.

    Returns:
        An outcome each for `truth`, `isolated`, `noisy` and `blended`.
    """
    profile, catalog = store.profile, store.read_catalog()
    survey = load_survey(profile.simulation.survey)
    arrays = store.create_arrays(survey)
    missing = [shard for shard in shards if not arrays.is_done(shard)]
    if len(missing) < len(shards):
        log(f"kept {len(shards) - len(missing)} finished shards of {len(shards)}")
    arrays.require_space(len(missing))
    started = time.monotonic()
    if missing:
        progress = Progress("rendering", sum(s.scenes for s in missing), "scenes", log)
        versions = library_versions("blending-toolkit", "galsim", "surveycodex", "numpy", "torch", "zarr")
        with ExitStack() as stack:
            for shard in missing:
                stack.enter_context(arrays.lock(shard))
            pool = stack.enter_context(workers.start(catalog, profile.simulation))
            for _ in pool.render(missing, progress, arrays.writer({"versions": versions})):
                pass  # each shard logs a line of progress
    seconds = time.monotonic() - started

    checks = ShardChecks(profile, arrays, catalog, survey)
    for shard in shards:
        checks.add(shard)
    rendered = sum(s.scenes for s in missing)
    numbers = {
        "scenes": sum(s.scenes for s in shards),
        "scenes_rendered_now": rendered,
        "scenes_per_second": rendered / seconds if rendered else 0.0,
        "workers": workers.count,
    }
    results = checks.results()
    gallery = {"scenes_of_the_first_shard": _gallery(arrays, shards[0], profile.simulation.label_band)}
    return {
        name: Outcome(
            figures=gallery if name == "blended" else {},
            numbers=numbers,
            paths={"path": arrays.folder},
            checks=results[name],
        )
        for name in ("truth", *_STAMPS)
    }


def _gallery(arrays: SimulatedArrays, shard: Shard, label_band: str) -> Figure:
    """The most crowded of a shard's first scenes: a third of all have no neighbour, and would show none."""
    sizes = arrays.read_truth([shard]).groupby("scene").size().to_numpy()
    shown = np.sort(np.argsort(-sizes[:60], kind="stable")[:6])
    stamps = {name: arrays.read(name, shard)[shown] for name in _STAMPS}
    scale = arrays.attributes["pixel_scale_arcsec"]
    return scenes(stamps, band=label_band, index=arrays.bands.index(label_band), pixel_scale=scale)
