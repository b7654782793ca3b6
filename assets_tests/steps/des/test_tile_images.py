"""A tile's images over HTTP, in cells, as a field: pixel for pixel those of the archive, and never requested twice."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from assets_tests.skies import SIDE, shared_sky, small_sky
from deblend_assets.errors import ArchiveError, BusyError, MissingDataError, SettingsError, StorageError
from deblend_assets.resources.archive import Archive
from deblend_assets.science.simulated_survey.geometry import TileGeometry
from deblend_assets.settings import Profile
from deblend_assets.steps.des import tile_images as module
from deblend_assets.steps.des.tile_images import write_tile_images
from deblend_assets.steps.outcome import Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.field_files import read_field, read_field_file
from deblend_assets.stores.fields import FieldsStore
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.tile_fields import TileField
from deblend_assets.vo.client import ArchiveClient
from deblend_assets.vo.server.holdings import Holdings
from deblend_assets.vo.session import GuardedSession

# It straddles right ascension 0, at a declination where widths along it are doubled.
TILE = "DES0000+6015"
BANDS = ("g", "r", "i", "z", "Y")
CELLS, IMAGES = 4, 10


@pytest.fixture(scope="module")
def small(profile: Profile) -> Profile:
    """Small tiles, cutouts of at most 0.3 MiB, and no patience."""
    archive = profile.des.archive.model_copy(update={"max_image_mb": 0.3, "attempts": 2, "backoff_s": 0.0})
    small = small_sky(profile)
    return small.model_copy(update={"des": small.des.model_copy(update={"archive": archive})})


@pytest.fixture(scope="module")
def drawn(small: Profile, catalog: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Storage with the survey; only read."""
    root = tmp_path_factory.mktemp("drawn")
    sky = shared_sky(tmp_path_factory, catalog, small)
    shutil.copytree(sky.folder, Path(str(DesStore(ProjectStore(root, small)).sky.folder)))
    return root


@pytest.fixture
def store(drawn: Path, small: Profile, tmp_path: Path) -> ProjectStore:
    """A copy in which nothing was fetched."""
    shutil.copytree(drawn, tmp_path / "storage", dirs_exist_ok=True)
    return ProjectStore(tmp_path / "storage", small)


