"""Cuts: each removes what it should, once, and says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.des.cuts import IM3SHAPE_COLUMNS, SHAPE_NOISE, quality_cuts
from deblend_assets.science.des.queries import GOLD_DEC, GOLD_RA, SHAPE_COLUMNS


def rows(n: int) -> pd.DataFrame:
    """n galaxies that pass every cut."""
    table = pd.DataFrame(
        {
            "coadd_objects_id": 3_000_000_000 + np.arange(n),
            "e_1": 0.1,
            "e_2": -0.2,
            "nbc_m": -0.05,
            "nbc_c1": 1e-4,
            "nbc_c2": -1e-4,
            "w": 1 / (SHAPE_NOISE**2 + 0.1**2),
            "error_flag": 0,
            "info_flag": 0,
            "snr_w": 30.0,
            "radius": 0.5,
            "mean_psf_fwhm": 4.0,
            "ra_shift": 0.36,
            "dec_shift": -0.72,
            GOLD_RA: 180.0,
            GOLD_DEC: 60.0,
        }
    )
    assert set(SHAPE_COLUMNS) <= set(table)
    return table


def test_good_galaxies_are_kept_with_positions_and_errors() -> None:
    kept, attrition = quality_cuts(rows(3), 20.0)
    assert kept.columns.tolist() == list(IM3SHAPE_COLUMNS)
    assert attrition["left"].tolist() == [3] * 8
    assert attrition["removed"].tolist() == [0] * 8
    assert kept["dec"].to_numpy() == pytest.approx(60.0 - 0.72 / 3600, abs=1e-12)
    # At 60° a shift of 0.36″ on the sky is 0.72″ of right ascension.
    assert (kept["ra"] - 180.0).to_numpy() * 3600 == pytest.approx(0.72, abs=1e-5)
    assert kept["e_sigma"].to_numpy() == pytest.approx(0.1)
    assert kept["coadd_objects_id"].tolist() == [3_000_000_000, 3_000_000_001, 3_000_000_002]


@pytest.mark.parametrize(("ra", "shift", "wrapped"), [(0.0, -0.36, 359.9998), (359.9999, 0.36, 0.0001)])
def test_right_ascension_wraps(ra: float, shift: float, wrapped: float) -> None:
    table = rows(1).assign(**{GOLD_RA: ra, "ra_shift": shift})
    kept, _ = quality_cuts(table, 20.0)
    assert kept["ra"].iloc[0] == pytest.approx(wrapped, abs=1e-8)


FAULTS = {
    "gold position known": [(GOLD_RA, np.nan), (GOLD_DEC, -9999.0)],
    "error_flag = 0": [("error_flag", 2**30), ("error_flag", np.nan)],
    "info_flag = 0": [("info_flag", 1)],
    "e_1, e_2 known, |e| < 1": [("e_1", -9999.0), ("e_2", np.nan), ("e_2", 0.999), ("e_1", np.inf)],
    "snr_w > 20": [("snr_w", 20.0), ("snr_w", np.nan), ("snr_w", -9999.0)],
    "weight, calibration and shift known": [
        ("w", 0.0),
        ("w", -9999.0),
        ("nbc_m", -9999.0),
        ("nbc_c2", np.nan),
        ("ra_shift", -9999.0),
        ("dec_shift", np.nan),
    ],
}


def test_every_fault_is_counted_under_its_own_cut() -> None:
    faults = [(cut, column, value) for cut, pairs in FAULTS.items() for column, value in pairs]
    table = rows(len(faults) + 2).astype({"error_flag": float})
    for k, (_, column, value) in enumerate(faults):
        table.loc[k, column] = value
    kept, attrition = quality_cuts(table, 20.0)
    removed = dict(zip(attrition["cut"], attrition["removed"], strict=True))
    assert {cut: removed[cut] for cut in FAULTS} == {cut: len(pairs) for cut, pairs in FAULTS.items()}
    assert kept["coadd_objects_id"].tolist() == table["coadd_objects_id"].tolist()[-2:]
    assert attrition["left"].tolist() == (len(table) - attrition["removed"].cumsum()).tolist()


def test_a_repeated_id_is_kept_once_the_first_time() -> None:
    table = pd.concat([rows(2), rows(1).assign(e_1=0.3)])
    kept, attrition = quality_cuts(table, 20.0)
    assert kept["e_1"].tolist() == [0.1, 0.1]
    assert attrition.loc[1].tolist() == ["identity known and listed once", 1, 2]


def test_a_missing_value_that_no_cut_is_about_becomes_nan() -> None:
    kept, _ = quality_cuts(rows(1).assign(radius=-9999.0), 20.0)
    assert np.isnan(kept["radius"].iloc[0])


def test_a_weight_above_the_shape_noise_has_no_error_left() -> None:
    kept, _ = quality_cuts(rows(1).assign(w=2 / SHAPE_NOISE**2), 20.0)
    assert kept["e_sigma"].iloc[0] == 0.0


def test_nothing_in_nothing_out() -> None:
    for table in (rows(0), rows(2).assign(error_flag=1)):
        kept, attrition = quality_cuts(table, 20.0)
        assert kept.empty
        assert kept.columns.tolist() == list(IM3SHAPE_COLUMNS)
        assert kept["coadd_objects_id"].dtype == np.int64
        assert attrition["left"].iloc[-1] == 0
