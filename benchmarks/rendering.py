"""Scenes a second on one core: our rendering (three arrays and truth) against BTK's generator (blends with noise).

The peer draws the same numbers of the same population with `CatsimGenerator`, njobs=1, as its users run it; it yields
blended and isolated images, and no truth beyond its catalogue. Interleaved rounds; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from importlib.metadata import version

import numpy as np
from astropy.table import Table

from deblend_assets.science.catalog import assign_split
from deblend_assets.science.population import generate_population
from deblend_assets.science.rendering import ShardRenderer
from deblend_assets.science.scenes import SceneSampler, all_shards, scene_seed
from deblend_assets.science.surveys import load_survey
from deblend_assets.settings import load_profile


def main(scenes: int, rounds: int) -> None:
    from btk.catalog import CatsimCatalog
    from btk.draw_blends import CatsimGenerator
    from btk.sampling_functions import SamplingFunction

    warnings.simplefilter("ignore")
    profile = load_profile("demo")
    galaxies = generate_population(20_000, 1)
    galaxies["split"] = assign_split(galaxies["galtileid"].to_numpy(), profile.catalog.fractions, salt="1")
    survey, settings = load_survey("LSST"), profile.simulation
    renderer, sampler = ShardRenderer(galaxies, settings, survey), SceneSampler(galaxies, settings, survey.pixel_scale)
    shard = all_shards(settings)[0]
    table = Table.from_pandas(galaxies.drop(columns="split"))

    class SameScenes(SamplingFunction):
        compatible_catalogs = ("CatsimCatalog",)
        scene = 0

        def __call__(self, catalog: Table) -> Table:
            layout, _, _ = scene_seed(settings, shard, self.scene).spawn(3)
            drawn = sampler.sample(shard, self.scene, np.random.default_rng(layout))
            self.scene += 1
            blend = table[drawn["row"].to_numpy()]
            blend["ra"], blend["dec"] = drawn["x_arcsec"].to_numpy(), drawn["y_arcsec"].to_numpy()
            return blend

    ours, theirs = [], []
    for k in range(rounds + 1):
        first = k * scenes
        started = time.perf_counter()
        renderer.render(shard, first, first + scenes)
        ours.append(time.perf_counter() - started)
        sampling = SameScenes(max_number=3, stamp_size=45.5 * survey.pixel_scale)
        sampling.scene = first
        generator = CatsimGenerator(CatsimCatalog(table), sampling, survey.btk_survey, batch_size=scenes)
        started = time.perf_counter()
        next(generator)
        theirs.append(time.perf_counter() - started)
    mine, peer = (scenes / statistics.median(t[1:]) for t in (ours, theirs))  # the first round warms caches
    ratios = sorted(b / a for a, b in zip(ours[1:], theirs[1:], strict=True))
    print(
        f"ours {mine:.1f} scenes/s, BTK generator {peer:.1f} scenes/s on one core, {rounds} rounds of {scenes} scenes"
    )
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print({name: version(name) for name in ("blending-toolkit", "galsim", "numpy")})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.scenes, arguments.rounds)
