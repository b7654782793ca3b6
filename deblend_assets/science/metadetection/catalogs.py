"""The five catalogues of metadetection: one field sheared five ways, each detected and measured from its pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.metadetection.operator import SHEARS, STEP, ShearOperator
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.stamps.mask_bits import MaskBit

__all__ = ["KINDS", "MASK_FLAGS", "MOST_MASKED", "STEP", "Estimate", "metadetect"]

KINDS = tuple(SHEARS)
"""The sheared images: none, and ±`STEP` of either component."""

Estimate = Callable[[ObservedImage, tuple[float, ...]], pd.DataFrame]
"""Detects and measures: takes an image and the FWHM of each band's PSF [pixel]; gives one row a detection with x, y
[pixel of this image] and any other columns, shapes in the sky frame."""

MOST_MASKED = 0.1
"""`mfrac` from which on a row is flagged."""
MASK_FLAGS = RowFlag.MASKED | RowFlag.SATURATED | RowFlag.EDGE
"""Bits of `flags` that follow from where a source lies on the unsheared sky."""
# Distances from a saturated pixel and from the image's end within which a row is flagged [FWHM].
_SATURATED, _EDGE = 1.0, 1.5
_FULL = int(MaskBit.SATURATED | MaskBit.BLEED)


def metadetect(
    image: ObservedImage,
    estimate: Estimate,
    *,
    seed: int | Sequence[int] = 0,
    noise: NDArray[np.floating] | None = None,
    kinds: Sequence[str] = KINDS,
    sigma: NDArray[np.float64] | None = None,
) -> dict[str, pd.DataFrame]:
    """Shear, detect and measure.

    What a real shear leaves where it is, the mask and the image's end, must not decide under an artificial one: the
    sheared images carry it along. It is looked up where a source lies without the shear.

    Args:
        image: of a field, or a window of it.
        estimate: run on each sheared image.
        seed, noise, sigma: see `ShearOperator`.
        kinds: some of `KINDS`.

    Returns:
        By kind, the estimate's rows and columns, but for: x, y, on the image as given, the shear undone; x_sheared,
        y_sheared, on the sheared image; mfrac, share of lost pixels under the new PSF at x, y, mean of the bands;
        flags, where `MASK_FLAGS` are added. Rows off the image are dropped.
    """
    operator = ShearOperator(image, seed, noise=noise, sigma=sigma)
    places = UnshearedMasks(operator)
    found = {}
    for kind in kinds:
        sheared = operator.sheared(*SHEARS[kind])
        table = estimate(sheared.image, sheared.fwhm).reset_index(drop=True)
        x, y = (table[name].to_numpy(np.float64) for name in "xy")
        back_x, back_y = sheared.unsheared(x, y)
        table = table.assign(x=back_x, y=back_y, x_sheared=x, y_sheared=y)
        height, width = image.pixels.shape[1:]
        inside = (back_x >= -0.5) & (back_x < width - 0.5) & (back_y >= -0.5) & (back_y < height - 0.5)
        found[kind] = places.described(table[inside].reset_index(drop=True))
    return found


class UnshearedMasks:
    """What the mask and the image's end say of positions on the unsheared sky.

    Args:
        operator: of the image.
    """

    def __init__(self, operator: ShearOperator) -> None:
        image = operator.image
        lost = (image.inverse_variance <= 0).astype(np.float64)
        widths = np.array(operator.fwhm)
        self._mfrac = np.mean(
            [
                ndimage.gaussian_filter(band, fwhm / FWHM_OVER_SIGMA, mode="constant", cval=1.0)
                for band, fwhm in zip(lost, widths, strict=True)
            ],
            axis=0,
        )
        near = np.zeros(image.pixels.shape[1:], np.int32)
        for mask, fwhm in zip(image.mask, widths, strict=True):
            full = (mask & _FULL) > 0
            if full.any():
                near[ndimage.distance_transform_edt(~full) < _SATURATED * fwhm] |= int(RowFlag.SATURATED)
            ended = np.pad((mask & int(MaskBit.NO_DATA)) > 0, 1, constant_values=True)
            near[ndimage.distance_transform_edt(~ended)[1:-1, 1:-1] < _EDGE * fwhm] |= int(RowFlag.EDGE)
        self._flags = near | np.where(self._mfrac > MOST_MASKED, np.int32(RowFlag.MASKED), np.int32(0))

    def described(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with `mfrac`, and `MASK_FLAGS` in its `flags`, at its x, y [pixel]."""
        height, width = self._mfrac.shape
        column, row = (
            np.clip(np.floor(table[name].to_numpy(np.float64) + 0.5), 0, side - 1).astype(np.int64)
            for name, side in (("x", width), ("y", height))
        )
        before = table["flags"].to_numpy(np.int32) if "flags" in table else np.zeros(len(table), np.int32)
        return table.assign(mfrac=self._mfrac[row, column], flags=before | self._flags[row, column])


def joined(parts: Sequence[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The five catalogues of several fields or cells, one below the other."""
    return {kind: pd.concat([part[kind] for part in parts], ignore_index=True) for kind in parts[0]}
