"""What archives and networks do to a client, over real HTTP: it waits, tries again or says in one line why not."""

from __future__ import annotations

import errno
import gzip
import os
import signal
import socket
import sys
import textwrap
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tenacity import RetryCallState, Retrying

from assets_tests.processes import PATIENCE_SECONDS, ready_process
from assets_tests.vo.conftest import LIMITS
from assets_tests.vo.fault_server import (
    FaultServer,
    answer,
    cut,
    drip,
    endless,
    error_votable,
    fits_file,
    hang,
    image_list,
    job_document,
    votable,
)
from assets_tests.vo.test_client import ADQL, LISTED, ROWS, pixels, record
from deblend_assets.errors import ArchiveError, StorageError
from deblend_assets.settings import ArchiveSettings
from deblend_assets.vo.client import ArchiveClient
from deblend_assets.vo.contents import PassingFault, archive_fault
from deblend_assets.vo.retries import LONGEST_WAIT_S, Retries, TransientError
from deblend_assets.vo.schemes import PROBE_S

OVERFLOW = '<INFO name="QUERY_STATUS" value="OVERFLOW"/>'
PAGE = "<!DOCTYPE html><html><head><title>Down for\n maintenance</title></head><body>Come back</body></html>"
GOOD = answer(fits_file(3))


