"""Real galaxies of COSMOS, as HST saw them, behind a ground-based PSF: what comes back of their light and shape."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import galsim
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.api import GOOD_FLUX, Field, Observation
from deblend_assets.science.images.field import Field as ImageField
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.steps.fields.catalog import FieldCatalog, catalog_of

_BANDS, SCALE, ZERO_POINT, _FWHM = "griz", 0.2, 27.0, 0.8
# Side of a galaxy's place [pixel], and magnitude of a point source of S/N 5 in every band.
_PLACE, _DEPTH = 60, 26.5
_NEAR, _LEAST_SNR = 3.0, 20.0

Floats = NDArray[np.float64]


class CosmosField(NamedTuple):
    """Galaxies on a grid.

    Attributes:
        field: g r i z.
        places: x, y, (N, 2) [pixel].
        magnitude: in i, (N,).
        e: observed distortion, by adaptive moments of the image without noise, (N, 2); NaN where that failed.
    """

    field: ImageField
    places: Floats
    magnitude: Floats
    e: Floats


def cosmos_field(folder: Path, number: int = 100, seed: int = 1) -> CosmosField:
    """Images of real galaxies behind a Moffat of 0.8 arcsec, each with HSC's magnitudes, in white noise.

    Args:
        folder: of the real images.
        number: of galaxies, the brightest ones.
        seed: of the noise and of offsets below a pixel.
    """
    below, name = folder / "cosmos_hst_btk" / "cosmos", "real_galaxy_catalog_26_extension_example"
    catalog = galsim.RealGalaxyCatalog(f"{name}.fits", dir=str(below))
    rows = fits.getdata(below / f"{name}_fits.fits")
    magnitudes = np.stack([rows[f"HSC_{band}"] for band in _BANDS], axis=1).astype(np.float64)
    chosen = np.argsort(magnitudes[:, 2])[:number]
    magnitudes = magnitudes[chosen]
    side = int(np.ceil(np.sqrt(number)))
    rng = np.random.default_rng(seed)
    psf = galsim.Moffat(beta=3.0, fwhm=_FWHM)
    star = psf.drawImage(nx=_PLACE, ny=_PLACE, scale=SCALE).array
    sigma = 10 ** (-0.4 * (_DEPTH - ZERO_POINT)) / 5 * float(np.sqrt((star**2).sum()))
    images = rng.normal(0, sigma, (len(_BANDS), side * _PLACE, side * _PLACE))
    places, shapes = np.empty((number, 2)), np.full((number, 2), np.nan)
    for k, index in enumerate(chosen.tolist()):
        galaxy = galsim.RealGalaxy(catalog, index=index, flux=1.0)
        offset = rng.uniform(-0.5, 0.5, 2)
        seen = galsim.Convolve(galaxy, psf).drawImage(nx=_PLACE, ny=_PLACE, scale=SCALE, offset=tuple(offset)).array
        j, i = (part * _PLACE for part in divmod(k, side))
        flux = 10 ** (-0.4 * (magnitudes[k] - ZERO_POINT))
        images[:, j : j + _PLACE, i : i + _PLACE] += flux[:, None, None] * seen
        places[k] = np.array([i, j]) + (_PLACE - 1) / 2 + offset
        moments = galsim.hsm.FindAdaptiveMom(galsim.Image(seen), strict=False)
        if not moments.error_message:
            shapes[k] = moments.observed_shape.e1, moments.observed_shape.e2
    observations = {
        band: Observation(image, sigma**-2, psf=psf, wcs=SCALE, zero_point=ZERO_POINT)
        for band, image in zip(_BANDS, images, strict=True)
    }
    return CosmosField(Field(observations, "cosmos"), places, magnitudes[:, 2], shapes)


class CosmosFound(NamedTuple):
    """Of the galaxies of a field.

    Attributes:
        found: whether a row is there, (N,).
        flux: of i over the true one, of found rows good for fluxes, (K,).
        pull: errors of these fluxes over the stated ones, (K,).
        e, true_e: of the likelihood and the true one, of these of S/N above 20, (L, 2).
    """

    found: NDArray[np.bool_]
    flux: Floats
    pull: Floats
    e: Floats
    true_e: Floats


def compare(cosmos: CosmosField, catalog: FieldCatalog) -> CosmosFound:
    """Rows against what is known of their galaxies."""
    table = catalog.table
    rows = table[["x", "y"]].to_numpy(np.float64)
    distance = np.hypot(*(cosmos.places[:, None] - rows).transpose(2, 0, 1))
    found, row = distance.min(axis=1) < _NEAR, distance.argmin(axis=1)
    good = found & ((table["flags"].to_numpy(np.int64)[row] & int(GOOD_FLUX)) == 0)
    true = nanojansky(0.0) * 10 ** (-0.4 * cosmos.magnitude)
    flux, error = (table[name].to_numpy(np.float64)[row] / true for name in ("flux_i", "flux_i_err"))
    e = table[["e1_likelihood", "e2_likelihood"]].to_numpy(np.float64)[row]
    known = good & np.isfinite(e).all(axis=1) & np.isfinite(cosmos.e).all(axis=1)
    known &= table["snr"].to_numpy()[row] > _LEAST_SNR
    return CosmosFound(found, flux[good], ((flux - 1) / error)[good], e[known], cosmos.e[known])


def slope(found: CosmosFound) -> tuple[float, float]:
    """Of e on the true one, both components together, and its error by the scatter."""
    x, y = found.true_e.ravel(), found.e.ravel()
    value = float((x * y).sum() / (x * x).sum())
    return value, float(np.std(y - value * x) / np.sqrt((x * x).sum()))


def cosmos_lines(folder: Path, model: SkyModel) -> list[str]:
    """What comes back, in words."""
    cosmos = cosmos_field(folder)
    found = compare(cosmos, catalog_of(cosmos.field, model, "shipped", log=lambda line: None))
    value, error = slope(found)
    off = found.flux - 1
    rms = np.sqrt(np.mean((found.e - found.true_e) ** 2))
    return [
        f"COSMOS: {int(found.found.sum())} of {len(found.found)} galaxies found",
        f"Flux in i of {len(off)} good ones: median {100 * np.median(off):+.1f} %, "
        f"robust σ {100 * robust_sigma(off):.1f} %, of the pulls {robust_sigma(found.pull):.2f}",
        f"e (likelihood) of {len(found.e)} of S/N > {_LEAST_SNR:g} on adaptive moments without noise: "
        f"slope {value:.2f} ± {error:.2f}, RMS difference {rms:.3f}",
    ]
