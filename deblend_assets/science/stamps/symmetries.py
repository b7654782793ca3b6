"""The eight symmetries of the square, applied to images, spin-2 labels and vectors.

Bits of an element: 1 flips x, 2 flips y, 4 then swaps x and y. A flip of either axis changes the sign of e2 (g2);
the swap changes the sign of e1 (g1); a rotation by 90° is a flip and a swap, and changes both. The report's code
rotates the input but neither target nor label.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

ORDER = 8


def transform_images(images: Tensor, elements: Tensor) -> Tensor:
    """Apply one element to each stamp.

    Args:
        images: (N, band, side, side).
        elements: (N,) integers in [0, 8), on the device of the images.

    Returns:
        (N, band, side, side), a new tensor.
    """
    # One gather for the whole batch takes a third of the time of three flips and three selections.
    source = _source_pixels(images.shape[-1], images.device).index_select(0, elements)
    return images.flatten(2).gather(2, source[:, None].expand(-1, images.shape[1], -1)).view_as(images)


@functools.lru_cache(maxsize=8)
def _source_pixels(side: int, device: torch.device) -> Tensor:
    """Source pixel of each pixel of the transformed image, (8, side²)."""
    pixels = torch.arange(side * side).view(side, side)
    turned = []
    for element in range(ORDER):
        axes = [axis for bit, axis in ((1, -1), (2, -2)) if element & bit]
        flipped = pixels.flip(axes)
        turned.append((flipped.T if element & 4 else flipped).flatten())
    return torch.stack(turned).to(device)


def transform_ellipticity(ellipticity: Tensor, elements: Tensor) -> Tensor:
    """Apply elements (N,) to pairs of spin-2 components: (e1, e2), (e1, e2, g1, g2) or more, shape (N, 2 pairs)."""
    signs = _signs(ellipticity.dtype, ellipticity.device).index_select(0, elements)
    return ellipticity * signs.repeat(1, ellipticity.shape[1] // 2)


@functools.lru_cache(maxsize=8)
def _signs(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Signs of a pair of components by element, (8, 2)."""
    elements = torch.arange(ORDER)
    sign1 = 1 - 2 * ((elements >> 2) & 1)
    sign2 = 1 - 2 * ((elements & 1) ^ ((elements >> 1) & 1))
    return torch.stack([sign1, sign2], dim=1).to(device, dtype)


def transform_vectors(vectors: Tensor, elements: Tensor) -> Tensor:
    """Apply elements (N,) to vectors from the stamp's centre, pairs (x, y), shape (N, 2 pairs)."""
    signs = 1 - 2 * torch.stack([elements & 1, (elements >> 1) & 1], dim=1)
    flipped = vectors.unflatten(1, (-1, 2)) * signs[:, None].to(vectors.dtype)
    return torch.where(_swaps(elements)[:, None, None], flipped.flip(-1), flipped).flatten(1)


def inverse(elements: Tensor) -> Tensor:
    """The elements (N,) that undo elements: before a swap, a flip of one axis is after it a flip of the other."""
    exchanged = 4 + ((elements & 1) << 1) + ((elements & 2) >> 1)
    return torch.where(_swaps(elements), exchanged, elements)


def _swaps(elements: Tensor) -> Tensor:
    return (elements & 4) != 0
