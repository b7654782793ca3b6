"""A sky: what a field is observed with, band by band.

**Units.** An image unit is what `zero_point` says: the AB magnitude of one. `gain` electrons were counted for each. The
named surveys have images in electrons of the whole exposure (gain 1), as the rest of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError, SettingsError
from deblend_assets.science.skies.background import NO_RESIDUAL, SkyResidual
from deblend_assets.science.skies.limits import PIXEL_SCALE, PSF_SHEAR, fwhm_limits, require_bands
from deblend_assets.science.skies.measured_psf import MeasuredPSF
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation
from deblend_assets.science.skies.psf import PSF, PSFModel, VaryingPSF
from deblend_assets.science.skies.psf_shape import measure_psf


@dataclass(frozen=True)
class SkyBand:
    """What a band is observed with.

    Attributes:
        psf: over the image.
        sigma: standard deviation of a pixel without sources [image unit].
        zero_point: AB magnitude of one image unit.
        gain: [electron / image unit]; sources add flux / (gain × correlation.area) to the variance.
        correlation: of the noise.
        residual: light that background subtraction leaves.
    """

    psf: PSF
    sigma: float
    zero_point: float
    gain: float = 1.0
    correlation: NoiseCorrelation = WHITE
    residual: SkyResidual = NO_RESIDUAL

    def __post_init__(self) -> None:
        for name in ("sigma", "gain"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise SettingsError(f"{name} is {value}", where="SkyBand", remedy="give a positive number")
        if not np.isfinite(self.zero_point):
            raise SettingsError(f"zero_point is {self.zero_point}", where="SkyBand", remedy="give an AB magnitude")
        if not self.correlation.area > 0:
            raise SettingsError(
                f"the noise correlation sums to {self.correlation.area:g}",
                where="SkyBand.correlation",
                remedy="give that of noise whose wide areas scatter too, as before the subtraction of a local sky",
            )

    def flux(self, magnitude: float) -> float:
        """Flux of an AB magnitude [image unit]."""
        return float(10 ** (-0.4 * (magnitude - self.zero_point)))


@dataclass(frozen=True)
class Sky:
    """What a field is observed with.

    Attributes:
        name: of the distribution it is from.
        pixel_scale: 0.15 to 0.30 [arcsec].
        shape: of the images, (y, x) [pixel].
        bands: by name, some of u g r i z y in that order.
    """

    name: str
    pixel_scale: float
    shape: tuple[int, int]
    bands: Mapping[str, SkyBand]

    def __post_init__(self) -> None:
        where = f"Sky {self.name}"
        PIXEL_SCALE.require(self.pixel_scale, f"{where}, pixel_scale")
        require_bands(tuple(self.bands), where)
        if min(self.shape) < 2:
            raise SettingsError(f"image of {self.shape} pixels", where=where, remedy="give (y, x) above 1")
        for name, band in self.bands.items():
            fwhms, g = _sizes_and_shapes(band.psf, self.shape)
            for fwhm in (fwhms.min(), fwhms.max()):
                fwhm_limits(self.pixel_scale).require(float(fwhm), f"{where}, FWHM of {name}")
            PSF_SHEAR.require(float(np.abs(g).max()), f"{where}, ellipticity of the PSF of {name}")

    def __getitem__(self, band: str) -> SkyBand:
        if band not in self.bands:
            raise SettingsError(
                f"no band {band!r}", where=f"Sky {self.name}", remedy=f"choose one of {' '.join(self.bands)}"
            )
        return self.bands[band]

    @property
    def names(self) -> tuple[str, ...]:
        """The bands' names in the order of the image axis."""
        return tuple(self.bands)

    @property
    def centre(self) -> tuple[float, float]:
        """Position (x, y) of the images' centre [pixel]."""
        return (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2

    def column(self, name: str) -> NDArray[np.float64]:
        """A number a band, as `sigma`, `zero_point` or `gain`, (band,)."""
        return np.array([getattr(band, name) for band in self.bands.values()], dtype=np.float64)

    def psfs(self, x: float, y: float) -> list[galsim.GSObject]:
        """The PSF of every band at a position [pixel]."""
        return [band.psf.at(x, y) for band in self.bands.values()]

    def variance(self, light: NDArray[np.floating]) -> NDArray[np.float32]:
        """Variance of every pixel, of sky and sources [image unit²], (band, y, x) float32.

        Args:
            light: noiseless sources [image unit], (band, y, x).
        """
        return (self.column("sigma")[:, None, None] ** 2 + self.source_variance(light)).astype(np.float32)

    def source_variance(self, light: NDArray[np.floating]) -> NDArray[np.float64]:
        """What the photons of the sources add to the variance [image unit²], (band, y, x).

        Args:
            light: see `variance`.
        """
        self._require_images(light)
        photons = np.array([band.gain * band.correlation.area for band in self.bands.values()])[:, None, None]
        return np.asarray(np.maximum(light, 0.0) / photons)

    def noise(
        self,
        light: NDArray[np.floating],
        rng: np.random.Generator,
        *,
        quarter_turns: int = 0,
        unit: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float32]:
        """Noise of sky and sources [image unit], (band, y, x) float32.

        Gaussian: at a sky of hundreds of electrons a pixel the difference from Poisson's is small. Of the source's
        photons it has the same correlation as of the sky's.

        Args:
            light: see `variance`.
            rng: random numbers; the same give the same noise.
            quarter_turns: turn the noise by 90° from +x to +y this many times before it is scaled: the twin of a field
                that is turned. Odd numbers need a square image, and turn the correlation too.
            unit: the noise before it is scaled, of unit variance, turned, (band, y, x); None: made of `rng`.
        """
        variance = self.variance(light)
        if quarter_turns % 2 and self.shape[0] != self.shape[1]:
            raise MismatchError(
                f"an image of {self.shape} pixels has no twin turned by 90 degrees",
                where=f"Sky {self.name}",
                remedy="use square fields",
            )
        for k, (image, band) in enumerate(zip(variance, self.bands.values(), strict=True)):
            np.sqrt(image, out=image)
            # rot90 turns from the second axis to the first with positive k in array coordinates: x to y is k = -1.
            image *= np.rot90(band.correlation.sample(self.shape, rng), -quarter_turns) if unit is None else unit[k]
        return variance

    def expose(
        self,
        light: NDArray[np.floating],
        rng: np.random.Generator,
        *,
        quarter_turns: int = 0,
        unit: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float32]:
        """The images: light, what background subtraction leaves, and noise; (band, y, x) float32 [image unit].

        Args:
            light, rng, quarter_turns, unit: see `noise`.
        """
        images = self.noise(light, rng, quarter_turns=quarter_turns, unit=unit)
        images += light.astype(np.float32, copy=False)
        images += np.stack([band.residual.image(self.shape) for band in self.bands.values()])
        return images

    def depth(self, band: str, snr: float = 5.0) -> float:
        """AB magnitude of a star at the centre whose flux, fitted with the PSF, has this S/N.

        Sky noise alone, with its correlation, and the PSF as weights: white noise gives
        σ(flux) = σ / √(Σ p²) with p the PSF's image of unit flux.
        """
        chosen = self[band]
        error = self.measured_psf(band).flux_error
        return chosen.zero_point - 2.5 * float(np.log10(snr * chosen.sigma * error))

    def measured_psf(self, band: str) -> MeasuredPSF:
        """The PSF of a band at the centre; measured at its first use."""
        if band not in self._measured:
            chosen = self[band]
            self._measured[band] = (
                chosen.psf
                if isinstance(chosen.psf, MeasuredPSF)
                else MeasuredPSF.of(chosen.psf.at(*self.centre), self.pixel_scale, chosen.correlation)
            )
        return self._measured[band]

    @cached_property
    def _measured(self) -> dict[str, MeasuredPSF]:
        return {}

    def _require_images(self, light: NDArray[np.floating]) -> None:
        wanted = (len(self.bands), *self.shape)
        if light.shape != wanted:
            raise MismatchError(
                f"images of shape {light.shape}, not {wanted} (band, y, x)",
                where=f"Sky {self.name}",
                remedy="render the sky's bands at the sky's shape",
            )


def _sizes_and_shapes(psf: PSF, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """FWHM [arcsec] and ellipticity: of a model all over the image, of another PSF at the centre."""
    if isinstance(psf, PSFModel):
        return np.array([psf.fwhm]), np.array([psf.g])
    if isinstance(psf, VaryingPSF):
        if psf.variation.shape != shape:
            raise MismatchError(
                f"a PSF that varies over {psf.variation.shape} pixels, in an image of {shape}",
                where="Sky.bands",
                remedy="give the image's shape to PSFVariation",
            )
        ln_size, change = psf.variation.at(*np.meshgrid(*(np.linspace(0, side - 1, 33) for side in shape[::-1])))
        return psf.model.fwhm * np.exp(ln_size), psf.model.g + change
    centre = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    measured = psf.shape if isinstance(psf, MeasuredPSF) else measure_psf(psf.at(*centre))
    return np.array([measured.fwhm]), np.array([measured.g])
