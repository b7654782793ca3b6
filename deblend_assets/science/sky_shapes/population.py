"""The prior of a posterior: the population of the quantities under the sky of a stamp.

In units of PSF and noise the population depends on the sky: galaxies are smaller in a wider PSF, and e behind the PSF
has a part of the PSF's own shape. A network that is given the sky has this prior in its posterior, not that of all
skies together, and this one is divided out (`GaussianPosterior.likelihood_only`). Of ellipticities the network also
knows what it sees of the galaxy's brightness, size and concentration: large discs have wider ones than small round
galaxies, and a small galaxy's e is the PSF's. Their prior is that of galaxies for which it gives the same estimates.

Means of numbers, and the logarithms of all variances, are polynomials in what is given of the reference band; the mean
of e is the PSF's g times such a polynomial. Those of ellipticities have further terms of the estimates. The means of g
and of the offset are zero, since the universe has no direction. A pair's variance is that of either component: the
prior turns with the stamp, exactly.
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
# Of estimates, in units of the population: each, its square, and the product of the first two.
_ESTIMATES = ("ln_flux", "ln_size", "concentration")
_OF_ESTIMATES = 2 * len(_ESTIMATES) + 1
# Weight of a coefficient's square in the fits, in skies of the usual size of its term: what is not given of a sky, its
# depth above all, scatters the moments of its galaxies together.
_PENALTY = 5.0
# Rounds of means and variances; steps of a variance's fit, and the largest one of a logarithm.
_ROUNDS, _STEPS, _LARGEST_STEP = 3, 30, 1.0


class SkyPopulation(nn.Module):
    """Moments of the standardized quantities (`quantities.BLOCKS`); `fit` sets them.

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
        terms = 1 + numbers + 4 + len(self.bands) + _OF_ESTIMATES
        for name, values in (
            ("centre", torch.zeros(numbers)),
            ("unit", torch.ones(numbers)),
            ("mean", torch.zeros(len(BLOCKS), terms)),
            ("log_variance", torch.zeros(len(BLOCKS), terms)),
        ):
            self.register_buffer(name, values.double())

    def forward(self, given: GivenStamps, estimates: Tensor) -> GaussianPosterior:
        """The prior of each galaxy, standardized, float64 on the host; without correlations.

        Args:
            given: N stamps, on the host.
            estimates: standardized posterior means, (N, 9).
        """
        terms, direction = self._terms(given, estimates), self._psf(given)
        mean, variance = terms.new_zeros(len(terms), len(QUANTITIES)), terms.new_zeros(len(terms), len(QUANTITIES))
        for number, (block, columns) in enumerate(zip(BLOCKS, columns_of(BLOCKS), strict=True)):
            along = direction if block.names == _WITH_PSF else torch.ones_like(mean[:, columns])
            mean[:, columns] = (terms @ self.mean[number])[:, None] * along
            variance[:, columns] = (terms @ self.log_variance[number]).exp()[:, None]
        return GaussianPosterior(mean, covariance=torch.diag_embed(variance), blocks=BLOCKS)

    def fit(self, given: GivenStamps, estimates: Tensor, values: Tensor, skies: int) -> None:
        """Set the moments by maximum likelihood of a Gaussian.

        Args:
            given: N stamps, on the host.
            estimates: standardized posterior means, (N, 9).
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
        terms, direction = self._terms(given, estimates[galaxy]).numpy(), self._psf(given).numpy()
        for number, (block, columns) in enumerate(zip(BLOCKS, columns_of(BLOCKS), strict=True)):
            # A number's own estimate is no part of its prior.
            used = terms.shape[1] - (0 if block.spin == 2 else _OF_ESTIMATES)
            fitted = _fitted(terms[:, :used], direction, values[:, columns].numpy(), block, _PENALTY / skies)
            for into, found in zip((self.mean[number], self.log_variance[number]), fitted, strict=True):
                into.zero_()[:used] = torch.from_numpy(found)

    def _numbers(self, given: GivenStamps) -> Tensor:
        """Those of the sky that the polynomials are made of, (N, S + 2) float64."""
        scalars = reference_values(given.scalars, reference_mask(self.bands, given.present))
        further = torch.stack([given.pixel_scale.log(), given.present.sum(dim=1).float()], dim=1)
        return torch.cat([scalars, further], dim=1).double()

    def _terms(self, given: GivenStamps, estimates: Tensor) -> Tensor:
        """1, the numbers, their products, which band is the reference band, the estimates'; (N, terms) float64."""
        numbers = ((self._numbers(given) - self.centre) / self.unit).clamp(-_EDGE, _EDGE)
        fwhm, scale, bands = (numbers[:, k, None] for k in (_LN_FWHM, _LN_SCALE, _BANDS))
        reference = reference_mask(self.bands, given.present).double()
        products = [fwhm**2, scale**2, fwhm * scale, bands**2]
        seen = estimates[:, [QUANTITIES.index(name) for name in _ESTIMATES]].double().clamp(-_EDGE, _EDGE)
        of_estimates = [seen, seen.square(), seen[:, :1] * seen[:, 1:2]]
        return torch.cat([torch.ones_like(fwhm), numbers, *products, reference, *of_estimates], dim=1)

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
