"""How galaxies of known truth come back from a user's own images."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from deblend_assets.science.images.field import Field
from deblend_assets.science.images.injection import injected, sample_injections
from deblend_assets.science.measuring.field_look import Look
from deblend_assets.science.measuring.field_sources import SOURCE_COLUMNS
from deblend_assets.science.reports.figures.field_injection import injection_figure
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import point_source_error
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.steps.fields.cells import OpenField, detect_field, measure_detections, pool_of
from deblend_assets.stores.field_catalogs import INJECTION, INJECTION_FIGURE

# A detection is that of an injected galaxy within so many FWHM of it.
_WITHIN = 1.0
_SNR = 5.0


@dataclass(frozen=True, eq=False)
class Injection:
    """Injected galaxies and what was measured of them.

    Attributes:
        table: truth (`true_…`) of all, `found`, `on_source` (a brighter detection was there before), and the measured
            columns, NaN where a galaxy was not found.
        lines: for the user.
    """

    table: pd.DataFrame
    lines: tuple[str, ...]


def inject_field(
    field: Field,
    look: Look,
    model: SkyModel,
    before: pd.DataFrame,
    number: int,
    *,
    seed: int = 0,
    processes: int = 1,
    log: Callable[[str], None],
) -> Injection:
    """Inject galaxies, detect and measure them.

    Args:
        field: images.
        look: at them without the galaxies.
        model: calibrated.
        before: detections without the galaxies; x, y, snr.
        number: of galaxies.
        seed: of all random numbers.
        processes: that work.
        log: takes progress lines.

    Raises:
        SettingsError: see `sample_injections`.
    """
    galaxies = sample_injections(field, limits_of(field, look), number, seed)
    log(f"injecting {len(galaxies):,} galaxies into {field.name}")
    opened = OpenField(injected(field, look.psfs, galaxies), look, model)
    fwhm = max(look.fwhm)
    with pool_of(opened, processes) as pool:
        found = detect_field(opened, pool, None, log)
        row, there = _nearest(galaxies, found, _WITHIN * fwhm)
        targets = found.iloc[row[there]].reset_index(drop=True)
        others = found[~np.isin(np.arange(len(found)), row[there])]
        measured = measure_detections(opened, targets, others, pool, None, log)
    table = galaxies.add_prefix("true_")
    table["found"] = there
    table["on_source"] = _covered(galaxies, before, found, row, there, _WITHIN * fwhm)
    table = table.join(
        measured.set_index(np.flatnonzero(there)).drop(columns=["bands_present", *SOURCE_COLUMNS], errors="ignore")
    )
    return Injection(table, tuple(_lines(table, field)))


def injection_files(injection: Injection, bands: Sequence[str]) -> dict[str, bytes]:
    """The table and the figure, by name.

    Args:
        injection: of a field.
        bands: of the field.
    """
    stream = io.BytesIO()
    injection.table.to_parquet(stream, index=False)
    figure = injection_figure(injection.table, _shown(bands))
    return {INJECTION: stream.getvalue(), INJECTION_FIGURE: to_png(figure)}


def _shown(bands: Sequence[str]) -> str:
    """The band that is shown: r, or the middle one."""
    return "r" if "r" in bands else bands[len(bands) // 2]


def limits_of(field: Field, look: Look) -> dict[str, float]:
    """AB magnitude of a faint point source of S/N 5 in each band."""
    limits = {}
    for band, width in zip(field.names, look.fwhm, strict=True):
        _, weight, _ = field.bands[band].read(look.box.window)
        sigma = look.noise[band].sigma
        if not np.isfinite(sigma):
            sigma = float(np.median(weight[weight > 0]) ** -0.5)
        error = float(point_source_error(sigma, width)) * float(np.sqrt(max(look.noise[band].correlation.sum(), 0.1)))
        limits[band] = field.bands[band].zero_point - 2.5 * float(np.log10(_SNR * error))
    return limits


def _nearest(galaxies: pd.DataFrame, found: pd.DataFrame, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Detection of each galaxy, and whether there is one that is nearer to no other galaxy."""
    tree = cKDTree(found[["x", "y"]].to_numpy())
    apart, row = tree.query(galaxies[["x", "y"]].to_numpy())
    there = apart < distance
    order = np.argsort(apart)
    first = np.zeros(len(row), bool)
    first[order[np.unique(row[order], return_index=True)[1]]] = True
    return row, there & first


def _covered(
    galaxies: pd.DataFrame,
    before: pd.DataFrame,
    found: pd.DataFrame,
    row: np.ndarray,
    there: np.ndarray,
    distance: float,
) -> np.ndarray:
    """Whether a source of more than a quarter of the S/N was there before."""
    if before.empty:
        return np.zeros(len(galaxies), bool)
    apart, old = cKDTree(before[["x", "y"]].to_numpy()).query(galaxies[["x", "y"]].to_numpy())
    snr = before["snr"].to_numpy()[old]
    own = np.where(there, found["snr"].to_numpy()[row], 0.0)
    return np.asarray((apart < distance) & (snr > 0.25 * own))


def _lines(table: pd.DataFrame, field: Field) -> list[str]:
    band = _shown(field.names)
    free = table[~table["on_source"]]
    lines = [
        f"Injected {len(table):,} galaxies, {int(table['on_source'].sum()):,} onto sources that were there; of the "
        f"others {free['found'].mean():.0%} came back".replace("%", " %")
    ]
    good = free[free["found"] & (free["flags"] == 0) & (free["snr"] > 10)]
    if len(good) < 20:
        return [*lines, f"{len(good)} of them above S/N 10 without a flag: too few for more"]
    truth = 10 ** (0.4 * (31.4 - good[f"true_mag_{band}"]))
    ratio = (good[f"flux_{band}"] / truth - 1).to_numpy()
    flux_pull = ((good[f"flux_{band}"] - truth) / good[f"flux_{band}_err"]).to_numpy()
    g = np.concatenate([(good[f"g{k}"] - good[f"true_g{k}"]) / np.sqrt(good[f"g_cov_{k}{k}"]) for k in (1, 2)])
    error = 1.25 * float(robust_sigma(ratio)) / len(ratio) ** 0.5
    of_flux, of_g = (float(np.sqrt(np.mean(pulls**2))) for pulls in (flux_pull, g))
    lines.append(
        f"{len(good):,} above S/N 10 without a flag: flux in {band} {100 * np.median(ratio):+.1f} ± "
        f"{100 * error:.1f} % in the median; RMS pulls of flux {of_flux:.2f}, of g {of_g:.2f} (1 is right)"
    )
    return lines
