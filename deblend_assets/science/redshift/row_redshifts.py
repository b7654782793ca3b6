"""From the fluxes of a catalogue's row to a posterior of its redshift: a mixture on ln(1 + z), in any subset of bands.

The redshift is that of a galaxy of the generated population, whose spectra are a few templates; a star has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblend_assets.science.redshift.mixture import MixtureHead, RedshiftPosterior, RedshiftScale
from deblend_assets.science.redshift.photometry import BANDS, INPUTS, Photometry, inputs_of
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.random_numbers import RandomNumbers

Floats = NDArray[np.float64]
_PERCENT = (0.16, 0.5, 0.84)
# Relative errors of single bands beside the common one, measured on bright training galaxies whose true fluxes
# are known: colours that change with radius are fitted with one profile. A tenth has larger ones.
_OF_A_BAND, _LARGER, _SHARE_LARGER = 0.014, 0.04, 0.1
# A third of the rows keep all of their bands.
_COMPLETE = 1 / 3


class RowEstimates(NamedTuple):
    """Redshifts of N rows; NaN where no band has a flux.

    Attributes:
        z: median of the posterior, (N,).
        low, high: its 16th and 84th percentile, (N,).
    """

    z: Floats
    low: Floats
    high: Floats


class RowRedshifts(nn.Module):
    """Photometry to posteriors.

    Args:
        scale: zero and unit of ln(1 + z).
        widths: units of the hidden layers.
        components: number of Gaussians in a mixture.
    """

    def __init__(self, scale: RedshiftScale, widths: tuple[int, ...] = (128, 128, 128), components: int = 6) -> None:
        super().__init__()
        self.widths, self.components = widths, components
        layers: list[nn.Module] = []
        for before, after in zip((INPUTS, *widths), widths, strict=False):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.head = MixtureHead(widths[-1], scale, components)

    @classmethod
    def from_checkpoint(cls, weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> RowRedshifts:
        """From weights and card, independent of the profile that made them; in evaluation mode."""
        network = cls(RedshiftScale(0.0, 1.0), tuple(card["network"]["widths"]), card["network"]["components"])
        network.load_state_dict(weights)
        return network.eval()

    def forward(self, photometry: Photometry) -> RedshiftPosterior:
        """N rows to posteriors, in float32 under autocast; without any band they hold no information."""
        with torch.autocast(photometry.flux.device.type, enabled=False):
            posterior: RedshiftPosterior = self.head(self.layers(inputs_of(photometry)))
            return posterior

    @torch.inference_mode()
    def estimates(self, photometry: Photometry) -> RowEstimates:
        """Median and central 68 % interval of N rows."""
        found = torch.expm1(self(photometry).quantile(torch.tensor(_PERCENT)).double()).numpy()
        found = np.where(photometry.present.any(dim=1).numpy()[:, None], np.maximum(found, 0.0), np.nan)
        low, middle, high = found.T
        return RowEstimates(middle, low, high)


class RowObjective:
    """Minus the log likelihood of the true redshifts under the posterior.

    Batches: the tensors of `Photometry`; whether the flux is the true one, to which noise is added anew each time, (N,)
    bool, or a measured one; ln(1 + z), (N, 1). In training two thirds of the rows lose bands at random.

    Args:
        network: is trained.
        band_dropout: probability that such a row loses a band.
    """

    def __init__(self, network: RowRedshifts, band_dropout: float) -> None:
        self.network: nn.Module = network
        self._dropout = band_dropout

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`total`: mean -ln p of the true ln(1 + z), per unit of ln(1 + z) [nats]."""
        *columns, exact, values = batch
        rows = Photometry(*columns)
        if training:
            noisy = _exposed(rows, random)
            rows = rows._replace(flux=torch.where(exact[:, None], noisy, rows.flux))
            kept = random.present_bands(BANDS, self._dropout) | random.chance(_COMPLETE)[:, None]
            rows = rows.without(~kept)
        posterior: RedshiftPosterior = self.network(rows)
        return {"total": -posterior.log_prob(values).mean()}


def _exposed(rows: Photometry, random: RandomNumbers) -> Tensor:
    """True fluxes with the errors of a measurement, (N, 6)."""
    common, larger = random.normal(1), random.chance(_SHARE_LARGER)
    width = torch.where(larger, _LARGER, _OF_A_BAND)[:, None]
    profile = 1 + rows.common[:, None] * common + width * random.normal(BANDS)
    return rows.flux * profile + rows.noise * random.normal(BANDS)
