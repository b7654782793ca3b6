"""The response from five catalogues: closed forms, the table of a public report, what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.metadetection.catalogs import KINDS
from deblend_assets.science.metadetection.response import response_of, snr_weight, sums_of, with_patches

NUMBER, RESPONSE = 100_000, 0.7


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """One shape in all five, g ± 0.007 under a shear of ± 0.01; S/N equal."""
    rng = np.random.default_rng(1)
    g, snr = rng.normal(0, 0.3, (NUMBER, 2)), rng.uniform(5, 50, NUMBER)
    found = {}
    for kind in KINDS:
        moved = g.copy()
        if kind != "noshear":
            moved[:, int(kind[0]) - 1] += RESPONSE * (0.01 if kind[1] == "p" else -0.01)
        columns = {"g1": moved[:, 0], "g2": moved[:, 1], "snr": snr, "patch": np.arange(NUMBER) // 1000}
        found[kind] = pd.DataFrame(columns)
    return found


@pytest.mark.parametrize("least", [0.0, 10.0, 30.0])
def test_response_is_exact_for_any_cut_in_snr(tables: dict[str, pd.DataFrame], least: float) -> None:
    found = response_of(tables, lambda t: t["snr"] > least)
    np.testing.assert_allclose(found.R, RESPONSE * np.eye(2), atol=1e-10)
    assert found.R_err.max() < 1e-10
    table = tables["noshear"][tables["noshear"]["snr"] > least]
    np.testing.assert_allclose(found.g, table[["g1", "g2"]].mean())
    np.testing.assert_allclose(found.g_err, 0.3 / np.sqrt(len(table)), rtol=0.25)
    np.testing.assert_allclose(found.shear, found.g / RESPONSE)
    np.testing.assert_allclose(found.shear_err, found.g_err / RESPONSE)
    assert found.number == found.numbers["1p"] == len(table)
    assert found.patches == 100


def test_catalogues_of_different_lengths(tables: dict[str, pd.DataFrame]) -> None:
    fewer = tables | {"1p": tables["1p"].drop(index=[7, 40_000, 99_000])}
    found = response_of(fewer, lambda t: t["snr"] > 10)
    assert 0 < abs(found.R[0, 0] - RESPONSE) < 3 * found.R_err[0, 0]
    assert found.R_err[0, 0] < 0.002
    assert found.R[1, 1] == pytest.approx(RESPONSE)


def test_rows_that_come_and_go_at_the_limit_weigh_little(tables: dict[str, pd.DataFrame]) -> None:
    """S/N that scatters from image to image brings rows across a cut; the weight is a smooth function of it."""
    rng = np.random.default_rng(2)
    noisy = {kind: t.assign(snr=t["snr"] * rng.normal(1, 0.02, NUMBER)) for kind, t in tables.items()}
    cut, weighted = response_of(noisy, lambda t: t["snr"] > 10), response_of(noisy, weight=snr_weight)
    assert snr_weight(pd.DataFrame({"snr": [0.0, 20.0, 60.0]})).tolist() == pytest.approx([0.0, 0.5, 0.9])
    assert weighted.R[0, 0] == pytest.approx(RESPONSE, abs=3 * weighted.R_err[0, 0])
    assert weighted.R_err[0, 0] < 0.7 * cut.R_err[0, 0]


def test_selection_by_what_shear_changes_is_inside(tables: dict[str, pd.DataFrame]) -> None:
    """The mean of a normal distribution of width s above a cut at s e is s h(e), h the hazard, and h' = h (h - e).

    A shear moves distribution and mean alike, but the cut stays: at e = 0 the mean moves by 1 - h² of it.
    """
    found = response_of(tables, lambda t: t["g1"] > 0)
    hazard = np.sqrt(2 / np.pi)
    assert found.R[0, 0] == pytest.approx(RESPONSE * (1 - hazard**2), abs=3 * found.R_err[0, 0])
    assert found.R_err[0, 0] < 0.05


def test_weights_and_other_estimators(tables: dict[str, pd.DataFrame]) -> None:
    doubled = {k: t.assign(e1=2 * t["g1"], e2=np.where(t["snr"] > 10, 2 * t["g2"], np.nan)) for k, t in tables.items()}
    found = response_of(doubled, estimator="e1", weight=lambda t: t["snr"])
    np.testing.assert_allclose(found.R, 2 * RESPONSE * np.eye(2), atol=1e-10)
    table = doubled["noshear"][doubled["noshear"]["snr"] > 10]
    assert found.g[0] == pytest.approx(np.average(table["e1"], weights=table["snr"]))
    assert found.number == len(table)


def test_sums_of_parts_add(tables: dict[str, pd.DataFrame]) -> None:
    patches = np.arange(100)
    halves = [
        sums_of({k: t[t["patch"] % 2 == odd] for k, t in tables.items()}, patches=patches).total for odd in (0, 1)
    ]
    np.testing.assert_allclose(halves[0] + halves[1], sums_of(tables).total)


def test_patches_are_squares_of_the_unsheared_sky() -> None:
    table = pd.DataFrame({"x": [-0.4, 49.0, 50.0, 99.4], "y": [0.0, 10.0, 10.0, 199.4]})
    found = with_patches(dict.fromkeys(KINDS, table), (200, 100), across=2)["2m"]
    assert found["patch"].tolist() == [0, 0, 1, 3]
    assert with_patches(dict.fromkeys(KINDS, table), (200, 100))["1p"]["patch"].max() == 3


def test_what_is_refused(tables: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(MismatchError, match="2m"):
        response_of({k: t for k, t in tables.items() if k != "2m"})
    with pytest.raises(MismatchError, match="no column e1, e2"):
        response_of(tables, estimator="e1")
    with pytest.raises(MismatchError, match=r"no column patch.*patches of the sky"):
        response_of({k: t.drop(columns="patch") for k, t in tables.items()})
    with pytest.raises(MismatchError, match="shape"):
        response_of(tables, lambda t: np.ones(3, bool))
    with pytest.raises(MismatchError, match="'snr'"):
        response_of(tables, estimator="snr")
    with pytest.raises(MissingDataError, match="0 rows"):
        response_of(tables, lambda t: t["snr"] > 100)
