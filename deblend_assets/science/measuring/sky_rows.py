"""What the model for every sky found on stamps, in the units and in the frame of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.measuring.measured import band_names
from deblend_assets.science.measuring.sky_scene import SkyScene
from deblend_assets.science.measuring.trust import Trust
from deblend_assets.science.redshift.row_redshifts import RowEstimates
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.science.sky_shapes.inputs import Floats, measured_psfs
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.sky_shapes.response import Response
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.sky_frame import (
    distortion_covariance_on_sky,
    distortion_on_sky,
    response_on_sky,
    shear_covariance_on_sky,
    shear_on_sky,
)

# One magnitude is so many units of ln flux.
_MAGNITUDE = 2.5 / np.log(10)
_ON_SKY: Mapping[str, tuple[Callable[..., Floats], Callable[..., Floats]]] = {
    "g": (shear_on_sky, shear_covariance_on_sky),
    "e": (distortion_on_sky, distortion_covariance_on_sky),
}


@dataclass(frozen=True)
class SkyRows:
    """N stamps and what was measured of their targets; shapes in the sky frame, +x west, +y north.

    Attributes:
        stamps: of the targets.
        scene, trust: of `measure_scenes` and `trust_of`.
        answer: of the posterior mean to shear and PSF, in the pixel frame; NaN where it was not asked for.
        redshifts: of `redshifts_of`.
        names: of the bands, as the catalogue calls them.
    """

    stamps: ObservedStamps
    scene: SkyScene
    trust: Trust
    answer: Response
    redshifts: RowEstimates
    names: Sequence[str]

    def shape(self, letter: str, likelihood: bool = False) -> tuple[Floats, Floats]:
        """Mean (N, 2) and covariance (N, 2, 2) of g or e.

        Args:
            letter: "g" or "e".
            likelihood: of the likelihood alone; NaN where the pixels hold too little information.
        """
        found = self.scene.targets.likelihood if likelihood else self.scene.targets.posterior
        first, pair = _components(letter)
        mean, covariance = found.mean.numpy()[:, pair], found.covariance.numpy()[:, pair, pair]
        if likelihood:
            known = found.is_constrained(first)
            mean = np.where(known[:, None], mean, np.nan)
            covariance = np.where(known[:, None, None], covariance, np.nan)
        on_sky, covariance_on_sky = _ON_SKY[letter]
        jacobian = self.stamps.jacobian
        return on_sky(mean, jacobian), covariance_on_sky(mean, covariance, jacobian)

    def pixel_shape(self, letter: str) -> tuple[Floats, Floats]:
        """Posterior mean (N, 2) and covariance (N, 2, 2) of g or e in the pixel frame.

        Args:
            letter: "g" or "e".
        """
        found, pair = self.scene.targets.posterior, _components(letter)[1]
        return found.mean.numpy()[:, pair], found.covariance.numpy()[:, pair, pair]

    @cached_property
    def response(self) -> dict[str, Floats]:
        """The parts of `answer` by name, (N, 2, 2), in the sky frame."""
        return {name: response_on_sky(part, self.stamps.jacobian) for name, part in self.answer._asdict().items()}

    @property
    def flux(self) -> Floats:
        """Of the targets, (N, band) [nJy]."""
        return self.scene.fluxes.flux[:, 0] * nanojansky(self.stamps.zero_point)

    @property
    def flux_err(self) -> Floats:
        """Their standard errors, (N, band) [nJy]."""
        return self.scene.fluxes.error[:, 0] * nanojansky(self.stamps.zero_point)

    def flux_covariance(self, pair: int) -> Floats:
        """Of the fluxes in two bands, (N,) [nJy²]; NaN where one of them is absent.

        Args:
            pair: number of the pair, in the order of `itertools.combinations`.
        """
        first, second = list(combinations(range(len(self.names)), 2))[pair]
        unit = nanojansky(self.stamps.zero_point)
        return np.asarray(self.scene.fluxes.color_covariance[:, 0, first, second] * unit[:, first] * unit[:, second])

    def magnitude(self, band: int) -> tuple[Floats, Floats]:
        """AB magnitudes and their errors, (N,); NaN where the flux is not positive.

        Args:
            band: its number.
        """
        flux, error = self.flux[:, band], self.flux_err[:, band]
        bright = np.where(flux > 0, flux, np.nan)
        zero = 2.5 * np.log10(nanojansky(0.0))
        return zero - _MAGNITUDE * np.log(bright), _MAGNITUDE * error / bright

    @property
    def half_light_radius(self) -> tuple[Floats, Floats]:
        """Of the targets before the PSF, and its error, (N,) [arcsec]."""
        posterior, size = self.scene.targets.posterior, QUANTITIES.index("ln_size")
        radius = np.exp(posterior.mean.numpy()[:, size])
        return radius, radius * posterior.errors.numpy()[:, size]

    @cached_property
    def psf_fwhm(self) -> Floats:
        """Of the PSFs before the pixel, (N, band) [arcsec]; NaN in an absent band."""
        return np.where(self.stamps.present, self._psf[0] * self.stamps.pixel_scale[:, None], np.nan)

    @cached_property
    def psf_g(self) -> Floats:
        """Shear-type g of the PSFs, (N, band, 2); NaN in an absent band."""
        return np.stack([shear_on_sky(g, self.stamps.jacobian) for g in self._psf[1].swapaxes(0, 1)], axis=1)

    @cached_property
    def _psf(self) -> tuple[Floats, Floats]:
        """FWHM [pixel] and g in the pixel frame."""
        present = self.stamps.present
        found = measured_psfs(self.stamps.psf, present)
        return found.fwhm, np.where(present[..., None], np.stack([found.g1, found.g2], axis=2), np.nan)

    @property
    def chi2(self) -> Floats:
        """Reduced χ² of the scene under the target, the largest of the bands, (N,)."""
        found = self.scene.fluxes.chi2[:, 0]
        known = np.isfinite(found)
        return np.where(known.any(axis=1), np.where(known, found, -np.inf).max(axis=1), np.nan)

    def in_reference(self, values: Floats) -> Floats:
        """Of values (N, band) those in each stamp's reference band, (N,)."""
        return np.asarray(values[np.arange(len(values)), self.scene.targets.reference])

    @property
    def bands_present(self) -> NDArray:
        """Names of the bands that a stamp has, together, (N,) text."""
        return band_names(self.names, self.stamps.present)

    @property
    def reference_band(self) -> NDArray:
        """Name of the reference band, (N,) text; empty without any band."""
        names = np.asarray([*self.names, ""], dtype=object)
        there = self.stamps.present.any(axis=1)
        return np.asarray(names[np.where(there, self.scene.targets.reference, len(self.names))])


def _components(letter: str) -> tuple[int, slice]:
    """Of g or e among `QUANTITIES`: the first, and both."""
    first = QUANTITIES.index(f"{letter}1")
    return first, slice(first, first + 2)
