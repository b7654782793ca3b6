"""What is true of a detection: by light, not by position alone.

The *target* is the source that gives most of the light within one FWHM of the detection, on the detection image, of
those whose centres lie nearby. A bright galaxy's centre may be farther away than a faint neighbour's: the flux, shape
and colours that are measured there are still those of the bright one. The far wings of a bright star are no target of
the faint galaxy that stands on them, however much light they give.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deblend_assets.errors import MismatchError

# A source counts in a detection from this share of the light on.
BLEND_SHARE = 0.1
# Of others, those from this share on are listed.
LISTED_SHARE = 0.01
# Sources within this many FWHM of a detection can be its target.
NEAR_FWHM = 1.5
# Light below this many times the noise within the radius is no reason for a detection.
LEAST_SIGNAL = 2.0


class TruthFlag(IntFlag):
    """What a detection is, beside its target; 0: one source, found once, a galaxy."""

    BLEND = 1  # a second source has over a tenth of the light
    UNRECOGNIZED_BLEND = 2  # a second source over a tenth of the light is the target of no detection
    SPURIOUS = 4  # less light than twice the noise
    SHRED = 8  # another detection has the same target and more of its light
    STAR = 16  # the target is a star


@dataclass(frozen=True)
class DetectionTruth:
    """Truth of D detections over S sources.

    Attributes:
        target: source of most of the light, (D,) int64; -1 for a spurious detection.
        light: the target's light within the radius, (D,).
        total: of all sources, (D,).
        flags: `TruthFlag`, (D,) int64.
        first: (D + 1,) int64: entries first[n] to first[n + 1] of the next two are detection n's.
        other: sources beside the target with at least a hundredth of the light, the brightest first, (K,) int64.
        other_light: theirs, (K,).
        detection: the detection that has a source as its target and is no shred, (S,) int64; -1: none, undetected.
    """

    target: NDArray[np.int64]
    light: NDArray[np.float64]
    total: NDArray[np.float64]
    flags: NDArray[np.int64]
    first: NDArray[np.int64]
    other: NDArray[np.int64]
    other_light: NDArray[np.float64]
    detection: NDArray[np.int64]

    def has(self, flag: TruthFlag) -> NDArray[np.bool_]:
        """Where any of the flags is set, (D,)."""
        return (self.flags & int(flag)) != 0

    def others(self, detection: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Sources beside a detection's target, and their light."""
        entries = slice(self.first[detection], self.first[detection + 1])
        return self.other[entries], self.other_light[entries]


def match(
    light: csr_array, near: csr_array, star: NDArray[np.bool_], noise: float | NDArray[np.float64]
) -> DetectionTruth:
    """Truth of each detection from the light of each source within one FWHM of it.

    The target is the source of most of the light among those that are nearby and have over a tenth of it; without such
    a one (a blend whose centroid lies between its members, a piece of a star's wing) the source of most of the light.

    Args:
        light: (D, S), of `light.light_of_pieces` or `light_of_gaussians` with the FWHM as radius; not negative.
        near: (D, S), not 0 where a source lies within `NEAR_FWHM` of a detection (`light.nearby`).
        star: which sources are stars, (S,).
        noise: standard deviation of the sum of the detection image's noise within the radius, scalar or (D,).

    Raises:
        MismatchError: another number of sources or detections, or negative light.
    """
    detections, sources = light.shape
    if near.shape != light.shape or len(star) != sources or (np.ndim(noise) and len(np.asarray(noise)) != detections):
        raise MismatchError(
            f"light {light.shape}, near {near.shape}, {len(star)} sources, noise {np.shape(noise)}",
            where="match",
            remedy="give light and near (D, S), star (S,), noise a number or (D,)",
        )
    if light.nnz and light.data.min() < 0:
        raise MismatchError("light is negative somewhere", where="match", remedy="give noiseless light")
    limit = np.broadcast_to(LEAST_SIGNAL * np.asarray(noise, dtype=np.float64), (detections,))
    total = np.asarray(light.sum(axis=1), dtype=np.float64).ravel()
    target, most = np.full(detections, -1, dtype=np.int64), np.zeros(detections)
    flags = np.zeros(detections, dtype=np.int64)
    listed: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for n in range(detections):
        entries = slice(light.indptr[n], light.indptr[n + 1])
        members, values = light.indices[entries].astype(np.int64), light.data[entries]
        order = np.lexsort((members, -values))
        members, values = members[order], values[order]
        if total[n] < limit[n] or not len(members):
            flags[n] |= TruthFlag.SPURIOUS
        else:
            beside = near.indices[near.indptr[n] : near.indptr[n + 1]]
            candidates = np.flatnonzero(np.isin(members, beside) & (values > BLEND_SHARE * total[n]))
            chosen = candidates[0] if candidates.size else 0
            target[n], most[n] = members[chosen], values[chosen]
            members, values = np.delete(members, chosen), np.delete(values, chosen)
        keep = values >= LISTED_SHARE * total[n]
        listed.append((members[keep], values[keep]))
    found = _primary(target, most, sources)
    real = np.flatnonzero(target >= 0)
    flags[real] |= np.where(found[target[real]] != real, int(TruthFlag.SHRED), 0)
    flags[real] |= np.where(star[target[real]], int(TruthFlag.STAR), 0)
    for n in real:
        second = listed[n][0][listed[n][1] > BLEND_SHARE * total[n]]
        if second.size and most[n] > BLEND_SHARE * total[n]:
            flags[n] |= TruthFlag.BLEND
            if (found[second] < 0).any():
                flags[n] |= TruthFlag.UNRECOGNIZED_BLEND
    return DetectionTruth(
        target=target,
        light=most,
        total=total,
        flags=flags,
        first=np.cumsum([0, *(len(members) for members, _ in listed)], dtype=np.int64),
        other=np.concatenate([members for members, _ in listed] or [np.zeros(0, dtype=np.int64)]),
        other_light=np.concatenate([values for _, values in listed] or [np.zeros(0)]),
        detection=found,
    )


def _primary(target: NDArray[np.int64], light: NDArray[np.float64], sources: int) -> NDArray[np.int64]:
    """For each source the detection that has it as target with the most light, (S,); -1: none."""
    found = np.full(sources, -1, dtype=np.int64)
    order = np.lexsort((-np.arange(len(target)), light))  # the last one written has the most light; ties: the first
    order = order[target[order] >= 0]
    found[target[order]] = order
    return found
