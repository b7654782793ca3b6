"""The training objective of the network that is given its sky."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import GivenStamps, reference_mask, turned
from deblend_assets.science.sky_shapes.network import CHANCES, SkyShapeNetwork
from deblend_assets.science.sky_shapes.quantities import turn
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.random_numbers import RandomNumbers

_GIVEN = len(GivenStamps._fields)


class SkyObjective:
    """The likelihood of a galaxy's quantities, the squared error of their mean, and the cross entropy of chances.

    The first two are those of `shapes.objective.ShapeObjective`. In training every stamp is turned by a symmetry of the
    square, with all that is given of it, loses bands, and sometimes the map of its neighbours. It keeps its reference
    band, since e and ln flux are of that band.

    Batches: the tensors of `GivenStamps`; standardized quantities (N, 9), NaN in the rows of what is no galaxy; what is
    true of `CHANCES`, (N, chances) bool.

    Args:
        network: is trained.
        band_dropout: probability that a stamp loses a band.
        neighbour_dropout: probability that a stamp's neighbours are not given.
    """

    def __init__(self, network: SkyShapeNetwork, band_dropout: float, neighbour_dropout: float) -> None:
        self.network: nn.Module = network
        self._bands, self._band_dropout, self._neighbour_dropout = network.bands, band_dropout, neighbour_dropout

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`nll` [nats] and `squares` (mean over the quantities) of galaxies, `chances` [nats], and their sum `total`.

        The mean over the galaxies of a batch is weighted by their share, so that the mean over batches is that over
        all stamps.
        """
        given, (values, true) = GivenStamps(*batch[:_GIVEN]), batch[_GIVEN:]
        galaxy = values.isfinite().all(dim=1)
        values = torch.where(galaxy[:, None], values, torch.zeros_like(values))
        if training:
            given, values = self._augmented(given, values, random)
        posterior: GaussianPosterior = self.network(given)
        weight = galaxy.to(values.dtype)
        share = weight.mean()
        nll = -(weight * posterior.log_prob(values)).mean()
        variance = (weight[:, None] * posterior.cholesky.detach().square().sum(dim=2)).mean(dim=0)
        squared = (weight[:, None] * (posterior.mean - values).square()).mean(dim=0)
        # A batch without a galaxy has neither.
        squares = share * (squared / variance.clamp(min=torch.finfo(variance.dtype).tiny)).mean()
        log_odds = torch.cat([posterior.log_odds[name] for name in CHANCES], dim=1)
        of_each = nn.functional.binary_cross_entropy_with_logits(log_odds, true.to(values.dtype), reduction="none")
        crossed = of_each.mean(dim=0).sum()
        total = nll + 0.5 * values.shape[1] * squares + crossed
        return {"total": total, "nll": nll, "squares": squares, "chances": crossed}

    def _augmented(self, given: GivenStamps, values: Tensor, random: RandomNumbers) -> tuple[GivenStamps, Tensor]:
        elements = random.symmetries()
        kept = random.present_bands(given.present.shape[1], self._band_dropout)
        kept = kept | reference_mask(self._bands, given.present)
        alone = random.chance(self._neighbour_dropout)[:, None, None, None]
        given = turned(given, elements)
        return (
            given._replace(
                present=given.present & kept,
                neighbours=torch.where(alone, torch.zeros_like(given.neighbours), given.neighbours),
            ),
            turn(values, elements),
        )
