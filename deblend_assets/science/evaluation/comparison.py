"""Comparison of methods on the same blends, from the table of their estimates.

Errors by bootstrap over scenes. A method that failed on a blend is counted there and evaluated on the others; it is
compared with the reference on the blends where both worked, galaxy by galaxy, and a difference below its own error is
a tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.evaluation.shapes import BLENDED
from deblend_assets.science.peers import PEERS
from deblend_assets.science.statistics.accuracy import Evaluation, measured, median_and_scatter, positive, values
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.science.statistics.metrics import Floats, line, rms, robust_sigma, thirds

OURS, FLOOR = "ours", "floor"
# What pages and figures call a method, by its name in the table.
_TITLES = {peer.name: peer.title for peer in PEERS} | {
    OURS: "posterior mean (ours)",
    "ours, prior-free": "likelihood only (ours)",
    "report": "the report's regressor",
    FLOOR: "Fisher floor",
}
# Order of the rows; other methods come before the floor.
_ORDER = (OURS, "ours, prior-free", "report", "sersic", "scarlet2", "anacal", "sep_hsm", "hsm")
_MEASURES = ("rms", "robust_sigma", "slope1", "slope2", "bias1", "bias2")
_COMPARED = 3.0  # errors beyond which a bias or a slope is significant among dozens of comparisons


def groups(rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which scenes belong to which group.

    All, isolated, blended, thirds of S/N, and among scenes with neighbours thirds of blendedness, separation and
    difference in magnitude.
    """
    neighbour = np.isfinite(values(rows, "separation_arcsec"))
    found = {
        "all": np.ones(len(rows), dtype=bool),
        "without neighbour": ~neighbour,
        f"blendedness > {BLENDED}": values(rows, "blendedness") > BLENDED,
    }
    for name, column in (
        ("S/N", "snr"),
        ("blendedness", "blendedness"),
        ("separation", "separation_arcsec"),
        ("Δmag", "delta_mag"),
    ):
        numbers = np.where(neighbour | (name == "S/N"), values(rows, column), np.nan)
        if np.isfinite(numbers).any():
            found |= {f"{name}, {third} third": mask for third, mask in thirds(numbers)}
    return found


def title_of(method: str) -> str:
    """What pages and figures call a method of the table."""
    return _TITLES.get(method, method)


def methods_of(table: pd.DataFrame) -> list[str]:
    """The methods of a table, in the order in which they are shown."""
    rank = {name: k for k, name in enumerate(_ORDER)} | {FLOOR: len(_ORDER) + 1}
    return sorted(table["method"].unique(), key=lambda name: (rank.get(name, len(_ORDER)), name))


def evaluate_peers(table: pd.DataFrame, bands: Sequence[str], *, resamples: int, seed: int) -> Evaluation:
    """Every number of the comparison.

    Args:
        table: a row a scene and method: `scene`, `method`, truth `e1`, `e2`, `g1`, `g2`, `flux_{band}`, `snr`,
            `blendedness`, `separation_arcsec`, `delta_mag`; estimates `{e,g}{1,2}_est`, `flux_{band}_est`, `ssim`,
            `cosine`, `milliseconds`. For the method "floor" the estimates are the lowest standard errors.
        bands: of the fluxes.
        resamples, seed: of the bootstrap.

    Returns:
        By method and group: `n`, `failures` and measures of "e" and "g"; by method `flux` a band, `ssim`, `cosine`,
        `milliseconds`, and `beside` ours: difference of the RMS errors on the blends where both worked, and whether it
        is a tie.
    """
    methods = methods_of(table)
    per_method = {m: table[table["method"] == m].sort_values("scene").reset_index(drop=True) for m in methods}
    found: Evaluation = {"n": int(table["scene"].nunique()), "methods": {}}
    for method, rows in per_method.items():
        evaluated: Evaluation = {"groups": {}}
        for name, chosen in groups(rows).items():
            part = rows[chosen]
            evaluated["groups"][name] = {
                kind: _floor(part, kind) if method == FLOOR else _accuracy(part, kind, resamples, seed) for kind in "eg"
            }
        if method != FLOOR:
            evaluated["flux"] = {b: _flux(rows, b, resamples, seed) for b in bands}
            for name in ("ssim", "cosine"):
                evaluated[name] = _mean(values(rows, name), resamples, seed)
            evaluated["milliseconds"] = float(np.nanmean(values(rows, "milliseconds")))
            if method != OURS and OURS in per_method:
                evaluated["beside"] = {k: _beside(rows, per_method[OURS], k, resamples, seed) for k in "eg"}
        found["methods"][method] = evaluated
    return found


def _columns(rows: pd.DataFrame, kind: str) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    columns = {f"{n}{k}": values(rows, f"{kind}{k}{s}") for k in (1, 2) for n, s in (("true", ""), ("found", "_est"))}
    return columns, np.isfinite(columns["found1"]) & np.isfinite(columns["found2"])


