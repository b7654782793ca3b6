"""Sums over patches of the sky of what is selected in each of the five catalogues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.metadetection.catalogs import KINDS, MASK_FLAGS, STEP

Floats = NDArray[np.float64]
Rows = Callable[[pd.DataFrame], ArrayLike]
"""Takes a catalogue and gives one value a row."""

_MEAN_ROWS, _MOST_ACROSS = 10, 10
# S/N of half the weight.
_HALF_SNR = 20.0


def snr_weight(table: pd.DataFrame) -> Floats:
    """Weight that rises smoothly with S/N, ν² / (ν² + 20²), (N,).

    Under a cut each row that a shear brings across it changes the mean by its whole shape, which rules the error of the
    response; here faint rows come in with little weight.

    Args:
        table: with `snr`.
    """
    squared = np.square(table["snr"].to_numpy(np.float64))
    return np.asarray(squared / (squared + _HALF_SNR**2))


def unmasked(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows without any of `MASK_FLAGS`, (N,).

    The other flags come and go with a shear, as cuts do, and raise the error of the response.

    Args:
        table: with `flags`.
    """
    return np.asarray((table["flags"].to_numpy(np.int64) & int(MASK_FLAGS)) == 0)


@dataclass(frozen=True, eq=False)
class PatchSums:
    """Sums over the selected rows of each catalogue in each patch.

    Attributes:
        patches: their numbers, (P,).
        rows: selected, (5, P), in the order of `KINDS`.
        weight: sum of weights, (5, P).
        total: sum of weight times g, (5, P, 2).
    """

    patches: NDArray[np.int64]
    rows: NDArray[np.int64]
    weight: Floats
    total: Floats

    def means(self, leave_out: bool = False) -> Floats:
        """Mean g of the five catalogues, (5, 2); or without each patch in turn, (P, 5, 2)."""
        weight, total = self.weight.sum(axis=1), self.total.sum(axis=1)
        if not leave_out:
            return np.asarray(total / weight[:, None])
        weights, totals = weight[:, None] - self.weight, total[:, None] - self.total
        return np.asarray(np.moveaxis(totals / weights[..., None], 1, 0))


def response_from(means: Floats) -> tuple[Floats, Floats]:
    """R (…, 2, 2) and mean g (…, 2) from the means of the five catalogues, (…, 5, 2)."""
    one, two = ((means[..., KINDS.index(f"{k}p"), :] - means[..., KINDS.index(f"{k}m"), :]) for k in (1, 2))
    return np.stack([one, two], axis=-1) / (2 * STEP), means[..., KINDS.index("noshear"), :]


def sums_of(
    tables: Mapping[str, pd.DataFrame],
    select: Rows | None = None,
    *,
    estimator: str = "g1",
    weight: Rows | None = None,
    patches: ArrayLike | None = None,
) -> PatchSums:
    """Sums over patches.

    Args:
        tables: the five catalogues, each with `patch`, the number of a patch of the sky.
        select: which rows count, run on each catalogue; None: all whose estimate is finite.
        estimator: column of the first component of g; that of the second one has 2 in the place of 1.
        weight: of each row, run on each catalogue; None: 1.
        patches: numbers of all patches; default: those that occur.

    Raises:
        MismatchError: a catalogue or a column is missing, or a choice does not have one value a row.
    """
    missing = [kind for kind in KINDS if kind not in tables]
    names = (estimator, estimator.replace("1", "2"))
    if missing or names[0] == names[1]:
        raise MismatchError(
            f"no catalogue {', '.join(missing)}" if missing else f"estimator {estimator!r}",
            where="response",
            remedy="give the five of metadetect" if missing else "name the column of its first component, as g1",
        )
    for kind in KINDS:
        absent = [name for name in (*names, "patch") if name not in tables[kind]]
        if absent:
            remedy = (
                "name an estimate that it has" if names[0] in absent else "number patches of the sky, as metadetect"
            )
            raise MismatchError(f"no column {', '.join(absent)}", where=f"catalogue {kind}", remedy=remedy)
    if patches is None:
        patches = np.unique(np.concatenate([tables[kind]["patch"].to_numpy(np.int64) for kind in KINDS]))
    known = np.asarray(patches, np.int64)
    rows, weights, totals = [], [], []
    for kind in KINDS:
        table = tables[kind]
        g = table[list(names)].to_numpy(np.float64)
        chosen = np.isfinite(g).all(axis=1)
        if select is not None:
            chosen &= _one_a_row(select(table), table, "select").astype(bool)
        w = np.ones(len(table)) if weight is None else _one_a_row(weight(table), table, "weight").astype(np.float64)
        place = np.searchsorted(known, table["patch"].to_numpy(np.int64)[chosen])
        size = len(known)
        rows.append(np.bincount(place, minlength=size))
        weights.append(np.bincount(place, w[chosen], minlength=size))
        parts = [np.bincount(place, (w * g[:, k])[chosen], minlength=size) for k in (0, 1)]
        totals.append(np.stack(parts, axis=1))
    return PatchSums(known, np.stack(rows), np.stack(weights), np.stack(totals))


def with_patches(
    tables: Mapping[str, pd.DataFrame], shape: tuple[int, int], across: int | None = None
) -> dict[str, pd.DataFrame]:
    """Catalogues with `patch`, the square of the image that a row lies in without its shear.

    Args:
        tables: with x, y [pixel].
        shape: (y, x) of the image.
        across: squares along each axis; None: some ten rows a square, 2 to 10 across.
    """
    if across is None:
        number = len(tables["noshear"])
        across = int(np.clip(np.sqrt(number / _MEAN_ROWS), 2, _MOST_ACROSS))
    found = {}
    for kind, table in tables.items():
        column, row = (
            np.clip((table[name].to_numpy(np.float64) + 0.5) * across / side, 0, across - 1).astype(np.int64)
            for name, side in (("x", shape[1]), ("y", shape[0]))
        )
        found[kind] = table.assign(patch=row * across + column)
    return found


def _one_a_row(values: ArrayLike, table: pd.DataFrame, what: str) -> NDArray:
    found = np.asarray(values)
    if found.shape != (len(table),):
        raise MismatchError(
            f"gives an array of shape {found.shape} for {len(table)} rows",
            where=what,
            remedy="give one value a row",
        )
    return found
