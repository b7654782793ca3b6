"""The simulated survey's catalogues, with the names and columns of the real ones, and their truth.

im3shape is not run: its measurements are the truth plus noise. With σ = min(0.02 + 4 / S/N, 0.4) a component,

    e_k = (1 + nbc_m) g_k + nbc_ck + N(0, σ),    w = 1 / (0.22² + σ²)

so that the calibration of Jarvis et al. (2016, 1507.05603, section 9.2), Σ w (e - c) / Σ w (1 + m), is right on it.
Ellipticities are shear-type and in the sky frame
(+x east, +y north): on images with east left, component 1 is the pixel frame's and component 2 its negative.

Positions of the gold catalogue are off by a shift that im3shape's `ra_shift`, `dec_shift` [arcsec on the sky] correct
to within 0.02″. Each fault of real catalogues occurs in at least one row: see `TileTables.faults`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.science.des.cuts import MISSING, SHAPE_NOISE
from deblend_assets.science.simulated_survey.columns import (
    GOLD_TABLE,
    SHAPE_TABLE,
    TILE_TABLE,
    TRUTH_TABLE,
    table_columns,
)
from deblend_assets.science.simulated_survey.geometry import TileGeometry
from deblend_assets.settings import SkySettings

_SHIFT_ARCSEC = 0.25
_ASTROMETRY_ARCSEC = 0.02
# 5 log10(r80 / r20) above which a bulge fits better: 2.8 for a disc, above 5 for a de Vaucouleurs profile.
_BULGE_CONCENTRATION = 3.6
# Share of the rows with each fault; the last two add rows.
_FAULTS = {"error_flag": 0.02, "info_flag": 0.03, "missing_e": 0.01, "missing_snr": 0.005}
_UNMATCHED_ROWS = 3
_FIRST_ID = 3_000_000_000
_IDS_A_TILE = 1_000_000


@dataclass(frozen=True)
class TileTables:
    """One tile's rows of every table.

    Attributes:
        tables: rows by the table's name, columns as in `columns.table_columns`.
        faults: how many rows of the shape table have each fault: `error_flag`, `info_flag`, `missing_e` (-9999),
            `missing_snr` (NaN), `duplicated` (extra rows of an id already there), `unmatched` (no gold row). No row
            has two.
    """

    tables: dict[str, pd.DataFrame]
    faults: dict[str, int]


def tile_tables(
    name: str,
    truth: pd.DataFrame,
    geometry: TileGeometry,
    bands: tuple[str, ...],
    settings: SkySettings,
    overlap: int,
    rng: np.random.Generator,
) -> TileTables:
    """All tables of one tile.

    Args:
        name: one of `settings.tiles`.
        truth: of `tile_truth`, fluxes in counts.
        geometry: of the image.
        bands: of the survey, r among them.
        settings: its tiles.
        overlap: of the image over the tile's own area, on each side [pixel].
        rng: random numbers of the measurements.
    """
    index = settings.tiles.index(name)
    first = _FIRST_ID + index * _IDS_A_TILE
    ra, dec = geometry.sky(truth["x_pixel"].to_numpy(), truth["y_pixel"].to_numpy())
    known = truth.assign(
        coadd_objects_id=first + np.arange(len(truth)),
        tilename=name,
        ra=ra,
        dec=dec,
        star=truth["star"].astype(np.int64),
        g2=-truth["g2"],
        e2=-truth["e2"],
        psf_g2=-truth["psf_g2"],
    )
    columns = table_columns(bands)
    detected = known[known["detected"]].reset_index(drop=True)
    shapes = _measured_shapes(detected, geometry.pixel_scale, rng)
    gold = _detections(detected, shapes, bands, rng)
    shapes = shapes[detected["star"].to_numpy() == 0].reset_index(drop=True)
    shapes, faults = _with_faults(shapes, first + len(truth), rng)
    tables = {
        GOLD_TABLE: gold,
        SHAPE_TABLE: shapes,
        TILE_TABLE: _tile_row(name, geometry, overlap),
        TRUTH_TABLE: known,
    }
    return TileTables({key: table[list(columns[key])].reset_index(drop=True) for key, table in tables.items()}, faults)


def _measured_shapes(detected: pd.DataFrame, pixel_scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """Simulated im3shape measurements; see the module's docstring."""
    rows = len(detected)
    snr = detected["snr_r"].to_numpy()
    sigma = np.minimum(0.02 + 4 / np.maximum(snr, 1e-3), 0.4)
    bias = -np.clip(1 / np.maximum(snr, 1e-3), 0.01, 0.1)
    additive = rng.normal(0, 1e-4, (2, rows))
    measured = {
        f"e_{k}": (1 + bias) * detected[f"g{k}"] + additive[k - 1] + rng.normal(0, 1, rows) * sigma for k in (1, 2)
    }
    radius, fwhm = detected["hlr_arcsec"].to_numpy(), detected["psf_fwhm_arcsec"].to_numpy()
    shapes = detected[["coadd_objects_id"]].assign(
        # A galaxy whose light is a point has no shape, and im3shape lists none.
        **{column: values.fillna(MISSING) for column, values in measured.items()},
        nbc_m=bias,
        nbc_c1=additive[0],
        nbc_c2=additive[1],
        w=1 / (SHAPE_NOISE**2 + sigma**2),
        error_flag=np.zeros(rows, dtype=np.int64),
        info_flag=np.zeros(rows, dtype=np.int64),
        snr_w=snr * (1 + rng.normal(0, 0.05, rows)),
        snr_r=snr,
        flux_r=detected["flux_r"] * (1 + rng.normal(0, 1, rows) / np.maximum(snr, 1.0)),
        radius=radius,
        is_bulge=(detected["concentration"] > _BULGE_CONCENTRATION).astype(np.int64),
        mean_rgpp_rp=np.sqrt(1 + np.square(2 * radius / fwhm)),
        mean_psf_e1_sky=detected["psf_g1"],
        mean_psf_e2_sky=detected["psf_g2"],
        mean_psf_fwhm=fwhm / pixel_scale,
        ra_shift=rng.normal(0, _SHIFT_ARCSEC, rows),
        dec_shift=rng.normal(0, _SHIFT_ARCSEC, rows),
        chi2=1 + rng.normal(0, 0.02, rows),
        likelihood=-1000 + rng.normal(0, 30, rows),
        stamp_size=np.full(rows, 48, dtype=np.int64),
        n_exposure=np.full(rows, 10, dtype=np.int64),
    )
    return shapes