def refusal(action: Callable[..., object], *arguments: Any) -> str:
    """The one line that the action fails with."""
    with pytest.raises(ArchiveError) as caught:
        action(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


# What can pass


def test_connection_refused_is_tried_and_then_said(make_client: Callable[..., ArchiveClient], lines: list[str]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        client = make_client(url)
        line = refusal(client.query, ADQL, "shapes")
    assert "Connection refused" in line
    assert "tried 3 times" in line
    assert f"{url}/tap/async" in line
    assert client.requests == 3
    assert len(lines) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_outage_that_passes_is_survived(
    server: FaultServer, make_client: Callable[..., ArchiveClient], lines: list[str], status: int
) -> None:
    server.on("GET", "/cutout", answer("a moment", status), answer("a moment", status), GOOD)
    client = make_client()
    assert client.fetch(record(server), pixels) == 3.0
    assert client.requests == len(server.asked) == 3
    assert str(status) in lines[0]
    assert "try 2 of 3" in lines[0]
    assert "try 3 of 3" in lines[1]


def test_an_outage_that_stays_ends_after_the_tries(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/cutout", answer("<html><title>Bad gateway</title></html>", 502))
    line = refusal(make_client().fetch, record(server), pixels)
    assert "answered 502" in line
    assert "Bad gateway" in line
    assert "tried 3 times" in line
    assert len(server.asked) == 3


def test_retry_after_is_waited_for_in_seconds_and_by_date(
    server: FaultServer, make_client: Callable[..., ArchiveClient], lines: list[str]
) -> None:
    server.on("GET", "/cutout", answer("", 429, Retry_After="1"), GOOD)
    client = make_client()
    assert client.fetch(record(server), pixels) == 3.0
    assert 1.0 <= server.times[1] - server.times[0] < 3.0
    assert "429" in lines[0]
    assert "after 1.0 s" in lines[0]
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.on("GET", "/other", answer("", 503, Retry_After=date), GOOD)
    client.fetch(record(server, "/other"), pixels)
    assert 0.5 <= server.times[3] - server.times[2] < 4.0


def test_a_retry_after_without_sense_or_measure_does_not_stop_the_client(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/cutout", answer("", 503, Retry_After="soon"), GOOD)
    assert make_client().fetch(record(server), pixels) == 3.0
    retries = Retries(ArchiveSettings(backoff_s=1.0), print)
    assert retries.wait_s(failed(1, 1e9)) == LONGEST_WAIT_S


def failed(attempt: int, retry_after: float | None = None) -> RetryCallState:
    """The state after so many tries that failed in passing."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    error = TransientError(ArchiveError("a", where="b", remedy="c"), retry_after=retry_after)
    state.set_exception((TransientError, error, None))
    return state


def test_the_backoff_grows_and_is_spread(make_client: Callable[..., ArchiveClient]) -> None:
    retries = Retries(ArchiveSettings(backoff_s=1.0), print)
    for attempt, most in ((1, 1.0), (3, 4.0), (20, LONGEST_WAIT_S)):
        waits = [retries.wait_s(failed(attempt)) for _ in range(400)]
        assert 0.0 <= min(waits) < 0.1 * most
        assert 0.9 * most < max(waits) <= most


def test_a_hanging_body_is_given_up_and_tried_again(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/cutout", hang, GOOD)
    start = time.monotonic()
    assert make_client().fetch(record(server), pixels) == 3.0
    assert 0.4 <= time.monotonic() - start < 4.0
    server.on("GET", "/other", hang)
    line = refusal(make_client(attempts=1).fetch, record(server, "/other"), pixels)
    assert "silent for 0.4 s" in line


def test_a_body_that_drips_for_ever_meets_a_deadline(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/cutout", drip(0.02))
    start = time.monotonic()
    line = refusal(make_client(timeout_s=0.1, attempts=1).fetch, record(server), pixels)
    assert 1.0 <= time.monotonic() - start < 3.0, "ten times the time-out"
    assert "not complete after 1 s" in line


def test_a_truncated_body_is_tried_again(server: FaultServer, make_client: Callable[..., ArchiveClient]) -> None:
    server.on("GET", "/cutout", cut(fits_file(3)), GOOD)
    assert make_client().fetch(record(server), pixels) == 3.0
    server.on("GET", "/other", cut(fits_file(3)))
    assert "cut short" in refusal(make_client().fetch, record(server, "/other"), pixels)


def test_a_truncated_result_is_tried_again_without_a_second_job(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(cut(votable(ROWS)), answer(votable(ROWS)[:-200]), answer(votable(ROWS)))
    assert len(make_client().query(ADQL, "shapes")) == 3
    assert server.count("POST", "/tap/async") == 1
    assert server.count("GET", "/tap/async/7/results/result") == 3


def test_a_web_page_with_status_200_is_an_outage(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/cutout", answer("\ufeff<?xml version='1.0'?>\n<!-- a --> <!-- b -->" + PAGE), GOOD)
    client = make_client()
    assert client.fetch(record(server), pixels) == 3.0
    server.on("GET", "/sia/des_dr1", answer(PAGE))
    line = refusal(client.find_images, 1.0, 2.0, 12.0)
    assert "a web page came instead of data: 'Down for maintenance'" in line
    server.tap(answer(PAGE))
    assert "Down for maintenance" in refusal(client.query, ADQL, "shapes")
    assert server.asked[-1] == ("DELETE", "/tap/async/7")


BUSY = error_votable("TransientFault: the database is temporarily unavailable")


def test_a_fault_that_the_archive_says_may_pass_is_tried_again(
    server: FaultServer, make_client: Callable[..., ArchiveClient], lines: list[str]
) -> None:
    """Of a query's result, of its job, of its creation; of a list of images, and of an image: all with status 200."""
    client, result = make_client(), "/tap/async/7/results/result"
    server.tap(answer(BUSY), answer(votable(ROWS)))
    assert len(client.query(ADQL, "shapes")) == 3
    assert server.count("POST", "/tap/async") == 2, "the same job would give the same fault again"
    assert server.count("DELETE", "/tap/async/7") == 2
    assert "temporarily unavailable" in lines[0]
    assert "try 2 of 3" in lines[0]

    server.on("POST", "/tap/async", answer(BUSY), *server.replies["POST", "/tap/async"])
    assert len(client.query(ADQL + " AND 1 = 1", "shapes")) == 3
    server.tap(answer(votable(ROWS)), phases=("ERROR", "COMPLETED"), error="too many connections")
    assert len(client.query(ADQL + " AND 2 = 2", "shapes")) == 3
    marked = job_document("ERROR", "no answer").replace('type="fatal"', 'type="transient"')
    server.tap(answer(votable(ROWS)))
    server.on("GET", "/tap/async/7", answer(marked), answer(job_document("COMPLETED")))
    assert len(client.query(ADQL + " AND 3 = 3", "shapes")) == 3

    server.on("GET", "/sia/des_dr1", answer(BUSY), answer(BUSY, 400), answer(image_list(server.url, LISTED)))
    assert len(client.find_images(1.0, 2.0, 12.0)) == 3
    server.on("GET", "/cutout", answer(BUSY), GOOD)
    assert client.fetch(record(server), pixels) == 3.0

    server.tap(answer(BUSY))
    line = refusal(client.query, ADQL + " AND 4 = 4", "shapes of a tile")
    assert "temporarily unavailable (tried 3 times)" in line
    assert "shapes of a tile" in line
    assert "names its failure as one that passes" in line
    assert server.count("GET", result) == 2 + 4 + 2


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("FATAL: sorry, too many clients already", True),
        ("could not connect to server: Connection refused", True),
        ("ServiceUnavailable", True),
        ("The service is overloaded, try again later", True),
        ("canceling statement due to conflict with recovery", True),
        ("Query timed out after 60 s", True),
        ("UsageFault: MAXREC is temporarily unavailable", False),
        ('relation "s.t" does not exist', False),
        ("syntax error at or near connection", False),
        ("temporary table t is unknown", False),
    ],
)
def test_the_archives_words_say_whether_a_fault_may_pass(said: str, passes: bool) -> None:
    fault = archive_fault(said, "here")
    assert isinstance(fault, PassingFault) == passes
    assert said in str(fault)


def test_what_the_archive_does_not_have_yet_is_not_kept(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(ROWS[:0])), answer(votable(ROWS)))
    server.on("GET", "/sia/des_dr1", answer(image_list(server.url, LISTED[3:])), answer(image_list(server.url, LISTED)))
    assert [len(make_client().query(ADQL, "tile")) for _ in range(3)] == [0, 3, 3]
    assert server.count("POST", "/tap/async") == 2
    assert [len(make_client().find_images(1.0, 2.0, 12.0)) for _ in range(3)] == [0, 3, 3]
    assert server.count("GET", "/sia/des_dr1") == 2


# What cannot pass


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_clients_error_is_said_at_once(
    server: FaultServer, make_client: Callable[..., ArchiveClient], lines: list[str], status: int
) -> None:
    server.on("GET", "/cutout", answer(error_votable("no such image"), status))
    line = refusal(make_client().fetch, record(server, query="token=secret"), pixels)
    assert f"answered {status}" in line
    assert "no such image" in line
    assert "secret" not in line
    assert len(server.asked) == 1
    assert lines == []


def test_a_table_of_errors_is_the_archives_own_words(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(error_votable("column e_9 does\n not exist")))
    line = refusal(make_client().query, ADQL, "shapes of a tile")
    assert "column e_9 does not exist" in line
    assert "shapes of a tile" in line
    assert server.count("GET", "/tap/async/7/results/result") == 1
    server.on("GET", "/sia/des_dr1", answer(error_votable("SIZE is negative")))
    assert "SIZE is negative" in refusal(make_client().find_images, 1.0, 2.0, 12.0)


@pytest.mark.parametrize("phase", ["ERROR", "ABORTED"])
def test_a_job_that_fails_says_why_and_is_deleted(
    server: FaultServer, make_client: Callable[..., ArchiveClient], phase: str
) -> None:
    server.tap(answer(""), phases=("EXECUTING", phase), error="relation s.t does not exist")
    assert "relation s.t does not exist" in refusal(make_client().query, ADQL, "shapes")
    assert server.asked[-1] == ("DELETE", "/tap/async/7")
    server.tap(answer(""), phases=(phase,))
    assert "the archive refused" in refusal(make_client().query, ADQL, "shapes")


def test_a_job_without_an_end_is_given_up_and_deleted(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(ROWS)), phases=("EXECUTING",))
    start = time.monotonic()
    line = refusal(make_client(job_timeout_s=0.6).query, ADQL, "shapes")
    assert "still EXECUTING after 0.6 s" in line
    assert 0.6 <= time.monotonic() - start < 3.0
    assert server.asked[-1] == ("DELETE", "/tap/async/7")


