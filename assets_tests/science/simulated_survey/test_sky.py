"""Tiles of known truth: where things lie, which way they point, how bright they are, and what is wrong with them."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from assets_tests.skies import SIDE, shared_tiles, small_sky, tile_field
from deblend_assets.errors import CorruptDataError, MissingDataError, SettingsError
from deblend_assets.science.des.cuts import MISSING
from deblend_assets.science.simulated_survey.columns import (
    GOLD_TABLE,
    SHAPE_TABLE,
    TILE_TABLE,
    TRUTH_TABLE,
    table_columns,
)
from deblend_assets.science.simulated_survey.fitted_psf import fitted_psfs
from deblend_assets.science.simulated_survey.geometry import TileGeometry, tile_centre
from deblend_assets.science.simulated_survey.sky import TileSky, observe_tile, tile_overlap
from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.fields import Field
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.skies.psf_files import read_psf
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.skies.psfex_psf import PSFExPSF
from deblend_assets.settings import Profile
from deblend_assets.stores.sky import SimulatedSky

ARCSEC = 1 / 3600


@pytest.fixture(scope="module")
def tiles(catalog: pd.DataFrame, profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> list[TileSky]:
    return shared_tiles(tmp_path_factory, catalog, profile)[1]


@pytest.fixture(scope="module")
def tile(tiles: list[TileSky]) -> TileSky:
    return tiles[0]


@pytest.fixture(scope="module")
def field(catalog: pd.DataFrame, profile: Profile, tile: TileSky) -> Field:
    """Of which `tile` was made."""
    return tile_field(catalog, small_sky(profile), tile.name)


def truth_of(tile: TileSky) -> pd.DataFrame:
    return tile.tables.tables[TRUTH_TABLE]


def pixels_of(tile: TileSky, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """x, y from 0 of positions on the sky."""
    x, y = WCS(fits.Header(tile.header("r", "image"))).all_world2pix(rows["ra"], rows["dec"], 0)
    return x, y


# -- geometry ---------------------------------------------------------------------------------------------------


def test_a_tiles_name_tells_its_centre() -> None:
    assert tile_centre("DES1200+6000") == (180.0, 60.0)
    assert tile_centre("DES0030-0030") == (7.5, -0.5), "the sign counts where the degrees are zero"
    with pytest.raises(SettingsError):
        tile_centre("DES2400+0000")


@pytest.mark.parametrize("name", ["DES1200+6000", "DES0000+6015", "DES2359-4500"])
def test_pixels_lie_where_a_gnomonic_projection_puts_them(name: str) -> None:
    """Analytic: tan(distance from the centre) is the offset in the plane; north is up, east is left."""
    geometry = TileGeometry.of_tile(name, 1001, 0.2637)
    x, y = np.array([500.0, 520.0, 500.0, 0.0]), np.array([500.0, 500.0, 520.0, 1000.0])
    ra, dec = geometry.sky(x, y)
    assert (ra >= 0).all()
    assert (ra < 360).all()
    centre = SkyCoord(geometry.ra, geometry.dec, unit="deg")
    points = SkyCoord(ra, dec, unit="deg")
    offset = np.hypot(x - 500, y - 500) * 0.2637 * ARCSEC
    assert np.tan(centre.separation(points).radian) == pytest.approx(np.radians(offset), rel=1e-9, abs=1e-12)
    # Position angles are counted from north through east: 270° is west, the right of the image.
    angles = centre.position_angle(points[1:]).to_value(units.deg)
    assert angles == pytest.approx([270, 0, 45], abs=1e-6)
    # cos δ: a step of columns is a larger step in right ascension.
    step = (ra[0] - ra[1] + 180) % 360 - 180
    assert step == pytest.approx(20 * 0.2637 * ARCSEC / np.cos(np.radians(geometry.dec)), rel=1e-4)


def test_positions_go_to_pixels_and_back() -> None:
    geometry = TileGeometry.of_tile("DES0000+6015", 195, 0.2637)
    x, y = np.meshgrid(np.linspace(0, 194, 5), np.linspace(0, 194, 5))
    back = geometry.wcs().all_world2pix(*geometry.sky(x, y), 0)
    assert back == pytest.approx(np.stack([x, y]), abs=1e-6)


def test_bounds_hold_the_tile_and_straddle_ra_0() -> None:
    geometry = TileGeometry.of_tile("DES0000+6015", 195, 0.2637)
    ra_min, ra_max, dec_min, dec_max = geometry.bounds()
    assert ra_min > 359.9
    assert ra_max < 0.1
    edge = np.linspace(-0.5, 194.5, 40)
    for x, y in ((edge, edge), (edge, edge[::-1]), (edge, 0 * edge + 194.5)):
        ra, dec = geometry.sky(x, y)
        assert ((ra >= ra_min - 1e-9) | (ra <= ra_max + 1e-9)).all()
        assert ((dec >= dec_min - 1e-9) & (dec <= dec_max + 1e-9)).all()
    half = 97.5 * 0.2637 * ARCSEC
    assert dec_max == pytest.approx(60.25 + half, abs=1e-6)


# -- images -----------------------------------------------------------------------------------------------------


def test_a_tile_is_one_image_of_its_field_in_counts(tile: TileSky, field: Field) -> None:
    """Images less the light are noise, of the variance that the weights and the photons of the sources say."""
    sky = field.sky
    residual = np.stack([band.residual.image(sky.shape) for band in sky.bands.values()])
    for b, band in enumerate("griz"):
        unit = 10 ** (0.4 * (30 - sky.column("zero_point")[b]))
        image, weight = tile.images[band], tile.weights[band]
        assert image.shape == weight.shape == (SIDE, SIDE)
        seen = weight > 0
        light = (field.light[b] + residual[b]) * unit
        pull = (image - light) * np.sqrt(
            weight / (1 + sky.source_variance(field.light)[b] / sky.column("sigma")[b] ** 2)
        )
        assert np.median(pull[seen]) == pytest.approx(0.0, abs=0.05)
        assert 1.4826 * np.median(np.abs(pull[seen])) == pytest.approx(1.0, abs=0.03)
        assert weight[seen] == pytest.approx(1 / (sky.column("sigma")[b] * unit) ** 2, rel=1e-5)
    assert 0 < np.mean([(weight == 0).mean() for weight in tile.weights.values()]) < 0.1, "masked pixels have weight 0"


def test_y_ends_before_the_others(tile: TileSky) -> None:
    assert tile.images["Y"].shape == tile.weights["Y"].shape == (SIDE, SIDE - 52)


def test_every_source_lies_and_points_where_the_truth_says(tile: TileSky, field: Field) -> None:
    """Moments of single sources' light, whose centre the WCS of the header puts at the true position."""
    truth = truth_of(tile)
    x, y = pixels_of(tile, truth)
    _, rows = cKDTree(np.stack([field.sources.x, field.sources.y], axis=-1)).query(np.stack([x, y], axis=-1))
    assert np.hypot(field.sources.x[rows] - x, field.sources.y[rows] - y).max() < 1e-4
    known = np.flatnonzero(truth["e1"].notna())[:12]
    assert len(known) == 12
    for k in known:
        body = field.sources.bodies[rows[k : k + 1]]
        image = field.renderer.alone(body, x[k : k + 1], y[k : k + 1], 63)[0, 1].astype(float)
        moments = galsim.hsm.FindAdaptiveMom(galsim.Image(image / image.max()), guess_sig=2.0).observed_shape
        assert (truth["e1"][k], truth["e2"][k]) == pytest.approx((moments.e1, -moments.e2), abs=3e-3)
    galaxies = (truth["star"] == 0).to_numpy()
    true = field.sources.shapes.g[rows]
    assert truth["g1"].to_numpy()[galaxies] == pytest.approx(true.real[galaxies])
    assert truth["g2"].to_numpy()[galaxies] == pytest.approx(-true.imag[galaxies]), "their frame is +x east"
    assert truth.loc[~galaxies, ["g1", "g2"]].isna().all(axis=None)
    assert galaxies.any()
    assert not galaxies.all()


