"""A tile in cells: they cover it once, each within the size limit, and its pixels are those of the archive's images."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.fits_image import FitsImage
from deblend_assets.science.des.tile_images import GridBox, TileFrame, around, cells_of, require_whole
from deblend_assets.science.des.tiles import TileArea
from deblend_assets.science.simulated_survey.geometry import TileGeometry

GEOMETRY = TileGeometry(ra=0.0, dec=-47.0, pixels=10_000, pixel_scale=0.263)
MEBIBYTE = 2**20


def image(x0: int, y0: int, side: int = 20, **cards: float) -> FitsImage:
    """A cutout of the tile whose first pixel is (x0, y0) of the tile's own."""
    geometry = GEOMETRY.cards()
    header = fits.Header(geometry | {"CRPIX1": geometry["CRPIX1"] - x0, "CRPIX2": geometry["CRPIX2"] - y0} | cards)
    return FitsImage(np.zeros((side, side), np.float32), header, WCS(header), "a cutout")


def area(**changes: float) -> TileArea:
    """The tile's outline, which straddles RA 0."""
    ra_min, ra_max, dec_min, dec_max = GEOMETRY.bounds()
    given = {"ra": 0.0, "dec": -47.0, "ra_min": ra_min, "ra_max": ra_max, "dec_min": dec_min, "dec_max": dec_max}
    return TileArea("DES0000-4700", **(given | changes))


@pytest.mark.parametrize("dec", [0.0, -47.0, 60.0])
@pytest.mark.parametrize("limit", [0.2, 5.0])
def test_cells_cover_a_region_once_and_none_is_larger_than_an_answer_may_be(dec: float, limit: float) -> None:
    region = GridBox(-37, 11, 2963, 2511)
    cells = cells_of(region, dec, int(limit * MEBIBYTE))
    seen = np.zeros(region.shape, dtype=np.uint8)
    for box in cells.boxes:
        seen[box.within(region)] += 1
    assert (seen == 1).all()
    frame = TileFrame.of(image(0, 0))
    widest = max(cells.request(box, frame)[2] for box in cells.boxes) / frame.pixel_scale
    # A width along right ascension is taken as a difference of coordinates.
    sent = 4 * (widest + 2) ** 2 / np.cos(np.radians(dec))
    assert 0.5 * limit * MEBIBYTE < sent < 0.95 * limit * MEBIBYTE
    assert cells.bytes >= 4 * region.area / np.cos(np.radians(dec))
    assert cells.bytes < 2.2 * region.area * 4 / np.cos(np.radians(dec))


def test_a_region_is_the_tile_s_own_area_with_a_margin_also_across_ra_0() -> None:
    frame = TileFrame.of(image(4990, 4990))
    region = frame.region(area(), 0)
    mosaic = GridBox(-4990, -4990, 5010, 5010)
    assert region.common(mosaic) == mosaic
    assert max(region.shape) < 10_200, "parallels are curved, no more"
    assert frame.region(area(), 60).shape == (region.shape[0] + 120, region.shape[1] + 120)
    ra, dec = frame.sky(9.5, 9.5)
    assert (min(ra, 360 - ra), dec) == pytest.approx((0, -47), abs=1e-9)


def test_an_area_without_a_bound_is_refused_before_anything_is_requested() -> None:
    frame = TileFrame.of(image(4990, 4990))
    for wrong in ({"dec_max": 20.0}, {"ra_min": 10.0, "ra_max": 350.0}):
        with pytest.raises(ArchiveError, match="20,000 pixels"):
            frame.region(area(**wrong), 0)


def test_a_cutout_is_placed_by_whole_pixels_and_no_other_grid_is_taken() -> None:
    frame = TileFrame.of(image(4990, 4990))
    assert frame.place(image(5000, 4000)) == GridBox(10, -990, 30, -970)
    middle = GEOMETRY.cards()["CRPIX1"]
    assert isinstance(middle, float)
    for cards in ({"CRPIX1": middle - 4990.4}, {"CRVAL2": -47.001}, {"CD1_1": 0.263 / 3600}, {"CD2_2": 0.27 / 3600}):
        with pytest.raises(ArchiveError, match="arcsec off the tile's other images"):
            frame.place(image(4990, 4990, **cards))


def test_gaps_within_an_image_are_seen_and_an_image_may_end_early() -> None:
    cells = [GridBox(0, 0, 5, 5), GridBox(5, 0, 8, 5), GridBox(0, 5, 5, 7), GridBox(5, 5, 8, 7)]
    assert require_whole(cells, "r") == around(cells) == GridBox(0, 0, 8, 7)
    with pytest.raises(ArchiveError, match="leave out 4 pixels"):
        require_whole([*cells[:3], GridBox(5, 5, 7, 6)], "r")
