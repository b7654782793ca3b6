"""Small fields of exact sources, and catalogues of them, for tests of what is made of a measured field."""

from __future__ import annotations

from collections.abc import Sequence

import galsim
import numpy as np
import pandas as pd

from deblend_assets.science.images.field import Field
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.measuring.field_columns import field_columns
from deblend_assets.science.measuring.field_look import Look, detect_window, look_at
from deblend_assets.science.measuring.field_sources import SOURCE_COLUMNS
from deblend_assets.science.simulation import sersic

SCALE, SIGMA, ZERO_POINT = 0.2, 1.0, 30.0
FWHM = 0.8


class OnePSF:
    """The same everywhere."""

    def __init__(self, profile: galsim.GSObject) -> None:
        self.profile = profile

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`."""
        return self.profile


def moffat(fwhm: float = FWHM, g1: float = 0.0) -> OnePSF:
    return OnePSF(galsim.Moffat(beta=3.5, fwhm=fwhm).shear(g1=g1))


def tan_wcs(shape: tuple[int, int], turned: float = 0.0, centre: tuple[float, float] = (150.0, 2.0)) -> galsim.BaseWCS:
    """North up and east left, or turned by an angle [deg]; its middle at ra, dec [deg]."""
    rotation = galsim.JacobianWCS(SCALE, 0, 0, SCALE).jacobian().getMatrix()
    c, s = np.cos(np.radians(turned)), np.sin(np.radians(turned))
    matrix = np.array([[c, -s], [s, c]]) @ rotation
    affine = galsim.AffineTransform(*matrix.ravel(), origin=galsim.PositionD((shape[1] + 1) / 2, (shape[0] + 1) / 2))
    return galsim.TanWCS(affine, galsim.CelestialCoord(*(angle * galsim.degrees for angle in centre)))


def positions(number: int, shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """x and y on a grid with some scatter, (N, 2)."""
    side = max(int(np.ceil(np.sqrt(number))), 1)
    rng = np.random.default_rng(seed)
    step = (np.array(shape[::-1]) - 40) / side
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:number]
    return np.asarray(20 + (grid + 0.5) * step + rng.uniform(-2, 2, (len(grid), 2)))


def star_field(
    places: np.ndarray,
    flux: np.ndarray,
    shape: tuple[int, int] = (300, 320),
    bands: Sequence[str] = ("r",),
    psf: OnePSF | None = None,
    given: OnePSF | None = None,
    sky: float = 0.0,
    weights: bool = True,
) -> Field:
    """Stars behind a PSF in white noise, in every band the same.

    Args:
        places, flux: of the stars, (N, 2) [pixel] and (N,).
        shape: (y, x).
        bands: names.
        psf, given: of the image, and the one that is said to be that.
        sky: that is left in.
        weights: whether there is a noise map.
    """
    rng = np.random.default_rng(3)
    psf = psf or moffat()
    light = galsim.Image(shape[1], shape[0], scale=SCALE)
    for (x, y), one in zip(places, flux, strict=True):
        psf.profile.withFlux(float(one)).drawImage(light, center=galsim.PositionD(x + 1, y + 1), add_to_image=True)
    wcs = tan_wcs(shape)
    observations = {}
    for band in bands:
        pixels = (light.array + sky + rng.normal(0, SIGMA, shape)).astype(np.float32)
        weight = np.full(shape, SIGMA**-2, np.float32) if weights else None
        observations[band] = Observation(pixels, ZERO_POINT, wcs, weight=weight, psf=given or psf, where=f"{band}.fits")
    return Field(observations, "sample")


def detections(field: Field, look: Look) -> pd.DataFrame:
    """What is detected in a field of one cell."""
    from deblend_assets.science.images.field import Box

    height, width = field.shape
    image = field.observed(Box(0, 0, width, height), look.noise, look.psfs, field.settings.stamps.psf_side)
    return detect_window(field, image, look.fwhm).table


def catalogue(
    field: Field, places: np.ndarray, flux: np.ndarray, star: bool = True, seed: int = 2
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A catalogue as the measurement of round sources would give it, shapes scattered, and its sources.

    Args:
        field: their field.
        places: (N, 2) [pixel].
        flux: (N,) [image unit], in every band.
        star: whether the sources are points; else exponentials of 0.4 arcsec.
        seed: of the shapes.
    """
    rng = np.random.default_rng(seed)
    number = len(places)
    table = pd.DataFrame({name: np.zeros(number) for name in field_columns(field.names)})
    table["id"], table["x"], table["y"] = np.arange(1, number + 1), places[:, 0], places[:, 1]
    table["ra"], table["dec"] = field.sky(places[:, 0], places[:, 1])
    table["snr"] = table["detection_snr"] = flux / 8.0
    for k, band in enumerate(field.names):
        table[f"flux_{band}"] = flux * 10 ** (-0.4 * (ZERO_POINT - 31.4))
        table[f"mag_{band}"] = ZERO_POINT - 2.5 * np.log10(flux) + rng.normal(0.1 * k, 0.1, number)
        table[f"snr_{band}"], table[f"psf_fwhm_{band}"] = flux / 8.0, FWHM
        table[f"psf_g1_{band}"], table[f"psf_g2_{band}"] = rng.normal(0, 0.02, (2, number))
        table[f"flags_{band}"] = np.zeros(number, np.int16)
    for name in ("g1", "g2", "e1", "e2"):
        table[name] = rng.normal(0, 0.1, number)
    table["half_light_radius"], table["flags"] = 0.4, np.zeros(number, np.int32)
    table["reference_band"] = np.array(["r" if "r" in field.names else field.names[0]] * number, object)
    table["model_version"] = "test"
    sources = pd.DataFrame({name: np.zeros(number) for name in SOURCE_COLUMNS})
    sources["source_ln_hlr"], sources["source_concentration"] = np.log(0.4), float(sersic.concentration(1.0))
    sources["source_star"] = float(star)
    return table, sources


__all__ = ["catalogue", "detections", "look_at", "moffat", "positions", "star_field", "tan_wcs"]