def test_light_within_a_cutout_is_everything_but_noise(tile: TileSky) -> None:
    truth = truth_of(tile)
    x, y = (np.round(v).astype(int) for v in pixels_of(tile, truth))
    whole = truth["stamp_flux_g"].notna().to_numpy()
    inside = (np.minimum(x, y) >= 30) & (np.maximum(x, y) < SIDE - 30)
    listed = truth["coadd_objects_id"].isin(tile.tables.tables[GOLD_TABLE]["coadd_objects_id"]).to_numpy()
    assert (whole == (inside & listed)).all()
    for k in np.flatnonzero(whole):
        box = (slice(y[k] - 30, y[k] + 31), slice(x[k] - 30, x[k] + 31))
        noise = 61 / tile.weights["g"].max() ** 0.5
        assert tile.images["g"][box].sum() == pytest.approx(truth["stamp_flux_g"][k], abs=float(6 * noise))
    assert 30 - 2.5 * np.log10(truth["flux_r"].to_numpy()) == pytest.approx(truth["mag_r"].to_numpy())


# -- PSF --------------------------------------------------------------------------------------------------------


def test_the_psf_s_file_is_the_psf_all_over_the_field(field: Field) -> None:
    psfs = FieldRenderer(field.sky, 3)
    for band, psf in enumerate(fitted_psfs(psfs, 31)):
        where = [psfs.centre(number) for number in range(9)]
        fitted, true = (
            measure_psf_images(np.stack([image(*place) for place in where]).astype(np.float32))
            for image in (psf.image, lambda x, y, band=band: psfs.psf_images(x, y, 31)[band])
        )
        assert fitted.fwhm == pytest.approx(true.fwhm, rel=2e-3)
        assert np.ptp(true.fwhm) > 4 * np.abs(fitted.fwhm - true.fwhm).max(), "it varies"


