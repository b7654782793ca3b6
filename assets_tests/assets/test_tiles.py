"""Both tiles of the simulated survey through the real assets, from images over HTTP to reports, against the truth.

One tile straddles right ascension 0, both lie at declination +60, where a forgotten cos δ is a factor of two.
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from assets_tests.assets.homes import results
from assets_tests.assets.lineage import (
    CHAIN,
    CUTOUTS,
    IM3SHAPE,
    SHAPES,
    SKY,
    TILE_EVALUATION,
    Lineage,
    Made,
    metadata,
    pictures,
)
from assets_tests.assets.reads import differences
from deblend_assets.science.des.orientation import adaptive_shapes, measured_parity
from deblend_assets.science.measuring.sky_columns import tile_columns
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.files import read_json
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import EVERY, shipped, shipped_version
from deblend_assets.stores.tables import column_units
from deblend_assets.stores.tiles import Cutouts, TileStore

pytestmark = pytest.mark.slow

TILES = ("DES1200+6000", "DES0000+6015")
BANDS = ("g", "r", "i", "z", "Y")
CHECKS = {
    IM3SHAPE: {"within_tile", "enough_galaxies"},
    CUTOUTS: {"orientation", "images_sound", "noise_as_weighted"},
    SHAPES: {"no_failures", "errors_are_positive"},
    TILE_EVALUATION: {
        "trusted", "signs", "positions", "flux_calibration", "true_signs", "errors_hold",
    },
}  # fmt: skip
# What a tile of few galaxies may not spoil.
MUST_PASS = {"within_tile", "enough_galaxies", "images_sound", "noise_as_weighted", "errors_are_positive", "positions"}
MUST_PASS |= {"no_failures"}
NUMBERS = {
    IM3SHAPE: {"galaxies", "rows", "archive_requests", "mean_psf_fwhm_pixel"},
    CUTOUTS: {"galaxies", "rejected", "archive_requests", *(f"noise_ratio_{band}" for band in BANDS)},
    SHAPES: {"galaxies", "flagged", "flagged_share", "median_g_err", "median_blendedness", "responses"},
    TILE_EVALUATION: {"galaxies", "shear_slope", "shear_rms", "position_offset_arcsec"},
}
PLOTS = {IM3SHAPE: 2, CUTOUTS: 1, TILE_EVALUATION: 5}


def cutouts_of(lineage: Lineage, tile: str) -> Cutouts:
    store = lineage.des.tile(tile)
    return store.read_cutouts(lineage.des.cutouts_inputs(store))


def truth_of(lineage: Lineage, tile: str, ids: pd.Series) -> pd.DataFrame:
    """Rows of the survey's own truth, in the order of `ids`."""
    return lineage.des.sky.table("simulation.truth").set_index("coadd_objects_id").loc[ids].reset_index()


def tiles_of(lineage: Lineage) -> Iterator[tuple[str, TileStore, Cutouts]]:
    for tile in TILES:
        yield tile, lineage.des.tile(tile), cutouts_of(lineage, tile)


@pytest.mark.parametrize("tile", TILES)
def test_every_asset_is_materialised_and_every_check_is_reported(
    first_tiles: tuple[Lineage, dict[str, Made]], tile: str
) -> None:
    _, runs = first_tiles
    assert runs[tile].metadata.keys() == set(CHAIN)
    reported: dict[str, set[str]] = {}
    for check in runs[tile].checks:
        reported.setdefault(check.asset_key.to_user_string(), set()).add(check.check_name)
        if check.check_name in MUST_PASS:
            assert check.passed, f"{check.check_name}: {check.description} {check.metadata}"
    assert reported == CHECKS


def test_every_asset_declares_what_it_reads_and_reads_what_it_declares(
    first_sky: Lineage, first_tiles: tuple[Lineage, Any]
) -> None:
    shipped = {SHAPES: {"sky_shapes/sky_model": "none is trained: the shipped one measures"}}
    for lineage in (first_sky, first_tiles[0]):
        assert differences(lineage.reads, lineage.deps, shipped) == []
    assert first_tiles[0].reads.keys() == set(CHAIN)
    deps = set().union(*(first_tiles[0].deps[asset] for asset in CHAIN))
    assert deps == {SKY, "sky_shapes/sky_model", *CHAIN[:3]}


def test_an_evaluation_begins_with_its_summary(first_tiles: tuple[Lineage, Any]) -> None:
    for result in first_tiles[1].values():
        rows = result.metadata[TILE_EVALUATION]
        assert next(iter(rows)) == "summary"
        assert len(rows["summary"]) < 1000, "the UI shows Markdown without a click only below"
        assert max(map(len, rows["summary"].splitlines())) <= 48, "a window of 1,400 pixels cuts longer lines"
        assert max(map(len, result.metadata.values())) <= 22


