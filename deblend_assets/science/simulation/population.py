"""The generated galaxy population: CatSim's columns, sampled from published relations.

`relations` holds the relations and their sources, `seds` the colours. Galaxies are independent: there is no
clustering, and size correlates with redshift and type through i alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation import relations, seds
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS
from deblend_assets.science.stamps.conventions import CATSIM_BANDS

MAGNITUDE_CAP = 40.0
"""Faintest AB magnitude: the flux of a Lyman-limit dropout beyond it is indistinguishable from none in any survey."""
# CatSim's own: magNorm = -2.5 log10(fluxnorm) - this (class GalaxyObj). Only ratios of fluxnorms matter.
_FLUXNORM_ZERO_POINT = 18.402732642

Floats = NDArray[np.float64]


def generate_population(
    n: int,
    seed: int,
    i_max: float = 28.0,
    i_min: float = relations.I_BRIGHTEST,
    *,
    counts: Literal["power law", "observed"] = "power law",
) -> pd.DataFrame:
    """Sample a galaxy catalogue with the columns of CatSim.

    In this order: i from the counts; redshift given i; spectral type given both, which sets the colours; size,
    shape and bulge. a and b are the semi-axes of the half-light ellipses: a disc's a is 1.678 scalelengths;
    a bulge's is one scalelength of the same relation (Miller et al. 2013: a bulge's half-light radius equals
    its disc's scalelength), and no bulge is flatter than its disc. The sky is a square on the equator whose
    area is n / N(i_min < i < i_max) of the counts. fluxnorm_agn is 0; magnitudes end at 40.

    Args:
        n: number of galaxies.
        seed: every number follows from it; each quantity has its own stream (`SeedSequence.spawn`).
        i_max: faintest AB magnitude in i.
        i_min: brightest AB magnitude in i.
        counts: "power law", `relations.count_density`, the report's; "observed", `relations.observed_density`, for
            fields: the power law is too high below i = 21 and beyond 25.5.

    Returns:
        n rows, galtileid 1 ... n (int64), all else float64, in the order and units of `CATSIM_COLUMNS`;
        `validate_catalog` accepts it. The same arguments give the same bytes; another kind of processor may
        round the last digit otherwise.

    Raises:
        SettingsError: n below 1, or a magnitude range that is empty or not within 18 ... 30.
    """
    if n < 1:
        raise SettingsError(f"a population of {n} galaxies", where="n", remedy="request at least one galaxy")
    if not relations.I_BRIGHTEST <= i_min < i_max <= 30.0:
        raise SettingsError(
            f"the magnitude range {i_min} ... {i_max}",
            where="i_min, i_max",
            remedy="stay within 18 <= i_min < i_max <= 30",
        )
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(9)]
    sky, magnitude, distance, kind, disc_size, bulge_size, shape, light, angle = streams

    if counts == "observed":
        density, sample = relations.observed_count(i_min, i_max), relations.sample_observed_magnitudes
    else:
        density = float(relations.count_density(i_max) - relations.count_density(i_min))
        sample = relations.sample_magnitudes
    side = np.sqrt(n / density) / 60.0
    i_mag = sample(magnitude, n, i_min, i_max)
    redshift = relations.sample_redshifts(distance, i_mag)
    spectral_type = relations.sample_types(kind, i_mag, redshift)
    bulge_fraction = relations.sample_bulge_fractions(light, spectral_type)
    has_bulge, has_disc = bulge_fraction > 0.0, bulge_fraction < 1.0

    grid = relations.shear_grid()
    disc_shear = relations.shear_quantile(relations.disc_shear_pdf(grid), shape.random(n))
    bulge_shear = relations.shear_quantile(relations.bulge_shear_pdf(grid), shape.random(n))
    bulge_shear = np.where(has_disc, np.minimum(bulge_shear, disc_shear), bulge_shear)
    scalelength = relations.sample_scalelengths(disc_size, i_mag)
    a_disc = np.where(has_disc, relations.HALF_LIGHT_PER_SCALELENGTH * scalelength, 0.0)
    # A pure bulge has no disc to take its scale from: an independent sample of the same relation.
    a_bulge = np.where(has_disc, scalelength, relations.sample_scalelengths(bulge_size, i_mag))
    a_bulge = np.where(has_bulge, a_bulge, 0.0)

    flux = 10.0 ** (-0.4 * (i_mag + _FLUXNORM_ZERO_POINT))
    position_angle = angle.uniform(0.0, 360.0, n)
    magnitudes = np.minimum(i_mag[:, None] + seds.colours(redshift, spectral_type), MAGNITUDE_CAP)
    columns: dict[str, NDArray[np.generic]] = {
        "galtileid": np.arange(1, n + 1, dtype=np.int64),
        "ra": sky.uniform(0.0, side, n),
        "dec": sky.uniform(-side / 2.0, side / 2.0, n),
        "redshift": redshift,
        "fluxnorm_bulge": flux * bulge_fraction,
        "fluxnorm_disk": flux * (1.0 - bulge_fraction),
        "fluxnorm_agn": np.zeros(n),
        "a_b": a_bulge,
        "a_d": a_disc,
        "b_b": a_bulge * _axis_ratio(bulge_shear),
        "b_d": a_disc * _axis_ratio(disc_shear),
        "pa_bulge": np.where(has_bulge, position_angle, 0.0),
        "pa_disk": np.where(has_disc, position_angle, 0.0),
    }
    columns |= {f"{band}_ab": magnitudes[:, column] for column, band in enumerate(CATSIM_BANDS)}
    return pd.DataFrame({name: columns[name] for name in CATSIM_COLUMNS})


def _axis_ratio(shear: Floats) -> Floats:
    """q = b/a of shear g = (1 - q)/(1 + q)."""
    return (1.0 - shear) / (1.0 + shear)
