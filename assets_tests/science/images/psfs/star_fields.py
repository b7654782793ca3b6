"""Images of stars and galaxies at random places, behind one PSF, for the PSF that the stars give."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.images.psfs.candidates import Window
from deblend_assets.science.skies.psf_shape import measure_psf

SCALE = 0.2
# Half side of a source's square [pixel].
_REACH = 50


class StarField(NamedTuple):
    """White noise of σ = 1 and sources; truth has x, y, snr and star."""

    window: Window
    truth: pd.DataFrame

    def with_pixels(self, pixels: NDArray, known: NDArray | None = None) -> Window:
        weight = np.ones(pixels.shape, np.float32) if known is None else known.astype(np.float32)
        return Window(pixels.astype(np.float32), weight)

    def are_stars(self, found: pd.DataFrame) -> NDArray[np.bool_]:
        """Which detections have a star within 2 pixels."""
        stars = self.truth[self.truth["star"]]
        apart = [(found[axis].to_numpy()[:, None] - stars[axis].to_numpy()) for axis in ("x", "y")]
        return np.asarray((np.hypot(*apart) < 2).any(axis=1)) if len(stars) else np.zeros(len(found), bool)


def star_field(
    psf: galsim.GSObject,
    stars: int,
    galaxies: int,
    seed: int,
    *,
    side: int = 600,
    snr: tuple[float, float] = (50.0, 500.0),
    varied: Callable[[float, float], galsim.GSObject] | None = None,
) -> StarField:
    """Stars of S/N within limits, as many in each of ln 2, and exponentials of S/N 15 to 300."""
    rng = np.random.default_rng([seed, 7])
    image = galsim.ImageD(side, side, scale=SCALE)
    image.setOrigin(0, 0)
    effective = psf.drawImage(nx=41, ny=41, scale=SCALE, dtype=float).array
    of_one = float(np.sqrt((effective**2).sum()))
    rows = []
    for n in range(stars + galaxies):
        x, y = rng.uniform(3, side - 4, 2)
        low, high = snr if n < stars else (15.0, 300.0)
        wanted = low * (high / low) ** rng.random()
        there = psf if varied is None else varied(x, y)
        source = there.withFlux(wanted / of_one)
        if n >= stars:
            galaxy = galsim.Exponential(half_light_radius=float(np.exp(rng.normal(np.log(0.45), 0.35))))
            g1, g2 = rng.normal(0, 0.12, 2)
            source = galsim.Convolve(galaxy.shear(g1=g1, g2=g2), there).withFlux(2 * wanted / of_one)
        near = galsim.BoundsI(*(round(v) + step for v in (x, y) for step in (-_REACH, _REACH))) & image.bounds
        source.drawImage(image[near], center=galsim.PositionD(x, y), add_to_image=True, method="auto")
        rows.append((x, y, wanted, n < stars))
    pixels = (image.array + rng.normal(size=image.array.shape)).astype(np.float32)
    truth = pd.DataFrame(rows, columns=["x", "y", "snr", "star"])
    return StarField(Window(pixels, np.ones_like(pixels)), truth)


class PSFErrors(NamedTuple):
    """Of a measured PSF: ln FWHM, g1, g2, and a star's flux by it over the true one, less 1."""

    fwhm: float
    g1: float
    g2: float
    flux: float


def errors_of(measured: galsim.GSObject, true: galsim.GSObject) -> PSFErrors:
    """Both are drawn as fields draw them: 41 pixels a side, of unit flux, centred."""
    ours, truth = measure_psf(measured), measure_psf(true)
    images = [
        psf.shift(-s.x, -s.y).drawImage(nx=41, ny=41, scale=SCALE, dtype=float).array
        for psf, s in ((measured, ours), (true, truth))
    ]
    model, star = (image / image.sum() for image in images)
    flux = float((star * model).sum() / (model * model).sum()) - 1
    return PSFErrors(float(np.log(ours.fwhm / truth.fwhm)), ours.g1 - truth.g1, ours.g2 - truth.g2, flux)
