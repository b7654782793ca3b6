"""The prior of a posterior: the population of the quantities under the sky of a stamp, pixels apart.

In units of PSF and noise the population depends on the sky: galaxies are smaller in a wider PSF, and e behind the PSF
has a part of the PSF's own shape. A network that is given the sky has this prior in its posterior, not that of all
skies together, and this one is divided out (`GaussianPosterior.likelihood_only`).

Means of numbers, and the logarithms of all variances, are polynomials in what is given of the reference band; the mean
of e is the PSF's g times such a polynomial. The means of g and of the offset are zero, since the universe has no
direction. A pair's variance is that of either component: the prior turns with the stamp, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import (
    SCALARS,
    SPINS,
    Floats,
    GivenStamps,
    reference_mask,
    reference_values,
)
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES
from deblend_assets.science.stamps.quantities import Block, columns_of

# Numbers of the sky: SCALARS of the reference band, ln pixel scale, number of bands; the first and these two are
# squared as well. Beyond this many of their standard deviations over the training skies the edge holds.
_LN_FWHM, _LN_SCALE, _BANDS = 0, len(SCALARS), len(SCALARS) + 1
_EDGE, _CONSTANT = 3.0, 1e-6
# The block behind the PSF.
_WITH_PSF = ("e1", "e2")
# Weight of a coefficient's square in the fits, in skies of the usual size of its term: what is not given of a sky, its
# depth above all, scatters the moments of its galaxies together.
_PENALTY = 5.0
# Rounds of means and variances; steps of a variance's fit, and the largest one of a logarithm.
_ROUNDS, _STEPS, _LARGEST_STEP = 3, 30, 1.0


class SkyPopulation(nn.Module):
    """Moments of the standardized quantities (`quantities.BLOCKS`) given the sky; `fit` sets them.

    Args:
        bands: of the stamps.
    """

    centre: Tensor
    unit: Tensor
    mean: Tensor
    log_variance: Tensor

    def __init__(self, bands: Sequence[str]) -> None:
        super().__init__()
        self.bands = tuple(bands)
        numbers = len(SCALARS) + 2
        terms = 1 + numbers + 4 + len(self.bands)
        for name, values in (
            ("centre", torch.zeros(numbers)),
            ("unit", torch.ones(numbers)),
            ("mean", torch.zeros(len(BLOCKS), terms)),
            ("log_variance", torch.zeros(len(BLOCKS), terms)),
        ):
            self.register_buffer(name, values.double())

    def forward(self, given: GivenStamps) -> GaussianPosterior:
        """The prior of each galaxy, standardized, float64 on the host; without correlations.

        Args:
            given: N stamps, on the host.
        """
        terms, direction = self._terms(given), self._psf(given)
        mean, variance = terms.new_zeros(len(terms), len(QUANTITIES)), terms.new_zeros(len(terms), len(QUANTITIES))
        for number, (block, columns) in enumerate(zip(BLOCKS, columns_of(BLOCKS), strict=True)):
            along = direction if block.names == _WITH_PSF else torch.ones_like(mean[:, columns])
            mean[:, columns] = (terms @ self.mean[number])[:, None] * along
            variance[:, columns] = (terms @ self.log_variance[number]).exp()[:, None]
        return GaussianPosterior(mean, covariance=torch.diag_embed(variance), blocks=BLOCKS)

    def fit(self, given: GivenStamps, values: Tensor, skies: int) -> None:
        """Set the moments by maximum likelihood of a Gaussian.

        Args:
            given: N stamps, on the host.
            values: standardized true values, (N, 9); rows of NaN are left out.
            skies: how many there are among the stamps; few of them do not fix all coefficients.
        """
        galaxy = values.isfinite().all(dim=1)
        given, values = GivenStamps(*(part[galaxy] for part in given)), values[galaxy].double()
        numbers = self._numbers(given)
        self.centre.copy_(numbers.mean(dim=0))
        # What is the same in all skies has no effect.
        spread = numbers.std(dim=0, correction=0)
        self.unit.copy_(torch.where(spread > _CONSTANT, spread, torch.inf))
        terms, direction = self._terms(given).numpy(), self._psf(given).numpy()
        for number, (block, columns) in enumerate(zip(BLOCKS, columns_of(BLOCKS), strict=True)):
            mean, log_variance = _fitted(terms, direction, values[:, columns].numpy(), block, _PENALTY / skies)
            self.mean[number] = torch.from_numpy(mean)
            self.log_variance[number] = torch.from_numpy(log_variance)

    def _numbers(self, given: GivenStamps) -> Tensor:
        """Those of the sky that the polynomials are made of, (N, S + 2) float64."""
        scalars = reference_values(given.scalars, reference_mask(self.bands, given.present))
        further = torch.stack([given.pixel_scale.log(), given.present.sum(dim=1).float()], dim=1)
        return torch.cat([scalars, further], dim=1).double()

    def _terms(self, given: GivenStamps) -> Tensor:
        """1, the numbers, their products, and which band is the reference band; (N, terms) float64."""
        numbers = ((self._numbers(given) - self.centre) / self.unit).clamp(-_EDGE, _EDGE)
        fwhm, scale, bands = (numbers[:, k, None] for k in (_LN_FWHM, _LN_SCALE, _BANDS))
        reference = reference_mask(self.bands, given.present).double()
        products = [fwhm**2, scale**2, fwhm * scale, bands**2]
        return torch.cat([torch.ones_like(fwhm), numbers, *products, reference], dim=1)

    def _psf(self, given: GivenStamps) -> Tensor:
        """g of the reference band's PSF in units of its scatter, (N, 2) float64."""
        reference = reference_mask(self.bands, given.present)
        return reference_values(given.spins[:, :, list(SPINS).index("psf")], reference).double() / SPINS["psf"]


