"""Whether every stamp has noise of its own: with frozen noise errors do not average down, and look as if they did."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RIM = 3  # pixels at a stamp's edge, where noise is nearly all there is
# Independent noise gives 0.02 for one pair of stamps, the same noise 0.9: what little light they share is in between.
LIMIT = 0.1


def repeated_noise(images: NDArray[np.float32]) -> float:
    """Median correlation of the edge pixels of stamps that follow each other: 0 for independent noise, 1 for frozen.

    Args:
        images: (N, band, y, x), N at least 2.
    """
    inner = np.zeros(images.shape[-2:], dtype=bool)
    inner[_RIM:-_RIM, _RIM:-_RIM] = True
    edges = images[..., ~inner]
    # By rank within a band: a neighbour's light at the edge must not decide.
    ranks = edges.argsort(axis=-1).argsort(axis=-1) - (edges.shape[-1] - 1) / 2
    ranks = (ranks / ranks.std(axis=-1, keepdims=True)).reshape(len(images), -1)
    return float(np.median((ranks[1:] * ranks[:-1]).mean(axis=1)))
