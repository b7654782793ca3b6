"""The catalogue of a tile's field against im3shape's galaxies, matched by position; frame of our catalogue, +x west."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deblend_assets.science.evaluation.against_im3shape import COMPARISONS, against_im3shape, mean_shear
from deblend_assets.science.evaluation.tile import orientation
from deblend_assets.science.measuring.sky_columns import ID
from deblend_assets.science.statistics.accuracy import Evaluation, measured

# Largest distance of a match [arcsec]: a seeing's width, within which im3shape's shift lies.
MATCH_ARCSEC = 1.0


class Matches(NamedTuple):
    """Pairs of rows that are each other's nearest.

    Attributes:
        first, second: (N,) indices into both lists.
        separation: (N,) [arcsec].
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    separation: NDArray[np.float64]


def match_positions(
    first: tuple[NDArray[np.float64], NDArray[np.float64]],
    second: tuple[NDArray[np.float64], NDArray[np.float64]],
    most_arcsec: float,
) -> Matches:
    """Match two lists of positions one to one: each other's nearest, within a distance on the sphere.

    Args:
        first, second: right ascension and declination [deg], (N,) and (M,); a position that is NaN has no match.
        most_arcsec: largest distance.

    Returns:
        In the order of `first`.
    """
    known = [np.flatnonzero(np.isfinite(ra) & np.isfinite(dec)) for ra, dec in (first, second)]
    if not all(map(len, known)):
        return Matches(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))
    vectors = [_vectors(ra[rows], dec[rows]) for (ra, dec), rows in zip((first, second), known, strict=True)]
    trees = [cKDTree(points) for points in vectors]
    chord, nearest = trees[1].query(vectors[0])
    _, back = trees[0].query(vectors[1])
    separation = 3600 * np.degrees(2 * np.arcsin(chord / 2))
    kept = np.flatnonzero((back[nearest] == np.arange(len(nearest))) & (separation <= most_arcsec))
    return Matches(known[0][kept], known[1][nearest[kept]], separation[kept])


def _vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def matched_rows(catalog: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Rows of a field's catalogue that im3shape has too, with its id and the distance [arcsec], in its order.

    Args:
        catalog: of the field: ra, dec [deg].
        reference: im3shape's galaxies: id, ra, dec [deg].
    """
    theirs, ours = ((table["ra"].to_numpy(float), table["dec"].to_numpy(float)) for table in (reference, catalog))
    found = match_positions(theirs, ours, MATCH_ARCSEC)
    rows = catalog.iloc[found.second].reset_index(drop=True)
    return rows.assign(**{ID: reference[ID].to_numpy()[found.first], "separation": found.separation})


def evaluate_field(
    matched: pd.DataFrame,
    reference: pd.DataFrame,
    sources: int,
    *,
    resamples: int,
    seed: int,
    truth: pd.DataFrame | None = None,
) -> Evaluation:
    """Numbers of a tile's field against im3shape, and where it is known against the truth.

    Args:
        matched: of `matched_rows`.
        reference: im3shape after the cuts: id, e_1, e_2, e_sigma, w, nbc_m, nbc_c1, nbc_c2.
        sources: rows of the field's catalogue.
        resamples, seed: of the bootstrap over galaxies.
        truth: of a simulated tile: id, g1, g2.

    Returns:
        Counts: `sources`, `reference`, `matched`, `good` (matched and without a flag). Of the good ones: `im3shape`, as
        in `tile.evaluate_tile`, `mean_shear`, and `truth`: the same measures of g on the truth, None where it is not
        known. `all`: g of all that match, on im3shape's. `separation`: its median [arcsec]. `orientation`: of g.
    """
    draws = {"resamples": resamples, "seed": seed}
    theirs = reference[[ID, "e_1", "e_2", "e_sigma", "w", "nbc_m", "nbc_c1", "nbc_c2"]]
    rows = matched.merge(theirs, on=ID)
    good = rows[rows["flags"] == 0]
    compared = {name: against_im3shape(good, pair, **draws) for name, pair in COMPARISONS.items()}
    shear = compared["shear"]
    return {
        "sources": sources,
        "reference": len(reference),
        "matched": len(rows),
        "good": len(good),
        "bootstrap": draws,
        "separation": measured(
            lambda t: np.median(t["x"], axis=-1)[None], ["median"], {"x": rows["separation"].to_numpy()}, **draws
        ),
        "im3shape": compared,
        "mean_shear": mean_shear(good, **draws),
        "all": against_im3shape(rows, COMPARISONS["shear"], **draws),
        "truth": None if truth is None else _against_truth(good, truth, resamples, seed),
        "orientation": orientation(shear["component1"]["slope"], shear["component2"]["slope"]),
    }


def _against_truth(good: pd.DataFrame, truth: pd.DataFrame, resamples: int, seed: int) -> Evaluation:
    """g on the true g, of galaxies that have one."""
    true = truth[[ID, "g1", "g2"]].rename(columns={"g1": "e_1", "g2": "e_2"}).dropna()
    rows = good.drop(columns=["e_1", "e_2"]).merge(true, on=ID).assign(e_sigma=0.0)
    return against_im3shape(rows, COMPARISONS["shear"], resamples=resamples, seed=seed)
