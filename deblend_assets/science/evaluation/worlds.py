"""Figures of merit of methods in one world, from truth, estimates and the Fisher floor.

Stars, spurious detections, shreds and detections without a target are left out: a shred's truth is the whole galaxy,
which another detection has. Errors are bootstrap errors over targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.evaluation.bars import Bar, short_groups
from deblend_assets.science.evaluation.merit import FAR, FLOORS, Quantity, merit, share
from deblend_assets.science.evaluation.world_groups import (
    ALL,
    SINGLE,
    all_groups,
    dmag_classes,
    true_separation,
)
from deblend_assets.science.statistics.accuracy import Evaluation, measured, positive, values
from deblend_assets.science.statistics.metrics import Floats, thirds

# Bins of S/N and, for pairs, of the distance of the nearest source [FWHM], of the figures.
SNR_EDGES = (10.0, 14.0, 20.0, 30.0, 50.0, 100.0, np.inf)
SEPARATION_EDGES = (0.6, 0.9, 1.2, 1.6, 2.0, 2.5, 3.5, 5.0)
# A flux is lost where it is off by more than this share.
_LOST_FLUX = 0.5
# Detections that are no galaxy of their own: a catalogue should withhold them.
UNREAL = ("spurious", "shred")
# Fewer rows with a floor than this are no group.
_LEAST = 10

# What is held against a bar in each group: name, figure, bar ("one network for every sky").
BARS: Mapping[str, tuple[tuple[str, str], Bar]] = {
    "robust σ of g over the floor with population ≤ 1.25": (("g", "robust_over_floor_population"), Bar(most=1.25)),
    "robust σ of e over the floor with population ≤ 1.25": (("e", "robust_over_floor_population"), Bar(most=1.25)),
    "slope of g 1 ± 0.02": (("g", "slope"), Bar(0.98, 1.02)),
    "slope of e 1 ± 0.02": (("e", "slope"), Bar(0.98, 1.02)),
    "RMS pull of g 0.95 to 1.10": (("g", "pull_rms"), Bar(0.95, 1.10)),
    "68 % interval of g within 3 points": (("g", "within_68"), Bar(0.653, 0.713)),
    "flux, median within 1 %": (("flux", "median"), Bar(-0.01, 0.01)),
    "g beyond 5 errors ≤ 1 %": (("g", "beyond_5"), Bar(most=0.01)),
}


def galaxies(truth: pd.DataFrame) -> NDArray[np.bool_]:
    """Targets that are judged, (N,): detections of a galaxy, one a galaxy."""
    return (truth["source"].to_numpy() >= 0) & ~truth[["star", *UNREAL]].to_numpy(dtype=bool).any(axis=1)


def psf_cost(truth: pd.DataFrame, floor: pd.DataFrame, *, resamples: int, seed: int) -> Evaluation:
    """By how much the floor of g rises where the PSF is known within a prior alone ("_psf"), median of the ratio.

    Args:
        truth, floor: of the same galaxies, see `evaluate_world`.
        resamples, seed: of the bootstrap.

    Returns:
        `all`, and for the third of highest S/N `bright`: `value` and `error`.
    """
    known, free = (floor[["sigma_g1", "sigma_g2"]], floor[["sigma_g1_psf", "sigma_g2_psf"]])
    ratio = (free.to_numpy(dtype=float) / known.to_numpy(dtype=float)).mean(axis=1)
    bright = dict(thirds(values(truth, "snr")))["high"]
    found = {}
    for name, mask in (("all", np.ones(len(truth), dtype=bool)), ("bright", bright)):
        columns = {"ratio": ratio[mask & np.isfinite(ratio)]}
        found[name] = measured(lambda c: np.median(c["ratio"], axis=-1)[None], ("median",), columns, resamples, seed)[
            "median"
        ]
    return found


def evaluate_world(
    truth: pd.DataFrame,
    estimates: Mapping[str, pd.DataFrame],
    floor: pd.DataFrame | None,
    bands: Sequence[str],
    *,
    pairs: bool,
    resamples: int,
    seed: int,
) -> Evaluation:
    """Every figure of every method.

    Args:
        truth: of the world's targets, columns of `Targets.truth`.
        estimates: by method, `ESTIMATE_COLUMNS` of the first targets, at most as many as `truth`.
        floor: `sigma_g1`, … of the same targets as `truth`, and the same with "_population"; NaN where there is none;
            None without a floor.
        bands: of the fluxes.
        pairs: whether the world is one of pairs, with a grid of separation and Δmag.
        resamples, seed: of the bootstrap.

    Returns:
        `targets`; `galaxies`, `stars`, `spurious` and `shreds` among them; `floors`, how many have one, and `psf_cost`
        where the floor has columns "_psf"; `bands`; and by method: `n` galaxies; `unreal`, of each of UNREAL the number
        `n` and the share `withheld`, with a flag or without a g; `groups` with `group_merit` of each group; `fluxes`
        with the merit of each band for ONE_SOURCE; `by_snr` and, for pairs, `by_separation` with bins (`low`, `high`,
        `middle`) of the same.
    """
    found: Evaluation = {
        "targets": len(truth),
        "galaxies": int(galaxies(truth).sum()),
        "stars": int(truth["star"].sum()),
        "spurious": int(truth["spurious"].sum()),
        "shreds": int(truth["shred"].sum()),
        "floors": 0 if floor is None else int(np.isfinite(floor["sigma_g1"]).sum()),
        "bands": list(bands),
        "methods": {},
    }
    judged = galaxies(truth)
    if floor is not None and "sigma_g1_psf" in floor:
        found["psf_cost"] = psf_cost(truth[judged], floor[judged], resamples=resamples, seed=seed)
    groups = all_groups(truth[judged], pairs=pairs)
    for name, table in estimates.items():
        first = np.flatnonzero(judged[: len(table)])
        rows = _Rows(
            truth.iloc[first].reset_index(drop=True),
            table.iloc[first].reset_index(drop=True),
            None if floor is None else floor.iloc[first].reset_index(drop=True),
            resamples,
            seed,
        )
        parts = {group: mask[: len(first)] for group, mask in groups.items()}
        found["methods"][name] = rows.evaluated({k: v for k, v in parts.items() if v.any()}, bands, pairs=pairs)
        found["methods"][name]["unreal"] = _unreal(truth, table, resamples, seed)
    return found


def _unreal(truth: pd.DataFrame, table: pd.DataFrame, resamples: int, seed: int) -> Evaluation:
    withheld = table["flag"].to_numpy(dtype=bool) | table["failed"].to_numpy(dtype=bool)
    found = {}
    for kind in UNREAL:
        rows = withheld[truth[kind].to_numpy(dtype=bool)[: len(table)]]
        found[kind] = {"n": len(rows), "withheld": share(rows, resamples=resamples, seed=seed)}
    return found


class _Rows:
    """One method's rows: the galaxies that it was given."""

    def __init__(
        self, truth: pd.DataFrame, table: pd.DataFrame, floor: pd.DataFrame | None, resamples: int, seed: int
    ) -> None:
        self._truth, self._table, self._floor = truth, table, floor
        self._resamples, self._seed = resamples, seed
        self._flag = table["flag"].to_numpy(dtype=bool)
        self._shapes = {letter: self._pair(letter) for letter in "ge"}
        self._reference = self._flux(truth["reference_band"].to_numpy(dtype=str))

    def evaluated(self, groups: Mapping[str, NDArray[np.bool_]], bands: Sequence[str], *, pairs: bool) -> Evaluation:
        """See `evaluate_world`."""
        found: Evaluation = {
            "n": len(self._truth),
            "groups": {name: self.group_merit(mask) for name, mask in groups.items()},
            "by_snr": self._binned(values(self._truth, "snr"), SNR_EDGES),
            "fluxes": {},
        }
        single = ~self._truth["blend"].to_numpy(dtype=bool)
        for band in bands:
            found["fluxes"][band] = self._flux_merit(self._flux(np.full(len(self._truth), band)), single)
        if pairs:
            separation = true_separation(self._truth)
            found["by_separation"] = {
                name: self._binned(np.where(mask, separation, np.nan), SEPARATION_EDGES)
                for name, mask in dmag_classes(self._truth).items()
            }
        return found

    def group_merit(self, mask: NDArray[np.bool_]) -> Evaluation:
        """Of some rows: `n`, shares `failed`, `flagged` and `silent`, and the merit of "g", "e" and "flux".

        Flux is that of the reference band. `silent` is the share of rows without a flag in which a component of g or
        the flux is off by more than `FAR` of its errors; of a method without errors None.
        """
        failed, flag = self._table["failed"].to_numpy(dtype=bool)[mask], self._flag[mask]
        asked = self._shapes["g"].asked[mask]
        pulls = np.concatenate([self._shapes["g"].pulls(), self._reference.pulls()], axis=1)[mask]
        stated = np.isfinite(pulls).any(axis=1)
        silent = (np.abs(np.nan_to_num(pulls)) > FAR).any(axis=1) & ~flag
        found: Evaluation = {
            "n": int(mask.sum()),
            "failed": self._share(failed[asked]),
            "flagged": self._share(flag[asked & ~failed]),
            "silent": self._share(silent[stated]),
        }
        for letter, quantity in self._shapes.items():
            found[letter] = self._merit(quantity, mask)
        found["flux"] = self._flux_merit(self._reference, mask)
        return found

    def _merit(self, quantity: Quantity, mask: NDArray[np.bool_]) -> Evaluation:
        return merit(quantity.rows(mask), ~self._flag[mask], resamples=self._resamples, seed=self._seed)

    def _flux_merit(self, flux: Quantity, mask: NDArray[np.bool_]) -> Evaluation:
        """Relative to the true flux; `lost`: the share that is off by more than half."""
        off = (flux.estimate - flux.truth)[mask & ~self._flag, 0]
        return self._merit(flux, mask) | {"lost": self._share(np.abs(off[np.isfinite(off)]) > _LOST_FLUX)}

    def _share(self, rows: NDArray[np.bool_]) -> Evaluation:
        return share(rows, resamples=self._resamples, seed=self._seed)

    def _binned(self, numbers: Floats, edges: Sequence[float]) -> list[Evaluation]:
        """`group_merit` of the rows between each two edges that has some."""
        found = []
        for low, high in pairwise(edges):
            mask = (numbers >= low) & (numbers < high)
            if mask.sum() >= _LEAST:
                middle = float(np.median(numbers[mask]))
                found.append(
                    {"low": low, "high": high if np.isfinite(high) else None, "middle": middle} | self.group_merit(mask)
                )
        return found

    def _pair(self, letter: str) -> Quantity:
        names = [f"{letter}1", f"{letter}2"]
        return Quantity(
            self._truth[names].to_numpy(dtype=float),
            self._table[names].to_numpy(dtype=float),
            self._table[[f"{name}_err" for name in names]].to_numpy(dtype=float),
            self._floors(*names),
        )

    def _floors(self, *names: str) -> dict[str, Floats]:
        if self._floor is None:
            return {}
        table = self._floor
        return {
            floor: table[[f"sigma_{name}{suffix}" for name in names]].to_numpy(dtype=float)
            for floor, suffix in FLOORS.items()
        }

    def _flux(self, band: NDArray) -> Quantity:
        """Flux over the true one, in the band named for each row, (N,)."""
        true = positive(_in_band(self._truth, "flux_{band}", band))

        def relative(table: pd.DataFrame, column: str) -> Floats:
            return np.asarray((_in_band(table, column, band) / true)[:, None])

        floors = {}
        if self._floor is not None:
            floors = {name: relative(self._floor, f"sigma_flux_{{band}}{end}") for name, end in FLOORS.items()}
        truth, estimate = relative(self._truth, "flux_{band}"), relative(self._table, "flux_{band}")
        return Quantity(truth, estimate, relative(self._table, "flux_{band}_err"), floors)


