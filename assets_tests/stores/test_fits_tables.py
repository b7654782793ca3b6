"""FITS: units, UCDs and meanings survive in astropy and stand in the standard's keywords; same table, same bytes."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from deblend_assets.science.measuring.measured import (
    BAD_SHAPE,
    FILLED,
    MISSING_BAND,
    NEGATIVE_FLUX,
    NOT_FINITE,
    estimated_blendedness,
    flag_bits,
    matched_snr,
)
from deblend_assets.science.measuring.registry import CatalogColumn, parquet_columns
from deblend_assets.science.measuring.sky_columns import tile_columns
from deblend_assets.stores.fits_tables import to_fits
from deblend_assets.stores.tables import column_units, to_parquet

BANDS = ("u", "g", "r", "i", "z", "Y")
COLUMNS = tile_columns(BANDS)
TEXTS = ("tile", "bands_present", "reference_band", "model_version")
NOTE = "One row a galaxy; a note that is longer than the seventy-two characters that one line of COMMENT holds."


@pytest.fixture
def table() -> pd.DataFrame:
    """Every column, with what is hard to keep: a long id, NaN, false, texts of unlike length."""
    whole = pd.DataFrame({name: np.linspace(-1, 1, 4, dtype=np.float32) for name in COLUMNS})
    return whole.assign(
        coadd_objects_id=np.array([2**53 + 1, 3, 4, 5]),
        tile="DES0000+6015",
        ra=[0.0, 359.999999999, np.nan, 12.0],
        g1=[0.1, np.nan, -0.5, 0.0],
        bands_present=["ugrizY", "r", "", "gr"],
        reference_band=["r", "r", "", "r"],
        flags=np.array([0, 1, 6, 2**30], np.int32),
        model_version="0123456789ab",
        simulated=[True, False, True, False],
    )


def read(data: bytes) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Table.read(io.BytesIO(data), mask_invalid=False)


def test_rows_units_and_descriptions_survive_in_astropy(table: pd.DataFrame) -> None:
    found = read(to_fits(table, COLUMNS, NOTE, {"MODEL": "0123456789ab", "SIMULATD": True}))
    assert found.colnames == list(COLUMNS)
    for name, column in COLUMNS.items():
        assert str(found[name].unit or "") == column.unit
        assert found[name].description == column.meaning
        assert found[name].meta["ucd"] == column.ucd
    back = found.to_pandas()
    for name in TEXTS:
        back[name] = back[name].str.decode("ascii")
        assert list(back[name]) == list(table[name])
    for name in set(COLUMNS) - set(TEXTS):
        np.testing.assert_array_equal(back[name].to_numpy(), table[name].to_numpy())
        assert back[name].dtype == table[name].dtype
    assert (found.meta["MODEL"], found.meta["SIMULATD"]) == ("0123456789ab", True)
    assert NOTE in " ".join(found.meta["comments"])


def test_the_header_is_of_the_standard(table: pd.DataFrame) -> None:
    data = to_fits(table, COLUMNS, NOTE, {"MODEL": "x"})
    assert len(data) % 2880 == 0
    with fits.open(io.BytesIO(data)) as opened:
        opened.verify("exception")
        header = opened[1].header
        assert header["EXTNAME"] == "SHAPES"
        for k, (name, column) in enumerate(COLUMNS.items(), start=1):
            assert (header[f"TTYPE{k}"], header[f"TUCD{k}"]) == (name, column.ucd)
            assert header[f"TCOMM{k}"] == column.meaning
            assert header.get(f"TUNIT{k}", "") == column.unit
        assert not any(len(keyword) > 8 for keyword in header)


def test_the_same_table_is_the_same_bytes_and_another_is_not(table: pd.DataFrame) -> None:
    data = to_fits(table, COLUMNS, NOTE, {"MODEL": "x"})
    assert to_fits(table.set_axis(range(5, 9)), COLUMNS, NOTE, {"MODEL": "x"}) == data
    assert to_fits(table, COLUMNS, NOTE, {"MODEL": "y"}) != data


def test_an_empty_table_keeps_its_columns(table: pd.DataFrame) -> None:
    found = read(to_fits(table[:0], COLUMNS, NOTE, {}))
    assert len(found) == 0
    assert found.colnames == list(COLUMNS)
    assert str(found["ra"].unit) == "deg"


def test_what_a_user_brings_is_kept_as_far_as_fits_can_hold_it() -> None:
    """Letters, missing integers, and names and units that no standard has."""
    own = pd.DataFrame(
        {
            "Größe": ["klein", "groß", ""],
            "number": pd.array([-(2**63), None, 7], "Int64"),
            "tiny": pd.array([0, None, 255], "UInt8"),
            "good": pd.array([True, None, False], "boolean"),
            "time": [1.0, 2.0, np.nan],
            "none": ["", "", ""],
        }
    )
    units = {"Größe": "µJy", "time": '"h:m:s"'}
    columns = {name: CatalogColumn[object](units.get(name, ""), "", "given") for name in own}
    data = to_fits(own, columns, NOTE, {})
    found = Table.read(io.BytesIO(data), mask_invalid=False, unit_parse_strict="silent")
    assert found.colnames == ["Gr\\xf6\\xdfe", *list(own)[1:]]
    assert found["Gr\\xf6\\xdfe"].tolist() == ["klein", "gro\\xdf", ""]
    assert found["number"].tolist() == [-(2**63), None, 7]
    assert found["tiny"].tolist() == [0, None, 255]
    assert found["good"].tolist() == ["True", "", "False"]
    assert str(found["time"].unit) == '"h:m:s"'
    with fits.open(io.BytesIO(data)) as opened:
        opened.verify("exception")


def test_what_fits_cannot_hold_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match="secret"):
        to_fits(table.assign(secret=1), COLUMNS, NOTE, {})
    for keyword in ("TOOLONGKEY", "small", "A B"):
        with pytest.raises(ValueError, match="not a FITS keyword"):
            to_fits(table, COLUMNS, NOTE, {keyword: 1})


def test_parquet_carries_the_same_units(table: pd.DataFrame) -> None:
    data = to_parquet(table, parquet_columns(COLUMNS), NOTE)
    assert column_units(data) == {name: (column.unit, column.meaning) for name, column in COLUMNS.items()}
    ucds = {field.name: field.metadata[b"ucd"].decode() for field in pq.read_schema(io.BytesIO(data))}
    assert ucds == {name: column.ucd for name, column in COLUMNS.items()}


def test_flags_are_the_sum_of_what_is_wrong() -> None:
    present = np.array([[True, True], [True, False], [True, True], [False, False], [True, True]])
    g1, g2 = np.array([0.1, 0.1, 0.8, np.nan, 0.0]), np.array([0.2, 0.2, 0.7, 0.0, 0.0])
    flux = np.array([5.0, 5.0, 5.0, -1.0, np.nan])
    every = MISSING_BAND | BAD_SHAPE | NEGATIVE_FLUX
    expected = [0, MISSING_BAND, BAD_SHAPE, every, NEGATIVE_FLUX]
    found = flag_bits(present, g1, g2, flux)
    assert list(found) == expected
    assert found.dtype == np.int32
    broken = np.array([True, False, False, False, True])
    assert list(flag_bits(present, g1, g2, flux, broken) - found) == [NOT_FINITE, 0, 0, 0, NOT_FINITE]
    assert list(flag_bits(present, g1, g2, flux, filled=broken) - found) == [FILLED, 0, 0, 0, FILLED]


def test_blendedness_and_snr_of_known_images() -> None:
    own = np.zeros((3, 5, 5))
    own[:, 2, 2] = 10.0
    observed = own.copy()
    observed[1, 2, 2] = 20.0  # a neighbour as bright on the same pixel
    observed[2] = -1.0
    found = estimated_blendedness(own, observed)
    np.testing.assert_allclose(found[:2], [0.0, 0.5])
    assert np.isnan(found[2])
    np.testing.assert_allclose(matched_snr(own, np.array([1.0, 2.0, 5.0])), [10.0, 5.0, 2.0])