def _fitted(terms: Floats, direction: Floats, values: Floats, block: Block, penalty: float) -> tuple[Floats, Floats]:
    """Coefficients of a block's mean and of the logarithm of its variance, (terms,) each.

    Args:
        terms: (N, terms).
        direction: of the PSF, (N, 2).
        values: of the block, (N, k).
        penalty: of the coefficients, as a share of the diagonal of the normal matrix.
    """
    count = values.shape[1]
    mean, log_variance = np.zeros(terms.shape[1]), np.zeros(terms.shape[1])
    along = direction if block.names == _WITH_PSF else np.ones_like(values)
    moves = block.spin == 0 or block.names == _WITH_PSF
    design = (terms[:, None] * along[:, :, None]).reshape(-1, terms.shape[1])
    log_variance[0] = np.log(max(float(np.square(values).mean()), float(np.finfo(float).tiny)))
    for _ in range(_ROUNDS):
        if moves:
            weight = np.repeat(np.exp(-terms @ log_variance), count)
            normal = design.T @ (design * weight[:, None])
            mean = np.linalg.solve(normal + _penalty(normal, penalty), design.T @ (weight * values.reshape(-1)))
        squares = np.square(values - (terms @ mean)[:, None] * along).mean(axis=1)
        log_variance = _log_variance(terms, squares, count, log_variance, penalty)
    return mean, log_variance


def _log_variance(terms: Floats, squares: Floats, count: int, begun: Floats, share: float) -> Floats:
    """Maximum likelihood of log-linear variances by Fisher's scoring, (terms,).

    Args:
        terms: (N, terms).
        squares: of the residuals, mean over the k components, (N,).
        count: k.
        begun: first guess.
        share: of the penalty.
    """
    normal = 0.5 * count * terms.T @ terms
    penalty = _penalty(normal, share)
    found = begun.copy()
    for _ in range(_STEPS):
        gradient = 0.5 * count * terms.T @ (squares * np.exp(-terms @ found) - 1) - penalty @ found
        step = np.linalg.solve(normal + penalty, gradient)
        found = found + step * min(1.0, _LARGEST_STEP / max(float(np.abs(terms @ step).max()), _LARGEST_STEP))
    return found


def _penalty(normal: Floats, share: float) -> Floats:
    """Added to a normal matrix; the constant is free."""
    weights = share * np.diag(normal)
    weights[0] = 0.0
    # A term that is always 0 has the coefficient 0.
    return np.diag(weights + np.where(weights > 0, 0.0, _CONSTANT))
