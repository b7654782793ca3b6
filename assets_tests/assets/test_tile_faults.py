"""What an archive, a tile or a profile may do to the DES leg: one line that says what, where and what to do.

The real service answers throughout; where an image must be the wrong one, a request on its way to it is changed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from assets_tests.assets.homes import results
from assets_tests.assets.lineage import CHAIN, CUTOUTS, IM3SHAPE, SHAPES, TILE_EVALUATION, Lineage, Made, metadata
from assets_tests.assets.test_tiles import BANDS, TILES, cutouts_of
from assets_tests.stores.test_files import HOLDER, python
from deblend_assets.steps.des.cutting import REFUSED
from deblend_assets.vo.server import serve

pytestmark = pytest.mark.slow

HASTE = {"des__archive__attempts": 2, "des__archive__backoff_s": 0.01}


def written(lineage: Lineage) -> dict[str, str]:
    """Everything but what the archive answered."""
    return {name: sum_ for name, sum_ in results(lineage.root).items() if "archive" not in Path(name).parts}


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


NOWHERE = closed_port()
ARCHIVE_FAULTS = {
    "no such tile": ({}, "DES0433-5331", "DES0433-5331 is not in the archive's list of tiles [tile DES0433-5331]"),
    "no galaxy after the cuts": (
        {"des__tiles__snr_w_min": 1e9},
        TILES[0],
        f"no galaxy of {TILES[0]} is left after the cuts (",
    ),
    # Right ascension 60 lies in no tile: as empty as an archive can be.
    "no galaxy at all": ({"des__archive__gold_ra": "dec_j2000"}, TILES[0], "after the cuts (0 rows from the archive)"),
    "no such column": (
        {"des__archive__gold_dec": "delta"},
        TILES[0],
        "des_sva1.gold_catalog has no column delta",
    ),
    "no such table": (
        {"des__archive__shape_table": "des_sva1.im3shape"},
        TILES[0],
        "the archive has no table des_sva1.im3shape",
    ),
    "more rows than wanted": (
        {"des__archive__max_rows": 25},
        TILES[0],
        "the answer fills the limit of 25 rows [shapes of ",
    ),
    "archive down": (
        {"des__archive__tap_url": f"{NOWHERE}/tap", "des__archive__sia_url": f"{NOWHERE}/sia"},
        TILES[0],
        "the connection failed (Connection refused) (tried 2 times)",
    ),
}


@pytest.mark.parametrize("fault", ARCHIVE_FAULTS)
def test_a_catalogue_that_cannot_be_had_is_one_line_and_nothing_is_written(
    surveyed: Callable[..., Lineage], fault: str
) -> None:
    """But for the attrition, which says where no galaxy was left."""
    changes, tile, words = ARCHIVE_FAULTS[fault]
    lineage = surveyed(**HASTE, **changes)
    before = written(lineage)
    assert words in lineage.failure(IM3SHAPE, tile=tile)
    after = written(lineage)
    new = {Path(name).name for name in after.keys() - before.keys()}
    assert new == ({"attrition.parquet", "attrition.parquet.json"} if fault.startswith("no galaxy") else set())
    assert before.items() <= after.items()


@pytest.mark.parametrize("name", ["../../etc", "DES1200+6000/../../x", "DES1200+6000' OR '1'='1", "DES2500+6000"])
def test_a_name_that_is_no_tile_is_refused_by_every_asset_and_reaches_no_path(
    surveyed: Callable[..., Lineage], name: str
) -> None:
    lineage = surveyed()
    before = results(lineage.root.parent)
    for asset in CHAIN:
        line = lineage.failure(asset, tile=name)
        assert line == f"{name!r} is not a tile's name [tile]: give DESHHMM+DDMM or DESHHMM-DDMM, as in DES0433-5331"
    assert results(lineage.root.parent) == before, "nothing was asked either"


def test_what_is_not_there_yet_is_named(surveyed: Callable[..., Lineage]) -> None:
    lineage = surveyed()
    for asset, words in (
        (CUTOUTS, f"des/im3shape_catalog of {TILES[0]} has not been materialised ["),
        (SHAPES, f"des/im3shape_catalog of {TILES[0]} has not been materialised ["),
        (TILE_EVALUATION, f"des/im3shape_catalog of {TILES[0]} has not been materialised ["),
    ):
        assert words in lineage.failure(asset, tile=TILES[0])
    lineage.succeeds(IM3SHAPE, tile=TILES[0])
    assert f"des/des_cutouts of {TILES[0]} has not been materialised [" in lineage.failure(SHAPES, tile=TILES[0])
    lineage.des.sky.marker.unlink()
    assert "the simulated survey is not drawn" in lineage.failure(IM3SHAPE, tile=TILES[0])


def test_too_few_galaxies_make_no_evaluation(tiled: Callable[..., Lineage]) -> None:
    line = tiled(des__tiles__minimum_galaxies=1000).failure(TILE_EVALUATION, tile=TILES[0])
    assert "galaxies with shapes; an evaluation needs 1000" in line


def test_a_tile_whose_cutouts_another_run_fetches_is_busy(tiled: Callable[..., Lineage]) -> None:
    lineage = tiled()
    lock = lineage.des.tile(TILES[0]).folder / "_locks" / "cutouts.lock"
    with python(HOLDER, lock) as holder:
        line = lineage.failure(CUTOUTS, tile=TILES[0])
        assert line.startswith(f"the cutouts of {TILES[0]} is being written by process {holder.pid} [")
    lineage.succeeds(CUTOUTS, tile=TILES[0])


@dataclass
class Diversion:
    """Stands before every service that is started and answers some requests for an image with another image.

    Attributes:
        divert: takes the query of a cutout and gives the one that is answered.
        asked: the queries of all cutouts, as they came.
    """

    divert: Callable[[str], str] = str
    asked: list[str] = field(default_factory=list)

    def before(self, app: ASGIApp) -> ASGIApp:
        async def service(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == "/cutout":
                query = scope["query_string"].decode()
                self.asked.append(query)
                scope = {**scope, "query_string": self.divert(query).encode()}
            await app(scope, receive, send)

        return service


@pytest.fixture
def diversion(monkeypatch: pytest.MonkeyPatch) -> Diversion:
    made, real = Diversion(), serve.create_app
    monkeypatch.setattr(serve, "create_app", lambda sky, log=None: made.before(real(sky, log)))
    return made


def is_of(query: str, galaxy: pd.Series, band: str) -> bool:
    """Whether a cutout's query asks for the image of a galaxy in a band."""
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    ra, dec = map(float, asked["POS"].split(","))
    near = abs(ra - galaxy["ra"]) < 1e-6 and abs(dec - galaxy["dec"]) < 1e-6
    return near and asked["extn"] == "1" and asked["siaRef"].endswith(f"_{band}.fits.fz")


