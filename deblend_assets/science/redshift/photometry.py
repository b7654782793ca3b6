"""What a redshift is estimated from: fluxes with their errors, as a catalogue has them, whatever the bands."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deblend_assets.science.stamps.conventions import CATSIM_BANDS

BANDS = len(CATSIM_BANDS)

# Zero and unit of ln flux and ln noise in nJy, of a flux in units of its noise, and of ln of the common error.
_LN_FLUX, _LN_NOISE, _LN_COMMON = (6.0, 1.5), (4.0, 1.5), (-2.5, 0.8)
_SIGNAL = 2.5
# Least errors: relative, of all bands alike; and those of a mean of bands, in magnitudes a hundredth.
_LEAST_COMMON, _LEAST_WEIGHT = 0.005, 1e-4
INPUTS = 4 * BANDS + 3
"""Number of the network's inputs."""


class Photometry(NamedTuple):
    """Fluxes of N galaxies in u, g, r, i, z, y, float32.

    Attributes:
        flux: total, linear, may be negative, (N, 6) [nJy]; NaN where the band is absent.
        noise: standard error of the sky's noise alone, (N, 6) [nJy]; NaN where the band is absent.
        common: relative error that all bands have alike, that of the profile, (N,).
        shared: share of the light under the galaxy's model that other detections have, (N,).
    """

    flux: Tensor
    noise: Tensor
    common: Tensor
    shared: Tensor

    @property
    def present(self) -> Tensor:
        """Which fluxes there are, (N, 6) bool: those of a positive noise."""
        return self.flux.isfinite() & self.noise.isfinite() & (self.noise > 0)

    def some(self, rows: Tensor | slice) -> Photometry:
        """Some of the galaxies."""
        return Photometry(*(values[rows] for values in self))

    def without(self, lost: Tensor) -> Photometry:
        """The same without the bands that are lost, (N, 6) bool."""
        nothing = torch.tensor(torch.nan, dtype=self.flux.dtype, device=self.flux.device)
        return self._replace(flux=torch.where(lost, nothing, self.flux), noise=torch.where(lost, nothing, self.noise))


def inputs_of(photometry: Photometry) -> Tensor:
    """Numbers of order 1 for a network, (N, INPUTS) float32; of an absent band all are 0.

    Of each band: ln flux less its mean over the bands, which is all of the colours; the flux in units of its noise; ln
    of the noise; presence. Of all: that mean of ln flux, ln of the common error, the share of others. "ln flux" is that
    of Lupton, Gunn & Szalay (1999), asinh(flux / 2 noise) + ln noise, which negative fluxes have too.
    """
    there = photometry.present
    flux = torch.where(there, photometry.flux, 0.0)
    noise = torch.where(there, photometry.noise, 1.0)
    signal, ln_noise = flux / noise, noise.log()
    ln_flux = torch.asinh(0.5 * signal) + ln_noise
    # By the inverse variance of ln flux, with an error of 1 where there is no light, and none below a hundredth.
    weight = there * (1 / (1 + signal.clamp(min=0).square()) + _LEAST_WEIGHT).reciprocal()
    mean = (weight * ln_flux).sum(dim=1) / weight.sum(dim=1).clamp(min=_LEAST_WEIGHT)
    common = photometry.common.clamp(min=0) + _LEAST_COMMON
    of_bands = (
        2 * (ln_flux - mean[:, None]),
        torch.asinh(signal) / _SIGNAL - 1,
        (ln_noise - _LN_NOISE[0]) / _LN_NOISE[1],
        torch.ones_like(flux),
    )
    of_all = (
        (mean - _LN_FLUX[0]) / _LN_FLUX[1],
        (common.log() - _LN_COMMON[0]) / _LN_COMMON[1],
        2 * photometry.shared.clamp(0, 1).sqrt(),
    )
    columns = [torch.where(there, values, 0.0) for values in of_bands]
    return torch.cat([*columns, torch.stack(of_all, dim=1)], dim=1)
