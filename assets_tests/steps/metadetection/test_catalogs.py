"""The five catalogues of a field: rows, cells, shear of the truth, TXPipe's file."""

from __future__ import annotations

import functools
import io

import h5py
import numpy as np
import pandas as pd
import pytest

from assets_tests.science.images.samples import PSF, drawn, field_of, flux_of, galaxy, grid, noise
from assets_tests.steps.fields.measured import BANDS, X, Y
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_look import look_at
from deblend_assets.science.metadetection.catalogs import KINDS, metadetect
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.metadetection.response import response_of, with_patches
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.steps.metadetection import catalogs
from deblend_assets.steps.metadetection.catalogs import metadetect_field, window_of
from deblend_assets.stores.metadetection import to_hdf5


def test_rows_lie_where_the_galaxies_are(tables: dict[str, pd.DataFrame]) -> None:
    assert tuple(tables) == KINDS
    alone = [0, 1, 3, 4]  # the others are blended
    for kind, table in tables.items():
        away = np.hypot(table["x"].to_numpy()[:, None] - X[alone], table["y"].to_numpy()[:, None] - Y[alone])
        assert (away.min(axis=0) < 0.7).all(), kind
        assert (table.iloc[away.argmin(axis=0)]["mfrac"] < 0.01).all()
        assert table["id"].tolist() == list(range(1, len(table) + 1))
        assert set(table["patch"]) <= {0, 1, 2, 3}
    sizes = {kind: table["psf_fwhm_r"].iloc[0] for kind, table in tables.items()}
    assert len({round(size, 3) for size in sizes.values()}) == 1
    assert 0.8 < sizes["1p"] < 1.0, "the PSF that was given is the new one"


@pytest.mark.slow
def test_cells_give_each_galaxy_once(
    field: Field, model: SkyModel, tables: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "_CELL", 150)  # two of them
    monkeypatch.setattr(catalogs, "_BESIDE", 0)
    monkeypatch.setattr(catalogs, "overlap", lambda look: 44)
    kinds = ("noshear", "1p", "2m")  # of all, the test would last twice as long
    monkeypatch.setattr(catalogs, "KINDS", kinds)
    monkeypatch.setattr(catalogs, "metadetect", functools.partial(metadetect, kinds=kinds))
    several = metadetect_field(field, model, "test", least_snr=15, log=lambda line: None)
    alone = [1, 3, 4]
    for kind in kinds[1:]:
        table, whole = several[kind], tables[kind]
        away = np.hypot(table["x"].to_numpy()[:, None] - X[alone], table["y"].to_numpy()[:, None] - Y[alone])
        assert ((away < 2).sum(axis=0) == 1).all()
        assert len(table) == pytest.approx(len(whole), abs=2)


@pytest.fixture(scope="module")
def shears() -> dict[int, tuple[Field, tuple[float, float]]]:
    """A grid of galaxies of S/N 80 and random shapes, and its twin of the opposite shear, noise the same."""
    side, shear = 180, (0.02, 0.0)
    x, y = grid(side, 30)
    rng = np.random.default_rng(3)
    shapes = np.clip(rng.normal(0, 0.15, (len(x), 2)), -0.4, 0.4)
    found = {}
    for sign in (1, -1):
        g = sign * shear[0]
        profiles = []
        for one in shapes:
            e = complex(*one)
            lensed = (e + g) / (1 + g * e)
            profiles.append(galaxy(g=(lensed.real, lensed.imag)))
        light = drawn((side, side), x, y, flux_of(80, galaxy()), profiles)
        field = field_of({"r": light + noise((side, side), 5)}, psf=PSF)
        found[sign] = field, (g, 0.0)
    return found


@pytest.mark.slow
def test_shear_of_a_field_is_recovered(shears: dict[int, tuple[Field, tuple[float, float]]], model: SkyModel) -> None:
    measured = {}
    for sign, (field, _) in shears.items():
        look = look_at(field)
        cell = catalogs.cells_of(field.shape, 0)[0]
        estimate = NetworkEstimate(model, field.settings, least_snr=20)
        kinds = KINDS[:3] if sign > 0 else KINDS[:1]
        measured[sign] = metadetect(window_of(field, look, cell), estimate, seed=1, kinds=kinds)
    plus, minus = measured[1], measured[-1]
    # The second component is not measured: that of the first one stands for it.
    swapped = {f"2{s}": plus[f"1{s}"].rename(columns={"g1": "g2", "g2": "g1"}) for s in "pm"}
    found = response_of(with_patches(plus | swapped, (180, 180), 5))
    assert 0.6 < found.R[0, 0] < 1.3
    assert abs(found.R[1, 0]) < 4 * found.R_err[1, 0]
    # Shape noise is the same in both twins and drops out of their difference.
    change = (plus["noshear"]["g1"].mean() - minus["noshear"]["g1"].mean()) / found.R[0, 0]
    assert change / 0.04 == pytest.approx(1, abs=3 * found.R_err[0, 0] / found.R[0, 0])
    assert found.R_err[0, 0] < 0.25


def test_txpipes_groups(tables: dict[str, pd.DataFrame]) -> None:
    data = to_hdf5(tables, tuple(BANDS))
    assert data == to_hdf5(tables, tuple(BANDS))
    with h5py.File(io.BytesIO(data)) as file:
        shear = file["shear"]
        assert shear.attrs["catalog_type"] == "metadetect"
        assert set(shear) == {"00", "1p", "1m", "2p", "2m", "ns"}
        assert shear["ns"] == shear["00"]
        needed = {"T", "s2n", "g1", "g2", "ra", "dec", "weight", "psf_T_mean", "flags"}
        needed |= {f"{name}_{band}" for name in ("mag", "mag_err") for band in BANDS}
        for kind, table in tables.items():
            group = shear["00" if kind == "noshear" else kind]
            assert needed <= set(group)
            assert {len(group[name]) for name in group} == {len(table)}
            np.testing.assert_array_equal(group["g1"], table["g1"])
            sigma = table["psf_fwhm_r"].iloc[0] / 2.3548
            assert group["psf_T_mean"][0] == pytest.approx(2 * sigma**2, rel=1e-3)
            assert group["T"].attrs["unit"] == "arcsec**2"
