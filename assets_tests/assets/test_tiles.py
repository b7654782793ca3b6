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
    DES_POSTERIOR,
    IM3SHAPE,
    SHAPES,
    SKY,
    TILE_EVALUATION,
    TILES_OF_FEW,
    Lineage,
    Made,
    metadata,
    pictures,
    smoke,
)
from assets_tests.assets.reads import differences
from deblend_assets.science.des.orientation import adaptive_shapes, measured_parity
from deblend_assets.science.measuring.columns import catalog_columns
from deblend_assets.science.measuring.measured import MISSING_BAND
from deblend_assets.stores.files import read_json
from deblend_assets.stores.tables import column_units
from deblend_assets.stores.tiles import Cutouts, TileStore

pytestmark = pytest.mark.slow

TILES = ("DES1200+6000", "DES0000+6015")
BANDS = ("g", "r", "i", "z", "Y")
ZERO_POINTS = "zero_point_ab_mag_of_one_electron"
CHECKS = {
    IM3SHAPE: {"within_tile", "enough_galaxies"},
    CUTOUTS: {"orientation", "images_sound", "noise_as_weighted"},
    SHAPES: {"no_failures", "errors_are_positive"},
    TILE_EVALUATION: {
        "like_training", "signs", "positions", "flux_calibration", "true_signs", "agrees_with_test_blends",
    },
}  # fmt: skip
# What neither a model that learnt nothing nor a tile of few galaxies may spoil.
MUST_PASS = {"within_tile", "enough_galaxies", "images_sound", "noise_as_weighted", "errors_are_positive", "positions"}
NUMBERS = {
    IM3SHAPE: {"galaxies", "rows", "archive_requests", "mean_psf_fwhm_pixel"},
    CUTOUTS: {"galaxies", "rejected", "archive_requests", *(f"noise_ratio_{band}" for band in BANDS)},
    SHAPES: {"galaxies", "median_g_err", "median_blendedness", "flag_1", "flag_4"},
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
    first_model: Lineage, first_tiles: tuple[Lineage, Any]
) -> None:
    for lineage in (first_model, first_tiles[0]):
        assert differences(lineage.reads, lineage.deps) == []
    assert first_tiles[0].reads.keys() == set(CHAIN)
    assert "des_model/stage3_regressor" not in first_tiles[0].deps[SHAPES] | first_tiles[0].deps[TILE_EVALUATION]


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
    columns = catalog_columns("tile", BANDS, "r")
    path = store.folder / "shape_catalog.fits"
    table = Table.read(path, hdu="SHAPES", character_as_bytes=False)
    assert table.colnames == list(columns)
    assert table["ra"].unit == table["dec"].unit == units.deg
    assert table["flux_r"].unit == table["flux_err_Y"].unit == units.nJy
    assert table["g1"].unit is None
    header = fits.getheader(path, "SHAPES")
    for number, (name, column) in enumerate(columns.items(), start=1):
        assert table[name].description == column.meaning
        assert header[f"TUCD{number}"] == column.ucd
    parquet = store.read_table("shape_catalog")
    assert set(parquet["model_version"]) == {header["MODELVER"]} == {lineage.des.project.model_version()}
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
        alone = ((truth["neighbours"] == 0) & (truth["member"] == 0)).to_numpy()
        for k, band in enumerate(BANDS):
            use = alone & cutouts.present[:, k]
            light[k] += cutouts.counts[use, k].sum(dtype=np.float64)
            expected[k] += truth.loc[use, f"stamp_flux_{band}"].sum()
            zero_points = cutouts.galaxies[f"zero_point_{band}"].to_numpy()[use]
            assert (zero_points == 30.0).all()
            gain = 10 ** (0.4 * (30.0 - lineage.des.project.arrays().attributes[ZERO_POINTS][k]))  # count an electron
            sky = (cutouts.counts.shape[-1] ** 2) * cutouts.galaxies[f"sigma_{band}"].to_numpy()[use] ** 2
            variance[k] += sky.sum() + gain * truth.loc[use, f"stamp_flux_{band}"].sum()
    ratio, error = light / expected, np.sqrt(variance) / expected
    assert (error[:4] < 0.05).all(), "else the comparison says nothing"
    assert (np.abs(ratio - 1) < 3 * error).all(), f"{ratio} ± {error}"


