"""A catalogue's bulges, discs and AGN as renderers take them: shapes as matrices, fluxes in whole electrons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

_DISC = galsim.Exponential(half_light_radius=1.0)
_BULGE = galsim.DeVaucouleurs(half_light_radius=1.0)


@dataclass(frozen=True)
class Components:
    """Every galaxy of a catalogue; N rows.

    Attributes:
        hlr: half-light radius sqrt(ab) of disc and bulge, 0 without one; (N, 2) [arcsec].
        q: axis ratio b/a of disc and bulge, 1 without one; (N, 2).
        share: light of disc, bulge and AGN over the galaxy's, the same in every band; (N, 3).
        angle: position angle of the catalogue, from +x towards +y; (N,) [rad].
        flux: of the whole galaxy, (N, band) [electron]; whole numbers, as BTK's.
    """

    hlr: NDArray
    q: NDArray
    share: NDArray
    angle: NDArray
    flux: NDArray

    @classmethod
    def of_catalog(cls, catalog: Mapping[str, NDArray], magnitudes: NDArray, zero_point: NDArray) -> Components:
        """From CatSim's columns.

        Args:
            catalog: fluxnorm_disk, fluxnorm_bulge, fluxnorm_agn, a_d, b_d, a_b, b_b, pa_disk, pa_bulge; each (N,).
            magnitudes: (N, band) [AB mag].
            zero_point: AB magnitude of one electron, (band,).
        """
        light = np.stack([np.asarray(catalog[f"fluxnorm_{part}"], float) for part in ("disk", "bulge", "agn")], 1)
        major, minor = (np.stack([np.asarray(catalog[f"{s}_{c}"], float) for c in "db"], 1) for s in "ab")
        there = light[:, :2] > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            hlr = np.where(there, np.sqrt(major * minor), 0.0)
            q = np.where(there, minor / major, 1.0)
            share = light / light.sum(axis=1, keepdims=True)
        angle = np.radians(np.where(there[:, 0], catalog["pa_disk"], catalog["pa_bulge"]))
        # BTK counts whole electrons of the whole exposure (surveycodex's `mag2counts`).
        flux = np.trunc(10 ** (-0.4 * (np.asarray(magnitudes, float) - zero_point)))
        return cls(hlr, q, np.nan_to_num(share), angle, np.where(light.sum(axis=1)[:, None] > 0, flux, 0.0))

    def ellipses(self, row: NDArray, turn: NDArray, shear: complex) -> NDArray:
        """The matrices Q of some galaxies' components.

        k'^2 = k^T Q k is the wave number of the round profile of half-light radius 1.

        Args:
            row: (G,).
            turn: added to the position angle [rad], (G,).
            shear: g1 + i g2 applied after the turn, area-preserving as `galsim.Shear`.

        Returns:
            (G, 2, 3): Qxx, Qxy, Qyy of disc and bulge [arcsec²].
        """
        angle = (self.angle[row] + turn)[:, None]
        long, short = self.hlr[row] ** 2 / self.q[row], self.hlr[row] ** 2 * self.q[row]
        c, s = np.cos(angle), np.sin(angle)
        xx, xy, yy = long * c * c + short * s * s, (long - short) * c * s, long * s * s + short * c * c
        return shear_ellipses(np.stack([xx, xy, yy], axis=-1), shear)


def shear_ellipses(ellipses: NDArray, shear: complex | NDArray) -> NDArray:
    """The matrices Q of galaxies after a shear, area-preserving as `galsim.Shear`.

    Args:
        ellipses: see `Components.ellipses`, (G, 2, 3).
        shear: g1 + i g2, one for all or each galaxy's own (G,).

    Returns:
        (G, 2, 3).
    """
    xx, xy, yy = np.moveaxis(ellipses, -1, 0)
    each = np.asarray(shear)[..., None]
    p, m, o = 1 + each.real, 1 - each.real, each.imag
    norm = 1.0 / (1.0 - np.abs(each) ** 2)
    return norm[..., None] * np.stack(
        [
            p * p * xx + 2 * p * o * xy + o * o * yy,
            p * o * xx + (p * m + o * o) * xy + o * m * yy,
            o * o * xx + 2 * o * m * xy + m * m * yy,
        ],
        axis=-1,
    )


def grid_sizes(
    ellipses: NDArray, offset: NDArray, psf_step: float, pixel_scale: float, steps: NDArray | None = None
) -> NDArray[np.int64]:
    """Side of the Fourier grid that each galaxy needs, by GalSim's own rules (`GSObject.drawFFT_makeKImage`).

    The step in k is 2π / (side × pixel scale): a coarser one would alias more than half a per cent of the light back
    into the stamp. With GalSim's own step the aliased light equals GalSim's.

    Args:
        ellipses: see `Components.ellipses`, (G, 2, 3).
        offset: distance from the stamp's centre [arcsec], (G,).
        psf_step: the least `stepk` of the bands' PSFs [1/arcsec].
        pixel_scale: [arcsec].
        steps: `stepk` of the two components' round profiles of half-light radius 1, (G, 2) [1 / half-light radius];
            those of an exponential and a de Vaucouleurs profile by default.

    Returns:
        (G,), each a good size for an FFT, at least 128.
    """
    xx, xy, yy = np.moveaxis(ellipses, -1, 0)
    major = np.sqrt(0.5 * (xx + yy + np.hypot(xx - yy, 2 * xy)))
    with np.errstate(divide="ignore"):
        steps = (np.array([_DISC.stepk, _BULGE.stepk]) if steps is None else steps) / major
    galaxy = steps.min(axis=1)
    blurred = 1.0 / np.sqrt(galaxy**-2.0 + psf_step**-2.0)
    moved = np.pi / (np.pi / blurred + offset)
    step = 1.0 / np.sqrt(moved**-2.0 + galsim.Pixel(pixel_scale).stepk ** -2.0)
    wanted = np.ceil(2 * np.pi / (pixel_scale * step)).astype(np.int64)
    least = galsim.GSParams().minimum_fft_size
    sizes, which = np.unique(wanted, return_inverse=True)
    good = np.array([max(least, galsim.Image.good_fft_size(int(size))) for size in sizes], dtype=np.int64)
    return good[which]
