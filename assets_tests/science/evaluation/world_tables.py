"""A made-up world: truth, estimates of known faults, and a floor."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BANDS = ("g", "r", "i")


def true_table(count: int, seed: int = 1) -> pd.DataFrame:
    """Columns of `Targets.truth` that an evaluation reads; a tenth are stars, and one detection is spurious."""
    rng = np.random.default_rng(seed)
    pair = rng.random(count) < 0.3
    merged = pair & (rng.random(count) < 0.3)
    table: dict[str, NDArray] = {
        "source": np.arange(count),
        "star": rng.random(count) < 0.1,
        "spurious": np.zeros(count, dtype=bool),
        "shred": np.zeros(count, dtype=bool),
        "blend": pair,
        "unrecognized": merged,
        "snr": 10 * np.exp(rng.exponential(0.8, count)),
        "fwhm_arcsec": rng.uniform(0.6, 1.1, count),
        "psf_g1": rng.normal(0, 0.02, count),
        "psf_g2": rng.normal(0, 0.02, count),
        "depth": rng.normal(26, 0.3, count),
        "density": rng.uniform(20, 60, count),
        "masked_fraction": np.where(rng.random(count) < 0.7, 0.0, rng.uniform(0, 0.2, count)),
        "separation_fwhm": np.where(pair & ~merged, rng.uniform(0.8, 4, count), np.inf),
        "nearest_arcsec": np.where(pair, rng.uniform(0.6, 4, count), 20.0),
        "nearest_dmag": rng.uniform(-2, 2, count),
        "correlated": rng.random(count) < 0.5,
        "reference_band": np.where(rng.random(count) < 0.8, "r", "i").astype(object),
    }
    for letter, scatter in (("g", 0.25), ("e", 0.2)):
        table |= {f"{letter}{k}": rng.normal(0, scatter, count) for k in (1, 2)}
    table |= {f"flux_{band}": 1000 * np.exp(rng.normal(0, 0.5, count)) for band in BANDS}
    table["flux_g"][rng.random(count) < 0.1] = np.nan  # absent
    truth = pd.DataFrame(table)
    truth.loc[truth["star"], ["g1", "g2"]] = np.nan
    truth.loc[0, ["source", "spurious", "star"]] = -1, True, False
    return truth


def sigmas(truth: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Standard errors by quantity: 1 over S/N, of g twice that."""
    relative = 1 / truth["snr"].to_numpy()
    shapes = {f"{letter}{k}": relative * factor for letter, factor in (("g", 2.0), ("e", 1.0)) for k in (1, 2)}
    return shapes | {f"flux_{band}": relative * truth[f"flux_{band}"].to_numpy() for band in BANDS}


def floor_table(truth: pd.DataFrame, every: int = 1) -> pd.DataFrame:
    """The floor of every so-manieth target: `sigmas`; with the population nine tenths of that."""
    columns = {f"sigma_{name}": values for name, values in sigmas(truth).items()}
    columns |= {f"{name}_population": 0.9 * values for name, values in columns.items()}
    table = pd.DataFrame(columns)
    table.loc[table.index % every != 0] = np.nan
    return table


def estimate_table(
    truth: pd.DataFrame,
    *,
    slope: float = 1.0,
    bias: float = 0.0,
    size: float = 1.0,
    stated: float | None = 1.0,
    flux: float = 0.0,
    seed: int = 2,
) -> pd.DataFrame:
    """Truth times a slope, plus a bias and errors of `size` times `sigmas`, which are said to be `stated` times.

    Args:
        truth: of `true_table`.
        slope, bias: of g and e.
        size: of the errors.
        stated: factor on `sigmas`; None: no errors are stated.
        flux: relative bias of all fluxes.
        seed: of the errors.
    """
    rng, columns = np.random.default_rng(seed), dict[str, NDArray]()
    for name, sigma in sigmas(truth).items():
        true = truth[name].to_numpy()
        middle = true * (1 + flux) if name.startswith("flux") else slope * true + bias
        columns[name] = middle + size * sigma * rng.normal(size=len(truth))
        columns[f"{name}_err"] = np.full(len(truth), np.nan) if stated is None else stated * sigma
    return pd.DataFrame(columns | {"flag": np.zeros(len(truth), dtype=bool), "failed": np.isnan(columns["g1"])})
