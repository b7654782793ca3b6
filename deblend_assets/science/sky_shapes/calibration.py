"""Calibration of the errors of a trained network for every sky, on galaxies that it was not trained on.

Each block of quantities has a factor on its standard errors, a smooth function of what is known of a row: estimated
S/N and size, PSF, other detections nearby, lost pixels, correlated noise. A detection may be a blend that nothing
shows; so a share of the errors, the tail, is wider. Factors, share and width are fitted by maximum likelihood. The
calibrated standard error is half of the interval that holds 68.27 %; `half_widths` are those of other intervals.

Means are left as they are. Shifts by the same terms were tried: fitted to half of 30 fields they made the coverage of
the other half worse, since a bias differs from sky to sky.

The shape posterior of one survey has a flow instead (`shapes.flow`). It is symmetric by changes of sign alone, which
the offset's vector does not follow, and it learns from the log-odds of neighbours, which are given here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import erf
from torch import Tensor, nn

from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import (
    SCALARS,
    Floats,
    GivenStamps,
    reference_fwhm,
    reference_mask,
    reference_values,
)
from deblend_assets.science.sky_shapes.network import CHANCES
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.quantities import columns_of

# Radius of the neighbours that are counted, sigma of the weight of lost pixels [FWHM].
_NEAR, _WEIGHT = 2.5, 1.0
# Limits of the terms: of estimates in units of the population, and of the number of neighbours.
_EDGE, _MOST = 3.0, 4.0
# Largest share of the tail. Its width over that of the rest is 1 + x with ln x near ln 2, prior scatter 0.5: without a
# tail the data do not say how wide it is.
_LARGEST_TAIL, _WIDER, _WIDER_PRIOR = 0.5, math.log(2), 0.5
# Prior scatter of the coefficients, the constant apart: with few galaxies all share nearly one factor.
_PRIOR = 0.5
_ITERATIONS = 200
# Share within one standard deviation of a Gaussian.
_ONE_SIGMA = math.erf(1 / math.sqrt(2))
TERMS = ("constant", "ln_flux", "ln_flux²", "ln_size", "ln_size²", "ln_fwhm", "neighbours", "masked", "lag_1")


class Tail(NamedTuple):
    """Of a block's errors.

    Attributes:
        share: of the rows.
        width: over that of the rest.
    """

    share: float
    width: float


class SkyCalibration(nn.Module):
    """Factors on the expected errors, shares and widths of the tails, and log-odds; `fit` sets them.

    At first it changes nothing.
    """

    factors: Tensor
    tails: Tensor
    chances: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (
            ("factors", torch.zeros(len(TERMS), len(BLOCKS))),
            ("tails", torch.tensor([[0.0], [1.0]]).expand(2, len(BLOCKS)).clone()),
            ("chances", torch.tensor([0.0, 1.0]).expand(len(CHANCES), 2).clone()),
        ):
            self.register_buffer(name, values.double())

    def forward(
        self, posterior: GaussianPosterior, terms: Tensor, core_widths: Tensor | None = None
    ) -> GaussianPosterior:
        """Calibrated posteriors.

        Args:
            posterior: of the network, standardized, float64 on the host, with the log-odds of `CHANCES`.
            terms: `row_terms` of the same N stamps.
            core_widths: `core_widths()`, where it was called before.
        """
        widths = self.core_widths() if core_widths is None else core_widths
        found = posterior.stretched(_spread_over_blocks((terms @ self.factors).exp() * widths))
        found.log_odds = {
            name: offset + slope * posterior.log_odds[name]
            for name, (offset, slope) in zip(CHANCES, self.chances.unbind(0), strict=True)
        }
        return found

    def half_widths(self, share: float) -> Floats:
        """Half of the central interval that holds a share of the truths, in units of the calibrated error, (9,)."""
        widths = [_half_width(tail, share) / _half_width(tail, _ONE_SIGMA) for tail in self.tail_of_blocks]
        return np.repeat(widths, [len(block.names) for block in BLOCKS])

    def fit(self, posterior: GaussianPosterior, terms: Tensor, values: Tensor, true: Tensor) -> None:
        """Set all that it holds.

        Args:
            posterior, terms: of N stamps, as `forward` takes them.
            values: standardized true values, (N, 9); rows of NaN are no galaxies.
            true: what each of `CHANCES` is of, (N, chances) bool.
        """
        galaxy = values.isfinite().all(dim=1)
        pulls = ((values.double() - posterior.mean) / posterior.errors)[galaxy]
        for number, columns in enumerate(columns_of(BLOCKS)):
            factors, tail = _fitted(terms[galaxy], pulls[:, columns])
            self.factors[:, number], self.tails[:, number] = factors, self.tails.new_tensor(tail)
        for number, name in enumerate(CHANCES):
            self.chances[number] = _platt(posterior.log_odds[name][:, 0].double(), true[:, number].double())

    @property
    def tail_of_blocks(self) -> list[Tail]:
        """In the order of `BLOCKS`."""
        return [Tail(share, width) for share, width in self.tails.T.tolist()]

    def core_widths(self) -> Tensor:
        """Half of the 68.27 % interval over the width without the tail, (blocks,)."""
        return self.tails.new_tensor([_half_width(tail, _ONE_SIGMA) for tail in self.tail_of_blocks])


class Surroundings(NamedTuple):
    """What is given around the detections of N stamps, (N,) float64.

    Attributes:
        neighbours: other detections within 2.5 FWHM, by the part of their round Gaussians that lies within.
        masked: share of lost pixels under a Gaussian of a sigma of one FWHM, mean over the present bands.
    """

    neighbours: Tensor
    masked: Tensor


def surroundings(bands: Sequence[str], given: GivenStamps) -> Surroundings:
    """Crowding and masks, from what the network is given; they do not turn with the stamp."""
    fwhm = reference_fwhm(bands, given)
    side = given.images.shape[-1]
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    offset = axis - given.vectors[:, 0, :, None]
    square = offset[:, 0, None, :].square() + offset[:, 1, :, None].square()
    near = square < (_NEAR * fwhm).square()[:, None, None]
    one = 2 * torch.pi * (fwhm / FWHM_OVER_SIGMA).square()
    counted = (given.neighbours[:, 0].float() * near).sum(dim=(1, 2)) / one
    weight = torch.exp(-0.5 * square / (_WEIGHT * fwhm).square()[:, None, None])
    there = given.present.float()
    lost = torch.einsum("nbyx,nyx->nb", given.lost.float(), weight / weight.sum(dim=(1, 2), keepdim=True))
    masked = (lost * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return Surroundings(counted.double(), masked.double())


def row_terms(
    bands: Sequence[str], given: GivenStamps, posterior: GaussianPosterior, around: Surroundings | None = None
) -> Tensor:
    """TERMS of the logarithm of the factors, (N, terms) float64.

    Args:
        bands: of the stamps.
        given: N stamps, on the host.
        posterior: of the network, standardized.
        around: `surroundings` of the same stamps; none: they are computed.
    """
    around = around or surroundings(bands, given)
    flux, size = (posterior.mean[:, QUANTITIES.index(name)].clamp(-_EDGE, _EDGE) for name in ("ln_flux", "ln_size"))
    numbers = reference_values(given.scalars, reference_mask(bands, given.present)) / torch.tensor([*SCALARS.values()])
    ln_fwhm, lag_1 = (
        numbers[:, list(SCALARS).index(name)].clamp(-_EDGE, _EDGE).double() for name in ("ln_fwhm", "lag_1")
    )
    ones = torch.ones_like(around.masked)
    neighbours = around.neighbours.clamp(max=_MOST)
    columns = (ones, flux, flux.square(), size, size.square(), ln_fwhm, neighbours, around.masked, lag_1)
    return torch.stack([column.double() for column in columns], dim=1)


def _spread_over_blocks(values: Tensor) -> Tensor:
    """Of blocks (..., blocks) to their quantities (..., 9)."""
    return values[..., [number for number, block in enumerate(BLOCKS) for _ in block.names]]


def _fitted(terms: Tensor, pulls: Tensor) -> tuple[Tensor, Tail]:
    """Coefficients (terms,) of the logarithm of the factor on a block's errors, and its tail.

    Args:
        terms: (N, terms).
        pulls: offsets of the truth in units of the errors, (N, k).
    """
    middle = 0.5 * pulls.square().mean().log()
    factors, odds, wider = (torch.zeros(size, dtype=terms.dtype) for size in (terms.shape[1], (), ()))
    wider += _WIDER
    fitted = [values.requires_grad_() for values in (factors, odds, wider)]
    optimizer = torch.optim.LBFGS(fitted, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        width, further = middle + (terms @ factors)[:, None], 1 + wider.exp()
        share = _LARGEST_TAIL * torch.sigmoid(odds)
        core = (1 - share).log() - width - 0.5 * (pulls / width.exp()).square()
        far = share.log() - width - further.log() - 0.5 * (pulls / (further * width.exp())).square()
        likelihood = torch.logaddexp(core, far).sum()
        prior = (factors[1:] / _PRIOR).square().sum() + ((wider - _WIDER) / _WIDER_PRIOR).square()
        total = (0.5 * prior - likelihood) / pulls.numel()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    found = factors.detach().clone()
    found[0] += middle
    return found, Tail(float(_LARGEST_TAIL * torch.sigmoid(odds.detach())), float(1 + wider.detach().exp()))


def _platt(log_odds: Tensor, star: Tensor) -> Tensor:
    """Offset and slope that calibrate log-odds (Platt 1999), with his targets, which never are 0 or 1; (2,)."""
    stars, others = star.sum(), (1 - star).sum()
    target = torch.where(star > 0, (stars + 1) / (stars + 2), 1 / (others + 2))
    found = torch.tensor([0.0, 1.0], dtype=log_odds.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = nn.functional.binary_cross_entropy_with_logits(found[0] + found[1] * log_odds, target)
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return found.detach()


def _half_width(tail: Tail, share: float) -> float:
    """Half of the central interval that holds a share, in units of the width without the tail."""

    def over(width: float) -> float:
        further = width / tail.width
        held = (1 - tail.share) * erf(width / math.sqrt(2)) + tail.share * erf(further / math.sqrt(2))
        return float(held - share)

    return float(brentq(over, 0.0, 40.0 * tail.width))