@pytest.mark.parametrize("tile", TILES)
def test_numbers_are_finite_and_plots_are_pictures(first_tiles: tuple[Lineage, dict[str, Made]], tile: str) -> None:
    found = first_tiles[1][tile].metadata
    for asset, names in NUMBERS.items():
        numbers = {name: v for name, v in found[asset].items() if isinstance(v, int | float)}
        assert names <= numbers.keys(), asset
        assert all(map(math.isfinite, numbers.values())), f"{asset}: {numbers}"
        assert found[asset]["simulated_tile"] is True
    assert {asset: len(pictures(found[asset])) for asset in PLOTS} == PLOTS
    for asset in PLOTS:
        for name, data in pictures(found[asset]).items():
            width, height = Image.open(io.BytesIO(data)).size
            assert min(width, height) > 100, name


@pytest.mark.parametrize("tile", TILES)
def test_everything_that_leaves_says_that_the_tile_is_simulated(
    first_tiles: tuple[Lineage, dict[str, Made]], tile: str
) -> None:
    lineage, _ = first_tiles
    folder = lineage.des.tile(tile).folder
    assert lineage.des.tile(tile).read_table("shape_catalog")["simulated"].all()
    header = fits.getheader(folder / "shape_catalog.fits", "SHAPES")
    assert header["SIMULATE"] is True
    assert header["TILE"] == tile
    page = (folder / "report.html").read_text(encoding="utf-8")
    title = page[page.index("<title>") : page.index("</title>")]
    assert "simulated tile" in title
    assert tile in title
    assert page.count("data:image/png;base64,") >= 10
    for remote in ('src="http', "@import", "<link"):
        assert remote not in page, "it needs no network"
    numbers = read_json(folder / "numbers.json")
    assert numbers["evaluation"]["truth"] is not None
    assert "simulated" in numbers["provenance"]["tile"]


@pytest.mark.parametrize("tile", TILES)
def test_the_shape_catalogue_opens_in_astropy_with_units_descriptions_and_ucds(
    first_tiles: tuple[Lineage, dict[str, Made]], tile: str
) -> None:
    lineage, _ = first_tiles
    store = lineage.des.tile(tile)
    columns = tile_columns(BANDS)
    path = store.folder / "shape_catalog.fits"
    table = Table.read(path, hdu="SHAPES", character_as_bytes=False)
    assert table.colnames == list(columns)
    assert table["ra"].unit == table["dec"].unit == units.deg
    assert table["flux_r"].unit == table["flux_Y_err"].unit == units.nJy
    assert table["g1"].unit is None
    header = fits.getheader(path, "SHAPES")
    for number, (name, column) in enumerate(columns.items(), start=1):
        assert table[name].description == column.meaning
        assert header[f"TUCD{number}"] == column.ucd
    parquet = store.read_table("shape_catalog")
    assert set(parquet["model_version"]) == {header["MODELVER"]} == {lineage.store.sky_model_version()}
    for name in columns:
        np.testing.assert_array_equal(np.asarray(table[name]), parquet[name].to_numpy())
    for noun in ("im3shape_catalog", "attrition", "truth", "shape_catalog"):
        assert all(meaning for _, meaning in column_units(store.path(noun).read_bytes()).values())


def test_galaxies_are_those_of_the_catalogue_in_its_order_where_the_truth_has_them(
    first_tiles: tuple[Lineage, dict[str, Made]],
) -> None:
    lineage, runs = first_tiles
    for tile, store, cutouts in tiles_of(lineage):
        catalog, shapes = store.read_table("im3shape_catalog"), store.read_table("shape_catalog")
        ids = [list(table["coadd_objects_id"]) for table in (catalog, cutouts.galaxies, shapes)]
        assert len(set(ids[0])) == len(ids[0]) >= 10
        assert ids[1] == ids[2] == [number for number in ids[0] if number in set(ids[1])]
        rejected = runs[tile].metadata[CUTOUTS]["rejected"]
        assert len(ids[0]) - len(ids[1]) == rejected == sum(cutouts.info["rejected"].values())

        truth = truth_of(lineage, tile, shapes["coadd_objects_id"])
        assert set(truth["tilename"]) == {tile}
        turn = (shapes["ra"] - truth["ra"] + 180) % 360 - 180
        offset = 3600 * np.hypot(turn * np.cos(np.radians(truth["dec"])), shapes["dec"] - truth["dec"])
        assert offset.max() < 0.1
        assert shapes["ra"].between(0, 360, inclusive="left").all()
        assert runs[tile].metadata[TILE_EVALUATION]["position_offset_arcsec"] == pytest.approx(
            float(offset.median()), rel=1e-3
        )
    ra = lineage.des.tile(TILES[1]).read_table("shape_catalog")["ra"]
    assert (ra > 359).any(), "galaxies on either side of RA 0"
    assert (ra < 1).any(), "galaxies on either side of RA 0"


