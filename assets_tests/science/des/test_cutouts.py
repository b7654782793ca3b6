"""Cutouts: FITS files made in memory, right ones and every kind of wrong one."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed import compressed
from astropy.wcs import WCS, Sip

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.cutouts import (
    NO_LABEL_IMAGE,
    NOT_CENTRAL,
    OVER_THE_EDGE,
    BandStamp,
    ImageRecord,
    choose_images,
    pixel_sigma,
    psf_of,
    read_band,
    read_weight,
    rejection,
)

RA, DEC = 359.9999, 60.25
SCALE = 0.263
NY, NX = 61, 71


def sky(ra: float = RA, dec: float = DEC, matrix: tuple[float, float, float, float] = (-1, 0, 0, 1)) -> WCS:
    """TAN, the position on the middle of pixel (35, 30), 0-based x and y."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [36, 31]
    wcs.wcs.cd = np.reshape(matrix, (2, 2)) * SCALE / 3600
    return wcs


def pixels() -> np.ndarray:
    """Every pixel's value says which one it is."""
    return (1000 * np.arange(NY)[:, None] + np.arange(NX)).astype(np.float32)


def file(values: np.ndarray | None = None, wcs: WCS | None = None, extension: bool = False, **header: object) -> bytes:
    cards = (wcs or sky()).to_header(relax=True)
    cards.update(header)
    data = pixels() if values is None else values
    hdus: list[object] = [fits.PrimaryHDU(data, cards)]
    if extension:
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(data, cards)]
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()


def read(data: bytes, *, band: str = "r", ra: float = RA, dec: float = DEC, side: int = 45) -> BandStamp | None:
    return read_band(data, band=band, ra=ra, dec=dec, pixels=side, default_zero_point=30.0, where="test image")


def stamp_of(data: bytes, **asked: float) -> BandStamp:
    stamp = read(data, **asked)
    assert stamp is not None
    return stamp


@pytest.mark.parametrize("extension", [False, True])
def test_a_stamp_is_the_pixels_around_the_position(extension: bool) -> None:
    stamp = stamp_of(file(BAND="r", MAGZERO=29.5, extension=extension))
    assert np.array_equal(stamp.counts, pixels()[8:53, 13:58])
    assert stamp.counts.dtype == np.float32
    assert stamp.zero_point == 29.5
    assert stamp.pixel_scale == pytest.approx(SCALE, rel=1e-6)
    assert (stamp.offset_x, stamp.offset_y) == pytest.approx((0, 0), abs=1e-5)


def test_what_is_left_of_the_position_is_the_offset_across_ra_zero() -> None:
    # 1.3 pixels east (left) and 0.4 north (up), beyond RA 0.
    ra = (RA + 1.3 * SCALE / 3600 / np.cos(np.radians(DEC))) % 360
    stamp = stamp_of(file(), ra=ra, dec=DEC + 0.4 * SCALE / 3600)
    assert ra < 1
    assert np.array_equal(stamp.counts, pixels()[8:53, 12:57])
    assert (stamp.offset_x, stamp.offset_y) == pytest.approx((-0.3, 0.4), abs=2e-4)


def test_an_even_stamp_is_centred_within_half_a_pixel() -> None:
    stamp = stamp_of(file(), side=44)
    assert stamp.counts.shape == (44, 44)
    assert abs(stamp.offset_x) == pytest.approx(0.5, abs=1e-4)


def test_a_header_without_band_or_zero_point_is_accepted() -> None:
    assert stamp_of(file()).zero_point == 30.0
    assert stamp_of(file(FILTER="r DECam SDSS c0002 6415.0 1480.0")).zero_point == 30.0


def test_over_the_edge_and_not_exposed_are_none() -> None:
    assert read(file(), side=63) is None
    assert read(file(), ra=RA, dec=DEC + 9 * SCALE / 3600) is None
    assert read(file(np.zeros((NY, NX), np.float32))) is None
    # Clipped by the service, the image may end before the galaxy.
    for beside in (sky(dec=DEC + 40 * SCALE / 3600), sky(ra=RA - 80 * SCALE / 3600), sky(dec=DEC + 56 * SCALE / 3600)):
        assert read(file(wcs=beside)) is None


def hole(values: np.ndarray, y: int, x: int) -> np.ndarray:
    values[y, x] = np.nan
    return values


