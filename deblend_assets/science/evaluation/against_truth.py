"""A simulated tile against its truth: shapes and their errors, positions, fluxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deblend_assets.science.des.tiles import signed_degrees
from deblend_assets.science.measuring.sky_columns import ID
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.science.statistics.accuracy import (
    Evaluation,
    measured,
    median_and_scatter,
    positive,
    pulls,
    shapes,
    values,
)
from deblend_assets.science.statistics.metrics import Floats, rms

TRUTH_KINDS = ("g1", "g2", "e1", "e2")
# The RMS pull of rows without a flag is within so much of 1, beyond so many of its standard errors.
PULL_LIMIT, PULL_ERRORS = 0.15, 2.0
_POSITION = ("mean_ra", "mean_dec", "rms_ra", "rms_dec", "median_total")


def evaluate_truth(
    catalog: pd.DataFrame,
    truth: pd.DataFrame,
    cutout_flux: pd.DataFrame | None,
    bands: Sequence[str],
    label_band: str,
    zero_point: float,
    *,
    resamples: int,
    seed: int,
) -> Evaluation:
    """Measures that need the truth; arguments and measures as for `evaluate_tile`.

    * `shapes`, `pulls`: `accuracy.shapes` and `accuracy.pulls` of g (intrinsic) and e (observed) against the truth;
    * `trusted`: the same of the rows without a flag, `n` of them, and `errors_hold` by kind: see `errors_hold`;
    * `position`: catalogue - truth [arcsec], along right ascension times cos δ, and the median distance;
    * `cutout_flux`: Σ light of the cutouts / Σ true light in them, of all sources and whatever else is no noise;
    * `flux`: of rows without a flag, median and robust σ of the flux over the true total flux, and the RMS `pull`.

    A row whose e is of another band than the truth's has no e here.
    """
    draws = {"resamples": resamples, "seed": seed}
    rows = catalog.merge(truth, on=ID, suffixes=("", "_true"))
    # A point source has no shape.
    known = rows[np.isfinite(rows[[f"{kind}_true" for kind in TRUTH_KINDS]].astype(float)).all(axis=1)]
    table = pd.DataFrame(
        {
            name: column
            for kind in TRUTH_KINDS
            for name, column in (
                (kind, known[f"{kind}_true"]),
                (f"{kind}_posterior", known[kind]),
                (f"{kind}_posterior_err", known[f"{kind[0]}_cov_{kind[1] * 2}"] ** 0.5),
            )
        }
    )
    table.loc[known["reference_band"] != label_band, ["e1_posterior", "e2_posterior"]] = np.nan
    good = rows[rows["flags"] == 0]
    trusted = {"n": int((known["flags"] == 0).sum()), **_against(table[known["flags"] == 0], **draws)}
    return {
        "matched": len(rows),
        "labelled": len(known),
        **_against(table, **draws),
        "trusted": {**trusted, "errors_hold": {k: errors_hold(p["pull"]) for k, p in trusted["pulls"].items()}},
        "position": measured(_position, _POSITION, position_offsets(catalog, truth), **draws),
        "cutout_flux": _cutout_flux(truth, cutout_flux, bands, **draws),
        "flux": {band: _flux(good, band, zero_point, **draws) for band in bands},
    }


def errors_hold(pull: Evaluation) -> bool | None:
    """Whether an RMS pull is 1 within `PULL_LIMIT`, beyond `PULL_ERRORS` standard errors; None: not known."""
    value, error = pull["value"], pull["error"]
    return None if None in (value, error) else bool(abs(value - 1) - PULL_ERRORS * error <= PULL_LIMIT)


def _against(table: pd.DataFrame, *, resamples: int, seed: int) -> Evaluation:
    draws = {"resamples": resamples, "seed": seed}
    return {
        "shapes": {kind: shapes(table, kind, "posterior", **draws) for kind in ("g", "e")},
        "pulls": {kind: pulls(table, kind, "posterior", **draws) for kind in ("g", "e")},
    }


def _flux(rows: pd.DataFrame, band: str, zero_point: float, *, resamples: int, seed: int) -> Evaluation:
    """Fluxes of a band against the truth."""
    flux, error = values(rows, f"flux_{band}"), values(rows, f"flux_{band}_err")
    true = values(rows, f"flux_{band}_true") * nanojansky(zero_point)
    pull = (flux - true) / error
    found = median_and_scatter(flux / positive(true), resamples=resamples, seed=seed)
    squares = {"pull": pull[np.isfinite(pull)]}
    return found | measured(lambda c: rms(c["pull"])[None], ("pull",), squares, resamples, seed)


def position_offsets(catalog: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Floats]:
    """Catalogue - truth of the galaxies in both [arcsec]: `ra`, along right ascension times cos δ, and `dec`."""
    rows = catalog[[ID, "ra", "dec"]].merge(truth[[ID, "ra", "dec"]], on=ID, suffixes=("", "_true"))
    turn = signed_degrees(values(rows, "ra") - values(rows, "ra_true"))
    return {
        "ra": 3600.0 * turn * np.cos(np.radians(values(rows, "dec_true"))),
        "dec": 3600.0 * (values(rows, "dec") - values(rows, "dec_true")),
    }


def _position(columns: Mapping[str, Floats]) -> Floats:
    east, north = columns["ra"], columns["dec"]
    return np.stack(
        [
            east.mean(axis=-1),
            north.mean(axis=-1),
            rms(east),
            rms(north),
            np.median(np.hypot(east, north), axis=-1),
        ]
    )


def _cutout_flux(
    truth: pd.DataFrame, cutout_flux: pd.DataFrame | None, bands: Sequence[str], *, resamples: int, seed: int
) -> Evaluation:
    if cutout_flux is None:
        return {}
    rows = truth.merge(cutout_flux, on=ID)
    found = {}
    for band in bands:
        light, expected = values(rows, f"cutout_flux_{band}"), values(rows, f"stamp_flux_{band}")
        there = np.isfinite(light) & np.isfinite(expected)
        measures = measured(
            lambda c: (c["light"].sum(axis=-1) / positive(c["expected"].sum(axis=-1)))[None],
            ("ratio",),
            {"light": light[there], "expected": expected[there]},
            resamples,
            seed,
        )
        found[band] = {"n": int(there.sum()), **measures}
    return found
