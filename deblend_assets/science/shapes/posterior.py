"""Posterior and likelihood summaries of a galaxy.

Its posterior, the same in all eight orientations of its stamp, and its likelihood: the posterior with the prior, which
is the training population's, divided out.

With posterior N(m, C) and a prior of moments (p, P), the likelihood has the information L = C^-1 - P^-1 and its peak
at p + (1 - C P^-1)^-1 (m - p): unlike the posterior mean it is not drawn towards round, its slope on the truth is 1.
Where the pixels add next to nothing the step back would multiply noise without bound: it is bounded, and flagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.shapes.neighbours import NeighbourHead
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.stamps.band_masks import hide_bands
from deblend_assets.science.stamps.quantities import PriorMoments, turn
from deblend_assets.science.stamps.symmetries import ORDER, transform_images

Floats = NDArray[np.float64]

# Least information of the pixels, in units of the prior's, that a direction is freed of the prior with.
_LEAST_INFORMATION = 0.5
SHAPE_FLAGS = {
    1: "g: the pixels hold less than half of the population's information, its prior-free summary is held back",
    2: "e: the same",
    4: "size: the same",
    8: "flux: the same",
}
# Freed of the prior together: a pair, whose errors may be aligned, and each logarithm by itself.
_BLOCKS = ((slice(0, 2), 1), (slice(2, 4), 2), (slice(4, 5), 4), (slice(5, 6), 8))


@dataclass(frozen=True)
class Posteriors:
    """Of N galaxies, in the quantities' own units and order (`quantities.QUANTITIES`).

    Attributes:
        mean, covariance: of the posterior, (N, 6) and (N, 6, 6).
        likelihood, likelihood_covariance: of the pixels alone, of the same shapes.
        flags: (N,) bits, see SHAPE_FLAGS.
    """

    mean: Floats
    covariance: Floats
    likelihood: Floats
    likelihood_covariance: Floats
    flags: NDArray[np.int16]

    def is_free(self, quantity: int) -> NDArray[np.bool_]:
        """(N,) whether the prior-free summary of a quantity (its number) was not held back."""
        bits = next(flag for block, flag in _BLOCKS if block.start <= quantity < block.stop)
        return (self.flags & bits) == 0


def summaries(mean: Floats, covariance: Floats, population: PriorMoments) -> Posteriors:
    """What is kept of whitened posteriors.

    Args:
        mean: (N, 6), in units of the population's scatter from its mean.
        covariance: (N, 6, 6).
        population: the prior.
    """
    scale = population.scale
    likelihood, likelihood_covariance = np.empty_like(mean), np.zeros_like(covariance)
    flags = np.zeros(len(mean), dtype=np.int16)
    for block, flag in _BLOCKS:
        # In whitened units the prior of a pair, as of a single quantity, is the unit matrix: its axes are any.
        ratio, axes = np.linalg.eigh(covariance[:, block, block])
        information = 1.0 / ratio - 1.0
        kept = np.maximum(information, _LEAST_INFORMATION)
        along = np.einsum("nji,nj->ni", axes, mean[:, block])
        # 1 / (1 - ratio) = (1 + information) / information.
        likelihood[:, block] = np.einsum("nij,nj->ni", axes, along * (1.0 + kept) / kept)
        likelihood_covariance[:, block, block] = np.einsum("nij,nj,nkj->nik", axes, 1.0 / kept, axes)
        flags |= np.where((information < _LEAST_INFORMATION).any(axis=1), flag, 0).astype(np.int16)
    outer = np.outer(scale, scale)
    return Posteriors(
        mean=np.asarray(population.mean) + mean * scale,
        covariance=covariance * outer,
        likelihood=np.asarray(population.mean) + likelihood * scale,
        likelihood_covariance=likelihood_covariance * outer,
        flags=flags,
    )


def canonical(stamps: Tensor, present: Tensor) -> Tensor:
    """The element of the square's group that brings each stamp into the one orientation that all its images share.

    Second moments of the light summed over the bands, under a fixed round weight, decide between the axes and the
    diagonals; its first moments between a stamp and the same turned by 180°. What is computed of the canonical image
    and turned back is exact under the square's symmetries, at the cost of one image (frame averaging, Puny et al.
    2022). In pure noise the choice is a random one, and exact all the same.

    Args:
        stamps: (N, band, y, x) in units of the sky's noise.
        present: (N, band) bool.

    Returns:
        (N,) integers, see `symmetries`.
    """
    light = hide_bands(stamps, present).sum(dim=1)
    side = light.shape[-1]
    at = torch.arange(side, device=light.device, dtype=light.dtype) - (side - 1) / 2
    weight = torch.exp(-0.5 * (at / (side / 9)).square())
    weighted = light * weight * weight[:, None]
    along_x, along_y = weighted.sum(dim=1), weighted.sum(dim=2)
    first = along_x @ at, along_y @ at
    # Not a three-fold einsum: where opt_einsum is installed, it would fix the number of stamps of an exported model.
    cross = weighted @ at @ at
    swap = along_x @ at.square() < along_y @ at.square()
    odd = cross < 0
    flip_y = torch.where(odd, first[0] > first[1], first[0] + first[1] < 0)
    flip_x = torch.where(odd, ~flip_y, flip_y)
    return flip_x.long() + 2 * flip_y.long() + 4 * swap.long()


class Seen(NamedTuple):
    """What a network says of N stamps.

    Attributes:
        mean, covariance: whitened, (N, 6) and (N, 6, 6).
        neighbours: log-odds about neighbours (`neighbours.QUESTIONS`), (N, question); (N, 0) where none were asked for.
    """

    mean: Tensor
    covariance: Tensor
    neighbours: Tensor


def oriented_posterior(
    network: ShapeNetwork, stamps: Tensor, present: Tensor, orientations: int, head: NeighbourHead | None = None
) -> Seen:
    """What the network says of a stamp's images in some orientations, turned back and averaged.

    No direction is preferred, whatever their number: all eight are the whole group, and fewer are counted from the
    canonical one. More cost more and err less.

    Args:
        network: in evaluation mode.
        stamps: (N, band, y, x) in units of the sky's noise, on its device.
        present: (N, band) bool.
        orientations: 1 to 8.
        head: whom to ask about neighbours, in evaluation mode.
    """
    begun = canonical(stamps, present) if orientations < ORDER else None
    upright = stamps if begun is None else transform_images(stamps, begun)
    means, covariances, odds = [], [], []
    for number in range(orientations):
        elements = torch.full((stamps.shape[0],), number, device=stamps.device)
        turned = transform_images(upright, elements) if number else upright
        maps = network.trunk.maps(turned.contiguous(memory_format=torch.channels_last), present)
        posterior = network.posterior(maps, present)
        signs = turn(torch.ones_like(posterior.mean), elements)
        if begun is not None:
            signs = turn(signs, begun)
        lower = posterior.cholesky * signs[:, :, None]
        means.append(posterior.mean * signs)
        covariances.append(lower @ lower.mT)
        # Where neighbours lie turns with the stamp, whether there are any does not.
        odds.append(maps.new_zeros((maps.shape[0], 0)) if head is None else head(maps))
    return Seen(*(torch.stack(parts).mean(dim=0) for parts in (means, covariances, odds)))
