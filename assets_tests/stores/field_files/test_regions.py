"""Pixels that DS9 regions and HealSparse maps lose."""

from __future__ import annotations

import pickle
from pathlib import Path

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.stores.field_files.files import SHAPE, TAN, noise, write_image, write_toml
from deblend_assets.errors import CorruptDataError, DeblendError, MissingDataError
from deblend_assets.stores.field_files import read_field
from deblend_assets.stores.field_files.regions import region_planes

# North up, east left, and a pixel of 0.2 arcsec by 0.1; turned by 30 degrees.
ALONG, TURN = 0.2, np.deg2rad(30)
MATRIX = np.array([[np.cos(TURN), np.sin(TURN)], [-np.sin(TURN), np.cos(TURN)]]) @ np.diag([ALONG, ALONG / 2])
WCS = galsim.TanWCS(
    galsim.AffineTransform(*MATRIX.ravel(), origin=galsim.PositionD(30.5, 25.5)),
    galsim.CelestialCoord(TAN["CRVAL1"] * galsim.degrees, TAN["CRVAL2"] * galsim.degrees),
)
Y, X = np.indices(SHAPE)
# Offsets from CRPIX on the sky [arcsec]: west, north.
WEST, NORTH = (row[0] * (X - 29.5) + row[1] * (Y - 24.5) for row in MATRIX)
EVERYTHING = (slice(0, SHAPE[0]), slice(0, SHAPE[1]))


def lost(folder: Path, text: str) -> NDArray[np.bool_]:
    (folder / "a.reg").write_text(text)
    (plane,) = region_planes([str(folder / "a.reg")], WCS, SHAPE)
    known = plane[EVERYTHING]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(plane))[7:31, 5:50], known[7:31, 5:50])
    return ~known


def in_degrees(x: float, y: float) -> str:
    place = WCS.toWorld(galsim.PositionD(x, y))
    return f"{place.ra.deg},{place.dec.deg}"