def test_cutouts_hold_the_light_of_the_truth_to_within_the_noise(
    first_tiles: tuple[Lineage, dict[str, Made]],
) -> None:
    lineage, _ = first_tiles
    light, expected, variance = np.zeros(5), np.zeros(5), np.zeros(5)
    for tile, _, cutouts in tiles_of(lineage):
        truth = truth_of(lineage, tile, cutouts.galaxies["coadd_objects_id"])
        for k, band in enumerate(BANDS):
            use = cutouts.present[:, k]
            light[k] += cutouts.counts[use, k].sum(dtype=np.float64)
            expected[k] += truth.loc[use, f"stamp_flux_{band}"].sum()
            zero_points = cutouts.galaxies[f"zero_point_{band}"].to_numpy()[use]
            assert (zero_points == 30.0).all()
            gain = 10 ** (0.4 * (30.0 - load_survey("DES").zero_point[k]))  # count an electron
            sky = (cutouts.counts.shape[-1] ** 2) * cutouts.galaxies[f"sigma_{band}"].to_numpy()[use] ** 2
            variance[k] += sky.sum() + gain * truth.loc[use, f"stamp_flux_{band}"].sum()
    ratio, error = light / expected, np.sqrt(variance) / expected
    assert (error[:4] < 0.05).all(), "else the comparison says nothing"
    assert (np.abs(ratio - 1) < 3 * error).all(), f"{ratio} ± {error}"


def test_the_images_themselves_say_that_the_second_component_changes_sign(
    first_tiles: tuple[Lineage, dict[str, Made]],
) -> None:
    lineage, _ = first_tiles
    stamps, true = [], []
    for tile, _, cutouts in tiles_of(lineage):
        stamps.append(cutouts.counts[:, BANDS.index("r")])
        # Of few galaxies im3shape's noise leaves the signs undecided; the truth is in its frame.
        true.append(truth_of(lineage, tile, cutouts.galaxies["coadd_objects_id"])[["g1", "g2"]].to_numpy())
    e1, e2, _ = adaptive_shapes(np.concatenate(stamps))
    parity = measured_parity(e1, e2, *np.concatenate(true).T, resamples=200, seed=1)
    assert parity.slope1 - parity.slope2 > 3 * np.hypot(parity.slope1_error, parity.slope2_error), parity
    assert parity.slope1 > 0 > parity.slope2, parity


def test_a_galaxy_without_a_band_is_kept_and_measured(
    first_tiles: tuple[Lineage, dict[str, Made]],
) -> None:
    lineage, runs = first_tiles
    for tile, store, cutouts in tiles_of(lineage):
        shapes = store.read_table("shape_catalog")
        lacking = ~cutouts.present[:, BANDS.index("Y")]
        assert cutouts.present[:, :4].all()
        assert 0 < lacking.sum() < len(shapes), "the survey's Y images end before the others"
        absent = shapes[["flux_Y", "flux_Y_err", "mag_Y", "snr_Y", "psf_fwhm_Y"]].isna()
        assert absent.all(axis=1).tolist() == absent.any(axis=1).tolist() == lacking.tolist()
        assert set(shapes.loc[lacking, "bands_present"]) == {"griz"}
        assert set(shapes.loc[~lacking, "bands_present"]) == {"grizY"}
        assert (shapes["flags"] & int(RowFlag.NO_DATA) == 0).all()
        assert np.isfinite(shapes[["g1", "g2", "g_cov_11", "e1", "e2", "flux_r", "blendedness"]]).to_numpy().all()
        assert set(shapes["reference_band"]) == {"r"}
        flagged = int((shapes["flags"] != 0).sum())
        assert runs[tile].metadata[SHAPES]["flagged"] == flagged < len(shapes) / 2