def test_a_job_that_cannot_be_deleted_costs_one_try_and_hides_nothing(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(ROWS)))
    server.on("DELETE", "/tap/async/7", answer("", 500))
    assert len(make_client().query(ADQL, "shapes")) == 3
    assert server.count("DELETE", "/tap/async/7") == 1


def test_a_service_that_is_no_tap_service_is_one_line(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    for body in ("<weather>fine</weather>", "fine weather", "", votable(ROWS)):
        for method, path in (("POST", "/tap/async"), ("GET", "/tap/async"), ("POST", "/tap/async/phase")):
            server.on(method, path, answer(body))
        assert "cannot be understood" in refusal(make_client().query, ADQL, "shapes")
    assert "DELETE" not in {method for method, _ in server.asked}
    server.tap(answer(votable(ROWS)), phases=("ARCHIVED",))
    assert "no phase of UWS: ARCHIVED" in refusal(make_client().query, ADQL, "shapes")


def test_an_answer_that_was_cut_is_an_error_never_a_catalogue(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.tap(answer(votable(ROWS, after=OVERFLOW)))
    line = refusal(make_client().query, ADQL, "shapes")
    assert "no more than 3 rows at once (OVERFLOW), a limit of its own" in line
    assert "raising max_rows (200000) does not help" in line
    server.tap(answer(votable(ROWS)))
    line = refusal(make_client(max_rows=3).query, ADQL, "shapes")
    assert "fills the limit of 3 rows" in line
    assert "max_rows" in line
    assert len(make_client(max_rows=4).query(ADQL, "shapes")) == 3
    overflowing = image_list(server.url, LISTED).replace(b"</RESOURCE>", f"{OVERFLOW}</RESOURCE>".encode())
    server.on("GET", "/sia/des_dr1", answer(overflowing))
    line = refusal(make_client().find_images, 1.0, 2.0, 12.0)
    assert "OVERFLOW" in line
    assert "max_rows" not in line


def test_the_wrong_scheme_is_said_at_once(make_client: Callable[..., ArchiveClient], lines: list[str]) -> None:
    with FaultServer() as plain:
        url = plain.url.replace("http:", "https:")
        start = time.monotonic()
        line = refusal(make_client(url, timeout_s=60.0, attempts=6).query, ADQL, "shapes")
        assert time.monotonic() - start < 2 * PROBE_S
        assert f"port {urlsplit(url).port} speaks http, not https" in line
        assert f"write {plain.url} in" in line
    assert lines == []


def test_http_on_a_port_of_https_is_said_at_once(
    make_client: Callable[..., ArchiveClient], lines: list[str], tmp_path: Path
) -> None:
    with FaultServer() as secret:
        secret.encrypt(tmp_path)
        line = refusal(make_client(secret.url).query, ADQL, "shapes")
        assert "speaks https, not http" in line
        assert "not accepted" in refusal(make_client(secret.url.replace("http:", "https:")).query, ADQL, "shapes")
    assert lines == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"])
def test_redirects_lead_to_the_web_only(
    server: FaultServer, make_client: Callable[..., ArchiveClient], target: str
) -> None:
    server.on("GET", "/cutout", answer(b"", 302, Location=target))
    client = make_client()
    assert "neither http nor https" in refusal(client.fetch, record(server), pixels)
    assert client.requests == 1


def test_an_image_on_this_machines_disk_is_not_read(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    listed = image_list(server.url, LISTED).replace(f"{server.url}/cutout".encode(), b"file:///etc/passwd")
    server.on("GET", "/sia/des_dr1", answer(listed))
    client = make_client()
    assert "neither http nor https" in refusal(client.fetch, client.find_images(1.0, 2.0, 12.0)[0], pixels)


def test_redirects_without_an_end_are_refused(server: FaultServer, make_client: Callable[..., ArchiveClient]) -> None:
    server.on("GET", "/cutout", answer(b"", 302, Location="/cutout"))
    assert "more than 5 redirects" in refusal(make_client().fetch, record(server), pixels)
    assert len(server.asked) == 6


def test_no_password_is_taken_from_netrc_nor_from_the_url(
    server: FaultServer, make_client: Callable[..., ArchiveClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.on("GET", "/cutout", answer(b"", 302, Location=server.url.replace("127.0.0.1", "localhost") + "/there"))
    server.on("GET", "/there", GOOD)
    make_client().fetch(record(server), pixels)
    assert len(server.headers) == 2
    assert all("Authorization" not in headers for headers in server.headers)
    server.on("GET", "/cutout", answer("", 404))
    there = record(server)
    named = type(there)(there.url.replace("http://", "http://me:secret@"), "r", "image", 1.0, "DES r")
    assert "secret" not in refusal(make_client().fetch, named, pixels)
    assert "Authorization" not in server.headers[-1]


# Too much, and not what it should be


def test_too_large_an_answer_is_refused_by_its_declared_length(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/cutout", answer(b"", Content_Length=str(2**40)))
    line = refusal(make_client(max_image_mb=1.0).fetch, record(server), pixels)
    assert "exceeds 1 MiB" in line
    assert "max_image_mb" in line
    assert len(server.asked) == 1


def test_too_large_an_answer_is_refused_without_a_length(
    server: FaultServer, make_client: Callable[..., ArchiveClient]
) -> None:
    server.on("GET", "/cutout", endless(bytes(10_000)))
    assert "exceeds 1 MiB" in refusal(make_client(max_image_mb=1.0).fetch, record(server), pixels)
    assert server.count("GET", "/cutout") == 1
    assert server.sent < 20 * 2**20
    server.tap(endless(bytes(10_000)))
    assert "exceeds 2 MiB" in refusal(make_client(max_table_mb=2.0).query, ADQL, "shapes")


@pytest.mark.parametrize("headers", [{"Content_Encoding": "gzip"}, {}])
def test_a_gzip_bomb_stays_within_the_limit(
    server: FaultServer, make_client: Callable[..., ArchiveClient], headers: dict[str, Any]
) -> None:
    bomb = gzip.compress(bytes(300 * 2**20), compresslevel=6)
    assert len(bomb) < 2**20
    server.on("GET", "/cutout", answer(bomb, **headers))
    client = make_client(max_image_mb=2.0)
    tracemalloc.start()
    try:
        line = refusal(client.fetch, record(server), pixels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "what it expands to exceeds 2 MiB" in line
    assert peak < 20 * 2**20
    assert len(server.asked) == 1


def test_a_damaged_compression_is_tried_again(server: FaultServer, make_client: Callable[..., ArchiveClient]) -> None:
    packed = gzip.compress(fits_file(3))
    for path, headers in (("/coded", {"Content_Encoding": "gzip"}), ("/file", {})):
        server.on("GET", path, answer(packed[:-20], **headers), answer(b"\x1f\x8bnothing", **headers), GOOD)
        assert make_client().fetch(record(server, path), pixels) == 3.0
    server.on("GET", "/trailer", answer(packed[:-4]))
    assert "cut short" in refusal(make_client(attempts=1).fetch, record(server, "/trailer"), pixels)
    server.on("GET", "/other", answer(b"??", Content_Encoding="br"))
    assert "coded as 'br'" in refusal(make_client().fetch, record(server, "/other"), pixels)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
@pytest.mark.parametrize("body", [b"", b"Error: no such cutout", fits_file(3)[:2000], fits_file(3)[:6000]])
def test_content_that_is_not_the_image_is_tried_again_and_never_kept(
    server: FaultServer, make_client: Callable[..., ArchiveClient], body: Any
) -> None:
    server.on("GET", "/cutout", answer(body))
    line = refusal(make_client().fetch, record(server), pixels)
    assert "tried 3 times" in line
    assert len(server.asked) == 3
    assert ("not a FITS file" in line) == (not body.startswith(b"SIMPLE"))
    server.on("GET", "/cutout", answer(body), GOOD)
    client = make_client()
    assert client.fetch(record(server), pixels) == 3.0
    assert client.requests == 2
    assert make_client().fetch(record(server), pixels) == 3.0
    assert len(server.asked) == 5


def test_a_kept_content_that_fails_a_check_is_fetched_anew_once(
    server: FaultServer, make_client: Callable[..., ArchiveClient], lines: list[str]
) -> None:
    def stricter(data: bytes) -> float:
        if pixels(data) == 3.0:
            raise ArchiveError("wrong band", where="test", remedy="none")
        return pixels(data)

    server.on("GET", "/cutout", GOOD, answer(fits_file(4)))
    make_client().fetch(record(server), pixels)
    client = make_client()
    assert client.fetch(record(server), stricter) == 4.0
    assert client.requests == 1
    assert "wrong band" in lines[0]
    assert "asking again" in lines[0]
    assert make_client().fetch(record(server), stricter) == 4.0
    assert len(server.asked) == 2


# The machine's own faults


def test_a_full_disk_while_keeping_is_one_line_and_the_next_run_asks_again(
    server: FaultServer, make_client: Callable[..., ArchiveClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.on("GET", "/cutout", GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left on the disk"):
            make_client().fetch(record(server), pixels)
    assert make_client().fetch(record(server), pixels) == 3.0
    assert make_client().fetch(record(server), pixels) == 3.0
    assert len(server.asked) == 2


def test_killed_between_download_and_store_only_what_is_missing_is_asked_for(
    server: FaultServer, make_client: Callable[..., ArchiveClient], tmp_path: Path
) -> None:
    """The process fetches images 0, 1, 2 and is killed when 2 has come but is not yet kept."""
    code = f"""
        import os, sys, time
        from pathlib import Path
        from assets_tests.vo.test_client import pixels
        from deblend_assets.science.des.cutouts import ImageRecord
        from deblend_assets.settings import ArchiveSettings
        from deblend_assets.stores.response_cache import ResponseCache
        from deblend_assets.vo.client import ArchiveClient
        url, folder = sys.argv[1:]
        client = ArchiveClient(ArchiveSettings(**{LIMITS!r}), ResponseCache(Path(folder)), tap_url=url + "/tap",
                               sia_url=url + "/sia/des_dr1", service="a survey", log=print)
        real = os.replace
        def replace(source, target):
            print("ready", flush=True)
            time.sleep(1000)
        for k in range(3):
            if k == 2:
                os.replace = replace
            client.fetch(ImageRecord(f"{{url}}/cutout?siaRef={{k}}", "r", "image", 1.0, "DES r"), pixels)
    """
    server.on("GET", "/cutout", GOOD)
    command = [sys.executable, "-c", textwrap.dedent(code), server.url, str(tmp_path / "cache")]
    with ready_process(command) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
    assert len(server.asked) == 3
    client = make_client()
    for k in range(4):
        assert client.fetch(record(server, query=f"siaRef={k}"), pixels) == 3.0
    assert [urlsplit(path).query for _, path in server.asked[3:]] == ["siaRef=2", "siaRef=3"]


def test_a_loopback_service_is_reached_past_a_proxy(
    server: FaultServer, make_client: Callable[..., ArchiveClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    server.on("GET", "/cutout", GOOD)
    assert make_client(attempts=1).fetch(record(server), pixels) == 3.0


def test_another_server_takes_over_when_the_first_is_gone(make_client: Callable[..., ArchiveClient]) -> None:
    """A whole service that dies with its run: what was kept is used, what was not is asked of the next."""
    with FaultServer() as first:
        first.tap(answer(votable(ROWS)))
        make_client(first.url).query(ADQL, "shapes")
    client = make_client(first.url, attempts=1)
    assert len(client.query(ADQL, "shapes")) == 3
    assert client.requests == 0
    assert "Connection refused" in refusal(client.query, ADQL + " AND 1 = 1", "shapes")
