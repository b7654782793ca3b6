"""Masks of present bands, which distinguish an absent band from one without light.

The input of a network is the stamp, with zeros in absent bands, **and** the mask. Bands are dropped at random in
training, so that one model handles ugrizy, grizY and incomplete coverage.
"""

from __future__ import annotations

import torch
from torch import Tensor


def all_present(images: Tensor) -> Tensor:
    """Mask with all bands present, (N, band) bool, for stamps (N, band, y, x)."""
    return torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)


def hide_bands(images: Tensor, present: Tensor) -> Tensor:
    """Set absent bands to zero, including NaN pixels.

    Args:
        images: (N, band, y, x).
        present: (N, band) bool.
    """
    return torch.where(present[:, :, None, None], images, torch.zeros_like(images))


def drop_bands(stamps: int, bands: int, chance: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random mask, (stamps, bands) bool: drops each band with probability `chance`; keeps all rather than none."""
    kept = torch.rand((stamps, bands), generator=generator, device=device) >= chance
    return kept | ~kept.any(dim=1, keepdim=True)
