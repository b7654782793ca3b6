"""What stamps are to whoever measures them, and how they are read ahead."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

# Stamps per block: some 25 MB of six bands, large enough that the overhead per block is small.
BLOCK = 512


class Stamps(Protocol):
    """Stamps to be measured.

    Attributes:
        where: name of the stamps for messages.
        attributes: `bands`, `unit`, `pixel_scale_arcsec` and more.
        shape: (stamp, band, y, x).
        block: stamps per read.
        left_out: names of files beside the stamps that are none.
    """

    where: str
    attributes: dict[str, Any]
    shape: tuple[int, int, int, int]
    block: int
    left_out: tuple[str, ...]

    def read(self, first: int, last: int) -> np.ndarray:
        """Stamps first ≤ n < last, (N, band, y, x) float32; CorruptDataError if one cannot be read."""

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Catalogue columns that identify the stamps first ≤ n < last."""


def blocks(stamps: Stamps) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first position and the stamps of every block; the next block is read in the background."""
    starts = range(0, stamps.shape[0], stamps.block)

    def read(first: int) -> np.ndarray:
        return stamps.read(first, min(first + stamps.block, stamps.shape[0]))

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, starts[0]) if len(starts) else None
        for start in starts:
            assert coming is not None
            present = coming.result()
            following = start + stamps.block
            coming = reader.submit(read, following) if following < stamps.shape[0] else None
            yield start, present


def first_line(error: Exception) -> str:
    """First line of an error's message that is not blank; the name of its type if there is none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
