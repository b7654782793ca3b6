"""A trained network for every sky, its calibration and its prior: from observed stamps to posteriors in own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblend_assets.science.redshift.row_redshifts import RowRedshifts
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.calibration import SkyCalibration, row_terms
from deblend_assets.science.sky_shapes.centring import centred
from deblend_assets.science.sky_shapes.inputs import Floats, GivenStamps, given
from deblend_assets.science.sky_shapes.network import BLEND, STAR, SkyShapeNetwork, oriented
from deblend_assets.science.sky_shapes.population import SkyPopulation
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, Units, units_of
from deblend_assets.science.stamps.batches import in_batches
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.quantities import PriorMoments

# Stamps computed at a time.
_AT_ONCE = 128


class SkyMeasurement(NamedTuple):
    """What is measured of N stamps, float64 on the host.

    In the units of stamp and sky: g and e; ln of the half-light radius [arcsec]; ln flux in the reference band [image
    unit]; concentration; true less detected position [pixel]. NaN for a stamp without any weight.

    Attributes:
        posterior: calibrated; with its log-odds.
        likelihood: the prior divided out, with flags: bit k for block k of `quantities.BLOCKS`.
        star: probability that the target is a star, (N,).
        blend: probability that the detection is an unrecognised blend, (N,).
        reference: number of the reference band of each stamp, (N,).
    """

    posterior: GaussianPosterior
    likelihood: GaussianPosterior
    star: Floats
    blend: Floats
    reference: NDArray[np.int64]


class SkyModel(nn.Module):
    """The calibrated model.

    Args:
        network: trained; set to evaluation mode.
        prior: of its training targets.
        calibration: of its errors with so many orientations.
        population: moments by which its quantities are standardized.
        orientations: number of orientations of each stamp that are averaged.

    Attributes:
        redshifts: network of the redshifts of catalogues' rows; None: catalogues have none.
    """

    redshifts: RowRedshifts | None

    def __init__(
        self,
        network: SkyShapeNetwork,
        prior: SkyPopulation,
        calibration: SkyCalibration,
        population: PriorMoments,
        orientations: int,
    ) -> None:
        super().__init__()
        # Convolutions take their maps so (`ModulatedTrunk`), and else bring the weights into this order each time.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prior, self.calibration = prior, calibration
        self.population, self.orientations = population, orientations
        self.redshifts = None
        self.eval()

    @classmethod
    def from_checkpoint(cls, weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> SkyModel:
        """From weights and card of `sky_model`, independent of the profile that made them."""
        bands, network = card["bands"], card["network"]
        model = cls(
            SkyShapeNetwork(network["widths"], network["dense"], bands),
            SkyPopulation(bands),
            SkyCalibration(),
            PriorMoments(**card["population"]),
            card["orientations"],
        )
        model.load_state_dict(weights)
        return model

    @property
    def bands(self) -> tuple[str, ...]:
        """Of the stamps that it takes, absent ones included."""
        return self.network.bands

    def posterior(self, stamps: GivenStamps, orientations: int | None = None, exact: bool = False) -> GaussianPosterior:
        """Calibrated standardized posteriors with their log-odds, float64 on the host.

        Args:
            stamps: N stamps, on the host.
            orientations: other than those that it is calibrated for.
            exact: see `network_posteriors`.
        """
        found = network_posteriors(self.network, stamps, orientations or self.orientations, exact)
        calibrated: GaussianPosterior = self.calibration(found, row_terms(self.bands, stamps, found))
        return calibrated

    def measure(self, stamps: ObservedStamps, orientations: int | None = None, exact: bool = False) -> SkyMeasurement:
        """Posterior and likelihood of N stamps.

        A position that is off the light by 0.8 pixels or more is first brought back to it (`centring`).

        Args:
            stamps: of any side, in some of the model's bands.
            orientations, exact: as `posterior`.

        Raises:
            MismatchError: a band that the model does not have.
        """
        bands = stamps.bands
        stamps = stamps.in_bands(self.bands)
        units = units_of(stamps)
        stamps, shift = centred(stamps, units.fwhm)
        parts = []
        for start in range(0, len(stamps), _AT_ONCE):
            part = given(stamps.rows(slice(start, start + _AT_ONCE)))
            posterior = self.posterior(part, orientations, exact)
            parts.append((posterior, posterior.likelihood_only(self.prior(part, posterior.mean))))
        posterior, likelihood = (
            _outside(_joined([part[k] for part in parts]).in_own_units(self.population), units, shift) for k in (0, 1)
        )
        known = np.isfinite(units.flux)
        star, blend = (
            np.where(known, posterior.log_odds[name][:, 0].sigmoid().numpy(), np.nan) for name in (STAR, BLEND)
        )
        places = np.array([bands.index(band) if band in bands else 0 for band in self.bands])
        return SkyMeasurement(posterior, likelihood, star, blend, places[units.reference])


def network_posteriors(
    network: SkyShapeNetwork, stamps: GivenStamps, orientations: int, exact: bool = False
) -> GaussianPosterior:
    """Standardized posteriors that are not yet calibrated, float64 on the host.

    Args:
        network: in evaluation mode.
        stamps: N stamps, on the host.
        orientations: as `oriented` takes them.
        exact: everything in float32, for small differences between images. Else a CPU that multiplies bfloat16 does so
            in the convolutions, but in the first and in the last one: twice as fast, and means move by an RMS below 2 %
            of their errors.
    """
    device = next(network.parameters()).device

    @torch.inference_mode()
    def compute(rows: slice) -> GaussianPosterior:
        part = GivenStamps(*(values[rows].to(device) for values in stamps))
        with rounding(device, exact):
            found = oriented(network, part, orientations)
        return found.double()

    return GaussianPosterior.joined(list(in_batches(compute, len(stamps.images), _AT_ONCE, device)))


def rounding(device: torch.device, exact: bool) -> torch.autocast:
    """Convolutions in bfloat16 on a CPU that multiplies it, unless they are to be exact; see `network_posteriors`."""
    rounded = not exact and device.type == "cpu" and multiplies_bfloat16()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=rounded)


@cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU does (AVX512_BF16, AMX): others emulate it, slowly."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _joined(parts: Sequence[GaussianPosterior]) -> GaussianPosterior:
    joined = GaussianPosterior.joined(parts)
    flags = [part.flags for part in parts if part.flags is not None]
    joined.flags = np.concatenate(flags) if flags else None
    return joined


def _outside(posterior: GaussianPosterior, units: Units, centre: Floats) -> GaussianPosterior:
    """Posteriors in the quantities' units, in those of stamp and sky; see `SkyMeasurement`.

    Args:
        posterior: of stamps about their centres.
        units: of the stamps.
        centre: from the position that is given to that centre, (N, 2) [pixel].
    """
    shift, scale = np.zeros(posterior.mean.shape), np.ones(posterior.mean.shape)
    shift[:, QUANTITIES.index("ln_size")] = np.log(units.hlr)
    shift[:, QUANTITIES.index("ln_flux")] = np.log(units.flux)
    offset = [QUANTITIES.index(name) for name in ("dx", "dy")]
    scale[:, offset], shift[:, offset] = units.fwhm[:, None], centre
    scale[~np.isfinite(units.flux)] = np.nan
    factors = torch.from_numpy(scale)
    return GaussianPosterior(
        posterior.mean * factors + torch.from_numpy(shift),
        covariance=posterior.covariance * factors[:, :, None] * factors[:, None, :],
        log_odds=posterior.log_odds,
        flags=posterior.flags,
        standardized=False,
        blocks=posterior.blocks,
    )