def test_a_hole_matters_only_inside_the_stamp() -> None:
    stamp_of(file(hole(pixels(), 0, 0)))
    with pytest.raises(ArchiveError, match="1 pixels of the stamp are not finite"):
        read(file(hole(pixels(), 10, 20)))


def bomb() -> bytes:
    return file().replace(b"NAXIS1  =                   71", b"NAXIS1  =            700000000")


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not FITS"),
    "an HTML page": (lambda: b"<html>maintenance</html>", "not FITS"),
    "truncated in the pixels": (lambda: file()[: 2880 + 10_000], "truncated"),
    "truncated in the header": (lambda: file()[:400], "readable|image"),
    "a header that claims the world": (bomb, "truncated"),
    "a header of garbage": (lambda: file()[:80] + b"\xff" * 2800, "readable|image"),
    "no image": (lambda: table_file(), "has no image"),
    "a compressed image": (lambda: compressed_file(), "only compressed ones"),
    "a cube": (lambda: file(np.zeros((2, NY, NX), np.float32)), "two dimensions"),
    "no coordinates": (lambda: file(wcs=WCS(naxis=2)), "celestial"),
    "another band": (lambda: file(BAND="i"), "band 'i', not 'r'"),
    "another filter": (lambda: file(FILTER="Y DECam c0005 10095.0 1130.0"), "band 'Y', not 'r'"),
    "another part of the sky": (lambda: file(wcs=sky(ra=10.0)), "another part of the sky"),
    "the far side of the sky": (lambda: file(wcs=sky(ra=(RA + 180) % 360, dec=-DEC)), "another part of the sky"),
    "just below it": (lambda: file(wcs=sky(dec=DEC + 60 * SCALE / 3600)), "another part of the sky"),
    "just beside it": (lambda: file(wcs=sky(ra=RA - 200 * SCALE / 3600)), "another part of the sky"),
    "distorted, and far away": (lambda: file(wcs=distorted(ra=RA - 1)), "another part of the sky"),
    "a zero point that is no number": (lambda: file(MAGZERO="unknown"), "MAGZERO"),
    "mirrored": (lambda: file(wcs=sky(matrix=(1, 0, 0, 1))), "north up, east left"),
    "upside down": (lambda: file(wcs=sky(matrix=(-1, 0, 0, -1))), "north up, east left"),
    "turned by 180 degrees": (lambda: file(wcs=sky(matrix=(1, 0, 0, -1))), "north up, east left"),
    "turned by 2 degrees": (lambda: file(wcs=sky(matrix=turned(2.0))), "north up, east left"),
    "oblong pixels": (lambda: file(wcs=sky(matrix=(-1.02, 0, 0, 1))), "north up, east left"),
    "enormous pixels": (lambda: file(wcs=sky(matrix=(-100, 0, 0, 100))), "scale of 26.3 arcsec"),
}


def distorted(ra: float = RA) -> WCS:
    """With SIP polynomials, whose inversion does not converge far from the image."""
    wcs = sky(ra=ra)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    bend = np.array([[0, 0, 1e-3], [0, 0, 0], [1e-3, 0, 0]])
    wcs.sip = Sip(bend, bend, None, None, wcs.wcs.crpix)
    return wcs


def turned(degrees: float) -> tuple[float, float, float, float]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (-c, s, s, c)


def compressed_file() -> bytes:
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels(), sky().to_header())]).writeto(buffer)
    return buffer.getvalue()