def _in_band(table: pd.DataFrame, column: str, band: NDArray) -> Floats:
    """A column of which there is one a band, each row's in the band named for it, (N,)."""
    found = np.full(len(table), np.nan)
    for name in np.unique(band):
        rows = band == name
        found[rows] = values(table, column.format(band=name))[rows]
    return found


def shortfalls(method: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Of each of BARS: how many groups fall short of it, of how many that have the figure.

    Args:
        method: of `evaluate_world`.
    """
    found = {}
    for words, ((quantity, figure), bar) in BARS.items():
        measures = {
            name: group[quantity][figure]
            for name, group in method["groups"].items()
            if name != ALL and figure in group[quantity] and group[quantity][figure]["value"] is not None
        }
        found[words] = len(short_groups(measures, bar)), len(measures)
    return found


def headline(worlds: Mapping[str, Evaluation]) -> dict[str, float]:
    """The numbers that are compared with those of the next evaluation, by world and method; errors `{name}_error`."""
    flat: dict[str, float] = {}
    for world, evaluation in worlds.items():
        flat[f"{world}_targets"] = evaluation["targets"]
        for name, method in evaluation["methods"].items():
            group = method["groups"].get(SINGLE)
            if group is None:
                continue
            for label, measure in (
                ("slope_g", group["g"]["slope"]),
                ("robust_g", group["g"]["robust_sigma"]),
                ("over_floor_g", group["g"].get("robust_over_floor_population")),
                ("silent", group["silent"]),
            ):
                if measure is not None and measure["value"] is not None:
                    flat[f"{label}_{name}_{world}"] = measure["value"]
                    if measure["error"] is not None:
                        flat[f"{label}_{name}_{world}_error"] = measure["error"]
    return flat