def test_the_seeing_is_the_survey_s_and_the_shapes_table_has_it(tile: TileSky) -> None:
    shapes = tile.tables.tables[SHAPE_TABLE]
    assert shapes["mean_psf_fwhm"].mean() * 0.2637 == pytest.approx(0.96, rel=0.03)
    assert shapes["mean_psf_e2_sky"].abs().max() < 0.1


# -- tables -----------------------------------------------------------------------------------------------------


def test_gold_positions_lead_to_the_true_ones_with_cos_delta(tiles: list[TileSky]) -> None:
    for tile in tiles:
        tables = tile.tables.tables
        rows = tables[SHAPE_TABLE].drop_duplicates("coadd_objects_id").merge(tables[GOLD_TABLE], on="coadd_objects_id")
        rows = rows.merge(tables[TRUTH_TABLE], on="coadd_objects_id", suffixes=("", "_true"))
        true = SkyCoord(rows["ra"], rows["dec"], unit="deg")

        def offset(rows: pd.DataFrame, true: SkyCoord, divisor: np.ndarray | float) -> np.ndarray:
            ra = rows["ra_j2000"] + rows["ra_shift"] / 3600 / divisor
            there = SkyCoord(ra, rows["dec_j2000"] + rows["dec_shift"] / 3600, unit="deg")
            return true.separation(there).arcsec

        right = offset(rows, true, np.cos(np.radians(rows["dec_j2000"])))
        assert np.sqrt(np.mean(right**2)) == pytest.approx(0.02 * 2**0.5, rel=0.35)
        assert right.max() < 0.1
        assert np.median(offset(rows, true, 1.0)) > 0.05, "without cos δ the shift is half of what it should be"
        assert rows["ra_j2000"].between(0, 360, inclusive="left").all()


