"""Completeness, purity, centroid errors and unrecognised blends, over all and by S/N, magnitude and separation.

Two tables, one row a source and one row a detection, hold what one field gives; tables of several fields are joined
before they are summarised. A source is *complete* where a detection that is no shred has it as its target, whatever
that detection's S/N. A detection is *pure* where it is neither spurious nor a shred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from deblend_assets.errors import MismatchError
from deblend_assets.science.detection.detect import Detections
from deblend_assets.science.detection.truth import DetectionTruth, TruthFlag
from deblend_assets.science.statistics.metrics import robust_sigma

# Least S/N of what completeness and purity are about.
MINIMUM_SNR = 10.0
# Sources fainter than this are neighbours of none.
NEIGHBOUR_SNR = 3.0
EDGES: Mapping[str, tuple[float, ...]] = {
    "snr": (5, 7, 10, 14, 20, 30, 50, 100, np.inf),
    "magnitude": (-np.inf, 21, 22, 23, 24, 25, 26, 27, np.inf),
    "separation": (0, 0.6, 0.9, 1.2, 1.8, 2.5, 4, np.inf),
}

Evaluation = dict[str, Any]


def source_table(
    x: ArrayLike, y: ArrayLike, snr: ArrayLike, magnitude: ArrayLike, fwhm: float, truth: DetectionTruth
) -> pd.DataFrame:
    """One row a source of a field: `snr` (true), `magnitude`, `separation` and `detected`.

    Args:
        x, y: of the sources, (S,) [pixel].
        snr: true S/N over all bands (`light.true_snr`), (S,); give 0 for sources whose centre lies outside.
        magnitude: in the band that is to be reported, (S,).
        fwhm: of the detection image [pixel]: the unit of `separation`, which is that from the nearest other source of
            true S/N 3 or more; infinite without one.
        truth: of the detections of this field.

    Raises:
        MismatchError: another number of sources.
    """
    places = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=1)
    if len(places) != len(truth.detection):
        raise MismatchError(
            f"{len(places)} sources, truth of {len(truth.detection)}", where="source_table", remedy="give the same"
        )
    return pd.DataFrame(
        {
            "snr": np.asarray(snr, dtype=np.float64),
            "magnitude": np.asarray(magnitude, dtype=np.float64),
            "separation": _separation(places, np.asarray(snr, dtype=np.float64)) / fwhm,
            "detected": truth.detection >= 0,
        }
    )


def _separation(places: NDArray[np.float64], snr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of the nearest other source above `NEIGHBOUR_SNR`, (S,) [pixel]."""
    bright = np.flatnonzero(snr >= NEIGHBOUR_SNR)
    nearest = np.full(len(places), np.inf)
    if not bright.size or not len(places):
        return nearest
    distance, index = cKDTree(places[bright]).query(places, k=min(2, bright.size))
    distance, index = distance.reshape(len(places), -1), index.reshape(len(places), -1)
    other = bright[index] != np.arange(len(places))[:, None]
    return np.asarray(np.where(other, distance, np.inf).min(axis=1))


def detection_table(
    detections: Detections, sources: pd.DataFrame, x: ArrayLike, y: ArrayLike, truth: DetectionTruth
) -> pd.DataFrame:
    """One row a detection of a field.

    Args:
        detections: what was found.
        sources: of `source_table`.
        x, y: of the sources, (S,) [pixel].
        truth: of these detections.

    Returns:
        `snr`; of the target `magnitude` and `separation`; `dx`, `dy`, the detection's offset from it [pixel] (NaN for
        a spurious one); `pure`, `spurious`, `shred`, `unrecognized` (bool).
    """
    table, real = detections.table, truth.target >= 0
    if len(table) != len(real):
        raise MismatchError(
            f"{len(table)} detections, truth of {len(real)}", where="detection_table", remedy="give the same"
        )
    target = truth.target[real]
    rows = pd.DataFrame({"snr": table["snr"].to_numpy(float)})
    for name, values in (
        ("magnitude", sources["magnitude"].to_numpy()[target]),
        ("separation", sources["separation"].to_numpy()[target]),
        ("dx", table["x"].to_numpy()[real] - np.asarray(x, dtype=np.float64)[target]),
        ("dy", table["y"].to_numpy()[real] - np.asarray(y, dtype=np.float64)[target]),
    ):
        rows[name] = np.nan
        rows.loc[real, name] = values
    rows["spurious"], rows["shred"] = truth.has(TruthFlag.SPURIOUS), truth.has(TruthFlag.SHRED)
    rows["pure"] = ~(rows["spurious"] | rows["shred"])
    rows["unrecognized"] = truth.has(TruthFlag.UNRECOGNIZED_BLEND)
    return rows


def performance(sources: pd.DataFrame, detections: pd.DataFrame, minimum_snr: float = MINIMUM_SNR) -> Evaluation:
    """The figures of merit of one or more fields.

    Args:
        sources, detections: joined tables of `source_table` and `detection_table`.
        minimum_snr: of the sources (true) and detections (measured) of the totals and of the bins of magnitude and
            separation; bins of S/N go below it.

    Returns:
        `completeness`, `purity`, `unrecognized` (share of the pure detections that are unrecognised blends) and
        `centroid` (robust sigma of dx and dy of pure detections [pixel]), each with `all` and, by the names of
        `EDGES`, lists of bins: `low`, `high` (None: open), `n`, `value`, `error` (None without a row). Errors of
        shares are those of (k + 1) in (n + 2), so that 0 of n has one.
    """
    pure = detections[detections["pure"]]
    parts = {
        "completeness": (sources, "detected", _share),
        "purity": (detections, "pure", _share),
        "unrecognized": (pure, "unrecognized", _share),
        "centroid": (pure, None, _centroid),
    }
    found: Evaluation = {"minimum_snr": minimum_snr}
    for name, (rows, column, measure) in parts.items():
        bright = rows[rows["snr"] >= minimum_snr]
        entry: Evaluation = {"all": measure(bright, column)}
        for by, edges in EDGES.items():
            entry[by] = _bins(rows if by == "snr" else bright, by, edges, column, measure)
        found[name] = entry
    return found


def _bins(rows: pd.DataFrame, by: str, edges: Sequence[float], column: str | None, measure: Any) -> list[Evaluation]:
    values = rows[by].to_numpy(float)
    bins = []
    for low, high in pairwise(edges):
        chosen = rows[(values >= low) & ((values < high) | (np.isinf(high) & (values == high)))]
        ends = {"low": None if np.isinf(low) else float(low), "high": None if np.isinf(high) else float(high)}
        bins.append(ends | measure(chosen, column))
    return bins


def _share(rows: pd.DataFrame, column: str | None) -> Evaluation:
    """Share of the rows that have the column, with its binomial error."""
    n = len(rows)
    if not n:
        return {"n": 0, "value": None, "error": None}
    k = int(rows[column].sum())
    smooth = (k + 1) / (n + 2)
    return {"n": n, "value": k / n, "error": float(np.sqrt(smooth * (1 - smooth) / (n + 2)))}


def _centroid(rows: pd.DataFrame, column: str | None) -> Evaluation:
    """Robust σ of both offsets together; its error is that of Gaussian offsets (1.17 σ / √(2n), n offsets)."""
    offsets = rows[["dx", "dy"]].to_numpy(float).ravel()
    if offsets.size < 4:
        return {"n": len(rows), "value": None, "error": None}
    sigma = float(robust_sigma(offsets))
    # The MAD has 0.37 of the efficiency of the standard deviation.
    return {"n": len(rows), "value": sigma, "error": sigma / float(np.sqrt(2 * 0.37 * offsets.size))}
