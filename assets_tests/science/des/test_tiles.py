"""Tile names are the one thing a user types that reaches queries, paths and URLs."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.errors import SettingsError
from deblend_assets.science.des.tiles import TileArea, signed_degrees, tile_name


@pytest.mark.parametrize("name", ["DES0433-5331", "DES0000+6015", "DES2359-0001", "DES1200+9000"])
def test_a_tile_name_is_returned_as_it_is(name: str) -> None:
    assert tile_name(name) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../../etc",
        "DES0433-5331/../x",
        "DES0433-5331\n",
        " DES0433-5331",
        "des0433-5331",
        "DES2400+0000",
        "DES0060+0000",
        "DES0000+0060",
        "DES0000+9001",
        "DES0000 0000",
        "DES0433-5331' OR '1'='1",
        "DES٠٤٣٣-5331",  # digits, but not ASCII's
        "DES0433-5331" * 1000,
    ],
)
def test_anything_else_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        tile_name(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_an_area_straddles_zero_where_it_starts_east_of_its_end() -> None:
    assert TileArea("DES0000+6015", 0.0, 60.25, 359.5, 0.5, 60.0, 60.5).straddles_zero
    assert not TileArea("DES0004+6015", 1.0, 60.25, 0.5, 1.5, 60.0, 60.5).straddles_zero


@pytest.mark.parametrize(
    ("ra_min", "ra_max", "inside"),
    [(10.0, 11.0, [False, True, False, False]), (359.0, 1.0, [True, False, False, True])],
)
def test_an_area_contains_its_galaxies_also_across_ra_0(ra_min: float, ra_max: float, inside: list[bool]) -> None:
    area = TileArea("DES0000+6015", 0.0, 60.25, ra_min, ra_max, 60.0, 60.5)
    ra = np.array([359.5, 10.5, 11.0, 0.5])
    assert area.contains(ra, np.full(4, 60.0)).tolist() == inside
    assert not area.contains(ra, np.full(4, 60.5)).any()


def test_positions_on_either_side_of_ra_0_are_near() -> None:
    assert signed_degrees(0.25 - 359.75) == 0.5
    assert signed_degrees(359.75 - 0.25) == -0.5
    np.testing.assert_array_equal(signed_degrees(np.array([-180.0, 180.0, 540.5, 0.0])), [-180.0, -180.0, -179.5, 0.0])
