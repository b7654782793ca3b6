"""Sizes and colors of the generated galaxies against those of real ones, in bins of i.

python -m benchmarks.galaxy_population --fits real_galaxy_catalog_25.2_fits.fits
python -m benchmarks.galaxy_population --photometry vvds_deep.csv --columns "MAG_AUTO_{}" --redshift ds_spectra.Z

The fits are GalSim's of COSMOS galaxies. Photometry is any table of galaxies that were chosen by their magnitude in i,
stars and lost pixels taken out of it: CSV, one column a band. Neither is part of this project.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS
from deblend_assets.science.simulation.cosmos import read_cosmos_fits
from deblend_assets.science.simulation.galaxies import Galaxies
from deblend_assets.science.simulation.intrinsic import intrinsic_shapes
from deblend_assets.science.simulation.morphologies import TRAINING_MIX, shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.statistics.metrics import MEDIAN_ERROR

SHARES = (0.16, 0.5, 0.84)
COLORS = ("u-g", "g-r", "r-i", "i-z", "g-i")
EDGES = np.arange(18.0, 26.1, 0.5)
LEAST, MOST_SIZES = 100, 3_000  # galaxies of a bin: at least, and at most those whose size is computed
_I = CATSIM_BANDS.index("i")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """One quantity in one bin of i.

    Attributes:
        name: of the quantity.
        low: magnitude at which the bin begins.
        count: real galaxies in it.
        real, ours: quantiles at `SHARES`; a color [mag] or ln of a half-light radius [arcsec].
        error: of the difference of the medians.
    """

    name: str
    low: float
    count: int
    real: Floats
    ours: Floats
    error: float


def compared(name: str, real_i: Floats, real: Floats, our_i: Floats, ours: Floats) -> Iterator[Bin]:
    """The bins of half a magnitude in i in which either has at least `LEAST` galaxies.

    Args:
        name: of the quantity.
        real_i, our_i: magnitudes in i, (N,) and (M,).
        real, ours: the quantity, (N,) and (M,); NaN is left out.
    """
    for low, high in pairwise(EDGES):
        parts = [q[(i >= low) & (i < high) & np.isfinite(q)] for i, q in ((real_i, real), (our_i, ours))]
        if min(map(len, parts)) < LEAST:
            continue
        theirs, own = (np.quantile(part, SHARES) for part in parts)
        errors = [
            MEDIAN_ERROR * (q[2] - q[0]) / 2 / len(part) ** 0.5 for q, part in zip((theirs, own), parts, strict=True)
        ]
        yield Bin(name, float(low), len(parts[0]), theirs, own, float(np.hypot(*errors)))


def colors(magnitudes: Mapping[str, Floats]) -> dict[str, Floats]:
    """`COLORS` of the bands that are there, by name; NaN where a magnitude is none (below 5 or above 40)."""
    known = {band: np.where((mag > 5) & (mag < 40), mag, np.nan) for band, mag in magnitudes.items()}
    pairs = (name.split("-") for name in COLORS)
    return {f"{a}-{b}": known[a] - known[b] for a, b in pairs if a in known and b in known}


def sizes(galaxies: Galaxies) -> Floats:
    """ln half-light radius in i [arcsec] of the first `MOST_SIZES` galaxies in each bin; NaN of the others, (N,)."""
    i_mag = galaxies.magnitudes()[:, _I]
    found = np.full(len(galaxies), np.nan)
    for low, high in pairwise(EDGES):
        rows = np.flatnonzero((i_mag >= low) & (i_mag < high))[:MOST_SIZES]
        if len(rows):
            found[rows] = np.log(intrinsic_shapes(galaxies[rows], band="i").hlr)
    return found


def magnitudes_of(table: pd.DataFrame, columns: str) -> dict[str, Floats]:
    """Magnitudes by band of a table.

    Args:
        table: one row a galaxy.
        columns: their names, "{}" for the band, in either case.
    """
    names = {band: [columns.format(letter) for letter in (band, band.upper())] for band in "ugriz"}
    found = {band: next((name for name in both if name in table), None) for band, both in names.items()}
    return {band: table[name].to_numpy(dtype=np.float64) for band, name in found.items() if name is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=Path, help="GalSim's catalogue of fits: compares sizes")
    parser.add_argument("--photometry", type=Path, help="CSV: compares colors")
    parser.add_argument("--columns", default="{}", help='names of its magnitudes, "{}" for the band')
    parser.add_argument("--redshift", help="its column of redshifts; those below 0.01 are left out")
    parser.add_argument("--galaxies", type=int, default=150_000)
    arguments = parser.parse_args()
    population = generate_population(arguments.galaxies, 5, i_max=25.5, counts="observed")
    catalog = {name: population[name].to_numpy() for name in CATSIM_COLUMNS}
    our_i = catalog["i_ab"].astype(np.float64)
    bins: list[Bin] = []
    if arguments.fits is not None:
        ours, fits = shaped_galaxies(catalog, TRAINING_MIX, seed=2), read_cosmos_fits(arguments.fits, 1)
        name = "ln half-light radius"
        bins += compared(name, fits.magnitudes()[:, _I], sizes(fits), our_i, sizes(ours))
    if arguments.photometry is not None:
        table = pd.read_csv(arguments.photometry)
        if arguments.redshift is not None:
            table = table[table[arguments.redshift] > 0.01]
        real = magnitudes_of(table, arguments.columns)
        own = colors({band: catalog[f"{band}_ab"] for band in "ugriz"})
        for name, values in colors(real).items():
            bins += compared(name, real["i"], values, our_i, own[name])
    print("| i | quantity | N | real: 16, 50, 84 % | ours | ours less real, median |")
    print("| --- | --- | --- | --- | --- | --- |")
    for found in bins:
        quantiles = " | ".join("; ".join(f"{value:.2f}" for value in q) for q in (found.real, found.ours))
        off = f"{found.ours[1] - found.real[1]:+.2f} ± {found.error:.2f}"
        print(f"| {found.low:g} to {found.low + 0.5:g} | {found.name} | {found.count} | {quantiles} | {off} |")


if __name__ == "__main__":
    main()
