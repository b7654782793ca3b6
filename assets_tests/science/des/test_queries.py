"""Queries, run on a database whose answer is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import ArchiveError, SettingsError
from deblend_assets.science.des.queries import (
    GOLD_DEC,
    GOLD_RA,
    SHAPE_COLUMNS,
    TILE_COLUMNS,
    area_of,
    shapes_query,
    tile_query,
    tiles_query,
    truth_query,
)
from deblend_assets.science.des.tiles import TileArea
from deblend_assets.settings import ArchiveSettings

SETTINGS = ArchiveSettings(truth_table="simulation.truth")
ZERO = TileArea("DES0000+6015", 0.0, 60.25, 359.3, 0.7, 60.0, 60.5)
PLAIN = TileArea("DES1200+6000", 180.0, 60.0, 179.5, 180.5, 59.75, 60.25)
EMPTY = TileArea("DES0600-3000", 90.0, -30.0, 89.5, 90.5, -30.25, -29.75)
# id: (ra, dec); the last two have no partner in the other table.
GALAXIES = {
    7: (359.3, 60.1),  # on the lower edge: in
    3: (0.2, 60.2),
    9: (0.7, 60.1),  # on the upper edge: in the neighbouring tile
    4: (180.1, 60.0),
    5: (180.1, 60.25),
    8: (179.9, 59.8),
    11: (180.2, 60.0),
    12: (180.3, 60.0),
}


@pytest.fixture
def archive() -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(":memory:") as connection:
        for schema in ("des_sva1", "des_dr1", "simulation"):
            connection.execute(f"ATTACH ':memory:' AS {schema}")
        connection.execute(f"CREATE TABLE des_sva1.gold_im3shape ({', '.join(SHAPE_COLUMNS)})")
        connection.execute("CREATE TABLE des_sva1.gold_catalog (coadd_objects_id, ra_j2000, dec_j2000)")
        connection.execute(f"CREATE TABLE des_dr1.tile_info ({', '.join(TILE_COLUMNS)})")
        connection.execute("CREATE TABLE simulation.truth (coadd_objects_id, tilename, g1)")
        for identity, (ra, dec) in GALAXIES.items():
            if identity != 12:
                shape = [identity, *(100 * identity + k for k in range(1, len(SHAPE_COLUMNS)))]
                connection.execute(f"INSERT INTO des_sva1.gold_im3shape VALUES ({', '.join('?' * len(shape))})", shape)
            if identity != 11:
                connection.execute("INSERT INTO des_sva1.gold_catalog VALUES (?, ?, ?)", (identity, ra, dec))
        for area in (ZERO, PLAIN, EMPTY):
            row = [area.name, area.ra, area.dec, area.ra_min, area.ra_max, area.dec_min, area.dec_max]
            connection.execute("INSERT INTO des_dr1.tile_info VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("INSERT INTO simulation.truth VALUES (1, ?, 0.1)", (area.name,))
        yield connection


def ask(archive: sqlite3.Connection, adql: str) -> pd.DataFrame:
    return pd.read_sql_query(adql, archive)


def test_shapes_of_a_tile_are_those_inside_its_area_by_id(archive: sqlite3.Connection) -> None:
    rows = ask(archive, shapes_query(SETTINGS, PLAIN))
    assert rows["coadd_objects_id"].tolist() == [4, 8]
    assert rows.columns.tolist() == [*SHAPE_COLUMNS, GOLD_RA, GOLD_DEC]
    assert rows.loc[0, [GOLD_RA, GOLD_DEC]].tolist() == [180.1, 60.0]
    assert rows.loc[0, "e_1"] == 401


def test_shapes_of_a_tile_that_straddles_zero(archive: sqlite3.Connection) -> None:
    assert ask(archive, shapes_query(SETTINGS, ZERO))["coadd_objects_id"].tolist() == [3, 7]


def test_a_tile_without_shapes_answers_with_no_rows(archive: sqlite3.Connection) -> None:
    assert ask(archive, shapes_query(SETTINGS, EMPTY)).empty


def test_tiles_with_shapes_are_named_once_and_those_without_not(archive: sqlite3.Connection) -> None:
    assert ask(archive, tiles_query(SETTINGS))["tilename"].tolist() == [ZERO.name, PLAIN.name]


def test_the_area_of_a_tile_comes_back_as_it_was_listed(archive: sqlite3.Connection) -> None:
    for area in (ZERO, PLAIN):
        assert area_of(ask(archive, tile_query(SETTINGS, area.name)), area.name) == area


def test_truth_is_of_the_one_tile(archive: sqlite3.Connection) -> None:
    assert ask(archive, truth_query(SETTINGS, PLAIN))["tilename"].tolist() == [PLAIN.name]
    with pytest.raises(SettingsError, match="truth_table"):
        truth_query(ArchiveSettings(), PLAIN)


def test_an_unknown_and_a_doubled_tile_are_one_clear_line(archive: sqlite3.Connection) -> None:
    rows = ask(archive, tile_query(SETTINGS, PLAIN.name))
    with pytest.raises(ArchiveError, match="DES1200\\+6000 is not in the archive"):
        area_of(rows.iloc[:0], PLAIN.name)
    with pytest.raises(ArchiveError, match="listed 2 times"):
        area_of(pd.concat([rows, rows]), PLAIN.name)


@pytest.mark.parametrize(("column", "value"), [("udecmin", 61.0), ("uramax", np.nan), ("tilename", "DES0000+0000")])
def test_an_area_that_makes_no_sense_is_refused(archive: sqlite3.Connection, column: str, value: object) -> None:
    rows = ask(archive, tile_query(SETTINGS, PLAIN.name))
    rows[column] = value
    with pytest.raises(ArchiveError, match="is not valid"):
        area_of(rows, PLAIN.name)


def test_only_a_tile_name_gets_into_a_query() -> None:
    with pytest.raises(SettingsError):
        tile_query(SETTINGS, "x' OR '1'='1")
    hostile = TileArea("x' OR '1'='1", 0.0, 0.0, 0.0, 1.0, 0.0, 1.0)
    with pytest.raises(SettingsError):
        truth_query(SETTINGS, hostile)


def test_numbers_are_written_to_their_last_digit() -> None:
    area = TileArea(PLAIN.name, 0.0, 0.0, np.float64(0.1) + 0.2, 1e-7, -1.0 / 3, 1.0)
    text = shapes_query(SETTINGS, area)
    assert ">= 0.30000000000000004" in text
    assert "< 1e-07" in text
    assert ">= -0.3333333333333333 " in text
    assert "np." not in text
