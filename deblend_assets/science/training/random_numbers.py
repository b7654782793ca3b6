"""The random numbers of one training batch.

They are generated for the whole batch, whichever rows of it a process computes: several processes that share a batch
use the same symmetries, lost bands and latent noise as a single process would.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deblend_assets.science.stamps.band_masks import drop_bands
from deblend_assets.science.stamps.symmetries import ORDER
from deblend_assets.science.training.feeding import Portion


class RandomNumbers:
    """Random numbers for one portion of a batch.

    Args:
        generator: on the device of the portion.
        portion: which rows of how many samples.
    """

    def __init__(self, generator: torch.Generator, portion: Portion) -> None:
        self._generator, self._samples, self._rows = generator, portion.samples, portion.rows

    def symmetries(self) -> Tensor:
        """(N,) elements of the square's group, one for each stamp."""
        generator = self._generator
        return torch.randint(ORDER, (self._samples,), generator=generator, device=generator.device)[self._rows]

    def present_bands(self, bands: int, chance: float) -> Tensor:
        """(N, band) bool: each band is lost with the given probability, see `band_masks.drop_bands`."""
        return drop_bands(self._samples, bands, chance, self._generator, self._generator.device)[self._rows]

    def normal(self, width: int) -> Tensor:
        """(N, width) standard normal."""
        generator = self._generator
        return torch.randn((self._samples, width), generator=generator, device=generator.device)[self._rows]

    def chance(self, chance: float) -> Tensor:
        """(N,) bool, True with the given probability."""
        generator = self._generator
        return torch.rand(self._samples, generator=generator, device=generator.device)[self._rows] < chance