def turned(degrees: float) -> tuple[NDArray, NDArray]:
    """Offsets along an axis that far from west over north, and across."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return c * WEST + s * NORTH, -s * WEST + c * NORTH


def test_circles_on_the_sky(tmp_path: Path) -> None:
    expected = np.hypot(WEST, NORTH) <= 2
    for circle in (
        '30.0, -5.0, 2"',
        "30.0 -5.0 0.033333333'",
        "2:00:00.0,-5:00:00.0,0.00055555556",
        '2h0m0s,-5d0m0s,2.0"',
    ):
        np.testing.assert_array_equal(
            lost(tmp_path, f"# Region file\nglobal color=green\nfk5;circle({circle}) # a;b"), expected
        )


def test_ellipses_and_boxes_on_the_sky(tmp_path: Path) -> None:
    along, across = turned(40)
    ellipse = lost(tmp_path, 'icrs\nellipse(30.0,-5.0,3",1",40)')
    np.testing.assert_array_equal(ellipse, np.hypot(along / 3, across) <= 1)
    box = lost(tmp_path, 'icrs\nbox(30.0,-5.0,6",2",40)')
    np.testing.assert_array_equal(box, (np.abs(along) <= 3) & (np.abs(across) <= 1))


def test_polygons_and_shapes_on_the_image_count_from_1(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        lost(tmp_path, "image\npolygon(10.5,5.5, 20.5,5.5, 20.5,15.5, 10.5,15.5)"),
        (X >= 10) & (X < 20) & (Y >= 5) & (Y < 15),
    )
    np.testing.assert_array_equal(lost(tmp_path, "circle(1,1,3)"), np.hypot(X, Y) <= 3)
    corners = ((8.1, 8.2), (30.3, 9.4), (9.6, 40.7))
    sky, on_image = ",".join(in_degrees(*corner) for corner in corners), ",".join(f"{x},{y}" for x, y in corners)
    np.testing.assert_array_equal(lost(tmp_path, f"fk5;polygon({sky})"), lost(tmp_path, f"image;polygon({on_image})"))


def test_what_has_no_area_and_what_is_excluded(tmp_path: Path) -> None:
    text = "image\npoint(5,5) # point=x\ntext(3,3) {star}\ncircle(20,20,8)\n-circle(20,20,4)\ncircle(900,20,8)"
    radius = np.hypot(X - 19, Y - 19)
    np.testing.assert_array_equal(lost(tmp_path, text), (radius <= 8) & (radius > 4))
    assert not lost(tmp_path, 'fk5;circle(210.0,5.0,100")').any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "galactic;circle(1,2,3)",
            r"has the frame 'galactic' \[.*a.reg, line 1\]: give circle, ellipse",
        ),
        ("image\nannulus(1,2,3,4)", r"has the shape 'annulus' \[.*a.reg, line 2\]"),
        ("image;circle(1,2)", r"cannot be read \(2 numbers\): circle\(1,2\) \[.*line 1\]"),
        ("image;circle(1,2,-3)", r"cannot be read \(no positive size\)"),
        ("image;circle(1,x,3)", "cannot be read"),
    ],
)
def test_a_wrong_region_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CorruptDataError, match=said) as failure:
        lost(tmp_path, text)
    assert "\n" not in str(failure.value)


def test_regions_lose_pixels_of_every_band(tmp_path: Path) -> None:
    for band in "gr":
        write_image(tmp_path / f"{band}.fits", noise(), magzero=30.0)
    (tmp_path / "stars.reg").write_text("image;circle(1,1,3)")
    bands = "\n".join(f'[bands.{band}]\nimage = "{band}.fits"' for band in "gr")
    field = read_field(write_toml(tmp_path / "field.toml", f'regions = ["stars.reg"]\n{bands}'))
    for observation in field.bands.values():
        pixels, weight, mask = observation.read(EVERYTHING)
        np.testing.assert_array_equal(weight == 0, np.hypot(X, Y) <= 3)
        np.testing.assert_array_equal(mask != 0, weight == 0)
        assert np.isfinite(pixels).all()


def test_a_healsparse_map(tmp_path: Path) -> None:
    healsparse, hpgeom = pytest.importorskip("healsparse"), pytest.importorskip("hpgeom")
    ra, dec = WCS.xyToradec(X.ravel() + 1.0, Y.ravel() + 1.0, units="degrees")
    inside = np.hypot(WEST, NORTH) < 2
    flags = healsparse.HealSparseMap.make_empty(2**9, 2**20, np.bool_)
    places = np.asarray(ra)[inside.ravel()] % 360, np.asarray(dec)[inside.ravel()]
    flags[np.unique(hpgeom.angle_to_pixel(2**20, *places))] = True
    bits = healsparse.HealSparseMap.make_empty(2**9, 2**20, healsparse.WIDE_MASK, wide_mask_maxbits=12)
    bits.set_bits_pix(flags.valid_pixels, [10])
    for name, sky_map in (("flags.hs", flags), ("bits.hs", bits)):
        sky_map.write(str(tmp_path / name), nocompress=True)  # astropy 6.1 crashes when it compresses a large tile
        (plane,) = region_planes([str(tmp_path / name)], WCS, SHAPE)
        known = plane[EVERYTHING]
        assert not known[inside].any()
        assert known[np.hypot(WEST, NORTH) > 2.3].all()


def test_maps_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"is not a file \[.*none.hs\]"):
        region_planes([str(tmp_path / "none.hs")], WCS, SHAPE)
    (tmp_path / "text.hs").write_text("no map")
    with pytest.raises(DeblendError, match=r"HealSparse map"):
        region_planes([str(tmp_path / "text.hs")], WCS, SHAPE)
    (tmp_path / "sky.reg").write_text('fk5;circle(30,-5,2")')
    with pytest.raises(MissingDataError, match="the image has no celestial coordinates"):
        region_planes([str(tmp_path / "sky.reg")], galsim.PixelScale(0.2), SHAPE)
