"""Quality cuts on im3shape's galaxies, the attrition of each cut, and the corrected positions.

The cuts follow the report and Jarvis et al. 2016 (1507.05603): flags 0, S/N above 20, a valid ellipticity and a
match in the gold catalogue (the query's join).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from deblend_assets.science.des.queries import GOLD_DEC, GOLD_RA, SHAPE_COLUMNS

MISSING = -9999.0
# Shape noise per component in w = 1 / (SHAPE_NOISE² + σ_e²). Published for the release's ngmix weights (Jarvis et al.
# 2016, section 7) and adopted for im3shape's, which the release caps at 1/0.24².
SHAPE_NOISE = 0.22

_KEPT = ("e_1", "e_2", "nbc_m", "nbc_c1", "nbc_c2", "w", "snr_w", "radius", "mean_psf_fwhm", "ra_shift", "dec_shift")

# Column of the kept table: (unit, meaning).
IM3SHAPE_COLUMNS: dict[str, tuple[str, str]] = {
    "coadd_objects_id": SHAPE_COLUMNS["coadd_objects_id"],
    "ra": ("deg", "right ascension (J2000) of the fitted centre, in [0, 360): gold + ra_shift / cos(dec)"),
    "dec": ("deg", "declination (J2000) of the fitted centre: gold + dec_shift"),
    GOLD_RA: ("deg", "right ascension (J2000) in the gold catalogue"),
    GOLD_DEC: ("deg", "declination (J2000) in the gold catalogue"),
    "e_sigma": (
        "",
        "measurement error of e_1 and of e_2, from the weight: sqrt(1/w - 0.22²), 0.22 the shape noise in w; an upper "
        "bound where the release caps w at 1/0.24²",
    ),
    **{name: SHAPE_COLUMNS[name] for name in _KEPT},
}

ATTRITION_COLUMNS: dict[str, tuple[str, str]] = {
    "cut": ("", "condition that a galaxy must meet, in order of application"),
    "removed": ("", "galaxies removed by this cut"),
    "left": ("", "galaxies left after this cut"),
}


def quality_cuts(rows: pd.DataFrame, snr_w_min: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply the quality cuts; return the galaxies with corrected positions, and the attrition.

    im3shape codes a missing value as -9999 in any column. It is converted to NaN, which fails every cut.

    Args:
        rows: result of `shapes_query`: `SHAPE_COLUMNS`, `GOLD_RA`, `GOLD_DEC`.
        snr_w_min: lower limit of `snr_w`, exclusive.

    Returns:
        The kept galaxies with `IM3SHAPE_COLUMNS`, in the order of `rows` (none: an empty table), and the attrition:
        `cut`, `removed`, `left`, its first row counts the rows returned.
    """
    columns = [*SHAPE_COLUMNS, GOLD_RA, GOLD_DEC]
    # Ids are not converted to float, which would lose digits.
    values = rows[columns[1:]].astype(np.float64)
    values = values.mask(~np.isfinite(values) | (values == MISSING))
    ids = rows["coadd_objects_id"]
    known = ids.notna() & (ids != MISSING)
    e = np.hypot(values["e_1"], values["e_2"])
    last = ["w", "nbc_m", "nbc_c1", "nbc_c2", "ra_shift", "dec_shift"]
    passes = {
        "identity known and listed once": known & ~ids.duplicated(),
        "gold position known": values[[GOLD_RA, GOLD_DEC]].notna().all(axis=1),
        "error_flag = 0": values["error_flag"] == 0,
        "info_flag = 0": values["info_flag"] == 0,
        "e_1, e_2 known, |e| < 1": e < 1,
        f"snr_w > {snr_w_min:g}": values["snr_w"] > snr_w_min,
        "weight, calibration and shift known": values[last].notna().all(axis=1) & (values["w"] > 0),
    }
    good = pd.Series(True, index=rows.index)
    attrition = [("rows returned", 0, len(rows))]
    for cut, passed in passes.items():
        good &= passed
        attrition.append((cut, attrition[-1][2] - int(good.sum()), int(good.sum())))
    kept = values[good].assign(coadd_objects_id=ids[good].astype(np.int64))
    kept["dec"] = kept[GOLD_DEC] + kept["dec_shift"] / 3600
    # The shift is an angle on the sky; 1 / cos(dec) converts it to right ascension.
    kept["ra"] = (kept[GOLD_RA] + kept["ra_shift"] / 3600 / np.cos(np.radians(kept["dec"]))) % 360.0
    kept["e_sigma"] = np.sqrt((1 / kept["w"] - SHAPE_NOISE**2).clip(lower=0.0))
    return (
        kept[list(IM3SHAPE_COLUMNS)].reset_index(drop=True),
        pd.DataFrame(attrition, columns=["cut", "removed", "left"]),
    )