@pytest.fixture(scope="module")
def made(drawn: Path, small: Profile, tmp_path_factory: pytest.TempPathFactory) -> tuple[ProjectStore, Outcome, list]:
    """The tile as a field, what its step said and what it logged; only read."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(drawn, root, dirs_exist_ok=True)
    lines: list[str] = []
    store, find = ProjectStore(root, small), ArchiveClient.find_images
    with pytest.MonkeyPatch.context() as patch:
        # The shallower stacks first: the file is chosen once and found again by its name.
        patch.setattr(ArchiveClient, "find_images", lambda *args: find(*args)[::-1])
        return store, write(store, lines.append), lines


def write(store: ProjectStore, log: Callable[[str], None] = print) -> Outcome:
    return write_tile_images(store, TILE, Archive(), log)


def files_of(store: ProjectStore) -> TileField:
    return TileField(FieldsStore(store).watched, TILE)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_bytes_are_said_before_the_first_image_comes(made: tuple[ProjectStore, Outcome, list]) -> None:
    _, outcome, lines = made
    side = re.match(rf"{re.escape(TILE)}: (\d+) × (\d+) pixels", lines[0])
    assert side is not None
    assert all(240 <= int(n) <= 260 for n in side.groups()), "its own area with a margin of 60 pixels on each side"
    said = f" of {IMAGES} images in {CELLS} cells, {CELLS * (IMAGES + 1)} requests of at most "
    assert said in lines[0]
    assert " GB together" in lines[0]
    assert (outcome.numbers["width"], outcome.numbers["height"]) == (SIDE, SIDE)
    assert outcome.numbers["cells"] == CELLS


def test_every_pixel_is_the_archive_s(made: tuple[ProjectStore, Outcome, list]) -> None:
    store, outcome, _ = made
    sky, folder = DesStore(store).sky, files_of(store).folder
    geometry = TileGeometry.of_tile(TILE, SIDE, 0.2637)
    for band in BANDS:
        with fits.open(folder / f"{band}.fits") as hdus:
            hdus.verify("exception")
            for name, product in (("SCI", "image"), ("WGT", "weight")):
                expected = sky.image(TILE, band, product).pixels
                width = expected.shape[1]
                np.testing.assert_array_equal(hdus[name].data[:, :width], expected)
                rest = hdus[name].data[:, width:]
                assert rest.size == 0 or (np.isnan(rest) if name == "SCI" else rest == 0).all()
    assert width < SIDE, "the survey's Y images end before the others"
    field = read_field(read_field_file(files_of(store).toml), print)
    assert (field.name, field.names, field.shape) == (TILE, ("g", "r", "i", "z", "y"), (SIDE, SIDE))
    assert list(field.zero_points) == [30.0] * 5
    x, y = np.array([0.0, 64.5, 199.0]), np.array([20.0, 64.5, 199.0])
    ours, theirs = field.sky(x, y), geometry.sky(x, y)
    np.testing.assert_allclose(np.mod(ours[0] + 180, 360), np.mod(theirs[0] + 180, 360), atol=2e-8)
    np.testing.assert_allclose(ours[1], theirs[1], atol=2e-8)
    assert all(band.weight is not None and band.psf is not None for band in field.bands.values())
    with fits.open(io.BytesIO(sky.psf(TILE, "r"))) as theirs_psf, fits.open(folder / "psf_r.fits") as ours_psf:
        np.testing.assert_array_equal(ours_psf[1].data["PSF_MASK"], theirs_psf[1].data["PSF_MASK"])
    (check,) = outcome.checks
    assert check.passed
    assert 0 < check.numbers["covered_Y"] < check.numbers["covered_r"] - 0.05


def test_the_field_is_named_and_a_second_run_requests_nothing(made: tuple[ProjectStore, Outcome, list]) -> None:
    store, first, _ = made
    files = files_of(store)
    assert FieldsStore(store).field(TILE).source == files.toml
    before = contents(files.folder)
    lines: list[str] = []
    again = write(store, lines.append)
    assert first.numbers["archive_requests"] > CELLS * (IMAGES + 1)
    assert again.numbers["archive_requests"] == 0
    assert {**again.numbers, "archive_requests": 0} == {**first.numbers, "archive_requests": 0}
    assert lines[0].startswith("kept the images")
    assert contents(files.folder) == before


def test_without_its_files_it_is_written_again_from_the_answers_that_are_kept(
    made: tuple[ProjectStore, Outcome, list], tmp_path: Path
) -> None:
    store = made[0]
    shutil.copytree(str(store.root), tmp_path / "copy")
    copy = ProjectStore(tmp_path / "copy", store.profile)
    before = contents(files_of(copy).folder)
    (files_of(copy).folder / "r.fits").unlink()
    FieldsStore(copy).field(TILE).source = files_of(copy).toml
    assert write(copy).numbers["archive_requests"] == 0
    assert contents(files_of(copy).folder) == before


def test_an_interrupted_run_goes_on_with_what_is_missing(
    made: tuple[ProjectStore, Outcome, list], store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, download, left = ArchiveClient.fetch, GuardedSession.download, threading.Semaphore(17)
    urls: list[str] = []

    def failing(client: ArchiveClient, *args: Any) -> Any:
        if not left.acquire(blocking=False):
            raise KeyboardInterrupt
        return fetch(client, *args)

    def counted(session: GuardedSession, url: str, limit: int) -> bytes:
        # Not every request: a query is polled as often as it takes.
        urls.append(url.partition("/cutout")[2])
        return download(session, url, limit)

    monkeypatch.setattr(GuardedSession, "download", counted)
    with monkeypatch.context() as patch:
        patch.setattr(ArchiveClient, "fetch", failing)
        with pytest.raises(KeyboardInterrupt):
            write(store)
    files = files_of(store)
    assert not files.toml.exists()
    assert not files.folder.exists()
    assert len(urls) == 17
    write(store)
    assert len(urls) == len(set(urls)) == CELLS * IMAGES + 6, "each cutout and PSF once, and the one in the middle"
    assert contents(files.folder) == contents(files_of(made[0]).folder)


def spoilt(patch: pytest.MonkeyPatch, band: str, spoil: Callable[[fits.PrimaryHDU], None]) -> None:
    """The archive's cutouts of one band's images north of the tile's middle are changed."""
    cutout = Holdings.cutout

    def changed(holdings: Holdings, holding: Any, extension: int, region: Any) -> bytes | None:
        data = cutout(holdings, holding, extension, region)
        if data is None or extension != 1 or holding.band != band or region is None or region[1] < 60.2501:
            return data
        with fits.open(io.BytesIO(data)) as hdus:
            spoil(hdus[0])
            stream = io.BytesIO()
            hdus.writeto(stream)
        return stream.getvalue()

    patch.setattr(Holdings, "cutout", changed)