def table_file() -> bytes:
    buffer = io.BytesIO()
    column = fits.Column("x", "D", array=[1.0])
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column])]).writeto(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_refused_in_one_line_that_names_it(kind: str) -> None:
    make, message = WRONG[kind]
    with pytest.raises(ArchiveError, match=message) as refused:
        read(make())
    assert "test image" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_threads_that_read_cutouts_leave_astropy_as_it_was() -> None:
    """Astropy's `disable_image_compression` is a switch of the whole process, which threads would leave off."""
    data = file()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(stamp is not None for stamp in pool.map(read, [data] * 60))
    finally:
        sys.setswitchinterval(interval)
    assert compressed.COMPRESSION_ENABLED


def test_a_turn_below_a_degree_is_accepted() -> None:
    stamp_of(file(wcs=sky(matrix=turned(0.9))))


def test_weights_are_the_same_pixels_as_the_image() -> None:
    asked = {"band": "r", "ra": RA, "dec": DEC, "pixels": 45, "where": "weights"}
    weights = read_weight(file(), **asked)
    assert weights is not None
    assert np.array_equal(weights, stamp_of(file()).counts)
    # A flat map is what an evenly exposed coadd has, and no sign of a place never exposed.
    assert read_weight(file(np.full((NY, NX), 4.0)), **asked) is not None
    assert read_weight(file(), **{**asked, "pixels": 63}) is None
    with pytest.raises(ArchiveError, match="negative"):
        read_weight(file(-1 - pixels()), **asked)


def record(band: str, product: str, exposure: float, source: str = "a", title: str = "t") -> ImageRecord:
    return ImageRecord(f"http://x/cutout?siaRef={source}&extn=1", band, product, exposure, title)


def test_the_longest_exposure_is_chosen_with_its_own_weights() -> None:
    best, own = record("r", "image", 900, "deep"), record("r", "weight", 900, "deep")
    records = [record("r", "image", 450), record("r", "weight", 900, "another"), own, best, record("i", "image", 90)]
    chosen = choose_images(records, ["g", "r", "i"])
    assert chosen == {"r": (best, own), "i": (records[-1], None)}
    assert choose_images(records[::-1], ["g", "r", "i"]) == chosen


def test_the_psf_is_that_of_the_image_s_file() -> None:
    image, own = record("r", "image", 900, "deep"), record("r", "psf", 0, "deep")
    assert psf_of([record("r", "psf", 900, "another"), image, own], image) == own
    assert psf_of([record("r", "psf", 900, "another"), image], image) is None


def test_weights_are_found_by_exposure_where_files_do_not_tell() -> None:
    image = ImageRecord("http://x/1.fits", "r", "image", 900.0, "t")
    weights = [ImageRecord(f"http://x/{e}.fits", "r", "weight", e, "t") for e in (450.0, 900.0)]
    assert choose_images([image, *weights], ["r"]) == {"r": (image, weights[1])}


def spot(x: float, y: float, flux: float = 1.0, side: int = 45) -> np.ndarray:
    yy, xx = np.indices((side, side)) - (side - 1) / 2
    return flux * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * 1.5**2))


def stamp(counts: np.ndarray, dx: float = 0.0, dy: float = 0.0) -> BandStamp:
    return BandStamp(counts.astype(np.float32), 30.0, SCALE, dx, dy)


def test_a_galaxy_brightest_in_the_centre_is_kept_with_a_band_missing() -> None:
    blend = stamp(spot(1, -1) + spot(10, 5, 0.9))
    assert rejection({"r": blend, "g": None}, "r") is None


def test_reasons_of_rejection() -> None:
    centred = stamp(spot(0, 0))
    assert rejection({"g": centred}, "r") == NO_LABEL_IMAGE
    assert rejection({"g": centred, "r": None}, "r") == OVER_THE_EDGE
    assert rejection({"r": stamp(spot(0, 0) + spot(10, 5, 1.2))}, "r") == NOT_CENTRAL
    assert rejection({"r": stamp(spot(4.4, 0), dx=0.5)}, "r") is None
    assert rejection({"r": stamp(spot(4.4, 0), dx=-0.5)}, "r") == NOT_CENTRAL


def test_what_lies_outside_of_the_report_s_stamp_does_not_reject() -> None:
    wide = np.pad(spot(0, 0), 8)
    wide[4, 5] = wide[55, 30] = 100.0
    assert wide.shape == (61, 61)
    assert rejection({"r": stamp(wide)}, "r") is None
    wide[10, 30] = 100.0
    assert rejection({"r": stamp(wide)}, "r") == NOT_CENTRAL


def test_one_hot_pixel_does_not_decide_which_is_brightest() -> None:
    counts = spot(0, 0)
    counts[3, 40] = 1.5
    assert rejection({"r": stamp(counts)}, "r") is None


def test_noise_of_a_pixel_from_weights_and_from_the_border() -> None:
    noise = np.random.default_rng(1).normal(0, 3.0, (45, 45)).astype(np.float32)
    weight = np.full((45, 45), 0.25, np.float32)
    weight[:10] = 0
    assert pixel_sigma(noise, weight) == 2.0
    crowded = noise.copy()
    crowded[5:-5, 5:-5] += 500
    for missing in (None, np.zeros_like(weight)):
        # 800 pixels give a median absolute deviation to 4 %.
        assert pixel_sigma(crowded, missing) == pytest.approx(3.0, rel=0.12)