def test_shapes_are_truth_with_the_bias_and_noise_they_declare(tiles: list[TileSky]) -> None:
    pulls = []
    for tile in tiles:
        shapes = tile.tables.tables[SHAPE_TABLE].merge(tile.tables.tables[TRUTH_TABLE], on="coadd_objects_id")
        shapes = shapes[shapes["e_1"] != MISSING].drop_duplicates("coadd_objects_id")
        sigma = np.minimum(0.02 + 4 / shapes["snr_r_y"], 0.4)
        assert shapes["w"].to_numpy() == pytest.approx(1 / (0.22**2 + sigma**2))
        for k in (1, 2):
            expected = (1 + shapes["nbc_m"]) * shapes[f"g{k}"] + shapes[f"nbc_c{k}"]
            pulls.append(((shapes[f"e_{k}"] - expected) / sigma).to_numpy())
    pull = np.concatenate(pulls)
    assert pull.mean() == pytest.approx(0, abs=4 / len(pull) ** 0.5)
    assert pull.std() == pytest.approx(1, abs=4 / (2 * len(pull)) ** 0.5)


def test_faults_are_counted_and_none_hides_another(tiles: list[TileSky]) -> None:
    for tile in tiles:
        shapes, faults = tile.tables.tables[SHAPE_TABLE], tile.tables.faults
        gold = set(tile.tables.tables[GOLD_TABLE]["coadd_objects_id"])
        found = {
            "error_flag": shapes["error_flag"] != 0,
            "info_flag": shapes["info_flag"] != 0,
            "missing_e": shapes["e_1"] == MISSING,
            "missing_snr": shapes["snr_w"].isna(),
            "duplicated": shapes["coadd_objects_id"].duplicated(),
            "unmatched": ~shapes["coadd_objects_id"].isin(gold),
        }
        assert {name: int(rows.sum()) for name, rows in found.items()} == faults
        assert min(faults.values()) >= 1
        assert pd.concat(found, axis=1).sum(axis=1).max() == 1
        assert ((shapes["e_1"] == MISSING) == (shapes["e_2"] == MISSING)).all()


def test_sources_that_stand_out_are_listed_and_of_close_ones_the_brighter(tile: TileSky) -> None:
    tables, truth = tile.tables.tables, truth_of(tile)
    assert truth["coadd_objects_id"].is_unique
    assert truth["coadd_objects_id"].dtype == np.int64
    gold = truth["coadd_objects_id"].isin(tables[GOLD_TABLE]["coadd_objects_id"])
    listed = truth["coadd_objects_id"].isin(tables[SHAPE_TABLE]["coadd_objects_id"])
    assert (listed == (gold & (truth["star"] == 0))).all(), "stars are detected, and have no shape"
    assert (truth.loc[gold, "snr_r"] > 5).all()
    position = np.stack(pixels_of(tile, truth), axis=-1)
    for k in np.flatnonzero(~gold & (truth["snr_r"] > 5)):
        near = np.hypot(*(position - position[k]).T) < 0.97 / 0.2637
        assert (truth.loc[near, "snr_r"] > truth["snr_r"][k]).any(), "hidden by a brighter one within a FWHM"
    columns = table_columns(tuple(tile.images))
    assert {name: list(table.columns) for name, table in tables.items()} == {k: list(v) for k, v in columns.items()}


def test_a_tile_s_own_area_leaves_whole_stamps(tile: TileSky, profile: Profile) -> None:
    row = tile.tables.tables[TILE_TABLE].iloc[0]
    assert row["tilename"] == tile.name
    corners = pd.DataFrame(
        {"ra": [row["uramin"], row["uramax"]] * 2, "dec": [row["udecmin"]] * 2 + [row["udecmax"]] * 2}
    )
    x, y = pixels_of(tile, corners)
    assert min(x.min(), y.min()) > 31
    assert max(x.max(), y.max()) < SIDE - 32
    assert row["racmin"] < row["uramin"] < row["uramax"] < row["racmax"]
    assert tile_overlap(profile.des) == 40


def test_the_same_tile_again_and_another_under_another_name(
    tiles: list[TileSky], field: Field, profile: Profile
) -> None:
    tile, other = tiles
    again = observe_tile(tile.name, field, load_survey("DES"), small_sky(profile))
    for band in tile.images:
        assert again.images[band].tobytes() == tile.images[band].tobytes()
        assert other.images[band].tobytes() != tile.images[band].tobytes()
        assert again.psfs[band].basis.tobytes() == tile.psfs[band].basis.tobytes()
    for name, table in tile.tables.tables.items():
        pd.testing.assert_frame_equal(again.tables.tables[name], table)
        assert not set(other.tables.tables[name].iloc[:, 0]) & set(table.iloc[:, 0]), name


