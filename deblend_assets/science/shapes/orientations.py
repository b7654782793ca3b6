"""The posterior of a stamp, the same in all eight orientations of the stamp."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.stamps.band_masks import hide_bands
from deblend_assets.science.stamps.symmetries import ORDER, transform_images


def canonical(stamps: Tensor, present: Tensor) -> Tensor:
    """The element of the square's group that brings each stamp to the one orientation that all its images share.

    Second moments of the light summed over the bands, under a fixed round weight, decide between the axes and the
    diagonals; first moments decide between a stamp and the same turned by 180°. What is computed from the canonical
    image and turned back is exact under the square's symmetries, at the cost of one image (frame averaging, Puny et al.
    2022). In pure noise the choice is random, and the symmetry is still exact.

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
    # Not an einsum of three: where opt_einsum is installed, it would fix the number of stamps of an exported model.
    cross = weighted @ at @ at
    swap = along_x @ at.square() < along_y @ at.square()
    odd = cross < 0
    flip_y = torch.where(odd, first[0] > first[1], first[0] + first[1] < 0)
    flip_x = torch.where(odd, ~flip_y, flip_y)
    return flip_x.long() + 2 * flip_y.long() + 4 * swap.long()


def oriented_posterior(
    network: ShapeNetwork,
    stamps: Tensor,
    present: Tensor,
    orientations: int,
    heads: Mapping[str, nn.Module] | None = None,
) -> GaussianPosterior:
    """Standardized posteriors, and log-odds of the heads, averaged over orientations of each stamp and turned back.

    No direction is preferred, whatever the number: eight orientations are the whole group; fewer are counted from the
    canonical one. More of them cost more and err less.

    Args:
        network: in evaluation mode.
        stamps: (N, band, y, x) in units of the sky's noise, on the network's device.
        present: (N, band) bool.
        orientations: 1 to 8.
        heads: classifiers of the network's map by name, in evaluation mode; none: they are skipped.
    """
    heads = heads or {}
    begun = canonical(stamps, present) if orientations < ORDER else None
    upright = stamps if begun is None else transform_images(stamps, begun)
    parts = []
    for number in range(orientations):
        elements = torch.full((stamps.shape[0],), number, device=stamps.device)
        turned = transform_images(upright, elements) if number else upright
        maps = network.trunk.maps(turned.contiguous(memory_format=torch.channels_last), present)
        posterior = network.posterior(maps, present).turned(elements)
        if begun is not None:
            posterior = posterior.turned(begun)
        # The place of a neighbour turns with the stamp; whether there is one does not.
        posterior.log_odds = {name: head(maps) for name, head in heads.items()}
        parts.append(posterior)
    return GaussianPosterior.averaged(parts)
