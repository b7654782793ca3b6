"""Tiles of known truth: where things lie, which way they point, how bright they are, and what is wrong with them."""

from __future__ import annotations

import dataclasses
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

from assets_tests.skies import draw_tiles, render_tile, small_sky
from deblend_assets.errors import CorruptDataError, MissingDataError, SettingsError
from deblend_assets.science.des.cuts import MISSING
from deblend_assets.science.simulated_survey.columns import (
    GOLD_TABLE,
    SHAPE_TABLE,
    TILE_TABLE,
    TRUTH_TABLE,
    table_columns,
)
from deblend_assets.science.simulated_survey.geometry import TileGeometry, tile_centre
from deblend_assets.science.simulated_survey.sky import CELL_PIXELS, TileSky, assemble_tile, sky_simulation, tile_shard
from deblend_assets.science.simulation.rendering import RenderedScenes
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.settings import DesSettings, Profile
from deblend_assets.stores.sky import SimulatedSky

ARCSEC = 1 / 3600


@pytest.fixture(scope="module")
def settings(profile: Profile) -> DesSettings:
    return small_sky(profile)


@pytest.fixture(scope="module")
def survey() -> SurveyModel:
    return load_survey("DES")


@pytest.fixture(scope="module")
def scenes(catalog: pd.DataFrame, settings: DesSettings, survey: SurveyModel) -> RenderedScenes:
    return render_tile(catalog, settings, survey, settings.sky.tiles[0])


@pytest.fixture(scope="module")
def tile(scenes: RenderedScenes, settings: DesSettings, survey: SurveyModel) -> TileSky:
    return assemble_tile(settings.sky.tiles[0], scenes, survey, settings)


def targets_of(tile: TileSky) -> pd.DataFrame:
    truth = tile.tables.tables[TRUTH_TABLE]
    return truth[truth["member"] == 0].reset_index(drop=True)


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


def test_each_scene_fills_its_cell_in_counts_of_zero_point_30(
    tile: TileSky, scenes: RenderedScenes, survey: SurveyModel
) -> None:
    for b, band in enumerate("griz"):
        factor = 10 ** (0.4 * (30 - survey.zero_point[b]))
        cell = tile.images[band][CELL_PIXELS : 2 * CELL_PIXELS, 2 * CELL_PIXELS :]
        light = scenes.blended[5, b] * factor
        # Within half an electron: a coadd's pixels are no whole ones.
        assert cell == pytest.approx(light, rel=1e-5, abs=0.501 * factor), "row 1, column 2"
        assert (cell - light).std() == pytest.approx(factor / 12**0.5, rel=0.03)
        assert tile.weights[band] == pytest.approx(1 / (survey.sky[b] * factor**2), rel=1e-6)


def test_weights_are_those_of_the_empty_skys_noise(tile: TileSky) -> None:
    corners = np.stack([tile.images["g"][r : r + 8, c : c + 8] for r in (0, 65, 130) for c in (0, 65, 130)])
    spread = 1.4826 * np.median(np.abs(corners - np.median(corners)))
    assert spread * tile.weights["g"][0, 0] ** 0.5 == pytest.approx(1, abs=0.15)


def test_y_ends_within_the_last_column_of_cells(tile: TileSky, settings: DesSettings) -> None:
    assert tile.images["Y"].shape == tile.weights["Y"].shape == (195, 162)
    x, _ = tile.geometry.wcs().all_world2pix(targets_of(tile)["ra"], targets_of(tile)["dec"], 0)
    missing = np.round(x) + settings.tiles.stamp_pixels // 2 >= 162
    assert missing.sum() == settings.sky.cells
    assert tile.images["r"].shape == (195, 195)


