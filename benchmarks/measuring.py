"""Stamps a second: deblended images of six bands and both ellipticities, against others on the same stamps.

scarlet2 fits each blend with the true positions (all six bands); SEP and HSM detect and measure in one band. Every
core count in a process of its own, held to so many cores; interleaved rounds. scarlet2 traces and compiles each blend
anew, as it does for its users, and that counts in the first row; in the second its same steps are compiled once
(`peers.scarlet2.Fitter.fit`), and compiling is not counted. Our network has freshly drawn weights, which do not alter
its speed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import galsim
import numpy as np
import torch

from benchmarks.processes import fresh_processes, in_fresh_process
from benchmarks.rendering import galaxies_and_settings
from benchmarks.rows import Row, not_measured, ratio_row
from deblend_assets.resources.rendering_workers import open_renderer
from deblend_assets.science.deblender.network import Deblender
from deblend_assets.science.deblender.stages import new_regressor, new_vae
from deblend_assets.science.measuring.measure import Model
from deblend_assets.science.measuring.measure import measure as measure_with
from deblend_assets.science.peers import sep_hsm
from deblend_assets.science.peers.scarlet2 import survey_fitter
from deblend_assets.science.shapes.model import (
    ShapePosterior,
    new_classifiers,
    new_flow,
    new_shape_network,
)
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.stamps.normalization import mean_maximum
from deblend_assets.science.stamps.quantities import QUANTITIES, PriorMoments
from deblend_assets.settings import load_profile

_SURVEY, _LABEL = "LSST", "r"


@dataclass(frozen=True)
class Sizes:
    """How much is measured by each, and how often."""

    ours: int
    hsm: int
    fits: int
    rounds: int


@dataclass(frozen=True)
class Seconds:
    """Time a stamp of each round."""

    ours: list[float]
    hsm: list[float]
    scarlet2: list[float]
    compiled: list[float]


# Fits one stamp, given the positions of its galaxies.
Fit = Callable[[np.ndarray, np.ndarray], object]


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table of benchmarks."""
    sizes = Sizes(256, 64, 1, 2) if quick else Sizes(2048, 1024, 5, 5)
    stamps, positions = blends(max(sizes.ours, sizes.hsm))
    for cores in (1, 2):
        found = in_fresh_process(seconds, stamps, positions, sizes, cores)
        rates = {name: 1 / np.median(getattr(found, name)) for name in ("ours", "hsm", "scarlet2", "compiled")}
        words = f"{cores} core{'s' if cores > 1 else ''}, {sizes.rounds} rounds, LSST blends of 45 x 45 pixels"
        yield ratio_row(
            "stamps/s deblended and measured, six bands",
            f"scarlet2, true positions, six bands, {cores} core{'s' if cores > 1 else ''}",
            found.ours,
            found.scarlet2,
            bar=500.0,
            detail=f"{rates['ours']:,.0f} against {rates['scarlet2']:.2f} stamps/s, {words} of {sizes.ours} and "
            f"{sizes.fits} stamps",
        )
        yield ratio_row(
            "the same",
            f"scarlet2's steps compiled once for all blends, {cores} core{'s' if cores > 1 else ''}",
            found.ours,
            found.compiled,
            bar=1.0,
            detail=f"{rates['ours']:,.0f} against {rates['compiled']:.2f} stamps/s, {words} of {sizes.ours} and "
            f"{sizes.fits} stamps; compiling not counted",
        )
        yield ratio_row(
            "the same",
            f"SEP and HSM (REGAUSS), band {_LABEL}, {cores} core{'s' if cores > 1 else ''}",
            found.ours,
            found.hsm,
            bar=1.0,
            detail=f"{rates['ours']:,.0f} against {rates['hsm']:,.0f} stamps/s, {words} of {sizes.ours} and "
            f"{sizes.hsm} stamps",
        )
    if torch.cuda.is_available():
        yield _on_cuda(stamps)
    else:
        yield not_measured("stamps/s on a GPU", "10,000 a second", "≥ 1", "no CUDA device")