def test_shapes_are_in_the_frame_of_treecorr_and_fluxes_those_of_the_truth(
    first_tiles: tuple[Lineage, dict[str, Made]],
) -> None:
    """Survey and truth have +x to the east, our catalogue to the west."""
    lineage, _ = first_tiles
    ours, true, ratios = [], [], []
    for tile, store, _ in tiles_of(lineage):
        shapes = store.read_table("shape_catalog")
        truth = truth_of(lineage, tile, shapes["coadd_objects_id"])
        good = ((shapes["flags"] == 0) & truth["e1"].notna()).to_numpy()
        ours.append(shapes.loc[good, ["g1", "g2", "e1", "e2"]].to_numpy())
        true.append(truth.loc[good, ["g1", "g2", "e1", "e2"]].to_numpy())
        ratios.append((shapes["flux_r"] / (truth["flux_r"] * 10 ** (0.4 * 1.4)))[good].to_numpy())
    found, expected = np.concatenate(ours), np.concatenate(true) * (1, -1, 1, -1)
    assert len(found) > 15
    for k in range(4):
        assert np.corrcoef(found[:, k], expected[:, k])[0, 1] > 0.8, k
    # Targets of the least S/N 20: a third of them is off by less than a tenth.
    assert np.median(np.concatenate(ratios)) == pytest.approx(1.0, abs=0.1)


def tables(lineage: Lineage) -> dict[str, str]:
    """Everything of the tiles but their reports."""
    return {
        name: sum_
        for name, sum_ in results(lineage.root).items()
        if "tiles" in Path(name).parts and Path(name).name not in ("report.html", "numbers.json")
    }


def test_again_it_asks_the_archive_for_nothing_and_gives_the_same_bytes(tiled: Callable[..., Lineage]) -> None:
    again = tiled()
    before = results(again.root)
    for tile in TILES:
        found = metadata(again.succeeds(*CHAIN[:3], tile=tile))
        assert (found[IM3SHAPE]["archive_requests"], found[CUTOUTS]["archive_requests"]) == (0, 0)
    assert results(again.root) == before
    for tile in TILES:
        shutil.rmtree(again.des.tile(tile).folder)
        found = metadata(again.succeeds(*CHAIN[:3], tile=tile))
        assert (found[IM3SHAPE]["archive_requests"], found[CUTOUTS]["archive_requests"]) == (0, 0)
    made = tables(again)
    assert made == {name: before[name] for name in made}, "cut anew"
    assert len(made) > 20


def test_from_scratch_elsewhere_it_is_the_same_to_the_byte(
    first_tiles: tuple[Lineage, dict[str, Made]], surveyed: Callable[..., Lineage]
) -> None:
    first, _ = first_tiles
    other = surveyed(whole=True)
    shutil.rmtree(other.des.sky.folder)
    other.succeeds(SKY)
    found = metadata(other.succeeds(*CHAIN, tile=TILES[1]))
    assert found[CUTOUTS]["archive_requests"] > 100
    expected = results(first.root)
    for folder in (other.des.sky.folder, other.des.tile(TILES[1]).folder):
        made = {str((folder / name).relative_to(other.root)): sum_ for name, sum_ in results(folder).items()}
        assert made == {name: expected[name] for name in made}
        assert len(made) > 10


def test_another_model_renews_shapes_and_cutouts_stay(
    tiled: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = TILES[0]
    lineage = tiled()
    version, cut = lineage.store.sky_model_version(), results(lineage.des.tile(tile).folder / "cutouts")
    assert version.startswith("shipped-")
    # The same weights, trained here.
    checkpoints = CheckpointFolder(lineage.root / "trained", "0123456789ab", "sky_shapes/sky_model")
    checkpoints.finish(shipped(EVERY, "sky"))
    monkeypatch.setattr(ProjectStore, "trained_sky_model", lambda _: checkpoints)
    assert "was made from other inputs" in lineage.failure(TILE_EVALUATION, tile=tile)
    found = metadata(lineage.succeeds(CUTOUTS, SHAPES, TILE_EVALUATION, tile=tile))
    assert found[CUTOUTS]["archive_requests"] == 0
    assert results(lineage.des.tile(tile).folder / "cutouts") == cut
    expected = f"0123456789ab-{shipped_version('redshift')}"
    assert found[SHAPES]["model_version"] == found[TILE_EVALUATION]["model_version"] == expected
    assert set(lineage.des.tile(tile).read_table("shape_catalog")["model_version"]) == {expected}
    assert "was made from other inputs" in lineage.failure(TILE_EVALUATION, tile=TILES[1]), (
        "its shapes are the old ones"
    )


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"des__tiles__response_share": 0.5}, SHAPES),
        ({"detection__thresh": 6.0}, SHAPES),
        ({"des__tiles__stamp_pixels": 45}, CUTOUTS),
    ],
)
def test_settings_make_that_anew_which_they_change(
    tiled: Callable[..., Lineage], changes: dict[str, Any], anew: str
) -> None:
    before, after = tiled().des, tiled(**changes).des
    tile = before.tile(TILES[0])
    assert (before.cutouts_inputs(tile) != after.cutouts_inputs(tile)) == (anew == CUTOUTS)
    if anew == SHAPES:
        assert before.shapes_inputs(tile) != after.shapes_inputs(tile)
