"""Stars among bright detections whose PSF is not known: those that all have one size and one shape."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.images.field_checks.sources import BandSources
from deblend_assets.science.images.field_checks.stars import MOST_SMALLER, STAR_SNR

# Errors of ln size, g1 and g2 of a star, times S/N, and what stars scatter by beside noise.
_ERRORS, _SCATTER = np.array([1.3, 1.1, 1.1]), 0.01
# Squared distance within which 98 % of stars are, with 3 numbers.
_WITHIN = 9.8
# The shell from one to two times this distance has 7 times its volume.
_SHELL = 7.0
# Weight of the shell in the choice of a group: among galaxies it is filled by a third or more.
_CONTRAST = 4.0
_STEPS, _ATTEMPTS = 5, 8
# In fields without stars the densest groups of 10 galaxies or more have 0.16 or more around them and 1.3 or more that
# are smaller; stars among ten times as many galaxies have 0.05 and 0.
_MOST_AROUND = 0.15

Floats = NDArray[np.float64]


class Cluster(NamedTuple):
    """Sources that are alike.

    Attributes:
        members: their numbers.
        around: sources in the shell around them, over what it would hold if it were as dense.
        smaller: number of other bright isolated sources that are smaller, over that of the members.
        centre: mean of ln size, g1 and g2, (3,); NaN without a member.
    """

    members: NDArray[np.int64]
    around: float
    smaller: float
    centre: Floats

    @property
    def stands_out(self) -> bool:
        """Whether next to nothing is around them, and little is smaller."""
        return self.around <= _MOST_AROUND and self.smaller <= MOST_SMALLER


def star_cluster(sources: BandSources, near: Floats | None = None) -> Cluster:
    """A dense group of isolated sources of S/N ≥ `STAR_SNR` in ln size, g1 and g2: the first that stands out.

    Galaxies spread over all three; stars, all images of the PSF, differ by their noise alone. So a few stars stand out
    among many galaxies, where the distribution of sizes shows galaxies alone.

    Args:
        sources: against any one PSF.
        near: where the group is, (3,); None: anywhere.
    """
    good = sources.isolated & (sources.snr >= STAR_SNR) & np.isfinite(sources.ln_size)
    rows = np.flatnonzero(good & np.isfinite(sources.ln_concentration))
    shape = sources.shape[rows]
    numbers = np.stack([sources.ln_size[rows], shape.real, shape.imag], axis=1)
    variance = (_ERRORS / sources.snr[rows, None]) ** 2 + _SCATTER**2
    if near is not None:
        return _group(rows, numbers, variance, near)
    apart = ((numbers[:, None] - numbers) ** 2 / (variance[:, None] + variance)).sum(axis=2)
    inside, wide = (apart < _WITHIN).sum(axis=1), (apart < 4 * _WITHIN).sum(axis=1)
    excess = inside - _CONTRAST * (wide - inside) / _SHELL
    tried = np.zeros(len(rows), bool)
    first = Cluster(rows[:0], float("nan"), float("nan"), np.full(3, np.nan))
    for attempt in range(_ATTEMPTS):
        if tried.all():
            break
        middle = int(np.argmax(np.where(tried, -np.inf, excess)))
        group = _group(rows, numbers, variance, numbers[middle])
        if group.stands_out:
            return group
        first = first if attempt else group
        tried |= apart[middle] < _WITHIN
    return first


def _group(rows: NDArray[np.int64], numbers: Floats, variance: Floats, centre: Floats) -> Cluster:
    """The group around a centre, which moves to the mean of its members."""
    for _ in range(_STEPS):
        distance = ((numbers - centre) ** 2 / variance).sum(axis=1)
        inside = distance < _WITHIN
        if not inside.any():
            return Cluster(rows[inside], float("nan"), float("nan"), np.full(3, np.nan))
        centre = np.average(numbers[inside], axis=0, weights=1 / variance[inside].mean(axis=1))
    number = int(inside.sum())
    shell = int(((distance >= _WITHIN) & (distance < 4 * _WITHIN)).sum())
    smaller = int(((numbers[:, 0] < centre[0]) & (distance >= 4 * _WITHIN)).sum())
    return Cluster(rows[inside], shell / _SHELL / number, smaller / number, np.asarray(centre))