def shortened(hdu: fits.PrimaryHDU) -> None:
    hdu.data = hdu.data[:, :-9].copy()


FAULTS: dict[str, tuple[str, Callable[[fits.PrimaryHDU], Any], str]] = {
    "a cutout is too small": ("i", shortened, "leave out .* pixels within the image"),
    "another band": ("z", lambda hdu: hdu.header.update(BAND="g"), "the image is in band 'g', not 'z'"),
    "another zero point": ("g", lambda hdu: hdu.header.update(MAGZERO=29.9), "zero points from 29.900 to 30.000"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_images_that_do_not_fit_together_end_in_one_line_and_leave_no_field(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    band, spoil, words = FAULTS[fault]
    spoilt(monkeypatch, band, spoil)
    with pytest.raises(ArchiveError, match=words):
        write(store)
    assert not files_of(store).toml.exists()


def test_what_cannot_be_is_refused_before_an_image_is_requested(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, files = FieldsStore(store), files_of(store)
    mine = Path(str(store.root)) / "mine.toml"
    mine.write_text(f'name = "{TILE}"\n[bands.r]\nimage = "r.fits"\n')
    fields.field(TILE).source = mine
    with pytest.raises(SettingsError, match="is the name of the field"):
        write(store)
    mine.unlink()
    monkeypatch.setattr(ArchiveClient, "fetch", lambda *_: pytest.fail("requested"))
    with files.lock(), pytest.raises(BusyError, match="images of DES0000"):
        write(store)
    with pytest.raises(SettingsError, match="is not a tile's name"):
        write_tile_images(store, "../../etc", Archive(), print)


def test_a_disk_without_room_for_the_images_is_said_first(
    made: tuple[ProjectStore, Outcome, list], store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("deblend_assets.stores.files.shutil.disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(module.TileFetcher, "fetch", lambda *_: pytest.fail("requested"))
    with pytest.raises(StorageError, match=r"the images of DES0000\+6015 may take 0\.0 GiB"):
        write(store)


def test_an_archive_without_the_label_band_there_has_no_field(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = ArchiveClient.find_images
    monkeypatch.setattr(
        ArchiveClient, "find_images", lambda *args: [record for record in find(*args) if record.band != "r"]
    )
    with pytest.raises(MissingDataError, match="no image in r in the middle of"):
        write(store)


def test_the_psf_of_a_real_tile_is_measured_from_its_stars(
    made: tuple[ProjectStore, Outcome, list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes an archive simulated is its table of truth. Real ones do not serve their PSFs."""
    find = ArchiveClient.find_images
    monkeypatch.setattr(ArchiveClient, "find_images", lambda *args: [r for r in find(*args) if r.product != "psf"])
    shutil.copytree(str(made[0].root), tmp_path / "copy")
    store = ProjectStore(tmp_path / "copy", made[0].profile)
    FieldsStore(store).field(TILE).source = files_of(store).toml
    archive = store.profile.des.archive.model_copy(update={"truth_table": None})
    des = store.profile.des.model_copy(update={"archive": archive})
    real = ProjectStore(store.root, store.profile.model_copy(update={"des": des}))
    write(real)
    toml = files_of(real).toml.read_text()
    assert toml.count('psf = "measure"') == 5
    assert json.loads((files_of(real).folder / "tile.json").read_text())["files"].keys() == {
        f"{band}.fits" for band in BANDS
    }