def _detections(
    detected: pd.DataFrame, shapes: pd.DataFrame, bands: tuple[str, ...], rng: np.random.Generator
) -> pd.DataFrame:
    """The gold catalogue: positions that shift and noise bring back to the true ones, and noisy magnitudes."""
    rows = len(detected)
    off = rng.normal(0, _ASTROMETRY_ARCSEC, (2, rows))
    dec = detected["dec"].to_numpy() - (shapes["dec_shift"].to_numpy() + off[1]) / 3600
    # The shift is on the sky; cos δ is that of the detection, the only position in the catalogue.
    ra = detected["ra"].to_numpy() - (shapes["ra_shift"].to_numpy() + off[0]) / 3600 / np.cos(np.radians(dec))
    magnitudes = {
        f"mag_auto_{band.lower()}": detected[f"mag_{band}"]
        + rng.normal(0, 1, rows) * 1.0857 / np.maximum(detected[f"snr_{band}"], 1.0)
        for band in bands
    }
    return detected[["coadd_objects_id"]].assign(ra_j2000=np.mod(ra, 360.0), dec_j2000=dec, **magnitudes)


def _with_faults(shapes: pd.DataFrame, next_id: int, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, int]]:
    """Put one fault into each of a few rows, repeat one row, and add some rows that the gold catalogue lacks."""
    shapes = shapes.copy()
    sound = rng.permutation(np.flatnonzero(shapes["e_1"].to_numpy() != MISSING))
    faults = {"missing_e": len(shapes) - len(sound)}
    taken = 0
    spoilt: dict[str, np.ndarray] = {}
    for fault, share in _FAULTS.items():
        count = max(1, round(share * len(shapes)))
        spoilt[fault] = sound[taken : taken + count]
        taken += count
    shapes.loc[spoilt["error_flag"], "error_flag"] = rng.choice([1, 4, 64], len(spoilt["error_flag"]))
    shapes.loc[spoilt["info_flag"], "info_flag"] = rng.choice([2, 8, 256], len(spoilt["info_flag"]))
    shapes.loc[spoilt["missing_e"], ["e_1", "e_2"]] = MISSING
    shapes.loc[spoilt["missing_snr"], "snr_w"] = np.nan
    repeated = shapes.loc[sound[taken : taken + 1]]
    strangers = shapes.loc[sound[-_UNMATCHED_ROWS:]]
    strangers = strangers.assign(coadd_objects_id=next_id + np.arange(len(strangers)))
    for fault, rows in spoilt.items():
        faults[fault] = faults.get(fault, 0) + len(rows)
    faults |= {"duplicated": len(repeated), "unmatched": len(strangers)}
    return pd.concat([shapes, repeated, strangers], ignore_index=True), faults


def _tile_row(name: str, geometry: TileGeometry, overlap: int) -> pd.DataFrame:
    row: dict[str, object] = {"tilename": name, "ra_cent": geometry.ra, "dec_cent": geometry.dec}
    for prefix, kind, inset in (("", "c", 0), ("u", "", overlap)):
        ra_min, ra_max, dec_min, dec_max = geometry.bounds(inset)
        row |= {f"{prefix}ra{kind}min": ra_min, f"{prefix}ra{kind}max": ra_max}
        row |= {f"{prefix}dec{kind}min": dec_min, f"{prefix}dec{kind}max": dec_max}
    row |= {"crossra0": "Y" if ra_min > ra_max else "N", "pixelscale": geometry.pixel_scale}
    return pd.DataFrame([row | {"naxis1": geometry.pixels, "naxis2": geometry.pixels}])
