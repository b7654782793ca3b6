"""An archive outside the run, whose own log proves what it was asked for: nothing twice, however a run ended."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest

from assets_tests.assets.homes import CHECKOUT, PATIENCE_SECONDS, Home, results
from assets_tests.assets.lineage import (
    CUTOUTS,
    IM3SHAPE,
    TILES_OF_FEW,
    Lineage,
    metadata,
    smoke,
    smoke_text,
)
from assets_tests.assets.test_tiles import TILES
from deblend_assets.partitions import TILES as TILE_PARTITIONS
from deblend_assets.science.des.fits_image import FITS_MAGIC
from deblend_assets.stores.files import sha256
from deblend_assets.vo.server.serve import SkyServer

pytestmark = pytest.mark.slow

TILE = TILES[1]


@pytest.fixture(scope="module")
def server(first_sky: Lineage) -> Iterator[SkyServer]:
    with SkyServer(first_sky.des.sky) as running:
        yield running


@pytest.fixture
def changes(server: SkyServer) -> dict[str, Any]:
    """Of the smoke profile: it asks the server, whose log begins anew."""
    server.request_log.clear()
    return {**TILES_OF_FEW, "des__archive__tap_url": server.tap_url, "des__archive__sia_url": server.sia_url}


@pytest.fixture(scope="module")
def undisturbed(
    first_sky: Lineage, server: SkyServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], int]:
    """Checksums of the tile's files up to its cutouts, and the number of images and lists of images asked for."""
    urls = {"des__archive__tap_url": server.tap_url, "des__archive__sia_url": server.sia_url}
    lineage = first_sky.copy(tmp_path_factory.mktemp("undisturbed"), **TILES_OF_FEW, **urls)
    server.request_log.clear()
    lineage.succeeds(IM3SHAPE, CUTOUTS, tile=TILE)
    return results(lineage.des.tile(TILE).folder), len(images(server))


def images(server: SkyServer) -> list[str]:
    """What was asked for galaxy by galaxy: lists of images, and images."""
    return [path for _, path in server.request_log if urlsplit(path).path in ("/sia/des_dr1", "/cutout")]


def galaxies(server: SkyServer) -> int:
    return sum(urlsplit(path).path == "/sia/des_dr1" for path in images(server))


def repeated(server: SkyServer) -> int:
    """Requests for what had been asked for before."""
    return sum(count - 1 for count in Counter(images(server)).values())


def test_a_third_run_over_two_tiles_asks_nothing(
    surveyed: Callable[..., Lineage], changes: dict[str, Any], server: SkyServer
) -> None:
    lineage = surveyed(**changes)
    for tile in TILES:
        before = len(server.request_log)
        found = metadata(lineage.succeeds(IM3SHAPE, CUTOUTS, tile=tile))
        asked = found[IM3SHAPE]["archive_requests"] + found[CUTOUTS]["archive_requests"]
        assert asked == len(server.request_log) - before > 100
    assert repeated(server) == 0
    before = len(server.request_log)
    for tile in TILES:
        lineage.succeeds(IM3SHAPE, CUTOUTS, tile=tile)
    assert len(server.request_log) == before
    shutil.rmtree(lineage.des.tiles_folder)
    for tile in TILES:
        lineage.succeeds(IM3SHAPE, CUTOUTS, tile=tile)
    assert len(server.request_log) == before, "not for cutting them anew either"


# A run of the cutouts that is killed at a moment: before the answer to so many requests is stored, or when all arrays
# are on the disk and their record is not.
DYING = """
    import os, signal, sys
    from pathlib import Path
    from assets_tests.assets.lineage import CUTOUTS, Lineage
    from deblend_assets.settings import load_profile
    from deblend_assets.stores import tiles
    from deblend_assets.stores.response_cache import ResponseCache

    profile, root, tile, answers = sys.argv[1:]
    left = int(answers)
    store = ResponseCache.put

    def die(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    def put(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            die()
        store(*arguments, **options)

    if left:
        ResponseCache.put = put
    else:
        tiles.write_vouched = die
    Lineage(Path(root), load_profile(profile)).run(CUTOUTS, tile=tile)
"""


def die(home: Home, answers: int = 0) -> None:
    command = [sys.executable, "-c", textwrap.dedent(DYING), home.profile_path, home.storage, TILE, answers]
    died = subprocess.run(
        list(map(str, command)), env=home.environment, cwd=CHECKOUT, capture_output=True, timeout=PATIENCE_SECONDS
    )
    assert died.returncode == -signal.SIGKILL, died.stderr[-3000:]


