"""Eq. 9 of the report, its exact inverse, and its statistics.

    x_b = tanh(asinh(β x_raw,b / ⟨max x_raw,b⟩))          (Eq. 9; Arcelin et al. 2020, 2005.12039)

With u = β x_raw / ⟨max⟩ this is u / √(1 + u²), and its inverse x / √(1 - x²): both use the
algebraic forms, in numpy and torch, because atanh and tanh lose digits near ±1, the values of bright cores.
In float32 the round trip is exact to 1e-6 relative for u < 3 and to about 6e-8 u² above.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.conventions import Array


@dataclass(frozen=True)
class Normalization:
    """Parameters of Eq. 9, ⟨max⟩ per band and β; stored in every checkpoint.

    Attributes:
        bands: band names, in the order of the image axis.
        mean_max: ⟨max x_raw,b⟩ over the training split, by band [electron].
        beta: the constant of Eq. 9.
    """

    bands: tuple[str, ...]
    mean_max: tuple[float, ...]
    beta: float

    def __post_init__(self) -> None:
        if len(self.bands) != len(self.mean_max):
            raise ValueError(f"{len(self.bands)} bands but {len(self.mean_max)} values of <max>")
        bad = [b for b, m in zip(self.bands, self.mean_max, strict=True) if not (np.isfinite(m) and m > 0)]
        if bad:
            raise MismatchError(
                f"<max> is not a positive number in band {', '.join(bad)}",
                where="normalization_statistics",
                remedy="check that the training stamps contain galaxies in that band",
            )

    def _scale(self, images: Array) -> Array:
        if images.shape[-3] != len(self.bands):
            raise MismatchError(
                f"images have {images.shape[-3]} bands, the normalisation {len(self.bands)} ({''.join(self.bands)})",
                where="normalization",
                remedy="use the statistics of the same survey",
            )
        scale = np.asarray(self.mean_max, dtype=np.float64) / self.beta
        if isinstance(images, torch.Tensor):
            return torch.as_tensor(scale, dtype=images.dtype, device=images.device)[:, None, None]
        return scale.astype(images.dtype)[:, None, None]

    def forward(self, images: Array) -> Array:
        """Eq. 9.

        Args:
            images: (..., band, y, x) [electron], float.

        Returns:
            The same shape and dtype, in (-1, 1).
        """
        return compressed(images / self._scale(images))

    def inverse(self, images: Array) -> Array:
        """The inverse of `forward`: (..., band, y, x) in (-1, 1) to electrons.

        Values of magnitude 1 (a saturated sigmoid) correspond to infinite flux; they are clipped to the largest value
        below 1 of the dtype, so that the result is finite.
        """
        return expanded(images) * self._scale(images)


def compressed(u: Array) -> Array:
    """tanh(asinh(u)), of any shape."""
    return u / (1.0 + u * u) ** 0.5


def expanded(x: Array) -> Array:
    """The inverse of `compressed`; magnitudes of 1 are clipped to the largest value below."""
    if isinstance(x, torch.Tensor):
        below = 1.0 - torch.finfo(x.dtype).eps
        x = x.clamp(-below, below)
    else:
        below = 1.0 - float(np.finfo(x.dtype).eps)
        x = np.clip(x, -below, below)
    # 1 - x is exact near 1; 1 - x² would lose digits for a bright core.
    return x / ((1.0 - x) * (1.0 + x)) ** 0.5


class MaximumStatistics:
    """Streaming ⟨max⟩ and spread per band: one pass, any number of stamps, constant memory (Welford 1962)."""

    def __init__(self, bands: tuple[str, ...]) -> None:
        self.bands = bands
        self.count = 0
        self.mean = np.zeros(len(bands))
        self._squares = np.zeros(len(bands))

    def add(self, images: np.ndarray) -> None:
        """Add stamps (N, band, y, x) [electron]."""
        for maxima in images.max(axis=(-2, -1)).astype(np.float64):
            self.count += 1
            step = maxima - self.mean
            self.mean += step / self.count
            self._squares += step * (maxima - self.mean)

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of ⟨max⟩, by band [electron]."""
        return np.sqrt(self._squares / max(self.count - 1, 1) / max(self.count, 1))

    def normalization(self, beta: float) -> Normalization:
        return Normalization(self.bands, tuple(float(m) for m in self.mean), beta)


def mean_maximum(batches: Iterable[np.ndarray], bands: tuple[str, ...]) -> MaximumStatistics:
    """Statistics of a stream of stamps (N, band, y, x) [electron]."""
    statistics = MaximumStatistics(bands)
    for batch in batches:
        statistics.add(batch)
    return statistics
