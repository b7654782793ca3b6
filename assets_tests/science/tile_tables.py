"""A tile's tables as the DES assets make them, with every slope and noise known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.science.evaluation.tile import evaluate_tile
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.science.stamps.conventions import distortion_from_shear

BANDS = ("g", "r", "i", "z", "Y")
SCATTER = 0.2  # of a component of the true g


@dataclass
class TileTables:
    """The four tables that `evaluate_tile` reads."""

    shapes: pd.DataFrame
    reference: pd.DataFrame
    truth: pd.DataFrame
    cutout_flux: pd.DataFrame

    def evaluate(self, known: bool = True) -> dict[str, Any]:
        """The evaluation, with or without the truth."""
        extra: dict[str, Any] = {"truth": self.truth, "cutout_flux": self.cutout_flux} if known else {}
        return evaluate_tile(
            self.shapes,
            self.reference,
            bands=BANDS,
            label_band="r",
            snr_min=20.0,
            resamples=60,
            seed=4,
            **extra,
        )


def tile_tables(
    galaxies: int = 2000,
    *,
    slope: float = 0.8,
    noise: float = 0.05,
    reference_noise: float = 0.1,
    seed: int = 7,
    simulated: bool = True,
) -> TileTables:
    """Our g = slope · true g + noise, im3shape's = true g + reference noise; one galaxy in fifty lacks the Y image."""
    rng = np.random.default_rng(seed)
    ids = 3_000_000_000 + rng.permutation(galaxies)
    g = np.clip(rng.normal(0, SCATTER, (2, galaxies)), -0.6, 0.6)
    e = 0.4 * np.stack(distortion_from_shear(*g))
    ra, dec = (359.95 + rng.uniform(0, 0.1, galaxies)) % 360.0, 60.0 + rng.uniform(0, 0.1, galaxies)
    snr = 20.0 + 10 ** rng.normal(1.5, 0.4, galaxies)
    counts = {band: 10 ** rng.normal(3 + 0.2 * k, 0.4, galaxies) for k, band in enumerate(BANDS)}
    present = np.ones((galaxies, len(BANDS)), dtype=bool)
    present[::50, -1] = False
    found_g, found_e = (slope * true + rng.normal(0, noise, true.shape) for true in (g, e))
    shapes = pd.DataFrame({"coadd_objects_id": ids, "tile": "DES0000+6000", "ra": ra, "dec": dec})
    shapes["dec"] += rng.normal(0, 0.02, galaxies) / 3600
    for k in (0, 1):
        shapes[f"g{k + 1}"], shapes[f"g_cov_{k + 1}{k + 1}"] = found_g[k], noise**2
        shapes[f"e{k + 1}"], shapes[f"e_cov_{k + 1}{k + 1}"] = found_e[k], noise**2
    for band in BANDS:
        shapes[f"flux_{band}"] = 0.98 * counts[band] * rng.normal(1, 0.05, galaxies) * nanojansky(30.0)
        shapes[f"flux_{band}_err"], shapes[f"psf_fwhm_{band}"] = 0.05 * shapes[f"flux_{band}"], 0.96
    shapes["blendedness"] = np.where(rng.random(galaxies) < 0.4, 0.0, 10 ** rng.normal(-1.8, 0.7, galaxies))
    shapes["snr_r"], shapes["reference_band"] = snr, "r"
    shapes["bands_present"] = ["".join(np.array(BANDS)[row]) for row in present]
    shapes["flags"] = np.where(np.arange(galaxies) % 20 == 3, int(RowFlag.BAD_FIT | RowFlag.SKY), 0).astype(np.int32)
    shapes["model_version"], shapes["simulated"] = "abc123", simulated
    reference = pd.DataFrame({"coadd_objects_id": ids, "ra": ra, "dec": dec})
    for k in (0, 1):
        reference[f"e_{k + 1}"] = g[k] + rng.normal(0, reference_noise, galaxies)
    reference["e_sigma"] = reference_noise
    reference["w"] = 1 / (0.22**2 + reference_noise**2)
    reference["nbc_m"], reference["nbc_c1"], reference["nbc_c2"] = -0.05, 1e-3, -1e-3
    reference["snr_w"], reference["radius"] = snr, rng.gamma(4, 0.15, galaxies)
    truth = pd.DataFrame({"coadd_objects_id": ids, "ra": ra, "dec": dec})
    truth["g1"], truth["g2"], truth["e1"], truth["e2"] = *g, *e
    cutout_flux = pd.DataFrame({"coadd_objects_id": ids})
    for band in BANDS:
        truth[f"flux_{band}"], truth[f"stamp_flux_{band}"] = counts[band], 0.9 * counts[band]
        cutout_flux[f"cutout_flux_{band}"] = 0.9 * counts[band] + rng.normal(0, 20, galaxies)
    cutout_flux.loc[~present[:, -1], "cutout_flux_Y"] = np.nan
    # Rows that the catalogue does not hold, as neighbours in the truth and rejected galaxies in im3shape's table.
    return TileTables(
        shapes,
        reference,
        pd.concat([truth, truth.assign(coadd_objects_id=truth["coadd_objects_id"] + 10**9, e1=np.nan)]),
        cutout_flux,
    )