@pytest.mark.parametrize(("section", "key", "value"), [("simulation", "survey", "LSST"), ("sky", "pixels", 170)])
def test_what_the_simulated_archive_cannot_hold_is_refused_before_it_is_drawn(
    profile: Profile, section: str, key: str, value: str | int
) -> None:
    changed = getattr(profile.des, section).model_copy(update={key: value})
    wide = profile.des.tiles.model_copy(update={"stamp_pixels": 67})
    with pytest.raises(SettingsError, match=rf"{value}.*\[des\.{section}\.{key}\]"):
        tile_overlap(profile.des.model_copy(update={"tiles": wide, section: changed}))


# -- store ------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tile: TileSky, tmp_path: Path) -> None:
    sky = SimulatedSky(tmp_path / "sky")
    assert not sky.finished("a")
    with pytest.raises(MissingDataError, match="materialise des/simulated_sky"):
        sky.record()
    sky.write([tile], "a", {"galsim": "2"})
    assert sky.finished("a")
    assert not sky.finished("b")
    assert sky.check()["faults"] == {tile.name: tile.tables.faults}
    header, pixels = sky.image(tile.name, "Y", "image")
    assert np.array_equal(pixels, tile.images["Y"])
    assert (header["MAGZERO"], header["FILTER"], header["SIMULATE"]) == (30.0, "Y DECam c0005 10095.0 1130.0", True)
    assert np.array_equal(sky.image(tile.name, "g", "weight").pixels, tile.weights["g"])
    (tmp_path / "psf.fits").write_bytes(sky.psf(tile.name, "r"))
    read = read_psf(tmp_path / "psf.fits", tile.geometry.pixel_scale)
    assert isinstance(read, PSFExPSF)
    assert read.image(40, 150) == pytest.approx(tile.psfs["r"].image(40, 150), abs=1e-7)
    pd.testing.assert_frame_equal(sky.table(TRUTH_TABLE), tile.tables.tables[TRUTH_TABLE])
    assert sky.columns(GOLD_TABLE)["ra_j2000"][0] == "deg"
    with pytest.raises(MissingDataError):
        sky.image("../../etc/passwd", "g", "image")
    with pytest.raises(MissingDataError):
        sky.table("../../etc/passwd")


def test_the_same_tiles_make_the_same_bytes(tile: TileSky, tmp_path: Path) -> None:
    for name in ("one", "two"):
        SimulatedSky(tmp_path / name).write([tile], "a", {})
    one, two = (SimulatedSky(tmp_path / name).check()["files"] for name in ("one", "two"))
    assert one == two
    assert len(one) == 19
    assert fits.open(io.BytesIO((tmp_path / "one" / f"{tile.name}_r.fits").read_bytes()))[0].header["BAND"] == "r"


def test_a_killed_survey_is_not_trusted_and_made_anew(tile: TileSky, tmp_path: Path) -> None:
    """kill -9 of a process between two tiles, over a survey that was finished before."""
    sky = SimulatedSky(tmp_path / "sky")
    sky.write([tile], "a", {})

    def killed() -> Iterator[TileSky]:
        yield tile
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        sky.write(killed(), "a", {})
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not sky.finished("a")
    with pytest.raises(MissingDataError):
        sky.check()
    sky.write([tile], "a", {})
    assert sky.finished("a")
    assert sky.check()


def test_a_spoilt_or_lost_file_is_seen(tile: TileSky, tmp_path: Path) -> None:
    sky = SimulatedSky(tmp_path / "sky")
    sky.write([tile], "a", {})
    path = sky.folder / f"{tile.name}_i.fits"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"_i\.fits"):
        sky.check()
    path.unlink()
    assert not sky.finished("a")
    sky.marker.write_text("[]")
    assert not sky.finished("a")
