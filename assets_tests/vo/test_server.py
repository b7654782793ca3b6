"""The simulated archive, asked over HTTP by pyvo as any archive is, and by those who mean it ill."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pyvo
import requests
from astropy.io import fits
from astropy.io.votable import parse, validate
from astropy.wcs import WCS

from assets_tests.skies import SIDE, shared_sky
from deblend_assets.errors import ArchiveError, BusyError, CorruptDataError, MismatchError, MissingDataError
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.settings import Profile
from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.vo.server.adql import QueryError, SkyDatabase
from deblend_assets.vo.server.holdings import Holdings
from deblend_assets.vo.server.serve import SkyServer

STAMP = 45 * 0.2637 / 3600
TRUTH = "simulation.truth"


@pytest.fixture(scope="module")
def sky(catalog: pd.DataFrame, profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> SimulatedSky:
    return shared_sky(tmp_path_factory, catalog, profile)


@pytest.fixture(scope="module")
def server(sky: SimulatedSky) -> Iterator[SkyServer]:
    with SkyServer(sky) as running:
        yield running


@pytest.fixture(scope="module")
def tap(server: SkyServer) -> pyvo.dal.TAPService:
    return pyvo.dal.TAPService(server.tap_url)


@pytest.fixture(scope="module")
def target(sky: SimulatedSky) -> pd.Series:
    """The least blended galaxy in the middle of a tile."""
    truth = sky.table(TRUTH)
    # Y's image ends before the others, so not only the tile's own edge is kept away from.
    centre = truth.groupby("tilename")[["ra", "dec"]].transform("mean")
    width = truth.groupby("tilename")[["ra", "dec"]].transform(np.ptp)
    inside = ((truth[["ra", "dec"]] - centre).abs() < 0.25 * width).all(axis=1)
    known = truth[inside & (truth["star"] == 0) & (truth["snr_r"] > 10)]
    return known.loc[known["blendedness"].idxmin()]


def search(server: SkyServer, ra: float, dec: float, side: float = STAMP) -> pyvo.dal.SIAResults:
    return pyvo.dal.SIAService(server.sia_url).search((ra, dec), (side, side), verbosity=2)


def whole_image(sky: SimulatedSky, row: pd.Series, band: str) -> np.ndarray:
    return sky.image(row["tilename"], band, "image").pixels


# -- TAP --------------------------------------------------------------------------------------------------------


def test_a_synchronous_query_brings_the_table_with_its_units(tap: pyvo.dal.TAPService, sky: SimulatedSky) -> None:
    table = tap.run_sync(f"SELECT * FROM {TRUTH}").to_table()
    truth = sky.table(TRUTH)
    assert table.colnames == list(truth.columns)
    for column in ("coadd_objects_id", "ra", "g2", "flux_r"):
        assert np.array_equal(np.asarray(table[column]), truth[column].to_numpy(), equal_nan=True), "to the last bit"
    assert (str(table["ra"].unit), str(table["flux_r"].unit)) == ("deg", "ct")
    assert "east-west" in table["g1"].description
    assert table["e1"].mask.sum() == truth["e1"].isna().sum() > 0


def test_an_asynchronous_query_and_its_job(tap: pyvo.dal.TAPService, server: SkyServer) -> None:
    job = tap.submit_job("SELECT TOP 4 tilename FROM des_dr1.tile_info ORDER BY tilename")
    assert job.phase == "PENDING"
    assert "tile_info" in job.query
    job.run()
    job.wait(timeout=20)
    assert job.phase == "COMPLETED"
    assert list(job.fetch_result()["tilename"]) == ["DES0000+6015", "DES1200+6000"]
    for part, expected in (("phase", "COMPLETED"), ("parameters", "tile_info"), ("results", "results/result")):
        assert expected in requests.get(f"{job.url}/{part}", timeout=10).text
    assert job.url in requests.get(f"{server.tap_url}/async", timeout=10).text
    url = job.url
    job.delete()
    assert requests.get(url, timeout=10).status_code == 404


def test_a_failed_job_tells_why(tap: pyvo.dal.TAPService) -> None:
    with pytest.raises(pyvo.dal.DALQueryError, match="no such column: nope"):
        tap.run_async("SELECT nope FROM simulation.truth")
    job = tap.submit_job("SELECT nope FROM simulation.truth").run()
    job.wait(timeout=20)
    assert job.phase == "ERROR"
    assert "no such column" in requests.get(f"{job.url}/error", timeout=10).text
    assert requests.get(f"{job.url}/results/result", timeout=10).status_code == 404
    assert requests.post(f"{job.url}/phase", data={"PHASE": "RUN"}, timeout=10).status_code == 400


def test_waiting_for_a_job_ends_when_it_is_aborted(tap: pyvo.dal.TAPService) -> None:
    job = tap.submit_job("SELECT 1 AS one")
    threading.Timer(0.3, lambda: requests.post(f"{job.url}/phase", data={"PHASE": "ABORT"}, timeout=10)).start()
    started = time.monotonic()
    document = requests.get(job.url, params={"WAIT": "20"}, timeout=30).text
    assert ">ABORTED<" in document
    assert 0.2 < time.monotonic() - started < 10
    assert ">ABORTED<" in requests.get(job.url, params={"WAIT": "20"}, timeout=5).text, "an ended job waits for none"


@pytest.mark.parametrize("wait", ["--5", "²", "soon", "9" * 5000])
def test_a_wait_that_is_no_number_is_none(tap: pyvo.dal.TAPService, wait: str) -> None:
    job = tap.submit_job("SELECT 1 AS one")
    answer = requests.get(job.url, params={"WAIT": wait}, timeout=5)
    assert answer.status_code == 200
    assert ">PENDING<" in answer.text


def test_a_join_of_shapes_and_positions(tap: pyvo.dal.TAPService, sky: SimulatedSky) -> None:
    found = tap.run_sync(
        "SELECT s.coadd_objects_id, s.e_1, g.ra_j2000 FROM des_sva1.gold_im3shape AS s"
        " JOIN des_sva1.gold_catalog AS g ON s.coadd_objects_id = g.coadd_objects_id"
        " WHERE g.ra_j2000 BETWEEN 179 AND 181 AND s.error_flag = 0 -- of one tile"
    ).to_table()
    shapes, gold = sky.table("des_sva1.gold_im3shape"), sky.table("des_sva1.gold_catalog")
    expected = shapes.merge(gold, on="coadd_objects_id")
    expected = expected[expected["ra_j2000"].between(179, 181) & (expected["error_flag"] == 0)]
    assert sorted(found["coadd_objects_id"]) == sorted(expected["coadd_objects_id"])


def test_a_cut_answer_says_so(tap: pyvo.dal.TAPService, server: SkyServer) -> None:
    cut = tap.run_sync(f"SELECT * FROM {TRUTH}", maxrec=5)
    assert len(cut) == 5
    assert cut.query_status == "OVERFLOW"
    job = tap.submit_job(f"SELECT * FROM {TRUTH}", maxrec=5).run()
    job.wait(timeout=20)
    assert job.fetch_result().query_status == "OVERFLOW"
    text = requests.get(
        f"{server.tap_url}/sync", params={"QUERY": f"SELECT * FROM {TRUTH}", "MAXREC": 5}, timeout=10
    ).text
    assert text.index('value="OK"') < text.index("<TABLE>") < text.index('value="OVERFLOW"')
    assert tap.run_sync(f"SELECT TOP 5 * FROM {TRUTH}", maxrec=5).query_status == "OK", "five is all that was asked"


def test_top_and_its_kin(tap: pyvo.dal.TAPService) -> None:
    assert len(tap.run_sync(f"select top 3 ra from {TRUTH};")) == 3
    assert len(tap.run_sync(f"SELECT DISTINCT TOP 9 tilename FROM {TRUTH}")) == 2
    counted = tap.run_sync(
        f"SELECT t.n, COUNT(*) AS many FROM (SELECT tilename AS n FROM {TRUTH}) AS t GROUP BY t.n"
    ).to_table()
    assert set(counted["n"]) == {"DES1200+6000", "DES0000+6015"}
    assert counted["many"].dtype.kind == "i"
    assert tap.run_sync("SELECT MAX(COS(RADIANS(dec_cent))) AS c FROM des_dr1.tile_info")["c"][0] == pytest.approx(0.5)


def test_the_mathematical_functions_are_adqls(sky: SimulatedSky) -> None:
    query = (
        "SELECT LOG(EXP(2.0)) AS a, LOG10(100) AS b, FLOOR(-1.5) AS c, POWER(2, 3) AS d, SQRT(-1) AS e,"
        " COS(NULL) AS f, MOD(7, 4) AS g, ATAN2(1, 1) AS h, PI() AS i, CEILING(1.2) AS j"
    )
    (row,) = SkyDatabase(sky).query(query).rows
    assert row == pytest.approx((2, 2, -2, 8, None, None, 3, np.pi / 4, np.pi, 2))


def test_the_service_describes_itself(tap: pyvo.dal.TAPService, sky: SimulatedSky) -> None:
    columns = tap.run_sync(
        "SELECT column_name, datatype, unit FROM TAP_SCHEMA.columns WHERE table_name = 'simulation.truth'"
    )
    assert list(columns["column_name"]) == list(sky.table(TRUTH).columns)
    kinds = dict(zip(columns["column_name"], columns["datatype"], strict=True))
    assert (kinds["coadd_objects_id"], kinds["ra"], kinds["tilename"]) == ("long", "double", "char")
    assert {"des_sva1.gold_im3shape", "des_dr1.tile_info", "TAP_SCHEMA.tables"} <= set(tap.tables.keys())
    assert tap.tables["des_sva1.gold_catalog"].columns[1].unit == "deg"
    assert tap.hardlimit == 1_000_000
    assert "TAP_SCHEMA.keys" in list(tap.run_sync("SELECT table_name FROM TAP_SCHEMA.tables")["table_name"])


REFUSED = {
    "DROP TABLE simulation.truth": "not authorized",
    "INSERT INTO simulation.truth SELECT * FROM simulation.truth": "not authorized",
    "UPDATE simulation.truth SET ra = 0": "not authorized",
    "CREATE TABLE x AS SELECT 1": "not authorized",
    "PRAGMA table_info(truth)": "not authorized",
    "ATTACH '/etc/passwd' AS x": "not authorized",
    "VACUUM INTO '/tmp/copy.db'": "authoriz",
    "BEGIN": "not authorized",
    "SELECT load_extension('x') AS x": "not authorized",
    "SELECT * FROM sqlite_master": "prohibited",
    "SELECT * FROM pragma_database_list": "not authorized",
    "SELECT 1 AS a; DROP TABLE simulation.truth": "one statement",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c": "not authorized",
    "SELECT randomblob(2000000000) AS x": "too big",
    "SELECT * FROM simulation.absent": "no such table",
    "SELECT * FROM simulation.truth WHERE 1 = CONTAINS(POINT(1, 1), CIRCLE(1, 1, 1))": "no such function: CIRCLE",
    "-- nothing": "only SELECT",
    "SELECT '\x00\x0b' AS <&>": "",
}


@pytest.mark.parametrize("query", REFUSED)
def test_whatever_is_not_a_select_over_its_tables_is_refused(server: SkyServer, query: str) -> None:
    answer = requests.post(f"{server.tap_url}/sync", data={"QUERY": query, "LANG": "ADQL"}, timeout=10)
    assert answer.status_code == 400
    table = parse(io.BytesIO(answer.content))
    (status,) = table.resources[0].infos
    assert (status.name, status.value) == ("QUERY_STATUS", "ERROR")
    assert REFUSED[query] in status.content
    rows = requests.get(f"{server.tap_url}/sync", params={"QUERY": f"SELECT COUNT(*) AS n FROM {TRUTH}"}, timeout=10)
    assert rows.status_code == 200, "the service goes on"


def test_wrong_requests_are_told_what_is_wrong(server: SkyServer) -> None:
    url = f"{server.tap_url}/sync"
    query = {"QUERY": "SELECT 1 AS one"}
    for wrong in (
        {"LANG": "PQL"},
        {"MAXREC": "-1"},
        {"MAXREC": "9" * 5000},
        {"FORMAT": "fits"},
        {"UPLOAD": "a,http://x"},
        {"QUERY": ""},
    ):
        assert requests.get(url, params=query | wrong, timeout=10).status_code == 400, wrong
    assert requests.post(url, data=b"{}", headers={"Content-Type": "text/json"}, timeout=10).status_code == 415
    assert requests.post(url, data={"QUERY": "x" * 2_000_000}, timeout=10).status_code == 413
    assert requests.get(f"{server.tap_url}/async/../../etc/passwd", timeout=10).status_code == 404


def test_a_query_without_end_is_given_up(sky: SimulatedSky) -> None:
    database = SkyDatabase(sky)
    endless = "SELECT COUNT(*) AS n FROM " + ", ".join(f"simulation.truth AS t{k}" for k in range(8))
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"longer than 0\.3 s"):
        database.query(endless, time_limit_s=0.3)
    assert time.monotonic() - started < 5
    assert len(database.query("SELECT 1 AS one").rows) == 1


# -- SIA --------------------------------------------------------------------------------------------------------


def test_pyvo_finds_every_product_of_every_band(server: SkyServer, target: pd.Series) -> None:
    found = search(server, target["ra"], target["dec"])
    table = found.to_table()
    assert set(table["tile"]) == {target["tilename"]}
    kinds = pd.DataFrame({c: list(table[c]) for c in ("obs_bandpass", "proctype", "prodtype", "exptime")})
    for band, rows in kinds.groupby(kinds["obs_bandpass"].str[0]):
        deep = rows[rows["proctype"] == "Stack"]
        assert sorted(deep["prodtype"]) == ["dqmask", "image", "image", "psf", "weight"], band
        exposures = deep.loc[deep["prodtype"] == "image", "exptime"].astype(float)
        assert exposures.min() == pytest.approx(exposures.max() / 2, rel=1e-3)
        assert 0.5 <= exposures.max() / (450 if band == "Y" else 900) < 2
        assert list(rows.loc[rows["proctype"] == "Resampled", "prodtype"]) == ["image"]
    assert set(kinds["obs_bandpass"].str[0]) == set("grizY")
    assert table["exptime"].dtype.kind == table["magzero"].dtype.kind == "O", "strings, as Data Lab has them"
    record = next(r for r in found if r["obs_bandpass"].startswith("r "))
    assert record.bandpass_id == "r DECam SDSS c0002 6415.0 1480.0"
    assert "simulated tile" in record.title
    assert record.format == "image/fits"
    assert record.getdataurl().startswith(f"{server.url}/cutout?")
    assert record.pos.dec.deg == pytest.approx(float(table["s_dec"][0]))


def test_far_from_any_tile_nothing_is_found(server: SkyServer, target: pd.Series) -> None:
    for ra, dec in ((10.0, -30.0), (target["ra"], -target["dec"]), ((target["ra"] + 180) % 360, 80.0), (0.0, -90.0)):
        assert len(search(server, ra, dec)) == 0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("POS=1,2", "SIZE is missing"),
        ("SIZE=1", "POS is missing"),
        ("POS=1&SIZE=1", "2 decimal numbers"),
        ("POS=nan,2&SIZE=1", "decimal numbers"),
        ("POS=400,2&SIZE=1", "out of range"),
        ("POS=1,2&SIZE=1e9", "out of range"),
        ("POS=<b>,2&SIZE=1", "<b>"),
        ("POS=1,2&SIZE=1&INTERSECT=COVERS", "INTERSECT"),
    ],
)
def test_wrong_searches_are_told_what_is_wrong(server: SkyServer, query: str, message: str) -> None:
    answer = requests.get(f"{server.sia_url}?{query}", timeout=10)
    assert answer.status_code == 200, "SIA 1 says it in the VOTable"
    (status,) = parse(io.BytesIO(answer.content)).resources[0].infos
    assert status.value == "ERROR"
    assert message in status.content


def test_metadata_and_formats(server: SkyServer, target: pd.Series) -> None:
    service = pyvo.dal.SIAService(server.sia_url)
    where = (target["ra"], target["dec"])
    assert len(service.search(where, STAMP, format="metadata")) == 0
    assert len(service.search(where, STAMP, format="graphic")) == 0
    assert len(service.search(where, STAMP, format="image/fits")) == 30


def test_answers_are_valid_votables(server: SkyServer, target: pd.Series) -> None:
    region = f"POS={target['ra']},{target['dec']}&SIZE={STAMP}"
    queries = [f"{server.sia_url}?{region}", f"{server.tap_url}/sync?QUERY=SELECT+*+FROM+{TRUTH}&MAXREC=3"]
    for query in [*queries, f"{server.tap_url}/sync?QUERY=nonsense"]:
        report = io.StringIO()
        validate(io.BytesIO(requests.get(query, timeout=10).content), output=report, xmllint=False)
        # W06 alone may stand: SIA 1 prescribes UCDs older than the UCD1+ of later VOTables.
        assert set(re.findall(r"\b[WE]\d\d\b", report.getvalue())) <= {"W06"}, report.getvalue()


# -- cutouts ----------------------------------------------------------------------------------------------------


def test_a_cutouts_wcs_puts_the_galaxy_where_it_is(server: SkyServer, sky: SimulatedSky, target: pd.Series) -> None:
    for record in search(server, target["ra"], target["dec"]):
        if record["prodtype"] == "psf":
            continue
        with fits.open(io.BytesIO(requests.get(record.getdataurl(), timeout=10).content)) as hdus:
            header, data = hdus[0].header, hdus[0].data
        assert record["obs_bandpass"] == header["FILTER"]
        assert header["PRODTYPE"] == record["prodtype"]
        assert float(record["exptime"]) == pytest.approx(header["EXPTIME"], rel=1e-5)
        assert header["MAGZERO"] == 30
        assert header["SIMULATE"] is True
        x, y = (float(v) for v in WCS(header).all_world2pix(target["ra"], target["dec"], 0))
        assert set(data.shape) <= {45, 46, 47}, "SIZE is an angle on the sky"
        assert (x, y) == pytest.approx(((data.shape[1] - 1) / 2, (data.shape[0] - 1) / 2), abs=1.0)
        kind = (record["proctype"], record["prodtype"], header["BAND"], header["EXPTIME"])
        if kind[:3] == ("Stack", "image", "i") and "r2624p02" in record.title:
            near = data[round(y) - 7 : round(y) + 8, round(x) - 7 : round(x) + 8]
            moments = image_moments(near - np.median(data))
            assert (round(x) + moments.x, round(y) + moments.y) == pytest.approx((x, y), abs=0.3)
            full = sky.image(target["tilename"], "i", "image")
            corner = [round(full.header[f"CRPIX{k}"] - header[f"CRPIX{k}"]) for k in (2, 1)]
            rows, columns = (slice(c, c + n) for c, n in zip(corner, data.shape, strict=True))
            assert np.array_equal(full.pixels[rows, columns], data)


def link(
    row: pd.Series, *, band: str = "r", extn: int = 1, run: str = "r2624p02", pos: str = "", size: str = ""
) -> str:
    region = f"&POS={pos or f'{row.ra},{row.dec}'}&SIZE={size or f'{STAMP},{STAMP}'}"
    return f"/cutout?col=des_dr1&siaRef={row.tilename}_{run}_{band}.fits.fz&extn={extn}{region}"


def get(server: SkyServer, path: str) -> requests.Response:
    return requests.get(server.url + path, timeout=10)


def test_a_cutout_ends_with_the_image(server: SkyServer, sky: SimulatedSky, target: pd.Series) -> None:
    header, pixels = sky.image(target["tilename"], "r", "image")
    ra, dec = WCS(header).all_pix2world(3, SIDE - 5, 0)
    side = ",".join([str(44 * 0.2637 / 3600)] * 2)
    data = fits.getdata(io.BytesIO(get(server, link(target, pos=f"{ra % 360},{dec}", size=side)).content))
    assert data.shape == (27, 26), "22 pixels inwards, 4 columns and 5 rows to the edges, the middle one counted once"
    assert np.array_equal(data, pixels[SIDE - 27 :, :26])
    beyond = get(server, link(target, pos=f"{ra % 360},{dec + 0.1}"))
    assert beyond.status_code == 404
    assert "nothing" in beyond.text
    whole = get(server, link(target).partition("&POS")[0])
    assert fits.getdata(io.BytesIO(whole.content)).shape == (SIDE, SIDE)


def test_where_the_y_coadd_is_missing_its_rows_or_pixels_are(server: SkyServer, sky: SimulatedSky) -> None:
    header = sky.image("DES1200+6000", "r", "image").header
    for column, bands, width in ((100, "grizY", 46), (147, "grizY", 22), (190, "griz", None)):
        ra, dec = (float(v) for v in WCS(header).all_pix2world(column, 100, 0))
        found = search(server, ra, dec)
        assert {r["obs_bandpass"][0] for r in found} == set(bands), column
        if width:
            row = pd.Series({"ra": ra, "dec": dec, "tilename": "DES1200+6000"})
            shape = fits.getdata(io.BytesIO(get(server, link(row, band="Y")).content)).shape
            assert shape[1] == pytest.approx(width, abs=1)


def test_weight_and_mask_match_the_image(server: SkyServer, sky: SimulatedSky, target: pd.Series) -> None:
    image, mask, weight = (fits.getdata(io.BytesIO(get(server, link(target, extn=k)).content)) for k in (1, 2, 3))
    assert image.shape == mask.shape == weight.shape
    assert mask.dtype.kind == "i"
    np.testing.assert_array_equal(mask == 1, weight == 0)
    assert set(np.unique(weight)) - {0} == {sky.image(target["tilename"], "r", "weight").pixels.max()}


def test_the_psf_of_an_image_is_one_file_wherever_it_is_asked_for(
    server: SkyServer, sky: SimulatedSky, target: pd.Series
) -> None:
    asked = get(server, link(target, extn=4)).content
    assert asked == get(server, link(target).replace("extn=1", "extn=4").partition("&POS")[0]).content
    assert asked == sky.psf(target["tilename"], "r")
    header = fits.getheader(io.BytesIO(asked), "PSF_DATA")
    assert header["PSF_SAMP"] == 1


def test_a_shorter_exposure_has_more_noise_and_the_same_request_the_same_pixels(
    server: SkyServer, sky: SimulatedSky, target: pd.Series
) -> None:
    size = "0.02,0.02"
    deep, short = (get(server, link(target, run=run, size=size)).content for run in ("r2624p02", "r2581p01"))
    assert get(server, link(target, run="r2581p01", size=size)).content == short
    extra = fits.getdata(io.BytesIO(short)) - fits.getdata(io.BytesIO(deep))
    variance = 1 / sky.image(target["tilename"], "r", "weight").pixels.max()
    assert extra.var() == pytest.approx(variance, rel=0.05), "half the exposure: twice the variance"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("siaRef=../../etc/passwd&extn=1", 404),
        ("siaRef=..%2F..%2Fetc%2Fpasswd&extn=1&POS=180,60&SIZE=1", 404),
        ("siaRef=sky.json", 404),
        ("siaRef=DES1200+6000_r.fits", 404),
        ("", 404),
        ("siaRef=DES1200+6000_r2624p02_r.fits.fz&col=other", 404),
        ("siaRef=DES1200+6000_r2624p02_r.fits.fz&extn=5", 400),
        ("siaRef=DES1200+6000_r2624p02_r.fits.fz&POS=180", 400),
        ("siaRef=DES1200+6000_r2624p02_r.fits.fz&POS=180,60", 400),
        ("siaRef=DES1200+6000_r2624p02_r.fits.fz&POS=180,60&SIZE=-1", 400),
        ("siaRef=DES1200+6000_r2624p02_r.fits.fz&POS=180,60&SIZE=inf", 400),
    ],
)
def test_no_url_reaches_beyond_the_archives_files(server: SkyServer, query: str, status: int) -> None:
    assert get(server, f"/cutout?{query}").status_code == status


def test_a_plus_sign_may_come_plain_or_escaped(server: SkyServer, target: pd.Series) -> None:
    plain = link(target)
    assert get(server, plain).content == get(server, plain.replace("+", "%2B")).content


# -- the service itself -----------------------------------------------------------------------------------------


def test_a_survey_that_is_made_anew_meanwhile_is_not_mixed_with_the_one_that_was_there(
    sky: SimulatedSky, tmp_path: Path
) -> None:
    sky = SimulatedSky(shutil.copytree(sky.folder, tmp_path / "sky"))
    first, *others = sky.record()["tiles"]
    assert others
    served = Holdings(sky)
    opened = served.image(first, "g").pixels[:5, :5].copy()
    record = json.loads(sky.marker.read_text())
    sky.marker.write_text(json.dumps(record | {"identity": "another"}))
    np.testing.assert_array_equal(served.image(first, "g").pixels[:5, :5], opened)
    with pytest.raises(MismatchError, match="was made anew while it was served"):
        served.image(first, "r")
    sky.marker.unlink()
    with pytest.raises(MissingDataError, match="is not drawn"):
        served.image(first, "r")


def test_one_run_at_a_time_makes_the_survey(tmp_path: Path) -> None:
    sky = SimulatedSky(tmp_path / "sky")
    with sky.lock(), pytest.raises(BusyError, match="the simulated survey is being written by process"):
        SimulatedSky(sky.folder).lock().__enter__()
    with sky.lock():
        pass


def test_every_request_is_noted(sky: SimulatedSky, target: pd.Series) -> None:
    with SkyServer(sky) as server:
        assert server.request_log == []
        get(server, link(target))
        requests.post(f"{server.tap_url}/sync", data={"QUERY": "SELECT 1 AS one"}, timeout=10)
        get(server, "/nowhere?a=b")
        assert server.request_log == [("GET", link(target)), ("POST", "/tap/sync"), ("GET", "/nowhere?a=b")]
        port = server.port
        answer = get(server, link(target))
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        assert answer.headers["Content-Type"] == "application/fits"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/tap/tables", timeout=5)


def test_it_listens_on_loopback_only(server: SkyServer) -> None:
    elsewhere = socket.gethostbyname("localhost").replace("127.0.0.1", "127.0.0.2")
    with socket.socket() as other:
        other.settimeout(2)
        with pytest.raises(OSError):  # noqa: PT011 - refused, out of reach or silent, by the system
            other.connect((elsewhere, server.port))


def test_a_taken_port_and_a_spoilt_sky_are_one_clear_line(sky: SimulatedSky, server: SkyServer, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot listen"), SkyServer(sky, port=server.port):
        pass
    with pytest.raises(MissingDataError, match="not drawn"), SkyServer(SimulatedSky(tmp_path / "none")):
        pass
    copy = SimulatedSky(tmp_path / "copy")
    copy.folder.mkdir()
    for path in sky.folder.iterdir():
        (copy.folder / path.name).write_bytes(path.read_bytes())
    (copy.folder / "DES1200+6000_g.fits").write_bytes(b"")
    with pytest.raises(CorruptDataError, match="checksum"), SkyServer(copy):
        pass
