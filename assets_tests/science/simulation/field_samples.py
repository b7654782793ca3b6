"""A small catalogue and plain skies for the tests of fields."""

from __future__ import annotations

from functools import lru_cache

from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.galaxies import Morphology
from deblend_assets.science.simulation.morphologies import shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.skies.psf import PSF, PSFModel
from deblend_assets.science.skies.sky import Sky, SkyBand

BANDS = ("r", "i")


@lru_cache(maxsize=1)
def small_catalog(galaxies: int = 6000, faintest: float = 27.0) -> SkyCatalog:
    """Single Sérsic galaxies of the generated population."""
    population = generate_population(galaxies, seed=1, i_max=faintest)
    columns = {name: population[name].to_numpy() for name in population}
    shaped = shaped_galaxies(columns, {Morphology.SERSIC: 1.0}, seed=2)
    density = float(relations.count_density(faintest) - relations.count_density(relations.I_BRIGHTEST))
    return SkyCatalog(shaped, galaxies / density)


def small_sky(side: int = 64, psf: PSF | None = None) -> Sky:
    """Two bands of white noise, in electrons, a round Moffat PSF unless another is given."""
    psf = psf or PSFModel("moffat", 0.8, 3.0)
    bands = {"r": SkyBand(psf, sigma=40.0, zero_point=32.0), "i": SkyBand(psf, sigma=60.0, zero_point=31.5)}
    return Sky("test", 0.2, (side, side), bands)
