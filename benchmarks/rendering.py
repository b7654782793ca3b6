"""Scenes a second: our rendering, three arrays and truth written to Zarr, against BTK's generator on the same scenes.

The peer draws the same galaxies at the same places with `CatsimGenerator`, njobs = the cores, as its users run it: it
yields blended and isolated images in memory, and no truth beyond its catalogue. Interleaved rounds, medians; starting
our worker processes is left out (once a run), starting BTK's is not (it starts them at each batch).
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pandas as pd
import torch
from astropy.table import Table
from btk.catalog import CatsimCatalog
from btk.draw_blends import CatsimGenerator
from btk.sampling_functions import SamplingFunction

from benchmarks.rows import Row, not_measured, ratio_row
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.worker_pool import WorkerPool
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.morphologies import GENERATED, shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.renderers import new_galaxy_renderer
from deblend_assets.science.simulation.renderers.galaxies import GalaxiesRenderer
from deblend_assets.science.simulation.rendering import ShardRenderer, render_table
from deblend_assets.science.simulation.scenes import Shard, all_shards
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey, survey_magnitudes
from deblend_assets.settings import SimulationSettings, load_profile
from deblend_assets.stores.arrays import SimulatedArrays

_PIXELS = 45


def galaxies_and_settings(scenes: int) -> tuple[pd.DataFrame, SimulationSettings]:
    """The demo's population and scenes, in shards of so many scenes."""
    profile = load_profile("demo")
    galaxies = generate_population(20_000, 1)
    galaxies["split"] = assign_split(galaxies["galtileid"].to_numpy(), profile.catalog.fractions, salt="1")
    counts = profile.simulation.scenes.model_copy(update={"train": 40 * scenes, "validation": scenes, "test": scenes})
    return galaxies, profile.simulation.model_copy(update={"shard_scenes": scenes, "scenes": counts})


class SameScenes(SamplingFunction):
    """BTK's sampling function that deals given scenes; BTK sends it to its worker processes."""

    compatible_catalogs = ("CatsimCatalog",)

    def __init__(self, galaxies: Table, scenes: list[pd.DataFrame], stamp_size: float) -> None:
        super().__init__(max_number=3, stamp_size=stamp_size)
        self.galaxies, self.scenes, self.dealt = galaxies, scenes, 0

    def __call__(self, catalog: Any) -> Table:
        drawn = self.scenes[self.dealt]
        self.dealt += 1
        blend = self.galaxies[drawn["row"].to_numpy()]
        blend["ra"], blend["dec"] = drawn["x_arcsec"].to_numpy(), drawn["y_arcsec"].to_numpy()
        return blend


class BtkPeer:
    """BTK's own generator over the scenes of a shard."""

    def __init__(self, galaxies: pd.DataFrame, renderer: ShardRenderer, survey: SurveyModel, jobs: int) -> None:
        self._table = Table.from_pandas(galaxies.drop(columns="split"))
        self._renderer, self._survey, self._jobs = renderer, survey, jobs

    def seconds(self, shard: Shard) -> float:
        """Time to draw it."""
        tables = [drawn for _, drawn in self._renderer.scene_tables(shard, 0, shard.scenes).groupby("scene")]
        generator = CatsimGenerator(
            CatsimCatalog(self._table),
            SameScenes(self._table, tables, 45.5 * self._survey.pixel_scale),
            self._survey.btk_survey,
            batch_size=shard.scenes,
            njobs=self._jobs,
        )
        started = time.perf_counter()
        next(generator)
        return time.perf_counter() - started