def _accuracy(rows: pd.DataFrame, kind: str, resamples: int, seed: int) -> Evaluation:
    columns, worked = _columns(rows, kind)
    kept = {name: column[worked] for name, column in columns.items()}
    return {"n": len(rows), "failures": int((~worked).sum())} | measured(_measures, _MEASURES, kept, resamples, seed)


def _measures(columns: Mapping[str, Floats]) -> Floats:
    off = [columns[f"found{k}"] - columns[f"true{k}"] for k in (1, 2)]
    both = np.concatenate(off, axis=-1)
    slopes = [line(columns[f"true{k}"], columns[f"found{k}"])[0] for k in (1, 2)]
    return np.stack([rms(both), robust_sigma(both), *slopes, *(o.mean(axis=-1) for o in off)])


def _floor(rows: pd.DataFrame, kind: str) -> Evaluation:
    sigma = np.concatenate([values(rows, f"{kind}{k}_est") for k in (1, 2)])
    sigma = sigma[np.isfinite(sigma)]
    return {"n": len(rows), "failures": 0, "rms": {"value": float(rms(sigma)) if len(sigma) else None, "error": None}}


def _flux(rows: pd.DataFrame, band: str, resamples: int, seed: int) -> Evaluation:
    true = positive(values(rows, f"flux_{band}"))
    return median_and_scatter(values(rows, f"flux_{band}_est") / true - 1.0, resamples=resamples, seed=seed)


def _mean(numbers: Floats, resamples: int, seed: int) -> Evaluation:
    worked = numbers[np.isfinite(numbers)]
    return measured(lambda c: np.stack([c["v"].mean(axis=-1)]), ("mean",), {"v": worked}, resamples, seed)["mean"]


def _beside(rows: pd.DataFrame, ours: pd.DataFrame, kind: str, resamples: int, seed: int) -> Evaluation:
    ours = ours.set_index("scene").reindex(rows["scene"]).reset_index()
    (theirs, worked), (mine, also) = _columns(rows, kind), _columns(ours, kind)
    kept = worked & also
    squares = {
        name: np.mean([np.square(c[f"found{k}"] - c[f"true{k}"])[kept] for k in (1, 2)], axis=0)
        for name, c in (("theirs", theirs), ("ours", mine))
    }

    def difference(c: Mapping[str, Floats]) -> Floats:
        root = {name: np.sqrt(c[name].mean(axis=-1)) for name in c}
        return np.stack([root["theirs"] - root["ours"], root["ours"] / positive(root["theirs"])])

    found = measured(difference, ("difference", "ratio"), squares, resamples, seed)
    value, error = found["difference"]["value"], found["difference"]["error"]
    verdict = "none" if value is None else "tie" if abs(value) <= error else "ours" if value > 0 else "theirs"
    return found | {"n": int(kept.sum()), "better": verdict}


def findings(evaluation: Evaluation, method: str = OURS) -> list[str]:
    """Biases and slopes of a method that differ from 0 and 1 by more than 3 errors.

    For the likelihood-only estimate: the slope of a posterior mean is below 1 by construction.
    """
    found = []
    for kind in "eg":
        accuracy = evaluation["methods"][method]["groups"]["all"][kind]
        for k in (1, 2):
            for name, ideal in ((f"slope{k}", 1.0), (f"bias{k}", 0.0)):
                measure = accuracy[name]
                if measure["value"] is None:
                    continue
                off = (measure["value"] - ideal) / positive(np.asarray(measure["error"]))
                if abs(off) > _COMPARED:
                    found.append(f"{name[:-1]} of {kind}{k}: {format_measure(measure)}")
    return found


def worst(table: pd.DataFrame, method: str, count: int = 10) -> pd.DataFrame:
    """The scenes with a method's largest errors, failures first: rows of the table."""
    rows = table[table["method"] == method].copy()
    kind = "e" if rows["e1_est"].notna().any() else "g"
    first, second = (values(rows, f"{kind}{k}_est") - values(rows, f"{kind}{k}") for k in (1, 2))
    off = np.hypot(first, second)
    rows["off"], rows["kind"] = np.where(np.isfinite(off), off, np.inf), kind
    return rows.sort_values("off", ascending=False).head(count)


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The numbers that a row of the UI shows, errors as `{name}_error`."""
    flat: dict[str, float] = {"scenes": evaluation["n"]}
    for method, found in evaluation["methods"].items():
        everything = found["groups"]["all"]
        for kind in "eg":
            measure = everything[kind]["rms"]
            if measure["value"] is not None:
                flat[f"rms_{kind}_{method}"] = measure["value"]
                if measure["error"] is not None:
                    flat[f"rms_{kind}_{method}_error"] = measure["error"]
        if method != FLOOR:
            flat[f"failures_e_{method}"] = everything["e"]["failures"]
            flat[f"milliseconds_{method}"] = found["milliseconds"]
    return {name: value for name, value in flat.items() if np.isfinite(value)}
