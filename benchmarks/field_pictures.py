"""A random field of every named sky, in colour, with artefacts and masks.

python -m benchmarks.field_pictures --figure docs/images/fields.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deblend_assets.science.reports.figures.fields import ShownField, fields_in_colour
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.fields import sample_field
from deblend_assets.science.simulation.morphologies import TRAINING_MIX, shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.sources import SkyCatalog, faintest_magnitude
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.settings import FieldSettings, FieldSkySettings, MaskSettings

GALAXIES, FAINTEST = 40_000, 28.0
NAMES = ("LSST", "DES", "HSC", "wide")


def catalog(galaxies: int = GALAXIES, seed: int = 1, faintest: float = FAINTEST) -> SkyCatalog:
    """The generated population to a magnitude in i, shaped as in training, with measured counts."""
    population = generate_population(galaxies, seed, i_max=faintest)
    shaped = shaped_galaxies({name: population[name].to_numpy() for name in population}, TRAINING_MIX, seed)
    density = float(relations.count_density(faintest) - relations.count_density(relations.I_BRIGHTEST))
    whole = SkyCatalog(shaped, galaxies / density)
    return whole.with_measured_counts(np.random.default_rng(seed))


def shown_field(name: str, galaxies: SkyCatalog, pixels: int, seed: int) -> ShownField:
    """A random field of a sky, observed."""
    rng = np.random.default_rng(seed)
    bands = ("g", "r", "i") if name == "wide" else None
    sky = sample_sky(FieldSkySettings(name=name, bands=bands), (pixels, pixels), rng)
    settings = FieldSettings(pixels=pixels)
    field = sample_field(galaxies, sky, settings, rng)
    seen = field.observe(seed, MaskSettings())
    limit = sky.depth("i", 10.0)
    print(f"{name}: {len(field.sources)} sources to i = {faintest_magnitude(sky, settings):.2f}, S/N 10 at {limit:.2f}")
    return ShownField(
        f"{name}, S/N 10 at i = {limit:.1f}",
        sky.names,
        seen.images,
        seen.inverse_variance,
        sky.column("zero_point"),
        sky.pixel_scale,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, required=True, help="PNG to write")
    parser.add_argument("--pixels", type=int, default=300)
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    galaxies = catalog()
    shown = {name: shown_field(name, galaxies, arguments.pixels, arguments.seed) for name in NAMES}
    arguments.figure.write_bytes(to_png(fields_in_colour(shown)))


if __name__ == "__main__":
    main()