def seconds_to_draw(pool: WorkerPool, shards: Sequence[Shard], arrays: SimulatedArrays) -> float:
    """Time to draw shards and to store them."""
    started = time.perf_counter()
    progress = Progress("rendering", len(shards), "shards", lambda line: None)
    for _ in pool.render(shards, progress, arrays.writer({})):
        pass
    return time.perf_counter() - started


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table of benchmarks."""
    warnings.simplefilter("ignore")
    rounds, scenes, shards_a_round, cores = (2, 40, 1, 2) if quick else (5, 250, 4, 2)
    galaxies, settings = galaxies_and_settings(scenes)
    survey = load_survey("LSST")
    renderer = ShardRenderer(galaxies, settings, survey)
    peer = BtkPeer(galaxies, renderer, survey, cores)
    shards = [s for s in all_shards(settings) if s.split == "train"]
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        arrays = SimulatedArrays(Path(folder) / "arrays", settings, survey.attributes(), {})
        arrays.create()
        with RenderingWorkers(processes=cores).start(galaxies, settings) as pool:
            seconds_to_draw(pool, shards[-2:], arrays)  # warms every worker's grids
            for k in range(rounds):
                some = shards[k * shards_a_round : (k + 1) * shards_a_round]
                ours.append(seconds_to_draw(pool, some, arrays) / (scenes * len(some)))
                theirs.append(peer.seconds(some[0]) / scenes)
    yield ratio_row(
        "scenes/s: three arrays and truth, written to Zarr",
        f"BTK's generator, njobs={cores}, same scenes",
        ours,
        theirs,
        bar=8.0,
        detail=f"{1 / np.median(ours):.0f} against {1 / np.median(theirs):.1f} scenes/s, {cores} cores, {rounds} "
        f"rounds of {scenes * shards_a_round} and {scenes} scenes, LSST, six bands",
    )
    yield _drawing_alone(renderer, shards[0], rounds)
    yield from _morphologies(survey, rounds, 60 if quick else 600)
    yield not_measured("the same on a GPU", "BTK on one core", "≥ 1,000", "no CUDA device")


def _morphologies(survey: SurveyModel, rounds: int, count: int) -> Iterator[Row]:
    """Noiseless stamps of each morphology on one core, beside bulge and disc of one colour under the survey's PSFs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    population = generate_population(60_000, 1, i_max=27.0)
    population = population[(population["fluxnorm_bulge"] > 0) & (population["fluxnorm_disk"] > 0)].iloc[:count]
    catalog = {name: population[name].to_numpy() for name in population}
    magnitudes = survey_magnitudes({n: v for n, v in catalog.items() if n.endswith("_ab")}, survey)
    report = new_galaxy_renderer("torch", catalog, magnitudes, survey, _PIXELS, 0j)
    optics = galsim.OpticalPSF(lam=620, diam=8.36, obscuration=0.61, coma1=0.3)
    lopsided = galsim.Convolve(galsim.Kolmogorov(fwhm=0.7), optics)
    x, y = np.random.default_rng(1).uniform(-0.5, 0.5, (2, count))
    rows = np.arange(count)
    for words, psfs in (
        ("", [survey.btk_survey.get_filter(band).psf for band in survey.bands]),
        (", PSFs with coma", [lopsided] * len(survey.bands)),
    ):
        renderer = GalaxiesRenderer(survey.bands, survey.zero_point, psfs, survey.pixel_scale)
        for kind in GENERATED:
            galaxies = shaped_galaxies(catalog, {kind: 1.0}, seed=1)
            ours: list[float] = []
            theirs: list[float] = []
            for number in range(rounds + 1):
                started = time.perf_counter()
                renderer.stamps(galaxies, x, y, _PIXELS)
                middle = time.perf_counter()
                report.render(rows, x * survey.pixel_scale, y * survey.pixel_scale, np.zeros(count))
                if number:  # the first round makes the grids
                    ours.append((middle - started) / count)
                    theirs.append((time.perf_counter() - middle) / count)
            yield ratio_row(
                f"stamps/s of the morphology {kind.name}, six bands, without noise{words}",
                "bulge and disc of one colour, the renderer of the report's scenes, one core each",
                ours,
                theirs,
                bar=0.2,
                detail=f"{1e3 * np.median(ours):.2f} against {1e3 * np.median(theirs):.2f} ms a galaxy, N = {count}",
            )
    torch.set_num_threads(threads)


def _drawing_alone(renderer: ShardRenderer, shard: Shard, rounds: int) -> Row:
    """Noiseless galaxies on one core: the two drawers on the same table."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    table = renderer.scene_tables(shard, 0, shard.scenes)
    reference = renderer.new_galaxy_renderer("btk")
    render_table(renderer.galaxy_renderer, table)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for galaxy_renderer, seconds in ((renderer.galaxy_renderer, ours), (reference, theirs)):
            started = time.perf_counter()
            render_table(galaxy_renderer, table)
            seconds.append((time.perf_counter() - started) / len(table))
    torch.set_num_threads(threads)
    return ratio_row(
        "galaxies/s drawn in six bands, without noise",
        "BTK's render_single_catsim_galaxy, one core each",
        ours,
        theirs,
        bar=None,
        detail=f"{1e3 * np.median(ours):.2f} against {1e3 * np.median(theirs):.2f} ms a galaxy, N = {len(table)}",
    )
