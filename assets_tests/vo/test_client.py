"""The archive client where all goes well, over real HTTP: rows, images, contents, and nothing asked for twice."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from assets_tests.vo.fault_server import FaultServer, answer, fits_file, image_list, votable
from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.cutouts import ImageRecord
from deblend_assets.vo.client import ArchiveClient

ADQL = "SELECT id, e_1 FROM s.t WHERE ra > 1"
ROWS = Table(
    {
        "id": MaskedColumn(np.array([2**53 + 1, 2, 3], dtype=np.int64)),
        "flag": MaskedColumn(np.array([1, 2, 3], dtype=np.int32), mask=[False, True, False]),
        "e_1": MaskedColumn(np.array([0.1, 0.2, -9999.0], dtype=np.float64), mask=[False, True, False]),
        "w": MaskedColumn(np.array([1.5, 2.5, 3.5], dtype=np.float32)),
        "tile": MaskedColumn(["DES0001+0001", "b", "c"], mask=[False, False, True]),
    }
)
LISTED = [
    ("r DECam SDSS c0002 6415.0 1480.0", "Stack", "image", "450.0"),
    ("r DECam SDSS c0002 6415.0 1480.0", "Stack", "wtmap", ""),
    ("Y DECam c0005 10095.0 1130.0", "Stack", "weight", "45"),
    ("g DECam SDSS c0001 4720.0 1520.0", "InstCal", "image", "90"),
    ("g DECam SDSS c0001 4720.0 1520.0", "Stack", "dqmask", "90"),
]


def pixels(data: bytes) -> float:
    """A check that opens the file."""
    try:
        with fits.open(io.BytesIO(data)) as hdus:
            return float(hdus[0].data.mean())
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise ArchiveError("does not open", where="test", remedy="none") from error


def record(server: FaultServer, path: str = "/cutout", query: str = "siaRef=a&POS=1,2") -> ImageRecord:
    return ImageRecord(url=f"{server.url}{path}?{query}", band="r", product="image", exposure_s=1.0, title="DES r")


@pytest.mark.parametrize("binary", [False, True])
def test_rows_come_with_their_types_and_missing_numbers_are_nan(
    server: FaultServer, make_client: Callable[..., ArchiveClient], binary: bool
) -> None:
    server.tap(answer(votable(ROWS, binary=binary)))
    rows = make_client().query(ADQL, "shapes")
    assert list(rows) == ROWS.colnames
    assert rows["id"].tolist() == [2**53 + 1, 2, 3]
    assert rows["id"].dtype == np.int64
    np.testing.assert_array_equal(rows["flag"], [1, np.nan, 3])
    np.testing.assert_array_equal(rows["e_1"], [0.1, np.nan, -9999.0])
    assert rows["w"].dtype == np.float32
    # astropy writes no mask of texts into BINARY2.
    assert rows["tile"].tolist() == ["DES0001+0001", "b", "c" if binary else ""]
    assert all(dtype.isnative for dtype in rows.dtypes if isinstance(dtype, np.dtype))


def test_a_query_is_an_anonymous_job_with_its_limit_that_is_deleted_in_the_end(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(ROWS)), phases=("QUEUED", "EXECUTING", "COMPLETED"))
    make_client(max_rows=77).query(ADQL, "shapes")
    created = server.forms[0]
    assert (created["QUERY"], created["MAXREC"], created["LANG"]) == (ADQL, "77", "ADQL")
    assert {"PHASE": "RUN"} in server.forms
    assert server.asked[-1] == ("DELETE", "/tap/async/7")
    assert all("Authorization" not in headers for headers in server.headers)


def test_a_second_run_asks_the_archive_for_nothing(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(ROWS)))
    server.on("GET", "/sia/des_dr1", answer(image_list(server.url, LISTED)))
    server.on("GET", "/cutout", answer(fits_file(3)))
    runs = []
    for _ in range(2):
        client = make_client()
        rows = client.query(ADQL, "shapes")
        (image, *_rest) = client.find_images(180.0, 60.0, 12.0)
        runs.append((rows, image, client.fetch(image, pixels), client.requests))
    (rows, image, value, sent), (again, same, same_value, none) = runs
    assert rows.equals(again)
    assert image == same
    assert value == same_value == 3.0
    assert sent == len(server.asked) > 0
    assert none == 0
    assert make_client().query(ADQL + " AND 1 = 1", "shapes").equals(rows), "another query is another request"
    assert len(server.asked) > sent


def test_an_empty_answer_is_an_answer(server: FaultServer, make_client: Callable[..., ArchiveClient]) -> None:
    server.tap(answer(votable(ROWS[:0])))
    rows = make_client().query(ADQL, "shapes")
    assert len(rows) == 0
    assert list(rows) == ROWS.colnames


def test_stacked_images_and_weight_maps_are_found_whatever_else_is_listed(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/sia/des_dr1", answer(image_list(server.url, LISTED)))
    found = make_client().find_images(180.0, 60.0, 12.0)
    assert [(image.band, image.product, image.exposure_s) for image in found] == [
        ("r", "image", 450.0),
        ("r", "weight", 0.0),
        ("Y", "weight", 45.0),
    ]
    assert found[0].url.startswith(f"{server.url}/cutout?siaRef=")
    assert found[0].title == "r-image"
    asked = parse_qs(urlsplit(server.asked[0][1]).query)
    assert asked["POS"] == ["180.0,60.0"]
    width, height = map(float, asked["SIZE"][0].split(","))
    assert height == pytest.approx(12 / 3600)
    assert width == pytest.approx(2 * height), "1 / cos(60°)"


def test_fields_are_found_by_their_ucd_whatever_the_server_calls_them(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    body = image_list(server.url, LISTED)
    for theirs, other in ((b"access_url", b"accref"), (b"obs_bandpass", b"bandpassId"), (b"obs_title", b"imageTitle")):
        body = body.replace(theirs, other)
    server.on("GET", "/sia/des_dr1", answer(body))
    assert len(make_client().find_images(1.0, 2.0, 12.0)) == 3


def test_no_image_at_a_position_is_an_empty_list(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    empty = Table({"access_url": np.array([], dtype="U9")})
    server.on("GET", "/sia/des_dr1", answer(votable(empty)))
    assert make_client().find_images(1.0, 2.0, 12.0) == []


@pytest.mark.parametrize("column", ["proctype", "prodtype", "exptime"])
def test_a_list_of_images_without_a_needed_column_names_it(
    server: FaultServer, make_client: Callable[..., ArchiveClient], column: str
) -> None:
    server.on("GET", "/sia/des_dr1", answer(image_list(server.url, LISTED).replace(column.encode(), b"other")))
    with pytest.raises(ArchiveError, match=f"no column {column}"):
        make_client().find_images(1.0, 2.0, 12.0)


def test_a_service_that_comes_back_on_another_port_is_not_asked_again(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/sia/des_dr1", answer(image_list(server.url, LISTED)))
    server.on("GET", "/cutout", answer(fits_file(3)))
    client = make_client()
    assert client.fetch(client.find_images(1.0, 2.0, 12.0)[0], pixels) == 3.0
    with FaultServer() as moved:
        moved.on("GET", "/cutout", answer(fits_file(8)))
        later = make_client(moved.url)
        found = later.find_images(1.0, 2.0, 12.0)
        assert all(image.url.startswith(f"{moved.url}/cutout?") for image in found)
        assert later.fetch(found[0], pixels) == 3.0
        assert later.requests == 0
        assert later.fetch(found[1], pixels) == 8.0
        assert [path for _, path in moved.asked] == [found[1].url.removeprefix(moved.url)]


def test_columns_are_checked_against_the_schema_whatever_their_case_and_quotes(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(Table({"column_name": ["ID", '"e_1"', "e_2"]}))))
    client = make_client()
    client.require_columns("s.t", ["id", "e_1"])
    assert server.forms[0]["QUERY"] == "SELECT column_name FROM TAP_SCHEMA.columns WHERE table_name = 's.t'"
    with pytest.raises(ArchiveError, match=r"s\.t has no column nbc_m, snr_w"):
        client.require_columns("s.t", ["id", "snr_w", "nbc_m"])


def test_a_column_that_the_archive_has_added_is_found_in_spite_of_the_cache(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    names = Table({"column_name": ["id"]}), Table({"column_name": ["id", "snr_w"]})
    server.tap(answer(votable(names[0])))
    make_client().require_columns("s.t", ["id"])
    server.tap(answer(votable(names[1])))
    make_client().require_columns("s.t", ["id", "snr_w"])
    client = make_client()
    client.require_columns("s.t", ["id", "snr_w"])
    assert client.requests == 0


def test_a_table_that_is_not_there_and_a_name_that_is_none(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(Table({"column_name": np.array([], dtype="U9")}))))
    with pytest.raises(ArchiveError, match=r"no table s\.t"):
        make_client().require_columns("s.t", ["id"])
    with pytest.raises(ArchiveError, match="not a table's name"):
        make_client().require_columns("s.t' OR '1' = '1", ["id"])
    assert all("OR" not in form.get("QUERY", "") for form in server.forms)


def test_compressed_answers_and_files_are_expanded(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    packed = gzip.compress(fits_file(4))
    server.on("GET", "/cutout", answer(packed, Content_Encoding="gzip"))
    server.on("GET", "/file.fits.gz", answer(packed))
    server.tap(answer(gzip.compress(votable(ROWS)), Content_Encoding="gzip"))
    client = make_client()
    assert client.fetch(record(server), pixels) == client.fetch(record(server, "/file.fits.gz"), pixels) == 4.0
    assert len(client.query(ADQL, "shapes")) == 3


def test_redirects_are_followed(server: FaultServer, make_client: Callable[..., ArchiveClient]) -> None:
    server.on("GET", "/cutout", answer(b"", 302, Location="/elsewhere"))
    server.on("GET", "/elsewhere", answer(fits_file(5)))
    client = make_client()
    assert client.fetch(record(server), pixels) == 5.0
    assert client.requests == 2


def test_threads_share_a_client_and_never_exceed_its_connections(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    def slow(handler: Any) -> None:
        handler.faults.over.wait(0.02)
        answer(fits_file(6))(handler)

    server.on("GET", "/cutout", slow)
    client = make_client(connections=2)
    records = [record(server, query=f"siaRef={k}") for k in range(12)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda each: client.fetch(each, pixels), records)) == [6.0] * 12
    assert client.requests == len(server.asked) == 12
    assert server.busiest == 2
