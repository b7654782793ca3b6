"""A simulated tile against its truth: shapes, positions, fluxes, and the same model on simulated test blends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deblend_assets.science.des.tiles import signed_degrees
from deblend_assets.science.measuring.columns import ID
from deblend_assets.science.measuring.measured import nanojansky
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
# Slopes agree when they differ by less than so many errors.
AGREEMENT_SIGMAS = 3.0
_POSITION = ("mean_ra", "mean_dec", "rms_ra", "rms_dec", "median_total")


def evaluate_truth(
    catalog: pd.DataFrame,
    truth: pd.DataFrame,
    test_blends: pd.DataFrame | None,
    cutout_flux: pd.DataFrame | None,
    bands: Sequence[str],
    zero_point: float,
    *,
    resamples: int,
    seed: int,
) -> Evaluation:
    """Measures that need the truth; arguments and measures as for `evaluate_tile`.

    * `shapes`, `pulls`: `accuracy.shapes` and `accuracy.pulls` of g (intrinsic) and e (observed) against the truth;
    * `position`: catalogue - truth [arcsec], along right ascension times cos δ, and the median distance;
    * `cutout_flux`: Σ light of the cutouts / Σ true light in the stamp, of targets without neighbours;
    * `deblended_flux`: median and robust σ of the deblended over the true total flux;
    * `test_blends`: for g1, g2, e1, e2 the slope of estimate on truth here, on the test blends, and their difference.
    """
    draws = {"resamples": resamples, "seed": seed}
    rows = catalog.merge(truth, on=ID, suffixes=("", "_true"))
    # A point source has no shape, and a neighbour has no observed shape in a stamp of its own.
    known = rows[np.isfinite(rows[[f"{kind}_true" for kind in TRUTH_KINDS]].astype(float)).all(axis=1)]
    table = pd.DataFrame(
        {
            name: known[column]
            for kind in TRUTH_KINDS
            for name, column in (
                (kind, f"{kind}_true"),
                (f"{kind}_posterior", kind),
                (f"{kind}_posterior_err", f"{kind}_err"),
            )
        }
    )
    return {
        "matched": len(rows),
        "labelled": len(known),
        "shapes": {kind: shapes(table, kind, "posterior", **draws) for kind in ("g", "e")},
        "pulls": {kind: pulls(table, kind, "posterior", **draws) for kind in ("g", "e")},
        "position": measured(_position, _POSITION, position_offsets(catalog, truth), **draws),
        "cutout_flux": _cutout_flux(truth, cutout_flux, bands, **draws),
        "deblended_flux": {
            band: median_and_scatter(
                values(rows, f"flux_{band}") / positive(nanojansky(values(rows, f"flux_{band}_true"), zero_point)),
                **draws,
            )
            for band in bands
        },
        "test_blends": None if test_blends is None else _agreement(table[known["member"] == 0], test_blends, **draws),
    }


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
    # The stamp holds a neighbour's light, the target's truth does not.
    rows = truth[(truth["neighbours"] == 0) & (truth["member"] == 0)].merge(cutout_flux, on=ID)
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


def _agreement(tile: pd.DataFrame, blends: pd.DataFrame, *, resamples: int, seed: int) -> Evaluation:
    """Slopes of targets on the tile and on test blends; both sets are samples of the same galaxies.

    A slope is the same in the pixel and in the sky frame: truth and estimate change sign together.
    """
    labelled = blends[np.isfinite(blends[list(TRUTH_KINDS)].astype(float)).all(axis=1)]
    found: Evaluation = {"n_tile": len(tile), "n_test_blends": len(labelled)}
    draws = {"resamples": resamples, "seed": seed}
    both = [
        {kind: shapes(table, kind, "posterior", **draws) for kind in ("g", "e")}  # type: ignore[arg-type]
        for table in (tile, labelled)
    ]
    for name in TRUTH_KINDS:
        here, there = (evaluated[name[0]][name]["slope"] for evaluated in both)
        entry: Evaluation = {"tile": here, "test_blends": there, "difference": {"value": None, "error": None}}
        entry |= {"sigmas": None, "agrees": None}
        if None not in (here["value"], here["error"], there["value"], there["error"]):
            difference = here["value"] - there["value"]
            error = float(np.hypot(here["error"], there["error"]))
            entry["difference"] = {"value": difference, "error": error}
            if error > 0:
                entry["sigmas"] = difference / error
                entry["agrees"] = bool(abs(difference) < AGREEMENT_SIGMAS * error)
        found[name] = entry
    return found
