"""Fields of known shear for benchmarks: twins of ±0.02 on one component after the other, as methods measure them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deblend_assets.science.field_shear.methods import Given
from deblend_assets.science.field_shear.twin_noise import twin_noise
from deblend_assets.science.metadetection.catalogs import KINDS
from deblend_assets.science.metadetection.maps import moved
from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.fields import Field, sample_field
from deblend_assets.science.simulation.galaxies import Morphology
from deblend_assets.science.simulation.morphologies import shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.stamps.resampling import shear_matrix
from deblend_assets.settings import FieldSettings, FieldSkySettings, MaskSettings

SHEAR = 0.02
_FAINTEST, _GALAXIES, _PSF_SIDE, _LAGS = 27.0, 6000, 65, 12
Tables = Mapping[str, pd.DataFrame]


def catalog() -> SkyCatalog:
    """Single Sérsic galaxies of the generated population."""
    population = generate_population(_GALAXIES, seed=1, i_max=_FAINTEST)
    shaped = shaped_galaxies({n: population[n].to_numpy() for n in population}, {Morphology.SERSIC: 1.0}, seed=2)
    density = float(relations.count_density(_FAINTEST) - relations.count_density(relations.I_BRIGHTEST))
    return SkyCatalog(shaped, _GALAXIES / density)


def simple_sky(bands: str) -> FieldSkySettings:
    """LSST's, with one PSF, no chip edges and no residual of the sky."""
    return FieldSkySettings(bands=tuple(bands), psf_varies=False, chip_edges=0.0, residual=False)


@dataclass(frozen=True)
class Twin:
    """One of the two images of a field.

    Attributes:
        given: what a method is given.
        shear: reduced shear g1 + i g2.
        truth: of its sources.
    """

    given: Given
    shear: complex
    truth: pd.DataFrame


def known_field(galaxies: SkyCatalog, number: int, side: int, sky: FieldSkySettings) -> tuple[Field, list[int]]:
    """A field before any shear, and the seed of its noise."""
    child = np.random.SeedSequence((11, number)).spawn(3)
    seen_through = sample_sky(sky, (side, side), np.random.default_rng(child[0]))
    contents = FieldSettings(pixels=side, psf_cells=1, margin=5.0)
    field = sample_field(galaxies, seen_through, contents, np.random.default_rng(child[1]))
    return field, child[2].generate_state(4).tolist()


def twins(
    galaxies: SkyCatalog,
    number: int,
    side: int,
    sky: FieldSkySettings,
    masked: bool,
    redshifts: tuple[float, float] | None = None,
) -> list[Twin]:
    """A field of shear +0.02 and its twin of −0.02, on component 1 of even numbers.

    Noise moves with the light, or with that of the far galaxies where those of some redshifts alone are sheared.
    """
    field, seed = known_field(galaxies, number, side, sky)
    seen_through, found = field.sky, []
    correlations = [band.correlation for band in seen_through.bands.values()]
    psf = field.psfs.psf_images(*seen_through.centre, _PSF_SIDE)
    for sign in (1, -1):
        shear = sign * applied(number)
        twin = field.twin(shear=shear, redshifts=redshifts)
        moves = shear if redshifts is None or redshifts[1] == np.inf else 0j
        noise = twin_noise(correlations, psf, (side, side), seed, moves)
        seen = twin.observe([*seed, 1], MaskSettings() if masked else None, noise=noise.own)
        kinds = KINDS if redshifts is None else KINDS[:1]
        given = Given(twin.observed_image(seen, _PSF_SIDE, _LAGS), noise.added, 1, 10.0, kinds)
        found.append(Twin(given, shear, twin.truth))
    return found


def applied(number: int) -> complex:
    """Shear of the first twin."""
    return SHEAR * (1 if number % 2 == 0 else 1j)


def inner(table: pd.DataFrame, side: int, border: int, shear: complex) -> np.ndarray:
    """Rows within the border before the shear: galaxies that it moves do not cross the border."""
    back = shear_matrix(-shear.real, -shear.imag, np.eye(2))
    places = moved(back, (side, side), *(table[name].to_numpy(np.float64) for name in "xy"))
    return np.asarray((np.abs(np.stack(places) - (side - 1) / 2) < side / 2 - border).all(axis=0))


@dataclass(frozen=True)
class Measured:
    """Catalogues of both twins of a field by one method, and what they are compared with.

    Attributes:
        number: of the field.
        tables: of the twins, + first.
        truth: galaxies of the first twin: x, y, g1, g2.
        seconds: CPU time of the method.
    """

    number: int
    tables: tuple[Tables, Tables]
    truth: pd.DataFrame
    seconds: float


def measured(
    number: int, made: Callable[[], Sequence[Twin]], measure: Callable[[Given], Tables], keep: Path | None
) -> Measured:
    """A field as a method measures it, or as it was kept."""
    if keep is not None and keep.exists():
        known: Measured = pd.read_pickle(keep)
        return known
    images = made()
    started = time.process_time()
    tables = [measure(image.given) for image in images]
    seconds = time.process_time() - started
    truth = images[0].truth
    found = Measured(
        number, (tables[0], tables[1]), truth.loc[~truth["star"].to_numpy(bool), ["x", "y", "g1", "g2"]], seconds
    )
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        pd.to_pickle(found, keep)
    return found