@pytest.fixture
def home(first_sky: Lineage, changes: dict[str, Any], tmp_path: Path) -> Iterator[Home]:
    """A Dagster home with the model, and the tile's catalogue; its command makes the cutouts."""
    made = Home(tmp_path / "home", "smoke", smoke_text(**changes), ["--select", CUTOUTS, "--partition", TILE])
    assert made.profile == smoke(**changes)
    first_sky.copy(made.storage, **changes).succeeds(IM3SHAPE, tile=TILE)
    with dg.DagsterInstance.from_config(str(made.folder)) as instance:
        instance.add_dynamic_partitions(str(TILE_PARTITIONS.name), [TILE])
    yield made
    made.end()


def test_killed_anywhere_and_started_again_it_asks_only_for_what_is_missing(
    home: Home, changes: dict[str, Any], server: SkyServer, undisturbed: tuple[dict[str, str], int]
) -> None:
    expected, requests = undisturbed
    connections = home.profile.des.archive.connections
    lineage = Lineage(home.storage, smoke(**changes))
    store = lineage.des.tile(TILE)
    inputs = lineage.des.cutouts_inputs(store)
    server.request_log.clear()

    home.kill_when(lambda: galaxies(server) >= 8, group=True)
    assert requests / 4 < len(images(server)) < requests
    assert repeated(server) == 0

    die(home, answers=20)
    assert 20 <= len(images(server)) < requests + connections
    assert repeated(server) <= connections, "what was under way when it was killed"

    die(home)
    assert repeated(server) <= 2 * connections
    assert store.find_cutouts(inputs) is None, "without a record nothing is trusted"

    asked = len(server.request_log)
    assert len(home.recover()) == 1, "else the pool's only slot stays taken and the next run waits for ever"
    home.finish()
    assert len(server.request_log) == asked, "all was there but the record"
    assert len(set(images(server))) == requests
    assert results(store.folder) == expected


def test_a_disk_that_fills_up_while_fetching_is_one_line_and_it_goes_on_later(
    surveyed: Callable[..., Lineage],
    changes: dict[str, Any],
    server: SkyServer,
    undisturbed: tuple[dict[str, str], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, requests = undisturbed
    lineage = surveyed(**changes)
    lineage.succeeds(IM3SHAPE, tile=TILE)
    store, kept = lineage.des.tile(TILE), lineage.des.archive_folder
    server.request_log.clear()
    real, calls = os.fsync, []

    def fills_up(descriptor: int) -> None:
        calls.append(descriptor)
        # A blob and a record each: half of them find a place.
        if len(calls) > requests:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        line = lineage.failure(CUTOUTS, tile=TILE)
    assert line.startswith(f"no space left on the disk [{kept}")
    assert "then run the same command again" in line
    assert store.find_cutouts(lineage.des.cutouts_inputs(store)) is None
    assert 0.3 * requests < len(images(server)) < 0.8 * requests
    for record in (kept / "requests").glob("*"):
        digest = json.loads(record.read_text())["sha256"]
        assert sha256((kept / "blobs" / digest[:2] / digest).read_bytes()) == digest
    assert not list(kept.rglob("*.part"))

    first = len(images(server))
    lineage.succeeds(CUTOUTS, tile=TILE)
    assert len(images(server)) - first < 0.7 * requests
    assert repeated(server) <= 4 * lineage.profile.des.archive.connections, "answers that found no place"
    assert results(store.folder) == expected


def test_an_answer_that_was_damaged_on_the_disk_is_asked_for_again(
    surveyed: Callable[..., Lineage],
    changes: dict[str, Any],
    server: SkyServer,
    undisturbed: tuple[dict[str, str], int],
) -> None:
    expected, _ = undisturbed
    lineage = surveyed(**changes)
    lineage.succeeds(IM3SHAPE, CUTOUTS, tile=TILE)
    store = lineage.des.tile(TILE)
    blobs = lineage.des.archive_folder.glob("blobs/*/*")
    cutouts = (path for path in blobs if path.read_bytes().startswith(FITS_MAGIC))
    os.truncate(max(cutouts, key=lambda path: path.stat().st_size), 100)
    os.truncate(next(path for path in store.folder.rglob("counts/c/0/0/0/0")), 100)
    before = len(server.request_log)
    found = metadata(lineage.succeeds(CUTOUTS, tile=TILE))
    assert found[CUTOUTS]["archive_requests"] == len(server.request_log) - before == 1
    assert results(store.folder) == expected
