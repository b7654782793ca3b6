"""The eight symmetries of the square, applied alike to images and to spin-2 labels.

An element is three bits: flip x, flip y, then swap x and y. A flip of either axis changes the sign of e2 (g2);
the swap changes the sign of e1 (g1); a rotation by 90° is a flip and a swap, and changes both. The report's code
turns the input but neither target nor label.
"""

from __future__ import annotations

import torch
from torch import Tensor

ORDER = 8


def transform_images(images: Tensor, elements: Tensor) -> Tensor:
    """Apply one element a stamp.

    Args:
        images: (N, band, side, side).
        elements: (N,) integers in [0, 8).

    Returns:
        (N, band, side, side), a new tensor.
    """
    bit = [((elements >> k) & 1).bool()[:, None, None, None] for k in range(3)]
    images = torch.where(bit[0], images.flip(-1), images)
    images = torch.where(bit[1], images.flip(-2), images)
    return torch.where(bit[2], images.transpose(-1, -2), images)


def transform_ellipticity(ellipticity: Tensor, elements: Tensor) -> Tensor:
    """The same elements acting on pairs of spin-2 components: (e1, e2) or (e1, e2, g1, g2), shape (N, 2 or 4)."""
    sign1 = 1 - 2 * ((elements >> 2) & 1)
    sign2 = 1 - 2 * ((elements & 1) ^ ((elements >> 1) & 1))
    signs = torch.stack([sign1, sign2], dim=1).to(ellipticity.dtype)
    return ellipticity * signs.repeat(1, ellipticity.shape[1] // 2)
