"""The heads of the shape network: what else is estimated from the trunk's feature map, as probabilities of criteria.

Every head is one entry of `HEADS`. Its asset and checkpoint, its training (`classifier`), its catalogue columns and
their documentation, and its part of the evaluation are all made from that entry: a new head needs nothing else.

Why the map and not the features behind it: the features keep what the shapes need. A classifier on them distinguishes
a blend whose nearest neighbour is within 1.5" from another blend in 83 % of all pairs; on the map, in 92 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:  # the lineage is declared from this module, where torch is not loaded
    from torch import Tensor

# Labels of a batch, (N,) bool for each criterion, from light in the label band without noise, (N, y, x), of the target
# and of all galaxies, and from the batch's column of truth, (N,).
Labels = Callable[["Tensor", "Tensor", "Tensor"], "Sequence[Tensor]"]


@dataclass(frozen=True)
class ProbabilityColumn:
    """A catalogue column: the probability of one criterion.

    Attributes:
        name: of the column.
        criterion: number of the criterion in its head.
        meaning: after "probability that", in ASCII as FITS headers must be; `{label_band}` is filled in.
        holds: whether the criterion holds for the galaxies of an evaluation's table, (N,).
    """

    name: str
    criterion: int
    meaning: str
    holds: Callable[[pd.DataFrame], NDArray[np.bool_]]


@dataclass(frozen=True)
class Head:
    """A classifier on the trunk's map: log-odds of some criteria.

    Attributes:
        name: of asset and checkpoint.
        description: of the asset.
        criteria: in words, in order.
        truth: field of `BlendLight` that the labels need beside the light.
        of_neighbours: whether that field describes the other galaxies of a scene, which training exchanges between
            scenes, rather than the target.
        labels: the true labels of a batch.
        columns: for the catalogues.
        checked: number of the criterion that the asset's check looks at.
        length: key of the shape recipe that holds epochs and learning rate.
        code_version: of the code that trains it.
    """

    name: str
    description: str
    criteria: tuple[str, ...]
    truth: str
    of_neighbours: bool
    labels: Labels
    columns: tuple[ProbabilityColumn, ...]
    checked: int
    length: str = "neighbours"
    code_version: str = "1"


# [arcsec] and, as in `scene_truth`, in the label band.
_WITHIN = (1.0, 1.5, 2.0, 2.5, 3.5)
_BLENDEDNESS = (0.001, 0.003, 0.01, 0.03, 0.1)
# The two criteria that catalogues hold.
_CLOSE_ARCSEC, _BLENDED_ABOVE = 1.5, 0.01
# Number of the criterion whose log-odds say how crowded a stamp looks.
CLOSE = _WITHIN.index(_CLOSE_ARCSEC)


def blendedness(own: Tensor, light: Tensor) -> Tensor:
    """1 - sum(own²) / sum(own * all) (Bosch et al. 2018) of light in one band, twice (N, y, x), to (N,)."""
    return 1.0 - own.square().sum(dim=(1, 2)) / (own * light).sum(dim=(1, 2))


def _neighbour_labels(own: Tensor, light: Tensor, nearest: Tensor) -> list[Tensor]:
    blended = blendedness(own, light)
    return [nearest < r for r in _WITHIN] + [blended > b for b in _BLENDEDNESS]


NEIGHBOURS = Head(
    name="neighbour_head",
    description="Probabilities of neighbours in the blends of section 4.1: a small classifier on the finished "
    "network's map gives log-odds of the distance of the nearest galaxy [arcsec] and of the share of the light in the "
    "label band that is not the target's (blendedness, Bosch et al. 2018). Trained on blends of training galaxies.",
    criteria=(
        *(f'nearest galaxy within {r:g}"' for r in _WITHIN),
        *(f"blendedness > {b:g}" for b in _BLENDEDNESS),
    ),
    truth="nearest",
    of_neighbours=True,
    labels=_neighbour_labels,
    columns=(
        ProbabilityColumn(
            "close_chance",
            CLOSE,
            f"another galaxy lies within {_CLOSE_ARCSEC:g} arcsec",
            lambda table: table["separation_arcsec"].to_numpy(float) < _CLOSE_ARCSEC,
        ),
        ProbabilityColumn(
            "blended_chance",
            len(_WITHIN) + _BLENDEDNESS.index(_BLENDED_ABOVE),
            f"the true blendedness is above {_BLENDED_ABOVE:g}, band {{label_band}}",
            lambda table: table["blendedness"].to_numpy(float) > _BLENDED_ABOVE,
        ),
    ),
    checked=CLOSE,
)
HEADS = (NEIGHBOURS,)
COLUMNS = {column.name: (head, column) for head in HEADS for column in head.columns}


def probability_columns(label_band: str) -> dict[str, str]:
    """Meaning of the catalogue columns of all heads, in order and in ASCII."""
    where = "for a sky as crowded as the training scenes"
    return {
        name: f"probability that {column.meaning.format(label_band=label_band)}, {where}"
        for name, (_, column) in COLUMNS.items()
    }
