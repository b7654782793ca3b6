"""Ready stamps of LSST, unlike the training or damaged, by `da.measure(da.Stamps(…))`: tables of docs/limits.md.

python -m benchmarks.hard_stamps
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import galsim
import numpy as np
from astropy.table import Table
from scipy.ndimage import gaussian_filter

import deblend_assets as da
from benchmarks.hard_inputs import MAGNITUDES, SHAPE, SIZES, Placed, beside
from deblend_assets.science.simulation.galaxies import NANOJANSKY_ZERO_POINT
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.metrics import robust_sigma

SIDE, SCALE, BANDS, R = 45, 0.2, "ugrizy", 2
# Errors of a damaged stamp over those of the undamaged one, at most, for it to be right.
_WIDER = 1.5


@lru_cache(maxsize=1)
def sky() -> tuple[np.ndarray, np.ndarray]:
    """Zero points of LSST and sigma of its sky [electron], by band."""
    survey = load_survey("LSST")
    return np.array(survey.zero_point), np.sqrt(survey.sky)


def psfs() -> list[galsim.GSObject]:
    """Of LSST, by band."""
    survey = load_survey("LSST")
    return [survey.btk_survey.get_filter(band).psf for band in survey.bands]


@dataclass(frozen=True)
class Truth:
    """What is put on N stamps: magnitude in all bands, and g (N, 2) in the pixel frame."""

    mag: np.ndarray
    g: np.ndarray


Spoil = Callable[[np.ndarray, np.random.Generator], Any]


@dataclass(frozen=True)
class Kind:
    """One row of a table.

    Attributes:
        name: of the row.
        light: adds what lies beside a target, or moves it.
        spoil: changes the stamps in place.
        psf: what is done to the PSFs of the images.
        told: whether this PSF is given; else the survey's is taken.
        smoothed: sigma of the Gaussian by which the noise is smoothed, its variance kept [pixel].
        noise: times that of the sky.
        unit: by which pixels and, where `zero_point` is given, nothing else is multiplied.
        weight: whether weights are given.
        mag: range of magnitudes, equal numbers for one value; None: no target.
        compare: whether errors are compared with those of the undamaged stamps.
    """

    name: str
    light: Placed = lambda target, rng: target
    spoil: Spoil = lambda stamps, rng: None
    psf: Callable[[galsim.GSObject], galsim.GSObject] = lambda psf: psf
    told: bool = False
    smoothed: float = 0.0
    noise: float = 1.0
    unit: float = 1.0
    weight: bool = False
    mag: tuple[float, float] | None = MAGNITUDES
    compare: bool = field(default=False)


def crowd(target: galsim.GSObject, rng: np.random.Generator) -> galsim.GSObject:
    """Others of 22 to 25 mag, 25 an arcmin², on the stamp and 3″ around it."""
    side = SIDE * SCALE + 6
    for _ in range(rng.poisson(25 / 3600 * side**2)):
        flux = 10 ** (-0.4 * rng.uniform(22, 25))
        x, y = rng.uniform(-side / 2, side / 2, 2)
        target += galsim.Exponential(half_light_radius=rng.uniform(*SIZES), flux=flux).shift(x, y)
    return target


def moved(pixels: float) -> Placed:
    """The target off the middle along x."""
    return lambda target, rng: target.shift(pixels * SCALE, 0)


def cosmic_ray(electrons: float) -> Spoil:
    """Four pixels of the core in r."""

    def spoil(stamps: np.ndarray, rng: np.random.Generator) -> None:
        for y, x in ((22, 21), (22, 22), (23, 23), (23, 24)):
            stamps[:, R, y, x] += electrons

    return spoil


def trail(sigma: float) -> Spoil:
    """A trail as wide as the PSF through the target in r, of so many sigma of the sky."""

    def spoil(stamps: np.ndarray, rng: np.random.Generator) -> None:
        y, x = np.mgrid[:SIDE, :SIDE]
        across = (x - 22) * np.sin(0.3) - (y - 22) * np.cos(0.3)
        stamps[:, R] += sigma * sky()[1][R] * np.exp(-(across**2) / 4.5)

    return spoil


def clipped(stamps: np.ndarray, rng: np.random.Generator) -> None:
    """A full well of a million electrons in r."""
    np.minimum(stamps[:, R], 1e6, out=stamps[:, R])


def star(target: galsim.GSObject, rng: np.random.Generator) -> galsim.GSObject:
    """A star of 16 mag in the place of the target."""
    return galsim.Gaussian(sigma=1e-3, flux=10 ** (-0.4 * 16))


def star_outside(target: galsim.GSObject, rng: np.random.Generator) -> galsim.GSObject:
    """A star of 15 mag, 6″ beside the target: out of the stamp."""
    return target + galsim.Gaussian(sigma=1e-3, flux=10 ** (-0.4 * 15)).shift(6.0, 1.0)


def scenes(kind: Kind, number: int, seed: int) -> tuple[np.ndarray, Truth]:
    """Stamps (N, band, y, x) of one kind, and their truth; the same targets and noise for all kinds of one seed."""
    rng, beside_rng = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    mag = rng.uniform(*(kind.mag or (40.0, 41.0)), number)
    g = rng.normal(0, SHAPE, (number, 2)).clip(-0.5, 0.5)
    size = rng.uniform(*SIZES, number)
    zero_point, sigma = sky()
    stamps = np.zeros((number, len(BANDS), SIDE, SIDE))
    for k, psf in enumerate(map(kind.psf, psfs())):
        again = np.random.default_rng(seed + 1)
        for n in range(number):
            target = galsim.Exponential(half_light_radius=size[n], flux=10 ** (-0.4 * mag[n]))
            lit = kind.light(target.shear(g1=g[n, 0], g2=g[n, 1]), again) * 10 ** (0.4 * zero_point[k])
            galsim.Convolve(lit, psf).drawImage(galsim.Image(stamps[n, k], scale=SCALE))
    noise = rng.normal(size=stamps.shape)
    if kind.smoothed:
        # Of larger images, so that a stamp's edge is like its middle.
        wide = rng.normal(size=(*stamps.shape[:2], SIDE + 16, SIDE + 16))
        noise = gaussian_filter(wide, (0, 0, kind.smoothed, kind.smoothed))[..., 8:-8, 8:-8]
        noise /= noise.std()
    stamps += kind.noise * sigma[:, None, None] * noise
    kind.spoil(stamps, beside_rng)
    return (stamps * kind.unit).astype(np.float32), Truth(mag, g)


def measured(kind: Kind, number: int, seed: int, model: da.SkyModel) -> tuple[Table, Truth]:
    """The catalogue of one kind, and the truth."""
    stamps, truth = scenes(kind, number, seed)
    zero_point, sigma = sky()
    given: dict[str, Any] = {}
    if kind.told:
        given["psf"] = [kind.psf(psf) for psf in psfs()]
    if kind.weight:
        given["weight"] = (sigma * kind.unit) ** -2.0
    if kind.unit != 1:
        given["zero_point"] = zero_point + 2.5 * np.log10(kind.unit)
    return da.measure(da.Stamps(stamps, bands=BANDS, **given), model=model), truth


def errors_of(table: Table) -> np.ndarray:
    """Of g1, g2 and the flux in r, (N, 3)."""
    return np.stack([np.sqrt(table["g_cov_11"]), np.sqrt(table["g_cov_22"]), table["flux_r_err"]], axis=1)


def right(table: Table, truth: Truth, undamaged: Table | None = None) -> np.ndarray:
    """Whether g1, g2 and the flux in r are within three errors, which are not much wider than those without damage."""
    flux = 10 ** (0.4 * (NANOJANSKY_ZERO_POINT - truth.mag))
    values = np.stack([table["g1"] - truth.g[:, 0], table["g2"] - truth.g[:, 1], table["flux_r"] - flux], axis=1)
    errors = errors_of(table)
    within = (np.abs(values) <= 3 * errors).all(axis=1)
    return within if undamaged is None else within & (errors <= _WIDER * errors_of(undamaged)).all(axis=1)


def wider(by: float) -> Callable[[galsim.GSObject], galsim.GSObject]:
    """PSFs dilated."""
    return lambda psf: psf.dilate(by)


def moffat(psf: galsim.GSObject) -> galsim.GSObject:
    """Of the same FWHM."""
    return galsim.Moffat(beta=3, fwhm=psf.calculateFWHM())


BLENDS = (
    Kind("isolated exponentials"),
    Kind("two equal galaxies, 2.0″ apart", beside(2.0, 0.0)),
    Kind("… 1.5″", beside(1.5, 0.0)),
    Kind("… 1.0″", beside(1.0, 0.0)),
    Kind("a neighbour 1.5″ away, 1.5 mag brighter", beside(1.5, 1.5)),
    Kind("others as in a field, 25 an arcmin² of 22 to 25 mag", crowd),
)
MOVED_AND_SMOOTHED = (
    Kind("1 pixel off the middle", moved(1)),
    Kind("noise smoothed by σ = 0.5 pixel", smoothed=0.5),
    Kind("… 0.7 pixel", smoothed=0.7),
    Kind("… 1 pixel", smoothed=1.0),
)
UNUSUAL = (
    *BLENDS,
    Kind("PSF 5 % wider, given", psf=wider(1.05), told=True),
    Kind("… 10 %", psf=wider(1.1), told=True),
    Kind("… 30 %", psf=wider(1.3), told=True),
    Kind("PSF 10 % wider, not given", psf=wider(1.1)),
    Kind("Moffat PSF (β = 3) of the same FWHM, given", psf=moffat, told=True),
    Kind("… not given", psf=moffat),
    *MOVED_AND_SMOOTHED,
    Kind("noise 2 times that of LSST", noise=2.0),
    Kind("… 10 times", noise=10.0),
    Kind("other units: zero points given, 10⁻⁶ of an electron", unit=1e-6),
    Kind("25 mag", mag=(25.0, 25.0)),
    Kind("26 mag", mag=(26.0, 26.0)),
    Kind("27 mag", mag=(27.0, 27.0)),
)
DAMAGED = (
    Kind("none", compare=True),
    Kind("blank sky", mag=None),
    Kind("sky left in, 0.3 %", spoil=lambda s, rng: s.__iadd__(0.003 * sky()[1][:, None, None] ** 2), compare=True),
    Kind("2 pixels off the middle", moved(2), compare=True),
    Kind("3 pixels", moved(3), compare=True),
    Kind("6 pixels", moved(6), compare=True),
    Kind("10 pixels", moved(10), compare=True),
    Kind("cosmic ray, 4 × 10,000 electrons on the core, r", spoil=cosmic_ray(1e4), compare=True),
    Kind("… 4 × 100,000", spoil=cosmic_ray(1e5), compare=True),
    Kind("trail as wide as the PSF, 3 sigma of the sky, r", spoil=trail(3), compare=True),
    Kind("… 10 sigma", spoil=trail(10), compare=True),
    Kind("… 100 sigma", spoil=trail(100), compare=True),
    Kind("star of 16 mag, clipped in r, weights given", star, clipped, weight=True),
    Kind("star of 15 mag outside of the stamp, 6″ away, weights given", star_outside, weight=True, compare=True),
    Kind("weights of a noise 2 times too low", noise=2.0, weight=True, compare=True),
    Kind("… 10 times", noise=10.0, weight=True, compare=True),
)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=300, help="stamps of each kind")
    number, model = parser.parse_args().number, da.load_model()
    print("| input | without a flag [%] | slope of g | RMS pull of g | flux in r: median error, robust σ [%] |")
    print("| --- | --- | --- | --- | --- |")
    for kind in UNUSUAL:
        table, truth = measured(kind, number, 1, model)
        good = np.asarray(table["flags"] == 0)
        if not good.any():
            print(f"| {kind.name} | 0 | – | – | – |", flush=True)
            continue
        found, true = table[good], truth.g[good]
        g = np.stack([found["g1"], found["g2"]], axis=1)
        slope = (g * true).sum() / (true**2).sum()
        scatter = (g - slope * true).std() / np.sqrt((true**2).sum())
        pull = np.sqrt((((g - true) / errors_of(found)[:, :2]) ** 2).mean())
        ratio = found["flux_r"] / 10 ** (0.4 * (NANOJANSKY_ZERO_POINT - truth.mag[good]))
        off, spread = 100 * (np.median(ratio) - 1), 100 * float(robust_sigma(np.asarray(ratio)))
        print(
            f"| {kind.name} | {100 * good.mean():.0f} | {slope:.3f} ± {scatter:.3f} | {pull:.2f} | {off:+.1f}, "
            f"{spread:.1f} |",
            flush=True,
        )
    print("\n| damage | flagged or right [%] | flagged [%] | right [%] | flags of more than 5 % [%] |")
    print("| --- | --- | --- | --- | --- |")
    undamaged = None
    for kind in DAMAGED:
        table, truth = measured(kind, number, 1, model)
        undamaged = table if undamaged is None else undamaged
        flagged = np.asarray(table["flags"] != 0)
        is_right = right(table, truth, undamaged if kind.compare else None)
        shares = {flag.name: 100 * float(((table["flags"] & int(flag)) != 0).mean()) for flag in da.RowFlag}
        words = ", ".join(f"{name} {share:.0f}" for name, share in shares.items() if share > 5)
        values = (100 * float(part.mean()) for part in (flagged | is_right, flagged, is_right))
        print(f"| {kind.name} | {' | '.join(f'{value:.1f}' for value in values)} | {words} |", flush=True)


if __name__ == "__main__":
    main()