def to_band(band: str, other: str) -> Callable[[str], str]:
    return lambda query: query.replace(f"_{band}.fits", f"_{other}.fits")


def to_position(galaxy: pd.Series) -> Callable[[str], str]:
    def moved(query: str) -> str:
        start = query.index("POS=")
        stop = query.find("&", start)
        return f"{query[:start]}POS={galaxy['ra']},{galaxy['dec']}{query[stop:] if stop > 0 else ''}"

    return moved


def apart(galaxies: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Two galaxies that no stamp holds both."""
    rows = galaxies.sort_values("dec")
    first, last = rows.iloc[0], rows.iloc[-1]
    assert last["dec"] - first["dec"] > 30 / 3600
    return first, last


@pytest.fixture
def catalogued(surveyed: Callable[..., Lineage]) -> tuple[Lineage, pd.DataFrame]:
    """A lineage that asks hastily, with the catalogue of its first tile, and that catalogue."""
    lineage = surveyed(**HASTE)
    lineage.succeeds(IM3SHAPE, tile=TILES[0])
    return lineage, lineage.des.tile(TILES[0]).read_table("im3shape_catalog")


@pytest.mark.parametrize("fault", ["wrong band", "wrong position"])
def test_one_image_that_is_not_what_was_asked_for_is_masked_and_told(
    catalogued: tuple[Lineage, pd.DataFrame],
    diversion: Diversion,
    first_tiles: tuple[Lineage, dict[str, Made]],
    fault: str,
) -> None:
    lineage, galaxies = catalogued
    expected = cutouts_of(first_tiles[0], TILES[0])
    # One that is kept: of the others only the label band is asked for.
    galaxy, far = apart(galaxies[galaxies["coadd_objects_id"].isin(expected.galaxies["coadd_objects_id"])])
    change = to_band("i", "z") if fault == "wrong band" else to_position(far)
    diversion.divert = lambda query: change(query) if is_of(query, galaxy, "i") else query
    result = lineage.succeeds(CUTOUTS, SHAPES, tile=TILES[0])
    (sound,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "images_sound"]
    assert not sound.passed
    assert {name: entry.value for name, entry in sound.metadata.items()} == {"refused_i": 1}

    cutouts = cutouts_of(lineage, TILES[0])
    row = list(cutouts.galaxies["coadd_objects_id"]).index(galaxy["coadd_objects_id"])
    refused = np.zeros_like(cutouts.present)
    refused[row, BANDS.index("i")] = True
    assert (cutouts.present == (expected.present & ~refused)).all()
    np.testing.assert_array_equal(cutouts.counts[~refused], expected.counts[~refused])
    shapes = lineage.des.tile(TILES[0]).read_table("shape_catalog").iloc[row]
    assert np.isnan(shapes["flux_i"])
    assert "i" not in shapes["bands_present"]
    assert metadata(result)[SHAPES]["galaxies"] == len(expected.galaxies)

    diversion.divert, diversion.asked = str, []
    lineage.succeeds(CUTOUTS, tile=TILES[0])
    assert len(diversion.asked) == 2, "mended, the image and its weight map are asked for, and nothing else"
    np.testing.assert_array_equal(cutouts_of(lineage, TILES[0]).counts, expected.counts)


def test_a_galaxy_whose_label_band_is_wrong_is_rejected_with_its_reason(
    catalogued: tuple[Lineage, pd.DataFrame], diversion: Diversion
) -> None:
    lineage, galaxies = catalogued
    galaxy, _ = apart(galaxies)
    diversion.divert = lambda query: to_band("r", "i")(query) if is_of(query, galaxy, "r") else query
    found = metadata(lineage.succeeds(CUTOUTS, tile=TILES[0]))[CUTOUTS]
    cutouts = cutouts_of(lineage, TILES[0])
    assert cutouts.info["rejected"][REFUSED] == 1
    assert cutouts.info["refused"] == {"r": 1}
    assert f"| {REFUSED} | 1 |" in found["rejections"]
    assert galaxy["coadd_objects_id"] not in set(cutouts.galaxies["coadd_objects_id"])
    assert found["galaxies"] + found["rejected"] == len(galaxies)


def test_many_wrong_images_are_one_line_and_a_sound_archive_is_asked_for_those_and_the_rest(
    catalogued: tuple[Lineage, pd.DataFrame], diversion: Diversion
) -> None:
    lineage, galaxies = catalogued
    wrong = [galaxies.iloc[k] for k in (1, 3, 5)]

    def is_wrong(query: str) -> bool:
        return any(is_of(query, galaxy, "i") for galaxy in wrong)

    diversion.divert = lambda query: to_band("i", "z")(query) if is_wrong(query) else query
    line = lineage.failure(CUTOUTS, tile=TILES[0])
    assert line.startswith(f"2 images of {len(galaxies)} galaxies cannot be used, the first: "), (
        "no third is waited for"
    )
    assert "valid images are kept" in line
    store = lineage.des.tile(TILES[0])
    assert store.find_cutouts(lineage.des.cutouts_inputs(store)) is None
    before = set(diversion.asked)
    diversion.divert, diversion.asked = str, []
    lineage.succeeds(CUTOUTS, tile=TILES[0])
    assert before & set(diversion.asked) == {query for query in before if is_wrong(query)}
    assert len(set(diversion.asked)) == len(diversion.asked)
    assert cutouts_of(lineage, TILES[0]).info["refused"] == {}
