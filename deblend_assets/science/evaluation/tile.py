"""Evaluation of one tile: our shapes against im3shape's and, where the tile is simulated, against the truth.

Everything here is in the frame of our catalogue: +x to the west, +y to the north.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.errors import MismatchError
from deblend_assets.science.evaluation.against_im3shape import COMPARISONS, against_im3shape, mean_shear
from deblend_assets.science.evaluation.against_truth import evaluate_truth
from deblend_assets.science.evaluation.deblender import BLENDEDNESS_EDGES
from deblend_assets.science.measuring.sky_columns import ID
from deblend_assets.science.statistics.accuracy import Evaluation, number, values

_REFERENCE = (ID, "e_1", "e_2", "e_sigma", "w", "nbc_m", "nbc_c1", "nbc_c2", "snr_w")


def evaluate_tile(
    shapes: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    bands: Sequence[str],
    label_band: str,
    snr_min: float,
    resamples: int,
    seed: int,
    truth: pd.DataFrame | None = None,
    cutout_flux: pd.DataFrame | None = None,
    zero_point: float = 30.0,
) -> Evaluation:
    """Every number of a tile's evaluation.

    Each measure is `{"value", "error"}`, the error by bootstrap over galaxies; None where it is undefined, and below
    10 galaxies. `im3shape` holds for each of `COMPARISONS`, `component1`, `component2` and `modulus`:

    * `slope`, `intercept`: least squares of ours on im3shape's; `bias`, `rms`, `robust_sigma`: of ours - im3shape's;
    * `eiv_slope`, `eiv_intercept`: errors in variables; none for the modulus, whose error has no zero mean;
    * `scatter_ratio`: our standard deviation over im3shape's, below 1 when shrunk toward zero (round);
    * `both`: the slopes and the RMS of both components together.

    `bins` holds the first comparison by terciles of `snr_w`, by `blendedness` and with all bands or not.

    Args:
        shapes: the shape catalogue, see `measuring.sky_columns`.
        reference: im3shape after the cuts: id, e_1, e_2, e_sigma (standard error of a component), w, nbc_m, nbc_c1,
            nbc_c2, snr_w.
        bands: of the tile.
        label_band: of the truth's observed distortion.
        snr_min: the cut on `snr_w` that the tile went through.
        resamples, seed: of the bootstrap.
        truth: of a simulated tile: id, ra, dec [deg], g1, g2, e1, e2, `flux_{band}`, `stamp_flux_{band}` [count].
        cutout_flux: with a truth: id and `cutout_flux_{band}` [count], the sum of each cutout, NaN where there is none.
        zero_point: AB magnitude of one count of `truth` and `cutout_flux`.

    Returns:
        Nested dicts and lists of strings, numbers, booleans and None: JSON without NaN.

    Raises:
        MismatchError: columns are missing, an id occurs twice, or no galaxy is in both tables.
    """
    needed = [ID, "ra", "dec", "blendedness", "bands_present", "flags"]
    needed += ["reference_band", *(f"{letter}_cov_{kk}" for letter in "ge" for kk in ("11", "22"))]
    needed += [c for pair in COMPARISONS.values() for c in pair]
    needed += [column for band in bands for column in (f"flux_{band}", f"flux_{band}_err")]
    _require(shapes, needed, "shape_catalog")
    _require(reference, _REFERENCE, "im3shape_catalog")
    rows = shapes.merge(reference[list(_REFERENCE)], on=ID)
    if len(shapes) and rows.empty:
        raise MismatchError(
            f"none of {len(shapes)} galaxies is in im3shape's table",
            where="shape_catalog",
            remedy="materialise the tile's im3shape_catalog and all that follows again",
        )
    draws = {"resamples": resamples, "seed": seed}
    found: Evaluation = {
        "galaxies": len(shapes),
        "matched": len(rows),
        "bands": list(bands),
        "label_band": label_band,
        "snr_min": snr_min,
        "bootstrap": draws,
        "missing_bands": {b: int((~shapes["bands_present"].str.contains(b, regex=False)).sum()) for b in bands},
        "im3shape": {name: against_im3shape(rows, pair, **draws) for name, pair in COMPARISONS.items()},
        "mean_shear": mean_shear(rows, **draws),
        "bins": _bins(rows, len(bands), lambda inside: against_im3shape(inside, COMPARISONS["shear"], **draws)),
        "truth": None,
    }
    first = found["im3shape"]["shear"]
    found["orientation"] = orientation(first["component1"]["slope"], first["component2"]["slope"])
    if truth is not None:
        columns = ("ra", "dec", "g1", "g2", "e1", "e2")
        _require(truth, [ID, *columns, *(f"{f}_{b}" for f in ("flux", "stamp_flux") for b in bands)], "truth")
        if cutout_flux is not None:
            _require(cutout_flux, [ID, *(f"cutout_flux_{band}" for band in bands)], "des_cutouts")
        found["truth"] = evaluate_truth(shapes, truth, cutout_flux, bands, label_band, zero_point, **draws)
        slopes = found["truth"]["shapes"]["g"]
        found["truth"]["orientation"] = orientation(slopes["g1"]["slope"], slopes["g2"]["slope"])
    return found


def orientation(slope1: Evaluation, slope2: Evaluation) -> str:
    """Verdict on the frame from the signs of both components' slopes; a sign counts above three errors."""
    signs = []
    for slope in (slope1, slope2):
        value, error = slope["value"], slope["error"]
        if value is None or error is None or abs(value) < 3 * error:
            return "undecided"
        signs.append(value > 0)
    return {
        (True, True): "right",
        (True, False): "component 2 has the wrong sign",
        (False, True): "component 1 has the wrong sign",
        (False, False): "both components have the wrong sign",
    }[signs[0], signs[1]]


