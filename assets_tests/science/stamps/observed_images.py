"""A small field whose every pixel says where it is, for the tests of stamps and of their store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.stamps.cutting import ObservedImage

BANDS = ("r", "i")
HEIGHT, WIDTH = 40, 60


def psf_at(x: float, y: float) -> NDArray[np.float32]:
    """Two PSFs of unit sum whose middle pixels hold more with x, and with y."""
    psf = np.full((2, 5, 5), 0.02, dtype=np.float32)
    psf[0, 2, 2] += x / WIDTH
    psf[1, 2, 2] += y / HEIGHT
    return psf / psf.sum(axis=(1, 2), keepdims=True)


def field(**changes: Any) -> ObservedImage:
    """Pixel (y, x) holds 1 + 100 y + x in the first band, 10,000 more in the second; rows 10 and 11 of r are lost."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    plane = 1 + y * 100 + x
    pixels = np.stack([plane, plane + 10_000]).astype(np.float32)
    mask = np.zeros(pixels.shape, dtype=np.uint16)
    weight = np.full(pixels.shape, 0.25, dtype=np.float32)
    mask[0, 10:12], weight[0, 10:12] = 8, 0
    correlation = np.zeros((2, 3, 3))
    correlation[:, 1, 1], correlation[:, 1, ::2] = 1, 0.25
    given = {
        "bands": BANDS,
        "pixels": pixels,
        "inverse_variance": weight,
        "mask": mask,
        "psf": psf_at,
        "noise_correlation": correlation,
        "zero_point": np.array([30.0, 29.5]),
        "jacobian": lambda x, y: np.array([[0.0, 0.2], [-0.2, 0.0]]),
        "sky_position": lambda x, y: (150.0 - x / 1000, 2.0 + y / 1000),
    }
    return ObservedImage(**(given | changes))