def test_the_images_themselves_say_that_the_second_component_changes_sign(
    first_tiles: tuple[Lineage, dict[str, Made]],
) -> None:
    lineage, _ = first_tiles
    stamps, catalogued = [], []
    for _, store, cutouts in tiles_of(lineage):
        stamps.append(cutouts.counts[:, BANDS.index("r")])
        catalog = store.read_table("im3shape_catalog").set_index("coadd_objects_id")
        catalogued.append(catalog.loc[cutouts.galaxies["coadd_objects_id"], ["e_1", "e_2"]].to_numpy())
    e1, e2, _ = adaptive_shapes(np.concatenate(stamps))
    parity = measured_parity(e1, e2, *np.concatenate(catalogued).T, resamples=200, seed=1)
    assert parity.parity == -1, parity
    assert parity.as_assumed, parity


def test_a_galaxy_without_a_band_is_kept_and_masked(
    first_tiles: tuple[Lineage, dict[str, Made]],
) -> None:
    lineage, runs = first_tiles
    for tile, store, cutouts in tiles_of(lineage):
        shapes = store.read_table("shape_catalog")
        lacking = ~cutouts.present[:, BANDS.index("Y")]
        assert cutouts.present[:, :4].all()
        assert 0 < lacking.sum() < len(shapes), "the survey's Y images end within the last column of cells"
        assert ((shapes["flags"] & MISSING_BAND > 0) == lacking).all()
        assert np.isnan(shapes[["flux_Y", "flux_err_Y"]]).all(axis=1).tolist() == lacking.tolist()
        assert set(shapes.loc[lacking, "bands_present"]) == {"griz"}
        assert set(shapes.loc[~lacking, "bands_present"]) == {"grizY"}
        assert np.isfinite(shapes[["g1", "g2", "g1_err", "e1", "e2", "flux_r", "blendedness"]]).to_numpy().all()
        assert runs[tile].metadata[SHAPES]["flag_1"] == lacking.sum()


def tables(lineage: Lineage) -> dict[str, str]:
    """Everything of the tiles but their reports."""
    return {
        name: sum_
        for name, sum_ in results(lineage.root).items()
        if "tiles" in Path(name).parts and Path(name).name not in ("report.html", "numbers.json")
    }


def test_again_it_asks_the_archive_for_nothing_and_gives_the_same_bytes(tiled: Callable[..., Lineage]) -> None:
    again = tiled(whole=True)
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
    first_tiles: tuple[Lineage, dict[str, Made]], modelled: Callable[..., Lineage]
) -> None:
    first, _ = first_tiles
    other = modelled(whole=True)
    shutil.rmtree(other.des.sky.folder)
    other.succeeds(SKY)
    found = metadata(other.succeeds(*CHAIN, tile=TILES[1]))
    assert found[CUTOUTS]["archive_requests"] > 100
    expected = results(first.root)
    for folder in (other.des.sky.folder, other.des.tile(TILES[1]).folder):
        made = {str((folder / name).relative_to(other.root)): sum_ for name, sum_ in results(folder).items()}
        assert made == {name: expected[name] for name in made}
        assert len(made) > 10


def test_after_a_retraining_shapes_are_refused_until_the_model_is_there_and_cutouts_stay(
    tiled: Callable[..., Lineage],
) -> None:
    tile = TILES[0]
    before = tiled()
    version, cut = before.des.project.model_version(), results(before.des.tile(tile).folder / "cutouts")
    longer = Lineage(before.root, smoke(**TILES_OF_FEW, recipes__des_shapes__calibration__epochs=3))
    line = longer.failure(SHAPES, tile=tile)
    assert line.startswith("des_model/shape_posterior has not been materialised [")
    longer.succeeds(DES_POSTERIOR[-3])
    found = metadata(longer.succeeds(SHAPES, tile=tile))
    assert found[SHAPES]["model_version"] == longer.des.project.model_version() != version
    assert set(longer.des.tile(tile).read_table("shape_catalog")["model_version"]) == {found[SHAPES]["model_version"]}
    assert "the evaluation is of another model" in longer.failure(TILE_EVALUATION, tile=tile)
    longer.succeeds(DES_POSTERIOR[-1])
    found = metadata(longer.succeeds(CUTOUTS, TILE_EVALUATION, tile=tile))
    assert found[CUTOUTS]["archive_requests"] == 0
    assert results(longer.des.tile(tile).folder / "cutouts") == cut
    provenance: Any = read_json(longer.des.tile(tile).folder / "numbers.json")["provenance"]
    assert provenance["model"] == longer.des.project.model_version()
    assert "was made from other inputs" in longer.failure(TILE_EVALUATION, tile=TILES[1]), "its shapes are the old ones"
