"""Sums over the selected rows of the catalogues of one field: all that m, c, leakage and n_eff need of it.

Sums of different fields add up, and a field's are replaced when it is measured again: nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deblend_assets.errors import MismatchError
from deblend_assets.science.field_shear.bins import groups

CATALOGS = ("noshear", "1p", "1m", "2p", "2m")
"""Of metadetection: the image as it is, and sheared by ± the step on either component; their names are metadetect's."""

SUM_COLUMNS: dict[str, tuple[str, str]] = {
    "survey": ("", "whose skies"),
    "field": ("", "number of the field"),
    "component": ("", "component of the applied shear, 1 or 2"),
    "condition": ("", "which PSF was given; exact: the true one"),
    "method": ("", "which method"),
    "turned": ("", "whether galaxies, positions and noise were turned by 90 degrees"),
    "sign": ("", "of the applied shear"),
    "catalog": ("", "noshear, 1p, 1m, 2p or 2m: shear that metadetection added to the image"),
    "variable": ("", "quantity of the bin; all: the whole catalogue"),
    "bin": ("", "number of the bin, from 0"),
    "n": ("", "selected detections"),
    "weight": ("", "sum of their weights"),
    "g1": ("", "sum of weight times g1, shear-type, pixel frame"),
    "g2": ("", "sum of weight times g2, shear-type, pixel frame"),
    "r11": ("", "sum of d(weight g1)/d g1 where the method has an analytic response"),
    "r22": ("", "sum of d(weight g2)/d g2 where the method has an analytic response"),
    "psf_g1": ("", "sum of weight times g1 of the true PSF at the detections, reference band"),
    "psf_g2": ("", "sum of weight times g2 of the true PSF at the detections, reference band"),
}
_KEYS = ("catalog", "variable", "bin")
_SUMMED = ("n", "weight", "g1", "g2", "r11", "r22", "psf_g1", "psf_g2")


def sum_catalogs(catalogs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The sums of one image's catalogues, in the whole and in bins; columns from `catalog` on of `SUM_COLUMNS`.

    Args:
        catalogs: by name of `CATALOGS`; of a method with an analytic response "noshear" alone, with `r11` and `r22`.
            Their rows are selected detections with `g1`, `g2`, perhaps `weight` (1), `psf_g1`, `psf_g2` and the
            variables of `bins`.

    Raises:
        MismatchError: an estimate that is not finite, which would be no failure any more but a wrong sum.
    """
    rows = []
    for name, table in catalogs.items():
        weight = table["weight"].to_numpy(float) if "weight" in table else np.ones(len(table))
        values = np.stack(
            [
                np.ones(len(table)),
                weight,
                *(weight * table[f"g{k}"].to_numpy(float) for k in (1, 2)),
                *(table[f"r{k}{k}"].to_numpy(float) if "r11" in table else np.zeros(len(table)) for k in (1, 2)),
                *(weight * table[f"psf_g{k}"].to_numpy(float) for k in (1, 2)),
            ]
        )
        if not np.isfinite(values).all():
            raise MismatchError(
                f"{int((~np.isfinite(values)).any(axis=0).sum())} selected rows of {name} are not finite",
                where="sum_catalogs",
                remedy="count failed rows as failures and leave them out",
            )
        for variable, number, chosen in groups(table):
            rows.append((name, variable, number, *values[:, chosen].sum(axis=1)))
    return pd.DataFrame(rows, columns=[*_KEYS, *_SUMMED])
