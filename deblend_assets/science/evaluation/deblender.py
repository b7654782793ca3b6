"""Evaluation of a deblender on held-out scenes: from a table of estimates to numbers with error bars.

`e` is the **distortion** (a² - b²)/(a² + b²) of Eq. 12, observed (PSF-convolved, unweighted moments of the stamp in
the label band), in truth and estimates alike; `g` is the intrinsic **shear-type** (a - b)/(a + b). Similarities are
those of Eq. 9 space, fluxes are sums over the stamp in electrons. A row whose estimate is not a finite number
is a *failure*: it is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.errors import MismatchError
from deblend_assets.science.statistics.accuracy import (
    Evaluation,
    measured,
    median_and_scatter,
    number,
    pooled_scatter,
    positive,
    pulls,
    shapes,
    values,
)
from deblend_assets.science.statistics.metrics import Floats

ESTIMATORS = ("regressor", "reconstruction")
COMPONENTS = ("e1", "e2", "e")
SIMILARITIES = ("ssim", "cosine")
# Against the isolated truth: the blend itself; stage 1 on noisy isolated stamps; stage 1 and stage 2 on blends.
IMAGES = ("blend", "stage1_noisy", "stage1_blended", "stage2")
# A band that is withheld from the network: zeros and the mask, or zeros alone.
WITHHELD = ("masked", "dark")
BLENDEDNESS_EDGES = (0.01, 0.05)
_PERCENTILES = (5, 16, 50, 84, 95)


@dataclass(frozen=True)
class Published:
    """A number of the internship report, and its source."""

    value: float
    source: str


_DIGITISED = "digitised from the report's {}"
_CODE = "the report's published code (binhola/neodebvader)"
# The report's own simulation: 200,000 LSST scenes, target i <= 24.3, latent of 32. Keys: those of `flat_numbers`.
PUBLISHED: Mapping[str, Published] = {
    "ssim_stage1_blended": Published(0.895, _DIGITISED.format("Fig. 13")),
    "ssim_stage2": Published(0.932, _DIGITISED.format("Fig. 13")),
    "cosine_stage1_blended": Published(0.979, _DIGITISED.format("Fig. 13")),
    "cosine_stage2": Published(0.985, _DIGITISED.format("Fig. 13")),
    "label_scatter": Published(0.136, _CODE),
    "regressor_rms": Published(0.0743, _CODE),
    "regressor_rms_over_scatter": Published(0.0743 / 0.136, f"0.0743 / 0.136, {_CODE}"),
    "regressor_slope_e1": Published(0.63, _DIGITISED.format("Fig. 15")),
    "regressor_slope_e2": Published(0.70, _DIGITISED.format("Fig. 15")),
    "regressor_slope_e": Published(0.65, _DIGITISED.format("Fig. 15")),
    "reconstruction_rms": Published(0.11, "about; " + _DIGITISED.format("figures")),
}


def evaluate(estimates: pd.DataFrame, bands: Sequence[str], label_band: str, resamples: int, seed: int) -> Evaluation:
    """Every number of the evaluation.

    Each measure is `{"value", "error"}`, the error by bootstrap over scenes; an undefined number is None
    (so is every measure of fewer than 10 rows). For each estimator and component (`e` is the modulus):

    * `slope`, `intercept`: least squares of estimate on truth; `bias`: mean of estimate - truth;
    * `rms`, `robust_sigma`: of estimate - truth; `rms_over_scatter`: the first over the truth's scatter;
    * `scatter_ratio`: the estimate's standard deviation over the truth's, below 1 when shrunk toward zero (round);
    * `both`: RMS per component over e1 and e2 together, which the report's code prints.

    `shear` holds the same of the regressor's intrinsic g, and `errors` how its expected errors compare with the actual
    ones (`accuracy.pulls`). `shear` is left out where the recipe has no such label. `withheld` holds the regressor's
    measures where one band is withheld: `masked`, zeros and the mask; `dark`, zeros alone, as the report did with u.

    `bins` holds the same by terciles of `snr` (edges from the scenes) and by `blendedness`: below 0.01, 0.01 to
    0.05, 0.05 and above.

    Args:
        estimates: one row a scene: the target's truth columns, `{e1,e2}_{regressor,reconstruction}`,
            `{e1,e2}_regressor_err`, `{e1,e2}_{masked,dark}_{band}`, where trained `{g1,g2}_regressor` and
            `{g1,g2}_regressor_err`, `{ssim,cosine}_{blend,stage1_noisy,stage1_blended,stage2}`,
            `{ssim,cosine}_stage2_{band}`, `flux_{isolated,reconstruction}_{band}`.
        bands: of the survey, in order.
        label_band: the band of the ellipticities.
        resamples, seed: of the bootstrap.

    Returns:
        Nested dicts and lists of strings, integers, floats and None: JSON without NaN.

    Raises:
        MismatchError: columns are missing, or no scene has a label.
    """
    _require_columns(estimates, bands)
    # A target without light in the label band has no shape to be compared with.
    labelled = estimates[np.isfinite(estimates["e1"]) & np.isfinite(estimates["e2"])]
    if labelled.empty:
        raise MismatchError(
            f"none of {len(estimates)} scenes has a label",
            where="estimates",
            remedy="check that the targets have light in the label band, and materialise the truth again",
        )
    draws = {"resamples": resamples, "seed": seed}
    snr_edges = np.quantile(labelled["snr"], [1 / 3, 2 / 3]).tolist()
    edges = {"snr": snr_edges, "blendedness": list(BLENDEDNESS_EDGES)}
    estimators = {}
    for name in ESTIMATORS:
        bins = {quantity: _binned(labelled, name, quantity, at, **draws) for quantity, at in edges.items()}
        estimators[name] = {**shapes(labelled, "e", name, **draws), "bins": bins}
    regressor_only: Evaluation = {"errors": {"e": pulls(labelled, "e", "regressor", **draws)}}
    if "g1_regressor" in estimates:
        # A galaxy of AGN light alone has no intrinsic shape.
        extended = labelled[np.isfinite(labelled["g1"]) & np.isfinite(labelled["g2"])]
        regressor_only["shear"] = shapes(extended, "g", "regressor", **draws)
        regressor_only["errors"]["g"] = pulls(extended, "g", "regressor", **draws)
    return {
        "scenes": len(estimates),
        "unlabelled": len(estimates) - len(labelled),
        "targets": int(estimates["galtileid"].nunique()),
        "bands": list(bands),
        "label_band": label_band,
        "bootstrap": draws,
        "label_scatter": _label_scatter(labelled, **draws),
        "estimators": estimators,
        **regressor_only,
        "withheld": {
            way: {band: shapes(labelled, "e", f"{way}_{band}", **draws) for band in bands} for way in WITHHELD
        },
        "similarity": {
            kind: {
                "images": {name: _distribution(estimates[f"{kind}_{name}"], **draws) for name in IMAGES},
                "stage2_by_band": {b: _distribution(estimates[f"{kind}_stage2_{b}"], **draws) for b in bands},
            }
            for kind in SIMILARITIES
        },
        "flux_error": {band: _flux_error(estimates, band, **draws) for band in bands},
    }


def flat_numbers(evaluation: Evaluation) -> dict[str, float]:
    """The key figures under flat names, such as `ssim_stage2` or `regressor_slope_e1`, without those that are None."""
    flat: dict[str, float | None] = {
        "scenes": float(evaluation["scenes"]),
        "label_scatter": evaluation["label_scatter"]["both"]["value"],
    }
    for kind, found in evaluation["similarity"].items():
        for name, distribution in found["images"].items():
            flat[f"{kind}_{name}"] = distribution["mean"]["value"]
        for band, distribution in found["stage2_by_band"].items():
            flat[f"{kind}_stage2_{band}"] = distribution["mean"]["value"]
    for name, found in evaluation["estimators"].items():
        flat[f"{name}_failures"] = float(found["failures"])
        for measure, value in found["both"].items():
            flat[f"{name}_{measure}"] = value["value"]
        for component in COMPONENTS:
            for measure in ("slope", "bias", "rms", "scatter_ratio"):
                flat[f"{name}_{measure}_{component}"] = found[component][measure]["value"]
    if "shear" in evaluation:
        flat |= {f"shear_{measure}": m["value"] for measure, m in evaluation["shear"]["both"].items()}
        flat |= {f"shear_slope_{c}": evaluation["shear"][c]["slope"]["value"] for c in ("g1", "g2", "g")}
    for kind, found in evaluation["errors"].items():
        flat[f"pull_{kind}"] = found["pull"]["value"]
    for way, by_band in evaluation["withheld"].items():
        flat |= {f"regressor_rms_{way}_{band}": found["both"]["rms"]["value"] for band, found in by_band.items()}
    for band, found in evaluation["flux_error"].items():
        flat[f"flux_error_median_{band}"] = found["median"]["value"]
        flat[f"flux_error_scatter_{band}"] = found["robust_sigma"]["value"]
    return {name: value for name, value in flat.items() if value is not None}


def _require_columns(estimates: pd.DataFrame, bands: Sequence[str]) -> None:
    needed = ["galtileid", "snr", "blendedness", "e1", "e2"]
    needed += [f"{c}_{name}" for name in ESTIMATORS for c in ("e1", "e2")]
    needed += [f"{c}_regressor_err" for c in ("e1", "e2")]
    needed += [f"{c}_{way}_{band}" for way in WITHHELD for band in bands for c in ("e1", "e2")]
    needed += [f"{kind}_{name}" for kind in SIMILARITIES for name in IMAGES]
    needed += [f"{kind}_stage2_{band}" for kind in SIMILARITIES for band in bands]
    needed += [f"flux_{image}_{band}" for image in ("isolated", "reconstruction") for band in bands]
    if missing := [column for column in needed if column not in estimates]:
        raise MismatchError(
            f"no column {', '.join(missing)}",
            where="estimates",
            remedy="materialise the evaluation again with this version and survey",
        )


def _label_scatter(rows: pd.DataFrame, *, resamples: int, seed: int) -> Evaluation:
    """Standard deviations of the labels: the RMS error of a constant estimate."""

    def scatter(columns: Mapping[str, Floats]) -> Floats:
        e1, e2 = columns["true1"], columns["true2"]
        return np.stack([e1.std(axis=-1), e2.std(axis=-1), np.hypot(e1, e2).std(axis=-1), pooled_scatter(columns)])

    columns = {"true1": values(rows, "e1"), "true2": values(rows, "e2")}
    return measured(scatter, (*COMPONENTS, "both"), columns, resamples, seed)


def _binned(
    rows: pd.DataFrame, estimator: str, quantity: str, edges: Sequence[float], *, resamples: int, seed: int
) -> list[Evaluation]:
    """Measures in bins [low, high) of a column; the outer bins are open."""
    column = values(rows, quantity)
    bins = []
    for low, high in zip((None, *edges), (*edges, None), strict=True):
        inside = np.isfinite(column)
        inside &= column >= low if low is not None else True
        inside &= column < high if high is not None else True
        middle = number(np.median(column[inside])) if inside.any() else None
        measures = shapes(rows[inside], "e", estimator, resamples=resamples, seed=seed)
        bins.append({"low": low, "high": high, "median": middle, **measures})
    return bins


def _distribution(column: pd.Series, *, resamples: int, seed: int) -> Evaluation:
    """Mean with its error, and percentiles."""
    numbers = column.to_numpy(dtype=np.float64)
    worked = numbers[np.isfinite(numbers)]
    found: Evaluation = {"n": len(numbers), "failures": len(numbers) - len(worked)}
    found |= measured(lambda c: c["v"].mean(axis=-1)[None], ("mean",), {"v": worked}, resamples, seed)
    at = np.percentile(worked, _PERCENTILES) if len(worked) else np.full(len(_PERCENTILES), np.nan)
    return {**found, "percentiles": {str(p): number(v) for p, v in zip(_PERCENTILES, at, strict=True)}}


def _flux_error(estimates: pd.DataFrame, band: str, *, resamples: int, seed: int) -> Evaluation:
    """Median and robust scatter of reconstructed over true flux - 1; a target without flux counts as a failure."""
    true, found = values(estimates, f"flux_isolated_{band}"), values(estimates, f"flux_reconstruction_{band}")
    return median_and_scatter(found / positive(true) - 1.0, resamples=resamples, seed=seed)
