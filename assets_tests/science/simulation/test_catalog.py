"""The catalogue's reader and validator against damaged files and rows, and the split by galaxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from deblend_assets.errors import CatalogError, SettingsError
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS, assign_split, read_catsim, validate_catalog

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


@pytest.fixture
def catalog() -> pd.DataFrame:
    """Row 0 has bulge and disc, row 1 a disc alone, row 2 a bulge alone, as CatSim writes them."""
    df = pd.DataFrame(
        {
            "galtileid": np.array([2200002241, 2200083349, 7], dtype=np.int64),
            "ra": [0.43, 0.44, 0.42], "dec": [-0.01, -0.02, 0.0], "redshift": [0.28, 2.7, 0.6],
            "fluxnorm_bulge": [5.9e-16, 0.0, 6e-18], "fluxnorm_disk": [2.6e-15, 3.5e-17, 0.0],
            "fluxnorm_agn": 0.0,
            "a_b": [0.72, 0.0, 0.32], "a_d": [2.8, 0.32, 0.0],
            "b_b": [0.71, 0.0, 0.21], "b_d": [0.9, 0.17, 0.0],
            "pa_bulge": [179.0, 0.0, 311.0], "pa_disk": [179.0, 285.7, 0.0],
        }
    )  # fmt: skip
    for band in "ugrizy":
        df[f"{band}_ab"] = [20.0, 22.1, 32.1]
    return df


def write(df: pd.DataFrame, path: Path) -> Path:
    Table.from_pandas(df).write(path, format="fits")
    return path


def test_columns_are_the_19_of_catsim_with_unit_and_meaning() -> None:
    assert len(CATSIM_COLUMNS) == 19
    assert all(c.meaning and c.unit in ("", "deg", "arcsec", "mag") for c in CATSIM_COLUMNS.values())
    assert CATSIM_COLUMNS["a_d"].unit == "arcsec"
    assert CATSIM_COLUMNS["pa_disk"].unit == "deg"


def test_reading_gives_back_native_numbers_in_order_and_drops_other_columns(
    catalog: pd.DataFrame, tmp_path: Path
) -> None:
    shuffled = catalog.assign(av_d=1.0)[["y_ab", "av_d", *[c for c in CATSIM_COLUMNS if c != "y_ab"]]]
    df = read_catsim(write(shuffled, tmp_path / "OneDegSq.fits"))
    assert list(df.columns) == list(CATSIM_COLUMNS)
    assert df["galtileid"].dtype == np.int64
    assert all(df[name].to_numpy().dtype.isnative for name in df)
    pd.testing.assert_frame_equal(df, catalog[list(CATSIM_COLUMNS)].astype({"fluxnorm_agn": float}))


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"no such catalogue file.*nowhere\.fits"):
        read_catsim(tmp_path / "nowhere.fits")


def test_what_is_not_fits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.fits"
    path.write_text("<html>404</html>")
    with pytest.raises(CatalogError, match="cannot be read as FITS"):
        read_catsim(path)
    path.write_bytes(b"")
    with pytest.raises(CatalogError):
        read_catsim(path)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(catalog: pd.DataFrame, tmp_path: Path, kept: float) -> None:
    many = pd.concat([catalog] * 400, ignore_index=True)
    many["galtileid"] = np.arange(len(many))
    path = write(many, tmp_path / "cut.fits")
    whole = path.read_bytes()
    assert len(read_catsim(path)) == 1200
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CatalogError, match=r"truncated|cannot be read"):
        read_catsim(path)


def test_an_image_and_a_table_without_the_columns_are_refused(catalog: pd.DataFrame, tmp_path: Path) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(CatalogError, match="holds no table"):
        read_catsim(tmp_path / "image.fits")
    with pytest.raises(CatalogError, match="columns missing: a_d, pa_disk"):
        read_catsim(write(catalog.drop(columns=["a_d", "pa_disk"]), tmp_path / "few.fits"))


def test_a_good_catalogue_passes_and_is_left_alone(catalog: pd.DataFrame) -> None:
    before = catalog.copy()
    validate_catalog(catalog, "test")
    pd.testing.assert_frame_equal(catalog, before)


def put(column: str, row: int, value: float) -> Callable[[pd.DataFrame], None]:
    def change(df: pd.DataFrame) -> None:
        df.loc[row, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("g_ab", 1, np.nan), "g_ab is NaN or infinite in 1 of 3 rows, first in row 1"),
        (put("a_b", 1, np.inf), "a_b is NaN or infinite in 1 of 3 rows, first in row 1"),
        (put("a_d", 1, 0.0), "a_d is not positive where its component has flux in 1 of 3 rows"),
        (put("b_b", 2, -0.1), "b_b is not positive where its component has flux in 1 of 3"),
        (put("b_d", 0, 2.9), "b_d exceeds a_d: the minor axis is the longer in 1 of 3 rows, first in row 0"),
        (put("b_b", 2, 0.33), "b_b exceeds a_b"),
        (put("fluxnorm_disk", 1, 0.0), "fluxnorm_bulge and fluxnorm_disk are both zero in 1 of 3"),
        (put("fluxnorm_bulge", 0, -1e-18), "fluxnorm_bulge is negative"),
        (put("redshift", 0, -0.1), "redshift is negative"),
        (put("galtileid", 2, 2200083349), "galtileid is repeated in 2 of 3 rows, first in row 1"),
        (put("pa_bulge", 0, 178.999), "pa_bulge differs from pa_disk where both components have flux"),
    ],
)
def test_a_bad_row_is_named(catalog: pd.DataFrame, change: Callable[[pd.DataFrame], None], message: str) -> None:
    change(catalog)
    with pytest.raises(CatalogError) as caught:
        validate_catalog(catalog, "my.fits")
    assert message in str(caught.value)
    assert "[my.fits]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_catalogue_and_ids_that_are_no_integers_are_refused(catalog: pd.DataFrame) -> None:
    with pytest.raises(CatalogError, match="no rows"):
        validate_catalog(catalog.iloc[:0], "test")
    with pytest.raises(CatalogError, match="galtileid holds float64"):
        validate_catalog(catalog.astype({"galtileid": float}), "test")
    with pytest.raises(CatalogError, match="r_ab holds"):
        validate_catalog(catalog.assign(r_ab=["a", "b", "c"]), "test")


def test_a_component_without_flux_may_hold_anything_finite(catalog: pd.DataFrame) -> None:
    validate_catalog(catalog.assign(a_b=[0.72, 0.0, 0.32], b_b=[0.71, 5.0, 0.21]), "test")


def test_the_split_follows_the_galaxy_and_not_its_row() -> None:
    ids = np.random.default_rng(0).choice(10**10, 5000, replace=False)
    order = np.random.default_rng(1).permutation(ids.size)
    parts = assign_split(ids, salt="report")
    assert np.array_equal(assign_split(ids[order], salt="report"), parts[order])
    assert np.array_equal(assign_split(ids[:10], salt="report"), parts[:10])
    assert np.array_equal(assign_split(ids.astype(">i8"), salt="report"), parts)


@pytest.mark.parametrize("salt", ["", "report", "été"])
def test_the_shares_are_those_asked_for(salt: str) -> None:
    n = 40_000
    parts = assign_split(np.arange(n), FRACTIONS, salt=salt)
    for name, share in FRACTIONS.items():
        assert abs((parts == name).sum() - n * share) < 4.0 * np.sqrt(n * share * (1.0 - share))


def test_another_salt_is_an_independent_split() -> None:
    one, other = (assign_split(np.arange(20_000), salt=salt) == "test" for salt in ("a", "b"))
    assert abs((one & other).mean() - 0.01) < 4.0 * np.sqrt(0.01 / 20_000)


def test_known_parts_are_pinned() -> None:
    """A change here would move galaxies from test to training in everybody's storage."""
    ids = np.array([*range(40), 2200002241, -1])
    parts = assign_split(ids, {"T": 0.8, "v": 0.1, "e": 0.1}, salt="deblend")
    assert "".join(parts) == "TTTTTTTTvTTTTTvTTTeTTTTTTeveevTTTTTvTTTTTe"


def test_fractions_that_are_no_distribution_are_refused() -> None:
    assert set(assign_split(np.arange(500), {"train": 1.0, "test": 0.0}, salt="")) == {"train"}
    for fractions in ({"train": 0.8, "test": 0.1}, {"train": 1.2, "test": -0.2}, {}, {"train": np.nan}):
        with pytest.raises(SettingsError, match="not a distribution"):
            assign_split(np.arange(3), fractions, salt="")
