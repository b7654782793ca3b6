"""Which bands of a stamp are there: a mask beside the image, so that an absent band is not taken for a dark one.

Zeros alone would say that the galaxy is faint in that band. The networks see zeros **and** the mask, and learn from
stamps that lose bands at random, so that one model serves ugrizy, grizY and whatever a survey's gaps leave.
"""

from __future__ import annotations

import torch
from torch import Tensor


def all_present(images: Tensor) -> Tensor:
    """(N, band) bool, true, for stamps (N, band, y, x)."""
    return torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)


def hide_bands(images: Tensor, present: Tensor) -> Tensor:
    """Stamps with zeros where a band is absent, whatever stood there (NaN too).

    Args:
        images: (N, band, y, x).
        present: (N, band) bool.
    """
    return torch.where(present[:, :, None, None], images, torch.zeros_like(images))


def drop_bands(stamps: int, bands: int, chance: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """(stamps, bands) bool: each band is lost with the given chance; a stamp that would lose all loses none."""
    kept = torch.rand((stamps, bands), generator=generator, device=device) >= chance
    return kept | ~kept.any(dim=1, keepdim=True)
