"""Test for independent noise in every stamp: errors of stamps with the same noise do not average down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RIM = 3  # pixels at a stamp's edge, where noise dominates
# Independent noise gives 0.02 for one pair of stamps, the same noise 0.9: shared light at the edges is in between.
LIMIT = 0.1


def repeated_noise(images: NDArray[np.float32]) -> float:
    """Median correlation of the edge pixels of successive stamps: 0 for independent noise, 1 for identical noise.

    Args:
        images: (N, band, y, x), N at least 2.
    """
    inner = np.zeros(images.shape[-2:], dtype=bool)
    inner[_RIM:-_RIM, _RIM:-_RIM] = True
    edges = images[..., ~inner]
    # By rank within a band, so that a neighbour's light at the edge does not dominate.
    ranks = edges.argsort(axis=-1).argsort(axis=-1) - (edges.shape[-1] - 1) / 2
    ranks = (ranks / ranks.std(axis=-1, keepdims=True)).reshape(len(images), -1)
    return float(np.median((ranks[1:] * ranks[:-1]).mean(axis=1)))