def test_every_target_lies_where_its_position_says(tile: TileSky, scenes: RenderedScenes) -> None:
    """The centroid of each isolated target, in the mosaic's pixels, against the catalogue through the WCS."""
    x, y = WCS(fits.Header(tile.header("r", "image"))).all_world2pix(targets_of(tile)["ra"], targets_of(tile)["dec"], 0)
    moments = image_moments(scenes.isolated[:, 1])
    middle = (CELL_PIXELS - 1) / 2
    cell = np.arange(9)
    assert moments.x + middle + CELL_PIXELS * (cell % 3) == pytest.approx(x, abs=0.05)
    assert moments.y + middle + CELL_PIXELS * (cell // 3) == pytest.approx(y, abs=0.05)


def test_fluxes_are_counts(tile: TileSky, scenes: RenderedScenes, survey: SurveyModel) -> None:
    targets = targets_of(tile)
    for b, band in enumerate(survey.bands):
        assert 30 - 2.5 * np.log10(targets[f"flux_{band}"].to_numpy()) == pytest.approx(
            targets[f"mag_{band}"].to_numpy()
        )
        inner = scenes.isolated[:, b, 2:63, 2:63].sum(axis=(1, 2)) * 10 ** (0.4 * (30 - survey.zero_point[b]))
        assert targets[f"stamp_flux_{band}"].to_numpy() == pytest.approx(inner, rel=1e-5)
    assert (targets["stamp_flux_r"] < targets["flux_r"]).all()
    # Alone in its cell, a galaxy's light in the image is its stamp's within the noise.
    for scene in np.flatnonzero(targets["neighbours"] == 0):
        row, column = divmod(int(scene), 3)
        rows, columns = slice(65 * row + 2, 65 * row + 63), slice(65 * column + 2, 65 * column + 63)
        light, weight = tile.images["g"][rows, columns].sum(), tile.weights["g"][0, 0]
        expected = targets["stamp_flux_g"][scene]
        photons = expected * 10 ** (0.4 * (30 - survey.zero_point[0]))
        assert light == pytest.approx(expected, abs=5 * (61**2 / weight + photons) ** 0.5)


# -- orientation ------------------------------------------------------------------------------------------------


def elongated(scenes: RenderedScenes, e1: float, e2: float) -> RenderedScenes:
    """The same scenes with every target an elliptical Gaussian of distortion e1, e2 in the pixel frame, no noise."""
    axis = np.arange(CELL_PIXELS) - (CELL_PIXELS - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    size = 4.0
    covariance = size**2 * np.array([[1 + e1, e2], [e2, 1 - e1]])
    (a, b), (_, d) = np.linalg.inv(covariance)
    # So bright that fractions of an electron do not count.
    image = 1e6 * np.exp(-0.5 * (a * x * x + 2 * b * x * y + d * y * y)).astype(np.float32)
    stack = np.broadcast_to(image, scenes.isolated.shape).copy()
    return dataclasses.replace(scenes, isolated=stack, noisy=stack, blended=stack)


@pytest.mark.parametrize(("e1", "e2"), [(0.4, 0.0), (-0.3, 0.0), (0.0, 0.4), (0.2, -0.3)])
def test_ellipticity_is_in_the_sky_frame(
    scenes: RenderedScenes, settings: DesSettings, survey: SurveyModel, e1: float, e2: float
) -> None:
    """Second moments of the served image over true east and north offsets, against the truth table."""
    tile = assemble_tile("DES1200+6000", elongated(scenes, e1, e2), survey, settings)
    target = targets_of(tile).iloc[4]
    y, x = np.mgrid[65 + 10 : 65 + 55, 65 + 10 : 65 + 55]
    image = tile.images["r"][75:120, 75:120].astype(float)
    ra, dec = WCS(fits.Header(tile.header("r", "image"))).all_pix2world(x, y, 0)
    east = (ra - (ra * image).sum() / image.sum()) * np.cos(np.radians(dec))
    north = dec - (dec * image).sum() / image.sum()
    qee, qnn, qen = ((image * product).sum() for product in (east * east, north * north, east * north))
    on_sky = (qee - qnn) / (qee + qnn), 2 * qen / (qee + qnn)
    assert (target["e1"], target["e2"]) == pytest.approx(on_sky, abs=2e-3)
    assert (target["e1"], target["e2"]) == pytest.approx((e1, -e2), abs=0.01)
    if e1 == 0.4:
        assert qee > qnn, "elongated along +x: east-west"


def test_component_2_of_g_and_e_change_sign_together(tile: TileSky, scenes: RenderedScenes) -> None:
    drawn = scenes.truth[scenes.truth["member"] == 0].reset_index(drop=True)
    targets = targets_of(tile)
    assert targets["g1"].to_numpy() == pytest.approx(drawn["g1"].to_numpy())
    assert targets["g2"].to_numpy() == pytest.approx(-drawn["g2"].to_numpy())
    for image, e1, e2 in zip(scenes.isolated[:, 1], targets["e1"], targets["e2"], strict=True):
        moments = galsim.hsm.FindAdaptiveMom(galsim.Image(image.astype(float)), guess_sig=2.5).observed_shape
        assert (e1, e2) == pytest.approx((moments.e1, -moments.e2), abs=1e-4)


# -- tables -----------------------------------------------------------------------------------------------------


def test_gold_positions_lead_to_the_true_ones_with_cos_delta(catalog: pd.DataFrame, profile: Profile) -> None:
    for tile in draw_tiles(catalog, small_sky(profile, cells=4)):
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


def test_shapes_are_truth_with_the_bias_and_noise_they_declare(catalog: pd.DataFrame, profile: Profile) -> None:
    pulls = []
    for tile in draw_tiles(catalog, small_sky(profile, cells=6)):
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


def test_faults_are_counted_and_none_hides_another(catalog: pd.DataFrame, profile: Profile) -> None:
    for tile in draw_tiles(catalog, small_sky(profile, cells=6)):
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


def test_every_target_and_bright_neighbour_is_listed_under_its_own_id(tile: TileSky, settings: DesSettings) -> None:
    tables = tile.tables.tables
    truth = tables[TRUTH_TABLE]
    assert truth["coadd_objects_id"].is_unique
    assert truth["coadd_objects_id"].dtype == np.int64
    listed = truth["coadd_objects_id"].isin(tables[SHAPE_TABLE]["coadd_objects_id"])
    assert (listed == ((truth["member"] == 0) | (truth["snr_r"] > 5))).all()
    assert (truth["member"] == 0).sum() == settings.sky.cells**2
    columns = table_columns(tuple(tile.images))
    assert {name: list(table.columns) for name, table in tables.items()} == {k: list(v) for k, v in columns.items()}
    assert tables[TILE_TABLE].loc[0, "tilename"] == tile.name


def test_the_same_tile_again_and_another_under_another_name(
    tile: TileSky, catalog: pd.DataFrame, settings: DesSettings
) -> None:
    again, other = draw_tiles(catalog, settings)
    for band in tile.images:
        assert again.images[band].tobytes() == tile.images[band].tobytes()
        assert other.images[band].tobytes() != tile.images[band].tobytes()
    for name, table in tile.tables.tables.items():
        pd.testing.assert_frame_equal(again.tables.tables[name], table)
        assert not set(other.tables.tables[name].iloc[:, 0]) & set(table.iloc[:, 0]), name
    assert sky_simulation(settings).seed == settings.sky.seed
    assert [tile_shard(settings, name).index for name in settings.sky.tiles] == [0, 1]


@pytest.mark.parametrize(("section", "key", "value"), [("simulation", "survey", "LSST"), ("tiles", "stamp_pixels", 67)])
def test_what_the_simulated_archive_cannot_hold_is_refused_before_it_is_drawn(
    profile: Profile, section: str, key: str, value: str | int
) -> None:
    changed = getattr(profile.des, section).model_copy(update={key: value})
    with pytest.raises(SettingsError, match=rf"{value}.*\[des\.{section}\.{key}\]"):
        sky_simulation(profile.des.model_copy(update={section: changed}))


def test_scenes_of_another_size_are_refused(scenes: RenderedScenes, survey: SurveyModel, profile: Profile) -> None:
    with pytest.raises(ValueError, match="4² scenes of 65 pixels"):
        assemble_tile("DES1200+6000", scenes, survey, small_sky(profile, cells=4))


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
    assert len(one) == 14
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
