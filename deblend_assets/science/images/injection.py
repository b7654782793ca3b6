"""Galaxies of known truth put into a user's images: the strongest check that a user can make.

Single Sérsic profiles, with the sizes, shapes, indices and colours of the simulated population, uniform in magnitude,
on a jittered grid; what else is on the image stays. The light is that behind the field's own PSF; it adds no photon
noise of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.observation import Observation, Plane
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS
from deblend_assets.science.simulation.galaxies import Galaxies, Morphology, ellipse_shapes
from deblend_assets.science.simulation.morphologies import shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.skies.psf import PSF
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.sky_frame import shear_on_sky

# Galaxies that the injected ones are chosen from.
_POPULATION = 40_000
# Side of the stamps of light [pixel], and the least distance of two injected galaxies [pixel].
_STAMP, _APART = 91, 40
# From so many magnitudes above the limit to a little below it.
_BRIGHTER, _FAINTER = 4.0, 0.5
# Share of a grid cell by which positions are jittered.
_JITTER = 0.6

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class InjectedPlane:
    """An image with light added; implements `Plane`.

    Attributes:
        base: the image.
        corners: x, y of the first pixel of each stamp of light, (N, 2).
        light: (N, side, side) float32 [image unit].
    """

    base: Plane
    corners: NDArray[np.int64]
    light: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x)."""
        return self.base.shape

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.float32]:
        """The pixels of a window, rows first."""
        height, width = self.shape[:2]
        (y0, y1, dy), (x0, x1, dx) = (part.indices(n) for part, n in zip(window, (height, width), strict=True))
        whole = np.array(self.base[y0:y1, x0:x1], np.float32)
        side = self.light.shape[-1]
        left, low = self.corners.T
        for n in np.flatnonzero((left < x1) & (left + side > x0) & (low < y1) & (low + side > y0)):
            a, b = max(left[n], x0), min(left[n] + side, x1)
            c, d = max(low[n], y0), min(low[n] + side, y1)
            whole[c - y0 : d - y0, a - x0 : b - x0] += self.light[n, c - low[n] : d - low[n], a - left[n] : b - left[n]]
        return whole[::dy, ::dx]


def sample_injections(field: Field, limits: Mapping[str, float], number: int, seed: int) -> pd.DataFrame:
    """Galaxies to inject.

    Columns: x, y [pixel, from 0]; g1, g2 in the sky frame; g1_pixel, g2_pixel; half_light_radius [arcsec]; n;
    mag_{band} [AB].

    Args:
        field: images.
        limits: AB magnitude of a faint point source of S/N 5, by band.
        number: of galaxies; fewer where the image has no room for them.
        seed: of all random numbers.

    Raises:
        SettingsError: no galaxy fits on the image.
    """
    rng = np.random.default_rng(seed)
    height, width = field.shape
    step = max(_APART, int(np.sqrt(height * width / max(number, 1))))
    columns, rows = width // step, height // step
    if number < 1 or not columns * rows:
        raise SettingsError(
            f"{number} galaxies on an image of {width} × {height} pixels",
            where=field.name,
            remedy=f"give a larger image: each galaxy takes {_APART} × {_APART} pixels",
        )
    cell = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    place = (cell + 0.5 + _JITTER * (rng.random(cell.shape) - 0.5)) * step - 0.5
    place = place[rng.permutation(len(place))[:number]]
    galaxies = _chosen(field, limits, len(place), rng, seed)
    hlr, g = ellipse_shapes(galaxies.ellipses[:, :1])
    turned = g[:, 0] * np.exp(2j * np.pi * rng.random(len(place)))
    g_pixel = np.stack([turned.real, turned.imag], axis=1)
    jacobian = np.array([field.jacobian(x, y) for x, y in place])
    on_sky = shear_on_sky(g_pixel, jacobian)
    magnitudes = galaxies.magnitudes()
    table = pd.DataFrame({"x": place[:, 0], "y": place[:, 1], "g1": on_sky[:, 0], "g2": on_sky[:, 1]})
    table["g1_pixel"], table["g2_pixel"] = g_pixel.T
    table["half_light_radius"], table["n"] = hlr[:, 0], galaxies.n[:, 0]
    for band in field.names:
        table[f"mag_{band}"] = magnitudes[:, CATSIM_BANDS.index(band)]
    return table


def injected(field: Field, psfs: Mapping[str, PSF], galaxies: pd.DataFrame) -> Field:
    """The field with galaxies of `sample_injections` in it.

    Args:
        field: images.
        psfs: by band, before the pixel.
        galaxies: N of them.
    """
    place = galaxies[["x", "y"]].to_numpy()
    corners = np.floor(place - (_STAMP - 1) / 2 + 0.5).astype(np.int64)
    bands: dict[str, Observation] = {}
    for band, observation in field.bands.items():
        flux = 10 ** (0.4 * (observation.zero_point - galaxies[f"mag_{band}"].to_numpy()))
        light = np.stack(
            [_light(field, psfs[band], row, f) for row, f in zip(galaxies.itertuples(), flux, strict=True)]
        )
        bands[band] = replace(observation, image=InjectedPlane(observation.image, corners, light))
    return replace(field, bands=bands, name=f"{field.name} with {len(galaxies)} galaxies injected")


def _light(field: Field, psf: PSF, row: Any, flux: float) -> NDArray[np.float32]:
    profile = galsim.Sersic(row.n, half_light_radius=row.half_light_radius, flux=flux)
    seen = galsim.Convolve(profile.shear(g1=row.g1_pixel, g2=row.g2_pixel), psf.at(row.x, row.y))
    offset = [at - np.floor(at + 0.5) for at in (row.x, row.y)]
    image = seen.drawImage(nx=_STAMP, ny=_STAMP, scale=field.pixel_scale, offset=offset)
    return np.asarray(image.array, np.float32)


def _chosen(field: Field, limits: Mapping[str, float], number: int, rng: np.random.Generator, seed: int) -> Galaxies:
    """Galaxies uniform in the magnitude of the band nearest to r."""
    population = generate_population(_POPULATION, seed)
    galaxies = shaped_galaxies(
        {name: population[name].to_numpy() for name in CATSIM_COLUMNS}, {Morphology.SERSIC: 1.0}, seed
    )
    band = min(field.names, key=lambda name: abs(CATSIM_BANDS.index(name) - CATSIM_BANDS.index("r")))
    magnitude = galaxies.magnitudes()[:, CATSIM_BANDS.index(band)]
    wanted = rng.uniform(limits[band] - _BRIGHTER, limits[band] + _FAINTER, number)
    order = np.argsort(magnitude)
    nearest = np.clip(np.searchsorted(magnitude[order], wanted) + rng.integers(-20, 20, number), 0, len(order) - 1)
    return galaxies[order[nearest]]