def flat_numbers(evaluation: Evaluation) -> dict[str, float]:
    """Key figures under flat names, such as `shear_eiv_slope_1` or `truth_slope_g2`; without those that are None."""
    flat: dict[str, float | None] = {"galaxies": float(evaluation["matched"])}
    for name, found in evaluation["im3shape"].items():
        for k in (1, 2):
            flat |= {f"{name}_{m}_{k}": found[f"component{k}"][m]["value"] for m in ("slope", "eiv_slope", "bias")}
        flat |= {f"{name}_{measure}": found["both"][measure]["value"] for measure in ("slope", "eiv_slope", "rms")}
    if (truth := evaluation["truth"]) is not None:
        for kind in ("g", "e"):
            flat |= {f"truth_slope_{kind}{k}": truth["shapes"][kind][f"{kind}{k}"]["slope"]["value"] for k in (1, 2)}
            flat[f"truth_rms_{kind}"] = truth["shapes"][kind]["both"]["rms"]["value"]
            flat[f"truth_pull_{kind}"] = truth["trusted"]["pulls"][kind]["pull"]["value"]
        flat["position_offset_arcsec"] = truth["position"]["median_total"]["value"]
        flat |= {f"cutout_flux_ratio_{b}": found["ratio"]["value"] for b, found in truth["cutout_flux"].items()}
    return {name: value for name, value in flat.items() if value is not None}


def _require(table: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    """MismatchError where a column is missing or, with an id, a galaxy occurs twice."""
    remedy = f"materialise {where} again with this version"
    if missing := [column for column in columns if column not in table]:
        raise MismatchError(f"no column {', '.join(missing)}", where=where, remedy=remedy)
    if ID in columns and table[ID].duplicated().any():
        twice = table.loc[table[ID].duplicated(), ID].iloc[0]
        raise MismatchError(f"galaxy {twice} stands twice", where=where, remedy=remedy)


def _bins(rows: pd.DataFrame, bands: int, measure: Callable[[pd.DataFrame], Evaluation]) -> dict[str, list[Any]]:
    """Measures in bins [low, high), the outer ones open, and with all bands or not."""
    snr_edges = np.quantile(values(rows, "snr_w"), [1 / 3, 2 / 3]).tolist() if len(rows) else []
    found: dict[str, list[Any]] = {}
    for quantity, edges in (("snr_w", snr_edges), ("blendedness", list(BLENDEDNESS_EDGES))):
        at = values(rows, quantity)
        found[quantity] = []
        for low, high in zip((None, *edges), (*edges, None), strict=True):
            inside = np.isfinite(at)
            inside &= at >= low if low is not None else True
            inside &= at < high if high is not None else True
            middle = number(np.median(at[inside])) if inside.any() else None
            found[quantity].append({"low": low, "high": high, "median": middle, **measure(rows[inside])})
    complete = rows["bands_present"].str.len() == bands
    found["bands"] = [
        {"complete": True, **measure(rows[complete])},
        {"complete": False, **measure(rows[~complete])},
    ]
    return found
