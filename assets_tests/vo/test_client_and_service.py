"""The client against the package's own archive: two parts that know each other by the standards alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets_tests.skies import shared_sky, small_sky
from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.cutouts import BandStamp, choose_images, read_band
from deblend_assets.science.des.queries import (
    GOLD_DEC,
    GOLD_RA,
    SHAPE_COLUMNS,
    area_of,
    shapes_query,
    tile_query,
    truth_query,
)
from deblend_assets.settings import ArchiveSettings, DesSettings, Profile
from deblend_assets.steps.des.im3shape_catalog import shapes_of
from deblend_assets.stores.response_cache import ResponseCache
from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.vo.answers import RowLimit
from deblend_assets.vo.client import ArchiveClient
from deblend_assets.vo.server import adql
from deblend_assets.vo.server.serve import SkyServer

BANDS = ("g", "r", "i", "z", "Y")
PIXELS = 45


@pytest.fixture(scope="module")
def des(profile: Profile) -> DesSettings:
    return small_sky(profile).des


@pytest.fixture(scope="module")
def sky(catalog: pd.DataFrame, profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> SimulatedSky:
    return shared_sky(tmp_path_factory, catalog, profile)


@pytest.fixture
def service(sky: SimulatedSky) -> Iterator[SkyServer]:
    with SkyServer(sky) as running:
        yield running


def client_of(service: SkyServer, settings: ArchiveSettings, folder: Path) -> ArchiveClient:
    return ArchiveClient(
        settings,
        ResponseCache(folder),
        tap_url=service.tap_url,
        sia_url=service.sia_url,
        service="simulated",
        log=print,
    )


def leg(client: ArchiveClient, des: DesSettings) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, BandStamp | None]]:
    """A tile's shapes and truth, and the stamps of the galaxy nearest to its centre, in every band."""
    archive = des.archive
    client.require_columns(archive.shape_table, SHAPE_COLUMNS)
    area = area_of(client.query(tile_query(archive, des.sky.tiles[0]), "tile"), des.sky.tiles[0])
    shapes = client.query(shapes_query(archive, area), "shapes")
    truth = client.query(truth_query(archive, area), "truth")
    middle = np.hypot(shapes[GOLD_RA] - area.ra, shapes[GOLD_DEC] - area.dec).idxmin()
    ra, dec = float(shapes[GOLD_RA][middle]), float(shapes[GOLD_DEC][middle])
    chosen = choose_images(client.find_images(ra, dec, (PIXELS + 4) * 0.2637), BANDS)
    stamps = {}
    for band, (image, weight) in chosen.items():
        assert weight is not None
        given = {"band": band, "ra": ra, "dec": dec, "pixels": PIXELS, "default_zero_point": 30.0, "where": band}
        stamps[band] = client.fetch(image, lambda data, given=given: read_band(data, **given))
    return shapes, truth, stamps


def test_a_tile_comes_whole_and_a_second_run_on_another_port_asks_for_nothing(
    sky: SimulatedSky, service: SkyServer, des: DesSettings, tmp_path: Path
) -> None:
    client = client_of(service, des.archive, tmp_path)
    shapes, truth, stamps = leg(client, des)
    assert set(SHAPE_COLUMNS) <= set(shapes)
    assert len(shapes) > 0
    assert len(truth) > 0
    assert list(stamps) == list(BANDS)
    assert all(stamp is not None and stamp.counts.shape == (PIXELS, PIXELS) for stamp in stamps.values())
    assert client.requests == len(service.request_log) > 0
    with SkyServer(sky) as moved:
        assert moved.port != service.port
        later = client_of(moved, des.archive, tmp_path)
        again, same, others = leg(later, des)
        assert later.requests == 0
        assert moved.request_log == []
    assert again.equals(shapes)
    assert same.equals(truth)
    for band in BANDS:
        np.testing.assert_array_equal(others[band].counts, stamps[band].counts)


def test_a_tile_longer_than_the_archives_own_limit_comes_in_parts(
    service: SkyServer, des: DesSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(service, des.archive, tmp_path)
    area = area_of(client.query(tile_query(des.archive, des.sky.tiles[0]), "tile"), des.sky.tiles[0])
    whole = client.query(shapes_query(des.archive, area), "shapes")
    monkeypatch.setattr(adql, "MAX_ROWS", len(whole) // 2 + 1)
    limited = client_of(service, des.archive, tmp_path / "limited")
    with pytest.raises(RowLimit, match="a limit of its own"):
        limited.query(shapes_query(des.archive, area), "shapes")
    assert shapes_of(limited, des.archive, area).equals(whole)
    monkeypatch.setattr(adql, "MAX_ROWS", 0)
    with pytest.raises(RowLimit, match="no more than 0 rows"):
        shapes_of(client_of(service, des.archive, tmp_path / "nothing"), des.archive, area)


def test_the_services_refusals_arrive_in_its_own_words(service: SkyServer, des: DesSettings, tmp_path: Path) -> None:
    client = client_of(service, des.archive, tmp_path)
    table = des.archive.shape_table
    with pytest.raises(ArchiveError, match="e_9"):
        client.query(f"SELECT e_9 FROM {table}", "shapes")
    with pytest.raises(ArchiveError, match="e_9, w_9"):
        client.require_columns(table, ["e_1", "w_9", "e_9"])
    with pytest.raises(ArchiveError, match="no table"):
        client.require_columns("no.table", ["e_1"])
    short = des.archive.model_copy(update={"max_rows": 2})
    with pytest.raises(ArchiveError, match=r"OVERFLOW|fills the limit"):
        client_of(service, short, tmp_path).query(f"SELECT e_1 FROM {table}", "shapes")
