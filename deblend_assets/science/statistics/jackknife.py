"""Numbers with standard errors, and the jack-knife that gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.statistics.accuracy import number

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A number and its standard error."""

    value: float
    error: float

    def __sub__(self, other: Measure) -> Measure:
        """Difference of independent numbers."""
        return Measure(self.value - other.value, float(np.hypot(self.error, other.error)))

    @property
    def significance(self) -> float:
        """|value| in units of its error."""
        return abs(self.value) / self.error if self.error > 0 else np.inf

    def as_json(self) -> dict[str, float | None]:
        """For JSON; None where a number is unknown (there is no jack-knife error for two galaxies)."""
        return {"value": number(self.value), "error": number(self.error)}


def jackknife_error(numbers: Floats) -> tuple[Floats, Floats]:
    """Value and standard error of numbers, (1 + blocks, …): of the whole, then without each block.

    Returns:
        Both (…); the error is infinite for a single block.
    """
    without = numbers[1:]
    if len(without) < 2:
        return numbers[0], np.full(numbers.shape[1:], np.inf)
    spread = np.square(without - without.mean(axis=0)).sum(axis=0)
    return numbers[0], np.asarray(np.sqrt((len(without) - 1) / len(without) * spread))
