"""The peers that measure observed stamps, behind one interface; optional modules are imported when measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from deblend_assets.science.peers.observed import scarlet2, sep_hsm, sersic
from deblend_assets.science.peers.profiles import Floats
from deblend_assets.science.stamps.cutting import on_stamp
from deblend_assets.science.stamps.observed import ObservedStamps


@dataclass(frozen=True)
class ObservedPeer:
    """A method.

    Attributes:
        name: in tables.
        title: what pages and figures call it.
        words: one line with its settings and inputs.
        module: that it needs.
        positions: which positions it is to get.
        most: key of the profile's `[worlds]` that says how many of the first targets it measures; None: all.
        measure: takes stamps and, for each, x and y of its galaxies (galaxy, 2) [pixel], the target's first; gives a
            table of `ESTIMATE_COLUMNS`, one row a stamp.
    """

    name: str
    title: str
    words: str
    module: str
    positions: Literal["detected", "true"]
    most: Literal["sersic", "scarlet2"] | None
    measure: Callable[[ObservedStamps, Sequence[Floats]], pd.DataFrame]


OBSERVED_PEERS = (
    ObservedPeer(
        "sep_hsm",
        "SEP + HSM",
        "SEP's mask and FLUX_AUTO (1.5 σ in the reference band), adaptive moments and REGAUSS; given the PSF",
        "sep",
        "detected",
        None,
        sep_hsm.measure,
    ),
    ObservedPeer(
        "sersic",
        "Sérsic fit",
        "one Sérsic profile a detection, all bands at once, positions free within 2 pixels; given the PSF",
        "scipy",
        "detected",
        "sersic",
        sersic.measure,
    ),
    ObservedPeer(
        "scarlet2",
        "scarlet2 + HSM",
        "scarlet2, HSM on its image of the target; given the PSF and the detected positions",
        "scarlet2",
        "detected",
        "scarlet2",
        scarlet2.measure,
    ),
    ObservedPeer(
        "scarlet2_true",
        "scarlet2 + HSM, true positions",
        "the same, given the true positions",
        "scarlet2",
        "true",
        "scarlet2",
        scarlet2.measure,
    ),
)


def detected_positions(stamps: ObservedStamps) -> list[Floats]:
    """x and y of target and other detections on each stamp, (galaxy, 2) [pixel], the target's first."""
    return [
        np.concatenate([target[None], others[:count]])
        for target, others, count in zip(stamps.position, stamps.others, stamps.others_count, strict=True)
    ]


def true_positions(
    stamps: ObservedStamps, x: ArrayLike, y: ArrayLike, bright: NDArray[np.bool_], target: NDArray[np.integer]
) -> list[Floats]:
    """x and y of the true sources on each stamp of one field, (galaxy, 2) [pixel], the target's first.

    Args:
        stamps: N of the field.
        x, y: of its sources, (S,) [pixel of the field].
        bright: which of them are listed beside the target, (S,).
        target: row of each stamp's target among the sources, (N,); -1: none, and the detection stands for it.
    """
    places = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=1)
    found = []
    for corner, detected, own in zip(stamps.corner, stamps.position, target, strict=True):
        moved = places - corner
        listed = bright & on_stamp(moved, stamps.side)
        first = detected
        if own >= 0:
            first, listed[own] = moved[own], False
        found.append(np.concatenate([first[None], moved[listed]]))
    return found
