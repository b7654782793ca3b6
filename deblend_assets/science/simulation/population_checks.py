"""Checks that a catalogue, generated or a user's own, follows the published relations.

Every tolerance is a systematic, stated below and wide enough for CatSim, plus four times the sampling error of the
measured number, so that chance alone does not fail a check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from deblend_assets.science.simulation import cosmos_relations, relations
from deblend_assets.science.simulation.galaxies import Galaxies
from deblend_assets.science.simulation.intrinsic import intrinsic_shapes
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.statistics.metrics import MEDIAN_ERROR

MIN_GALAXIES = 30
"""A quantity measured on fewer galaxies is not checked."""
COUNT_SYSTEMATIC = 0.05
REDSHIFT_SYSTEMATIC = 0.30  # of the median: CatSim lies higher at the faint end
AXIS_RATIO_SYSTEMATIC = 0.12  # CatSim's discs are rounder
SIZE_SYSTEMATIC = 0.40  # of the median: CatSim's faint discs are larger
BULGE_SYSTEMATIC = 0.15
COLOUR_SYSTEMATIC = 0.35
_SIGMAS = 4.0
FIELD_SYSTEMATIC, FIELD_LEAST = 0.20, 100
_FIELD_MOST = 3000  # galaxies of a bin whose sizes are computed

_REDSHIFT_BINS = ((22.5, 23.5), (24.0, 25.0), (25.5, 26.5))
_SIZE_BINS = ((22.0, 23.0), (23.5, 24.5), (25.0, 26.0))
_AXIS_RATIO_SHARES = (0.16, 0.5, 0.84)
# Medians of g - i of real CatSim galaxies: about 1 while bright, 0.2 to 0.5 at the faint end.
_COLOUR_BINS = ((21.5, 23.5, 1.0), (24.5, 26.0, 0.55), (26.0, 27.5, 0.35))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PopulationCheck:
    """One comparison: passed means abs(measured - expected) <= tolerance."""

    name: str
    passed: bool
    measured: float
    expected: float
    tolerance: float
    reference: str


def check_population(df: pd.DataFrame) -> list[PopulationCheck]:
    """Compare a catalogue with the relations of `relations`.

    Args:
        df: a catalogue that `catalog.validate_catalog` accepts, of any origin.

    Returns:
        The slope of the counts, median redshifts, disc axis ratios (q = b/a), disc sizes, bulge fractions and
        g - i colours, in that order; those with fewer than 30 galaxies are left out.
    """
    i_mag = df["i_ab"].to_numpy()
    disc = df["fluxnorm_disk"].to_numpy() > 0.0
    bulge = df["fluxnorm_bulge"].to_numpy() > 0.0
    axis, ratio = df["a_d"].to_numpy()[disc], df["b_d"].to_numpy()[disc] / df["a_d"].to_numpy()[disc]
    colour = df["g_ab"].to_numpy() - i_mag
    return [
        *_counts(i_mag),
        *_redshifts(i_mag, df["redshift"].to_numpy()),
        *_axis_ratios(ratio),
        *_sizes(i_mag[disc], axis),
        *_bulges(i_mag, bulge, disc),
        *_colours(i_mag, colour),
    ]


def check_field_galaxies(galaxies: Galaxies, area: float) -> list[PopulationCheck]:
    """Compare the galaxies of fields with published counts and with the sizes of COSMOS galaxies, in bins of i.

    Args:
        galaxies: those of an area of sky, of any analytic morphology.
        area: of that sky [arcmin²].

    Returns:
        Counts in bins of half a magnitude that hold at least 100 galaxies, then the 16, 50 and 84 % quantiles of the
        half-light radius in i in those of the COSMOS fits' range, relative to the published ones; each passes within
        20 % and four times the sampling error.
    """
    i_mag = galaxies.magnitudes()[:, CATSIM_BANDS.index("i")]
    checks = []
    for low in np.arange(18.0, 27.5, 0.5).tolist():
        number = int(((i_mag >= low) & (i_mag < low + 0.5)).sum())
        if number >= FIELD_LEAST and i_mag.max() >= low + 0.45:
            expected = area * relations.observed_count(low, low + 0.5)
            checks.append(
                _check(
                    f"counts, {low} <= i < {low + 0.5}, over published",
                    number / expected,
                    1.0,
                    FIELD_SYSTEMATIC,
                    1 / np.sqrt(number),
                    "COSMOS2020, Weaver et al. 2022, 2110.13923",
                )
            )
    for low in np.arange(20.0, 25.0, 0.5).tolist():
        rows = np.flatnonzero((i_mag >= low) & (i_mag < low + 0.5))[:_FIELD_MOST]
        if len(rows) >= FIELD_LEAST:
            ln_radius = np.log(intrinsic_shapes(galaxies[rows], band="i").hlr)
            for share in (0.16, 0.5, 0.84):
                radius = cosmos_relations.radius_at(i_mag[rows], np.full(len(rows), share))
                ratio = float(np.exp(np.quantile(ln_radius - np.log(radius), share)))
                error = 1.5 * _median_error(ln_radius)
                name = f"half-light radius, quantile {share:.2f}, {low} <= i < {low + 0.5}, over that of COSMOS"
                checks.append(_check(name, ratio, 1.0, FIELD_SYSTEMATIC, error, "GalSim's COSMOS fits, 1107.1498"))
    return checks


def _check(
    name: str, measured: float, expected: float, systematic: float, error: float, reference: str
) -> PopulationCheck:
    tolerance = systematic + _SIGMAS * error
    passed = bool(abs(measured - expected) <= tolerance)
    return PopulationCheck(name, passed, float(measured), float(expected), float(tolerance), reference)


def _median_error(values: Floats) -> float:
    low, high = np.percentile(values, [16.0, 84.0])
    return float(MEDIAN_ERROR * (high - low) / 2.0 / np.sqrt(values.size))


def _counts(i_mag: Floats) -> Iterator[PopulationCheck]:
    """Slope of log10 N(<i) over the three magnitudes above the limit, or above 26.5 where it goes deeper."""
    faint = min(26.5, float(i_mag.max(initial=-np.inf)))
    n_bright, n_faint = int((i_mag < faint - 3.0).sum()), int((i_mag <= faint).sum())
    if n_bright >= MIN_GALAXIES:
        slope = np.log10(n_faint / n_bright) / 3.0
        error = 1.0 / (np.log(10.0) * 3.0 * np.sqrt(n_bright))
        yield _check(
            "slope of log10 N(<i)",
            slope,
            relations.COUNT_SLOPE,
            COUNT_SYSTEMATIC,
            error,
            "0912.0201, Eq. 3.7",
        )


def _redshifts(i_mag: Floats, redshift: Floats) -> Iterator[PopulationCheck]:
    grid = np.linspace(0.0, 6.0, 601)
    for low, high in _REDSHIFT_BINS:
        inside = (i_mag >= low) & (i_mag < high)
        if inside.sum() >= MIN_GALAXIES:
            magnitudes = np.quantile(i_mag[inside], np.linspace(0.01, 0.99, 50))
            cdf = relations.redshift_cdf(grid[:, None], magnitudes).mean(axis=1)
            expected = float(np.interp(0.5, cdf, grid))
            z = redshift[inside]
            yield _check(
                f"median redshift, {low} <= i < {high}",
                float(np.median(z)),
                expected,
                REDSHIFT_SYSTEMATIC * expected,
                _median_error(z),
                "0912.0201, Eq. 3.8, differentiated",
            )


def _axis_ratios(ratio: Floats) -> Iterator[PopulationCheck]:
    if ratio.size < MIN_GALAXIES:
        return
    density = relations.disc_shear_pdf(relations.shear_grid())
    for share in _AXIS_RATIO_SHARES:
        g = float(relations.shear_quantile(density, 1.0 - share))  # the flattest have the largest shear
        error = 1.5 * _median_error(ratio)  # at 16 % and 84 % a quantile scatters half as much again
        yield _check(
            f"disc axis ratio, quantile {share:.2f}",
            float(np.quantile(ratio, share)),
            (1.0 - g) / (1.0 + g),
            AXIS_RATIO_SYSTEMATIC,
            error,
            "Miller et al. 2013, 1210.8201, App. B",
        )


def _sizes(i_mag: Floats, axis: Floats) -> Iterator[PopulationCheck]:
    for low, high in _SIZE_BINS:
        inside = (i_mag >= low) & (i_mag < high)
        if inside.sum() >= MIN_GALAXIES:
            median = relations.HALF_LIGHT_PER_SCALELENGTH * relations.scalelength_median(i_mag[inside])
            relative = axis[inside] / median
            yield _check(
                f"disc half-light semi-major axis over relation, {low} <= i < {high}",
                float(np.median(relative)),
                1.0,
                SIZE_SYSTEMATIC,
                _median_error(relative),
                "Miller et al. 2013, 1210.8201, App. B",
            )


def _bulges(i_mag: Floats, bulge: NDArray[np.bool_], disc: NDArray[np.bool_]) -> Iterator[PopulationCheck]:
    def share_error(expected: float, n: int) -> float:
        return float(np.sqrt(expected * (1.0 - expected) / n))

    if disc.sum() >= MIN_GALAXIES:
        expected = float(special.erf(relations.BULGE_FRACTION_MIN / relations.BULGE_FRACTION_SIGMA / np.sqrt(2.0)))
        yield _check(
            "share of the disc galaxies without bulge",
            float((~bulge[disc]).mean()),
            expected,
            BULGE_SYSTEMATIC,
            share_error(expected, int(disc.sum())),
            "Miller et al. 2013, 1210.8201, App. B",
        )
    target = (i_mag >= 22.0) & (i_mag < 24.3)
    if target.sum() >= MIN_GALAXIES:
        expected = float(relations.type_fractions(i_mag[target])[:, 0].mean())
        yield _check(
            "share of pure bulges, 22 <= i < 24.3",
            float((~disc[target]).mean()),
            expected,
            BULGE_SYSTEMATIC,
            share_error(expected, int(target.sum())),
            "Ilbert et al. 2006, A&A 457, 841, class E",
        )


def _colours(i_mag: Floats, colour: Floats) -> Iterator[PopulationCheck]:
    for low, high, expected in _COLOUR_BINS:
        inside = (i_mag >= low) & (i_mag < high)
        if inside.sum() >= MIN_GALAXIES:
            yield _check(
                f"median g - i, {low} <= i < {high}",
                float(np.median(colour[inside])),
                expected,
                COLOUR_SYSTEMATIC,
                _median_error(colour[inside]),
                "CatSim, Connolly et al. 2014",
            )
