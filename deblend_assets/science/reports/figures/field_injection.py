"""How injected galaxies come back: found, flux, shape, and pulls, by magnitude."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BINS = 8
_FEWEST = 5


def injection_figure(table: pd.DataFrame, band: str) -> Figure:
    """Four panels.

    Args:
        table: of `steps.fields.inject.Injection`.
        band: whose magnitudes and fluxes are shown.
    """
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots(2, 2)
    magnitude = table[f"true_mag_{band}"].to_numpy()
    free = ~table["on_source"].to_numpy(bool)
    edges = np.linspace(magnitude.min(), magnitude.max() + 1e-6, _BINS + 1)
    middle, which = (edges[1:] + edges[:-1]) / 2, np.digitize(magnitude, edges) - 1
    good = free & table["found"].to_numpy(bool) & (table["flags"] == 0).to_numpy()

    shares = [_share(table["found"].to_numpy(float)[free & (which == k)]) for k in range(_BINS)]
    share, error = np.transpose(shares)
    axes[0, 0].errorbar(middle, share, yerr=error, fmt="o", color="tab:blue")
    axes[0, 0].set(ylabel="share found", ylim=(-0.05, 1.05))

    truth = 10 ** (0.4 * (31.4 - magnitude))
    ratio = 100 * (table[f"flux_{band}"].to_numpy() / truth - 1)
    _medians(axes[0, 1], middle, which, ratio, good)
    axes[0, 1].set(ylabel=f"flux in {band}, error [%]")

    pulls = {
        "g": np.concatenate([(table[f"g{k}"] - table[f"true_g{k}"]) / np.sqrt(table[f"g_cov_{k}{k}"]) for k in (1, 2)]),
        f"flux {band}": ((table[f"flux_{band}"] - truth) / table[f"flux_{band}_err"]).to_numpy(),
    }
    for name, values in pulls.items():
        repeated = np.tile(which, len(values) // len(which)), np.tile(good, len(values) // len(good))
        numbers = [_rms(values[(repeated[0] == k) & repeated[1]]) for k in range(_BINS)]
        rms, error = np.transpose(numbers)
        axes[1, 0].errorbar(middle, rms, yerr=error, fmt="o", label=name)
    axes[1, 0].axhline(1, color="grey", lw=0.8)
    axes[1, 0].set(ylabel="RMS pull (1 is right)", ylim=(0, None))
    axes[1, 0].legend(loc="upper left", bbox_to_anchor=(0, 1.15), ncols=2, frameon=False)

    for k in (1, 2):
        axes[1, 1].plot(table[f"true_g{k}"][good], table[f"g{k}"][good], ".", ms=4, label=f"g{k}")
    axes[1, 1].plot([-0.8, 0.8], [-0.8, 0.8], color="grey", lw=0.8)
    axes[1, 1].set(xlabel="true g (sky frame)", ylabel="measured g", xlim=(-0.8, 0.8), ylim=(-0.8, 0.8))
    axes[1, 1].legend(loc="upper left", bbox_to_anchor=(0, 1.15), ncols=2, frameon=False)
    for axis in (axes[0, 0], axes[0, 1], axes[1, 0]):
        axis.set_xlabel(f"true magnitude in {band} [AB]")
    return figure


def _share(found: np.ndarray) -> tuple[float, float]:
    if len(found) < _FEWEST:
        return np.nan, np.nan
    return float(found.mean()), float(np.sqrt(found.mean() * (1 - found.mean()) / len(found)))


def _rms(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if len(values) < _FEWEST:
        return np.nan, np.nan
    rms = float(np.sqrt(np.mean(values**2)))
    return rms, rms / np.sqrt(2 * len(values))


def _medians(axis: Axes, middle: np.ndarray, which: np.ndarray, values: np.ndarray, good: np.ndarray) -> None:
    numbers = []
    for k in range(len(middle)):
        chosen = values[good & (which == k)]
        few = len(chosen) < _FEWEST
        numbers.append((np.nan, np.nan) if few else (np.median(chosen), 1.25 * np.std(chosen) / len(chosen) ** 0.5))
    median, error = np.transpose(numbers)
    axis.errorbar(middle, median, yerr=error, fmt="o", color="tab:blue")
    axis.axhline(0, color="grey", lw=0.8)
