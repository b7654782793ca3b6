"""Mean shapes of a catalogue's good rows where there should be none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from deblend_assets.science.evaluation.field_shear import LEAST, BinnedShear, Slope, shear_around, shear_by, slope_of
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.projection import sky_plane
from deblend_assets.science.measuring.trust import RowFlag

# Rings around bright stars [arcsec], and the S/N from which on a star is bright.
_RINGS, _BRIGHT = np.geomspace(2.0, 60.0, 8), 300.0


class Shears(NamedTuple):
    """Mean shapes of the good rows.

    Attributes:
        mean: of both components.
        around: bright stars.
        centres: number of these.
        panels: by quantity, bins and slopes.
        why: a quantity has no bins.
        number: of good rows.
    """

    mean: tuple[Slope, Slope]
    around: BinnedShear
    centres: int
    panels: dict[str, tuple[BinnedShear, tuple[Slope, Slope]]]
    why: dict[str, str]
    number: int


def mean_shapes(field: Field, table: pd.DataFrame, band: str) -> Shears:
    """Mean g of the good rows, by position, by the PSF's g in a band, and around bright stars."""
    flags = table["flags"].to_numpy()
    good = table[flags == 0]
    g = good[["g1", "g2"]].to_numpy(np.float64)
    places, every = (
        np.stack(sky_plane(field, part["x"].to_numpy(np.float64), part["y"].to_numpy(np.float64)), axis=1)
        for part in (good, table)
    )
    star = (flags & int(RowFlag.STAR | RowFlag.SATURATED)) > 0
    bright = star & (table["detection_snr"].fillna(table["snr"]).to_numpy(np.float64) > _BRIGHT)
    quantities = {
        "x [1,000 pixels]": good["x"] / 1000,
        "y [1,000 pixels]": good["y"] / 1000,
        f"g1 of the PSF, {band}": good[f"psf_g1_{band}"],
        f"g2 of the PSF, {band}": good[f"psf_g2_{band}"],
    }
    panels, why = {}, {}
    for name, column in quantities.items():
        values = column.to_numpy(np.float64)
        panels[name] = (shear_by(values, g), (slope_of(values, g[:, 0]), slope_of(values, g[:, 1])))
        why[name] = (
            f"too few: {len(g)} good rows, {2 * LEAST} are needed" if len(g) < 2 * LEAST else "the same over the field"
        )
    means = [Slope(float("nan"), float("nan"))] * 2
    if len(g) >= LEAST:
        means = [Slope(float(v.mean()), float(v.std(ddof=1) / np.sqrt(len(v)))) for v in g.T]
    around = shear_around(every[bright], places, g, _RINGS)
    return Shears((means[0], means[1]), around, int(bright.sum()), panels, why, len(g))