def blends(count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Blends of the demo's population, (N, band, y, x) [electron], and row and column of every galaxy of each."""
    galaxies, settings = galaxies_and_settings(count)
    shard = all_shards(settings)[0]
    scenes = open_renderer(galaxies, settings).render_whole(shard)
    places = scenes.truth.sort_values(["scene", "member"]).groupby("scene")[["y_pixel", "x_pixel"]]
    return scenes.blended, [group.to_numpy() for _, group in places]


def untrained(stamps: np.ndarray, device: str = "cpu") -> Model:
    """The demo's networks, freshly drawn."""
    recipe, survey = load_profile("demo").recipes.training, load_survey(_SURVEY)
    normalization = mean_maximum([stamps], survey.bands).normalization(2.5)
    network = Deblender(new_vae(len(survey.bands), stamps.shape[-1], recipe), new_regressor(recipe), normalization)
    shapes, simulation = load_profile("demo").recipes.shapes, load_profile("demo").simulation
    frame = survey.frame(simulation)
    population = PriorMoments((0.0,) * len(QUANTITIES), tuple(tuple(row) for row in np.eye(len(QUANTITIES))))
    posterior = ShapePosterior(
        new_shape_network(frame, shapes),
        new_classifiers(frame, shapes),
        new_flow(shapes),
        frame,
        population,
        shapes.orientations,
        np.full(6, 0.5),
    )
    return Model(network.to(device), posterior.to(device), "untrained")


def hold_to(cores: int) -> None:
    """Let this process, and what it starts, have so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(cores)


def seconds(stamps: np.ndarray, positions: list[np.ndarray], sizes: Sizes, cores: int) -> Seconds:
    """Interleaved rounds in this process, which is held to so many cores from now on."""
    hold_to(cores)
    survey, model = load_survey(_SURVEY), untrained(stamps)
    label, noise = model.frame.bands.index(_LABEL), np.sqrt(np.array(survey.sky))
    psfs = [survey.btk_survey.get_filter(band).psf for band in model.frame.bands]
    fitter = survey_fitter(noise, psfs, survey.pixel_scale, model.frame.bands, stamps.shape[-2:])
    found = Seconds([], [], [], [])

    def ours() -> None:
        measure_with(model, stamps[: sizes.ours])

    with fresh_processes(cores) as pool:
        parts = np.array_split(stamps[: sizes.hsm, label], cores)

        def hsm() -> None:
            list(pool.map(hsm_part, parts))

        def fits(fit: Fit, numbers: Iterable[int]) -> Callable[[], None]:
            def run() -> None:
                for n in numbers:
                    fit(stamps[n], positions[n])

            return run

        # Starts the pool's processes and JAX; what a blend of another make-up compiles later is its own.
        for warm in (ours, hsm, fits(fitter.plain_fit, [len(positions) - 1])):
            warm()
        # Compiled once for each number of galaxies and size of box: those of the blends that are timed.
        fits(fitter.fit, range(sizes.rounds * sizes.fits))()
        for k in range(sizes.rounds):
            found.ours.append(_timed(ours) / sizes.ours)
            found.hsm.append(_timed(hsm) / sizes.hsm)
            numbers = range(k * sizes.fits, (k + 1) * sizes.fits)
            found.scarlet2.append(_timed(fits(fitter.plain_fit, numbers)) / sizes.fits)
            found.compiled.append(_timed(fits(fitter.fit, numbers)) / sizes.fits)
    return found


@cache
def _seen_in_label() -> tuple[float, galsim.GSObject, float]:
    """Pixel noise [electron], PSF and pixel scale [arcsec], label band; to look them up is not the peer's work."""
    survey = load_survey(_SURVEY)
    noise = survey.sky[survey.bands.index(_LABEL)] ** 0.5
    return noise, survey.btk_survey.get_filter(_LABEL).psf, survey.pixel_scale


def hsm_part(images: np.ndarray) -> None:
    """One process's share."""
    sep_hsm.shapes(images, *_seen_in_label())


def _timed(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _on_cuda(stamps: np.ndarray) -> Row:
    model, many = untrained(stamps, "cuda"), np.concatenate([stamps] * 8)
    measure_with(model, stamps)
    times = [_timed(lambda: measure_with(model, many)) / len(many) for _ in range(5)]
    name, rate = torch.cuda.get_device_name(), 1 / np.median(times)
    detail = f"{rate:,.0f} stamps/s on {name}, five rounds of {len(many)} stamps in memory"
    return ratio_row("stamps/s on a GPU", "10,000 a second", times, [1e-4] * len(times), bar=1.0, detail=detail)
