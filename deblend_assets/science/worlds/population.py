"""The galaxies that a world's fields are filled with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS, assign_split
from deblend_assets.science.simulation.cosmos import RealImages, read_cosmos_fits
from deblend_assets.science.simulation.counts import thin_to_measured
from deblend_assets.science.simulation.galaxies import Galaxies, Morphology
from deblend_assets.science.simulation.morphologies import (
    NEW_MIX,
    TRAINING_MIX,
    in_training,
    shaped_galaxies,
    with_others,
)
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.worlds.worlds import Population
from deblend_assets.settings import CatalogSettings

# Of the galaxies within the magnitudes of the COSMOS fits or images.
_FITS_SHARE, _IMAGES_SHARE = 0.3, 0.1
# Galaxies with new morphologies: the truth of one with knots takes 5 ms.
_MOST_NEW = 8_000
_MIXES: Mapping[Population, Mapping[Morphology, float]] = {
    "report": {Morphology.CATSIM: 1.0},
    "training": TRAINING_MIX,
    "new": NEW_MIX,
}
_I = CATSIM_BANDS.index("i")


def sky_catalog(catalog: pd.DataFrame, settings: CatalogSettings, split: str, population: Population) -> SkyCatalog:
    """Galaxies of one split with the morphologies of a population.

    As many at each magnitude as COSMOS2020 counted; of the report's population all, whose counts are the catalogue's.

    Args:
        catalog: CatSim columns and `split`.
        settings: where COSMOS fits and images are, and the seed.
        split: "train", "validation" or "test".
        population: see `World`.

    Raises:
        CatalogError: the split has no galaxy; COSMOS files that cannot be read.
    """
    rows = catalog[catalog["split"] == split]
    if rows.empty:
        raise CatalogError(
            f"has no galaxy of the split {split}", where="simulation/galaxy_catalog", remedy="use a larger catalogue"
        )
    galaxies = shaped_galaxies(
        {name: rows[name].to_numpy() for name in CATSIM_COLUMNS}, _MIXES[population], settings.seed
    )
    if population == "report":
        return SkyCatalog(galaxies, 1.0)
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(1,)))
    if settings.cosmos_fits is not None:
        fits = read_cosmos_fits(Path(settings.cosmos_fits), settings.seed)
        fits = fits[in_training(fits.morphology, fits.id) == (population == "training")]
        galaxies = with_others(galaxies, _of_split(fits, settings, split), _FITS_SHARE, rng)
    if population == "new" and (images := real_images(settings)) is not None:
        galaxies = with_others(galaxies, _of_split(images.galaxies(), settings, split), _IMAGES_SHARE, rng)
    # Of any area: thinning to the measured counts finds it.
    kept, area = thin_to_measured(galaxies.magnitudes()[:, _I], 1.0, rng)
    if population == "new" and len(kept) > _MOST_NEW:
        kept, area = np.sort(rng.permutation(kept)[:_MOST_NEW]), area * _MOST_NEW / len(kept)
    return SkyCatalog(galaxies[kept], area)


def real_images(settings: CatalogSettings) -> RealImages | None:
    """The images of COSMOS galaxies that the settings name."""
    return None if settings.cosmos_images is None else RealImages(Path(settings.cosmos_images))


def _of_split(galaxies: Galaxies, settings: CatalogSettings, split: str) -> Galaxies:
    return galaxies[assign_split(galaxies.id, settings.fractions, salt=str(settings.seed)) == split]
