"""Inputs that the networks of LSST get wrong, measured by `da.measure(field)`: the second table of docs/limits.md.

python -m benchmarks.hard_inputs
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import galsim
import numpy as np
from scipy.ndimage import gaussian_filter

import deblend_assets as da
from deblend_assets.science.simulation.galaxies import NANOJANSKY_ZERO_POINT
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.metrics import robust_sigma

# Cells of a grid, one target each [pixel].
_CELL, _SCALE, _BANDS = 64, 0.2, "ugrizy"
MAGNITUDES, SIZES, SHAPE = (22.0, 24.3), (0.3, 0.6), 0.2
_LSST = load_survey("LSST")

Placed = Callable[[galsim.GSObject, np.random.Generator], galsim.GSObject]


def alone(target: galsim.GSObject, rng: np.random.Generator) -> galsim.GSObject:
    """The target without a neighbour."""
    return target


def beside(distance: float, brighter: float) -> Placed:
    """The target with a neighbour at a distance [arcsec], by so many magnitudes brighter."""

    def placed(target: galsim.GSObject, rng: np.random.Generator) -> galsim.GSObject:
        angle = 2 * np.pi * rng.random()
        other = galsim.Exponential(half_light_radius=rng.uniform(*SIZES), flux=target.flux * 10 ** (0.4 * brighter))
        return target + other.shift(distance * np.cos(angle), distance * np.sin(angle))

    return placed


def measured(
    side: int, psf: galsim.GSObject, placed: Placed, seed: int, smoothed: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True and measured g (N, 2), its errors, flux over the true one in r, and whether a row has no flag.

    Args:
        side: galaxies along a side of the grid.
        psf: of all bands, as observed and as given.
        placed: adds what lies beside a target.
        seed: of everything random.
        smoothed: sigma of the Gaussian by which white noise is smoothed, the variance of a pixel kept [pixel].
    """
    rng, width = np.random.default_rng(seed), side * _CELL
    places = np.array([(i, j) for j in range(side) for i in range(side)]) * _CELL + _CELL / 2 - 0.5
    places = places + rng.uniform(-0.5, 0.5, places.shape)
    magnitude = rng.uniform(*MAGNITUDES, len(places))
    g = np.stack([rng.normal(0, SHAPE, len(places)).clip(-0.5, 0.5) for _ in range(2)], axis=1)
    scenes = []
    for n in range(len(places)):
        target = galsim.Exponential(half_light_radius=rng.uniform(*SIZES)).shear(g1=g[n, 0], g2=g[n, 1])
        scenes.append(galsim.Convolve(placed(target, rng), psf))
    bands = {}
    for band, zero_point, sky in zip(_BANDS, _LSST.zero_point, _LSST.sky, strict=True):
        image = galsim.ImageD(width, width, scale=_SCALE)
        for scene, place, mag in zip(scenes, places, magnitude, strict=True):
            light = scene * 10 ** (0.4 * (zero_point - mag))
            light.drawImage(image, center=galsim.PositionD(*(place + 1)), add_to_image=True)
        noise = rng.normal(size=image.array.shape)
        if smoothed:
            noise = gaussian_filter(noise, smoothed)
        image.array[:] += noise / noise.std() * np.sqrt(sky)
        bands[band] = da.Observation(image.array, 1 / sky, zero_point=zero_point, psf=psf, wcs=_SCALE)
    table = da.measure(da.Field(bands))
    apart = np.hypot(table["x"] - places[:, :1], table["y"] - places[:, 1:])
    row, there = apart.argmin(axis=1), apart.min(axis=1) < 2.0
    found = table[row[there]]
    flux = found["flux_r"] / 10 ** (0.4 * (NANOJANSKY_ZERO_POINT - magnitude[there]))
    shapes = np.stack([found["g1"], found["g2"]], axis=1)
    errors = np.sqrt(np.stack([found["g_cov_11"], found["g_cov_22"]], axis=1))
    return g[there], shapes, errors, np.asarray(flux), np.asarray(found["flags"] == 0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=15, help="galaxies along a side of each grid")
    side = parser.parse_args().side
    kolmogorov = galsim.Kolmogorov(fwhm=0.8)
    rows: dict[str, tuple[galsim.GSObject, Placed, float]] = {
        "isolated exponentials": (kolmogorov, alone, 0.0),
        "two equal galaxies, 2.0″ apart": (kolmogorov, beside(2.0, 0.0), 0.0),
        "… 1.5″": (kolmogorov, beside(1.5, 0.0), 0.0),
        "… 1.0″": (kolmogorov, beside(1.0, 0.0), 0.0),
        "a neighbour 1.5″ away, 1.5 mag brighter": (kolmogorov, beside(1.5, 1.5), 0.0),
        "PSF 30 % wider": (kolmogorov.dilate(1.3), alone, 0.0),
        "Moffat PSF (β = 3)": (galsim.Moffat(beta=3, fwhm=0.8), alone, 0.0),
        "noise smoothed by σ = 1 pixel": (kolmogorov, alone, 1.0),
    }
    print("| input | found | without a flag | slope of g | RMS pull of g | flux in r: median error, robust σ |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number, (name, (psf, placed, smoothed)) in enumerate(rows.items()):
        true, g, errors, flux, good = measured(side, psf, placed, number, smoothed)
        if not len(flux):
            print(f"| {name} | 0 of {side**2} | – | – | – | – |", flush=True)
            continue
        slope = (g * true).sum() / (true**2).sum()
        scatter = (g - slope * true).std() / np.sqrt((true**2).sum())
        pull = np.sqrt((((g - true) / errors) ** 2).mean())
        off, spread = 100 * (np.median(flux) - 1), 100 * float(robust_sigma(flux))
        shares = f"{len(flux)} of {side**2} | {good.mean():.0%}"
        print(
            f"| {name} | {shares} | {slope:.3f} ± {scatter:.3f} | {pull:.2f} | {off:+.1f}, {spread:.1f} % |", flush=True
        )


if __name__ == "__main__":
    main()
