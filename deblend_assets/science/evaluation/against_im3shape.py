"""Our shapes against im3shape's, galaxy by galaxy and as a mean shear, in the frame of our catalogue.

im3shape's `e_1, e_2` are shear-type (a - b)/(a + b), so our g is compared with them, the same quantity. The report
compared observed distortions with them. This comparison is given too, but its slope is not an accuracy: an observed
distortion includes the PSF.

im3shape is itself noisy, which lowers a least-squares slope. The errors-in-variables slope corrects for the known
variance of its errors (Akritas & Bershady 1996, 1996ApJ...470..706A).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deblend_assets.science.statistics.accuracy import Evaluation, measured, positive, values
from deblend_assets.science.statistics.metrics import Floats, line, rms, robust_sigma

# Our columns that are compared with im3shape's e_1, e_2: first the same quantity, then that of the report.
COMPARISONS: Mapping[str, tuple[str, str]] = {
    "shear": ("g1", "g2"),
    "distortion": ("e1", "e2"),
}
COMPONENTS = ("component1", "component2", "modulus")
MEASURES = (
    "slope",
    "intercept",
    "eiv_slope",
    "eiv_intercept",
    "bias",
    "rms",
    "robust_sigma",
    "scatter_ratio",
)


def against_im3shape(rows: pd.DataFrame, ours: tuple[str, str], *, resamples: int, seed: int) -> Evaluation:
    """Measures of two of our columns against im3shape's; see `evaluate_tile`.

    Args:
        rows: e_1, e_2, e_sigma and the two columns.
        ours: their names.
        resamples, seed: of the bootstrap.
    """
    columns = {
        **{f"x{k}": values(rows, f"e_{k}") for k in (1, 2)},
        **{f"y{k}": values(rows, name) for k, name in enumerate(ours, start=1)},
        "variance": values(rows, "e_sigma") ** 2,
    }
    worked = np.isfinite(columns["y1"]) & np.isfinite(columns["y2"])
    columns = {name: column[worked] for name, column in columns.items()}
    modulus = {
        **{axis: np.hypot(columns[f"{axis}1"], columns[f"{axis}2"]) for axis in ("x", "y")},
        "variance": np.full(int(worked.sum()), np.nan),
    }
    tables = [{"x": columns[f"x{k}"], "y": columns[f"y{k}"], "variance": columns["variance"]} for k in (1, 2)]
    found: Evaluation = {"n": len(rows), "failures": int((~worked).sum())}
    for component, table in zip(COMPONENTS, (*tables, modulus), strict=True):
        found[component] = measured(_component, MEASURES, table, resamples, seed)
    found["both"] = measured(_both, ("slope", "eiv_slope", "rms", "scatter_ratio"), columns, resamples, seed)
    return found


def _component(columns: Mapping[str, Floats]) -> Floats:
    x, y = columns["x"], columns["y"]
    slope, intercept = line(x, y)
    # cov / (var - ⟨σ²⟩), Akritas & Bershady's slope for errors of the abscissa, independent of those of the ordinate.
    spread = x.var(axis=-1)
    eiv = slope * spread / positive(spread - columns["variance"].mean(axis=-1))
    off = y - x
    return np.stack(
        [
            slope,
            intercept,
            eiv,
            y.mean(axis=-1) - eiv * x.mean(axis=-1),
            off.mean(axis=-1),
            rms(off),
            robust_sigma(off),
            y.std(axis=-1) / positive(x.std(axis=-1)),
        ]
    )


def _both(columns: Mapping[str, Floats]) -> Floats:
    """Slopes with one slope and two intercepts, and root mean squares over both components."""
    spread = columns["x1"].var(axis=-1) + columns["x2"].var(axis=-1)
    scatter = columns["y1"].var(axis=-1) + columns["y2"].var(axis=-1)
    covariance = np.zeros_like(spread)
    for k in (1, 2):
        x, y = columns[f"x{k}"], columns[f"y{k}"]
        covariance += ((x - x.mean(axis=-1, keepdims=True)) * y).mean(axis=-1)
    off = [rms(columns[f"y{k}"] - columns[f"x{k}"]) for k in (1, 2)]
    return np.stack(
        [
            covariance / positive(spread),
            covariance / positive(spread - 2 * columns["variance"].mean(axis=-1)),
            np.sqrt(0.5 * (off[0] ** 2 + off[1] ** 2)),
            np.sqrt(scatter / positive(spread)),
        ]
    )


def mean_shear(rows: pd.DataFrame, *, resamples: int, seed: int) -> Evaluation:
    """Mean shear of both catalogues over the galaxies that both measure.

    im3shape's is γ = Σ w (e - c) / Σ w (1 + m) (Jarvis et al. 2016, 1507.05603): its corrections hold for an ensemble,
    and no galaxy is divided by its own 1 + m. Ours is a plain mean and not calibrated.
    """
    worked = rows[np.isfinite(values(rows, "g1")) & np.isfinite(values(rows, "g2"))]
    names = ("g1", "g2", "e_1", "e_2", "w", "nbc_m", "nbc_c1", "nbc_c2")
    columns = {name: values(worked, name) for name in names}

    def means(drawn: Mapping[str, Floats]) -> Floats:
        weight = drawn["w"]
        response = positive((weight * (1 + drawn["nbc_m"])).sum(axis=-1))
        theirs = [(weight * (drawn[f"e_{k}"] - drawn[f"nbc_c{k}"])).sum(axis=-1) / response for k in (1, 2)]
        ours = [drawn[f"g{k}"].mean(axis=-1) for k in (1, 2)]
        return np.stack([*theirs, *ours, ours[0] - theirs[0], ours[1] - theirs[1]])

    keys = [f"{whose}_{k}" for whose in ("im3shape", "ours", "difference") for k in (1, 2)]
    return {"n": len(worked), **measured(means, keys, columns, resamples, seed)}
