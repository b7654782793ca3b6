"""A field's catalogue against im3shape: who is whose, and the slopes of those that match."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.evaluation.field_against_im3shape import evaluate_field, match_positions, matched_rows
from deblend_assets.science.measuring.sky_columns import ID

DEC, NUMBER = 60.0, 400
DRAWS = {"resamples": 50, "seed": 1}


def on_sky(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets [arcsec] east and north of (0, DEC), where right ascension begins anew."""
    dec = DEC + y / 3600
    return np.mod(x / 3600 / np.cos(np.radians(DEC)), 360.0), dec


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The field's catalogue, im3shape's galaxies and the truth; g is 0.7 of the true one, a tenth of the rows flagged.

    The field has half as many sources again, in another order; of im3shape's galaxies the last four are nowhere.
    """
    rng = np.random.default_rng(3)
    x, y = (30 * np.mgrid[-12:13, -12:12]).reshape(2, -1).astype(float)
    true = rng.normal(0, 0.2, (2, len(x)))
    order = rng.permutation(len(x))
    ra, dec = on_sky(*(place + rng.normal(0, 0.1, len(x)) for place in (x, y)))
    ours = pd.DataFrame({"ra": ra, "dec": dec, "flags": (np.arange(len(x)) % 10 == 0).astype(int)})
    for k in (1, 2):
        ours[f"g{k}"] = 0.7 * true[k - 1] + rng.normal(0, 0.02, len(x))
        ours[f"e{k}"] = 0.4 * true[k - 1]
    ours.loc[ours["flags"] > 0, ["g1", "g2"]] *= -1
    ra, dec = on_sky(x, y)
    theirs = pd.DataFrame({ID: np.arange(len(x)) + 7, "ra": ra, "dec": dec, "w": 1 / (0.22**2 + 0.1**2), "nbc_m": 0.0})
    theirs = theirs.assign(e_sigma=0.1, nbc_c1=0.0, nbc_c2=0.0)
    for k in (1, 2):
        theirs[f"e_{k}"] = true[k - 1] + rng.normal(0, 0.1, len(x))
    truth = theirs[[ID]].assign(g1=true[0], g2=true[1])
    theirs = theirs.iloc[:NUMBER].copy()
    theirs.loc[theirs.index[-4:], "dec"] += 10 / 3600
    return ours.iloc[order].reset_index(drop=True), theirs, truth


def test_each_galaxy_has_the_source_at_its_place(tables: tuple[pd.DataFrame, ...]) -> None:
    ours, theirs, truth = tables
    rows = matched_rows(ours, theirs)
    assert list(rows[ID]) == list(theirs[ID])[:-4]
    assert rows["separation"].between(0, 1).all()
    assert rows["separation"].median() == pytest.approx(0.1 * np.sqrt(2 * np.log(2)), rel=0.15)
    good = rows["flags"] == 0
    true = truth.set_index(ID).loc[rows[ID], ["g1", "g2"]].to_numpy()
    assert np.abs(rows[["g1", "g2"]].to_numpy() - 0.7 * true)[good].max() < 0.1


def test_slopes_are_of_the_rows_without_a_flag_and_corrected_for_im3shape_s_noise(
    tables: tuple[pd.DataFrame, ...],
) -> None:
    ours, theirs, truth = tables
    found = evaluate_field(matched_rows(ours, theirs), theirs, len(ours), truth=truth, **DRAWS)
    good = int((matched_rows(ours, theirs)["flags"] == 0).sum())
    counts = {key: found[key] for key in ("sources", "reference", "matched", "good")}
    assert counts == {"sources": 600, "reference": NUMBER, "matched": NUMBER - 4, "good": good}
    assert found["im3shape"]["shear"]["n"] == good
    shear = found["im3shape"]["shear"]["both"]
    assert shear["eiv_slope"]["value"] == pytest.approx(0.7, abs=3 * shear["eiv_slope"]["error"])
    assert shear["slope"]["value"] == pytest.approx(0.7 * 0.8, abs=3 * shear["slope"]["error"])
    assert found["truth"]["both"]["slope"]["value"] == pytest.approx(0.7, abs=0.02)
    assert found["all"]["both"]["slope"]["value"] < 0.9 * shear["slope"]["value"], "flagged rows have the other sign"
    assert found["orientation"] == "right"
    assert found["separation"]["median"]["value"] == pytest.approx(0.118, abs=0.02)
    other = theirs.assign(e_2=-theirs["e_2"])
    again = evaluate_field(matched_rows(ours, other), other, len(ours), **DRAWS)
    assert (again["orientation"], again["truth"]) == ("component 2 has the wrong sign", None)


def test_matches_are_each_other_s_nearest() -> None:
    ra, dec = on_sky(np.array([0.0, 0.6, 50.0, np.nan]), np.array([0.0, 0.0, 0.0, 0.0]))
    near = on_sky(np.array([0.5, 52.0]), np.array([0.0, 0.0]))
    found = match_positions((ra, dec), near, 1.0)
    assert (found.first.tolist(), found.second.tolist()) == ([1], [0])
    assert found.separation == pytest.approx([0.1], abs=1e-3)
    assert len(match_positions((ra[3:], dec[3:]), near, 1.0).first) == 0
