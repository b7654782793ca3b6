"""Sums of fields as arrays, and the calibrated mean shears of any part of the fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.field_shear.sums import CATALOGS

Floats = NDArray[np.float64]
_QUANTITIES = ("n", "weight", "g1", "g2", "r11", "r22", "psf_g1", "psf_g2")
_SHAPE = (2, 2, 2, len(CATALOGS), len(_QUANTITIES))


@dataclass(frozen=True)
class Stacked:
    """Sums of one method, condition and bin.

    Attributes:
        fields: their numbers, (F,).
        sums: (F, component, sign, turned, catalogue, quantity): signs + then -, upright then turned; 0 where a field
            has no such image.
        step: of the shear that metadetection adds to the images.
    """

    fields: NDArray[np.int64]
    sums: Floats
    step: float

    @classmethod
    def of(cls, rows: pd.DataFrame, step: float) -> Stacked:
        """From rows of the table of sums (`SUM_COLUMNS`) of one survey, method, condition, variable and bin.

        Args:
            rows: each image and catalogue at most once.
            step: see the class.

        Raises:
            MissingDataError: no rows.
            MismatchError: an image and catalogue that is there twice.
        """
        if rows.empty:
            raise MissingDataError("no sums of any field", where="field_shear", remedy="measure fields")
        fields, at = np.unique(rows["field"].to_numpy(np.int64), return_inverse=True)
        sums = np.zeros((len(fields), *_SHAPE))
        place = (
            at,
            rows["component"].to_numpy() - 1,
            (1 - rows["sign"].to_numpy()) // 2,
            rows["turned"].to_numpy().astype(int),
            rows["catalog"].map({name: k for k, name in enumerate(CATALOGS)}).to_numpy(int),
        )
        if len(np.unique(np.ravel_multi_index(place, sums.shape[:-1]))) < len(rows):
            raise MismatchError(
                "the sums of an image are there twice", where="field_shear", remedy="give each field's sums once"
            )
        sums[place] = rows[list(_QUANTITIES)].to_numpy(float)
        return cls(fields, sums, step)

    def only(self, fields: NDArray[np.int64]) -> Stacked:
        """Those of some fields."""
        chosen = np.isin(self.fields, fields)
        return Stacked(self.fields[chosen], self.sums[chosen], self.step)

    def without_each(self) -> Floats:
        """Sums over all fields, then over all but each; (1 + F, component, sign, turned, catalogue, quantity)."""
        total = self.sums.sum(axis=0)
        return np.concatenate([total[None], total - self.sums])

    @property
    def detections(self) -> int:
        """Selected detections in all images as they are."""
        return int(self.sums[..., 0, 0].sum())


def response(sums: Floats, step: float) -> Floats:
    """Diagonal of the response of the mean estimate, of all images together.

    Args:
        sums: (..., component, sign, turned, catalogue, quantity).
        step: of the shear that metadetection adds.

    Returns:
        (..., 2): of metadetection (⟨g⟩₊ - ⟨g⟩₋) / 2 step, which contains detection and selection; of a method with an
        analytic response Σ r / Σ weight.
    """
    total = sums.sum(axis=(-5, -4, -3))
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in (0, 1):
            plus, minus = (total[..., 1 + 2 * k + side, :] for side in (0, 1))
            sheared = (plus[..., 2 + k] / plus[..., 1] - minus[..., 2 + k] / minus[..., 1]) / (2 * step)
            analytic = total[..., 0, 4 + k] / total[..., 0, 1]
            found.append(np.where(plus[..., 1] > 0, sheared, analytic))
    return np.stack(found, axis=-1)


def mean_shears(sums: Floats, step: float) -> Floats:
    """Calibrated mean shear of the images under each applied shear, by the response of the fields that have it.

    The same galaxies and noise change under the true shear and under the artificial one: their errors cancel in part.

    Args:
        sums: (..., component, sign, turned, catalogue, quantity).
        step: see `response`.

    Returns:
        (..., component, sign, 2): both components of the mean, upright and turned images together; NaN without any.
    """
    images = sums.sum(axis=-3)[..., 0, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = images[..., 2:4] / images[..., 1:2]
        each = [response(sums[..., k : k + 1, :, :, :, :], step) for k in range(sums.shape[-5])]
        return np.asarray(mean / np.stack(each, axis=-2)[..., None, :])
