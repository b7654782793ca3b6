"""Colours of galaxies: template spectra, redshifted, absorbed, observed through the LSST filters.

Templates: E, Sbc, Scd and Im of Coleman, Wu & Weedman (1980, ApJS 43, 393), extended in the UV and IR by
Bolzonella, Miralles & Pello (2000, A&A 363, 476), and the LSST throughputs, all as GalSim ships them. Faint
galaxies are bluer than Im, so a fifth template is Im cleared of dust (Calzetti et al. 2000, ApJ 533, 682)
until its UV slope is that of a dust-free starburst, beta = -2.23 (Meurer, Heckman & Calzetti 1999,
ApJ 521, 64). The intergalactic medium is that of Madau (1995, ApJ 441, 18).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.science.stamps.conventions import CATSIM_BANDS

TEMPLATES = ("E", "Sbc", "Scd", "Im")
TYPE_MAX = 4.0
"""Spectral types run from 0 (E) over 1 (Sbc), 2 (Scd) and 3 (Im) to 4 (Im without dust)."""
Z_MAX = 6.0

DUST_FREE_BETA = -2.23
_BETA_WINDOW = (1300.0, 2600.0)
_LYMAN_LIMIT = 911.75
# Madau (1995), Eq. 12 and 15: Ly alpha to Ly delta, wavelength in angstrom and coefficient.
_LYMAN_SERIES = ((1215.67, 0.0036), (1025.72, 0.0017), (972.537, 0.0011846), (949.743, 0.0009410))
_TINY = 1e-30

Floats = NDArray[np.float64]


def _share(folder: str, name: str) -> Path:
    import galsim  # only for its data files

    return Path(galsim.meta_data.share_dir) / folder / name


@lru_cache(maxsize=1)
def load_templates() -> tuple[Floats, Floats]:
    """The four CWW templates and the dust-free one, on one grid.

    Returns:
        Rest-frame wavelength, angstrom, shape (n,), and F_lambda, arbitrary unit, shape (5, n), in the order
        of the spectral types 0 to 4.
    """
    tables = [np.loadtxt(_share("SEDs", f"CWW_{name}_ext.sed")) for name in TEMPLATES]
    wave = np.unique(np.concatenate([table[:, 0] for table in tables]))
    flux = np.stack([np.interp(wave, table[:, 0], table[:, 1]) for table in tables])
    # F' = F 10^(0.4 k E): the slope changes by 0.4 E d(log10 of 10^k) / d(log10 wavelength).
    k_blue, k_red = calzetti_attenuation(np.array(_BETA_WINDOW))
    per_colour_excess = 0.4 * (k_red - k_blue) / np.log10(_BETA_WINDOW[1] / _BETA_WINDOW[0])
    excess = (DUST_FREE_BETA - uv_slope(wave, flux[3])) / per_colour_excess
    dust_free = flux[3] * 10.0 ** (0.4 * calzetti_attenuation(wave) * excess)
    return wave, np.concatenate([flux, dust_free[None]])


@lru_cache(maxsize=1)
def load_filters() -> dict[str, tuple[Floats, Floats]]:
    """LSST total throughputs at airmass 1.2: band to (wavelength in angstrom, throughput per photon)."""
    filters = {}
    for band in CATSIM_BANDS:
        nanometre, throughput = np.loadtxt(_share("bandpasses", f"LSST_{band}.dat"), unpack=True)
        filters[band] = (nanometre * 10.0, throughput)
    return filters


def uv_slope(wave: Floats, flux: Floats) -> float:
    """Slope beta of F_lambda ~ wavelength^beta between 1300 and 2600 angstrom (end to end)."""
    blue, red = np.interp(_BETA_WINDOW, wave, flux)
    return float(np.log(red / blue) / np.log(_BETA_WINDOW[1] / _BETA_WINDOW[0]))


def calzetti_attenuation(wave: Floats) -> Floats:
    """Attenuation A(wavelength) / E(B-V) in magnitudes: Calzetti et al. (2000), Eq. 4.

    Fitted from 0.12 to 2.2 micrometre; held at the end values outside.

    Args:
        wave: rest-frame wavelength, angstrom, any shape.
    """
    x = np.clip(wave * 1e-4, 0.12, 2.2)
    blue = -2.156 + 1.509 / x - 0.198 / x**2 + 0.011 / x**3
    red = -1.857 + 1.040 / x
    return 2.659 * np.where(x < 0.63, blue, red) + 4.05


def igm_transmission(wave: ArrayLike, z: float) -> Floats:
    """Mean transmission of the intergalactic medium: Madau (1995), Eq. 12, 15 and footnote 3.

    Args:
        wave: observed wavelength, angstrom, any shape.
        z: redshift of the source.

    Returns:
        Transmission in (0, 1], shaped like `wave`; 1 redward of the source's Lyman alpha.
    """
    observed = np.asarray(wave, dtype=np.float64)
    tau = np.zeros_like(observed)
    for line, coefficient in _LYMAN_SERIES:
        tau += np.where(observed < line * (1.0 + z), coefficient * (observed / line) ** 3.46, 0.0)
    xc, xem = np.maximum(observed / _LYMAN_LIMIT, 1.0), 1.0 + z  # absorbers lie at redshifts above 0
    continuum = (
        0.25 * xc**3 * (xem**0.46 - xc**0.46)
        + 9.4 * xc**1.5 * (xem**0.18 - xc**0.18)
        - 0.7 * xc**3 * (xc**-1.32 - xem**-1.32)
        - 0.023 * (xem**1.68 - xc**1.68)
    )
    tau += np.where(observed < _LYMAN_LIMIT * xem, np.maximum(continuum, 0.0), 0.0)
    return np.exp(-tau)


def _photon_weights(wave: Floats) -> Floats:
    """Weights w with sum(w F_lambda) = mean F_nu through the filter, up to one constant common to all bands.

    AB, photon counting: <F_nu> = int F_nu T dnu/nu / int T dnu/nu; with F_nu ~ wavelength^2 F_lambda and
    dnu/nu = -dlambda/lambda both become sums over wavelength.
    """
    step = np.gradient(wave)
    rows = []
    for band in CATSIM_BANDS:
        table = load_filters()[band]
        per_photon = np.interp(wave, *table, left=0.0, right=0.0) * step / wave
        rows.append(per_photon * wave**2 / per_photon.sum())
    return np.stack(rows)


def filter_magnitudes(wave: Floats, flux: Floats, weights: Floats | None = None) -> Floats:
    """AB magnitudes through u, g, r, i, z, y, up to a zero point common to the bands.

    Args:
        wave: observed wavelength, angstrom, shape (n,), rising, finer than the filters' structure.
        flux: F_lambda, shape (..., n).
        weights: see `_photon_weights`; made of `wave` where none is given.

    Returns:
        Magnitudes, shape (..., 6). Differences are AB colours: zero for a spectrum flat in F_nu.
    """
    mean = flux @ (_photon_weights(wave) if weights is None else weights).T
    return -2.5 * np.log10(np.maximum(mean, _TINY))


@lru_cache(maxsize=1)
def colour_grid() -> tuple[Floats, Floats, Floats]:
    """Colours against i on a grid of redshift and spectral type.

    Between two templates log F_lambda is interpolated, so a type is a whole spectrum and not a mean colour.

    Returns:
        Redshifts, shape (nz,); types, shape (nt,); m_band - m_i in AB magnitudes, shape (nz, nt, 6).
    """
    wave, flux = load_templates()
    log_flux = np.log(flux)
    observed = np.arange(3000.0, 11100.0, 2.0, dtype=np.float64)
    redshifts = np.linspace(0.0, Z_MAX, 301)
    types = np.linspace(0.0, TYPE_MAX, 17)
    lower = np.minimum(types.astype(np.int64), int(TYPE_MAX) - 1)
    share = (types - lower)[:, None]
    grid = np.empty((redshifts.size, types.size, len(CATSIM_BANDS)))
    weights = _photon_weights(observed)
    for row, z in enumerate(redshifts):
        rest = np.stack([np.interp(observed / (1.0 + z), wave, template) for template in log_flux])
        spectrum = np.exp((1.0 - share) * rest[lower] + share * rest[lower + 1])
        magnitude = filter_magnitudes(observed, spectrum * igm_transmission(observed, z), weights)
        grid[row] = magnitude - magnitude[:, CATSIM_BANDS.index("i")][:, None]
    return redshifts, types, grid


def colours(redshift: Floats, spectral_type: Floats) -> Floats:
    """Colours m_band - m_i, by bilinear interpolation on `colour_grid`.

    Args:
        redshift: shape (n,), in [0, 6].
        spectral_type: shape (n,), in [0, 4]: 0 E, 1 Sbc, 2 Scd, 3 Im, 4 Im without dust.

    Returns:
        AB magnitudes relative to i in u, g, r, i, z, y, shape (n, 6); the column of i is zero.
    """
    redshifts, types, grid = colour_grid()
    z = np.clip(redshift, 0.0, Z_MAX) / (redshifts[1] - redshifts[0])
    t = np.clip(spectral_type, 0.0, TYPE_MAX) / (types[1] - types[0])
    row = np.minimum(z.astype(np.int64), redshifts.size - 2)
    column = np.minimum(t.astype(np.int64), types.size - 2)
    dz, dt = (z - row)[:, None], (t - column)[:, None]
    near = (1.0 - dt) * grid[row, column] + dt * grid[row, column + 1]
    far = (1.0 - dt) * grid[row + 1, column] + dt * grid[row + 1, column + 1]
    return (1.0 - dz) * near + dz * far
