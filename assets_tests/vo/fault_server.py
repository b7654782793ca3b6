"""A true HTTP server on loopback that answers as it is told to: well, badly, slowly or not at all."""

from __future__ import annotations

import contextlib
import io
import ssl
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table

Reply = Callable[["_Handler"], None]


def answer(body: bytes | str = b"", status: int = 200, **headers: str) -> Reply:
    """A whole answer; a header's underscores become hyphens."""
    content = body.encode() if isinstance(body, str) else body

    def reply(handler: _Handler) -> None:
        handler.send_response(status)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        for key, value in {"Content-Length": str(len(content)), **named}.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def hang(handler: _Handler) -> None:
    """Headers, then silence."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.flush()
    handler.faults.over.wait(30.0)


def drip(pause_s: float) -> Reply:
    """A byte at a time without an end, never silent for long."""

    def reply(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not handler.faults.over.wait(pause_s):
            handler.wfile.write(b".")
            handler.wfile.flush()

    return reply


def cut(body: bytes) -> Reply:
    """Half of what Content-Length promises, then the connection closes."""

    def reply(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.close_connection = True

    return reply


def endless(chunk: bytes) -> Reply:
    """No length, no end: what a chunked answer may be."""

    def reply(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not handler.faults.over.is_set():
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                handler.faults.sent += len(chunk)

    return reply


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: FaultServer

    def _any(self) -> None:
        faults, path = self.faults, urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        with faults.lock:
            faults.asked.append((self.command, self.path))
            faults.headers.append(dict(self.headers))
            faults.forms.append({key: values[0] for key, values in parse_qs(body).items()})
            faults.times.append(time.monotonic())
            replies = faults.replies.get((self.command, path), [])
            reply = replies.pop(0) if len(replies) > 1 else replies[0] if replies else answer("nothing here", 404)
            faults.busy += 1
            faults.busiest = max(faults.busiest, faults.busy)
        try:
            reply(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with faults.lock:
                faults.busy -= 1

    do_GET = do_POST = do_DELETE = _any  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the tests' console."""


@dataclass
class FaultServer:
    """`with FaultServer() as server`, then `server.on("GET", "/path", reply, reply, …)`: in turn, the last for good."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    replies: dict[tuple[str, str], list[Reply]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    busy: int = 0
    busiest: int = 0

    def __enter__(self) -> FaultServer:
        handler = type("Handler", (_Handler,), {"faults": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def encrypt(self, folder: Path) -> None:
        """Speak TLS from now on, with a certificate of its own that no one accepts."""
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # Each handshake in the thread of its connection, so that one that fails ends no other.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    def on(self, method: str, path: str, *replies: Reply) -> None:
        self.replies[method, path] = list(replies)

    def count(self, method: str, path: str) -> int:
        return sum(1 for asked in self.asked if asked[0] == method and urlsplit(asked[1]).path == path)

    def tap(self, *results: Reply, phases: tuple[str, ...] = ("COMPLETED",), error: str = "") -> None:
        """A TAP service under /tap whose jobs go through `phases` and then give `results` in turn."""
        job = f"{self.url}/tap/async/7"
        self.on("POST", "/tap/async", answer(b"", 303, Location=job))
        self.on("POST", "/tap/async/7/phase", answer(b"", 303, Location=job))
        # Creation and start each end with a look at the job, made before it can have got any further.
        states = [job_document("PENDING"), job_document("PENDING"), job_document("QUEUED")]
        self.on("GET", "/tap/async/7", *map(answer, [*states, *(job_document(phase, error) for phase in phases)]))
        self.on("GET", "/tap/async/7/results/result", *results)
        self.on("DELETE", "/tap/async/7", answer(b"", 303, Location=f"{self.url}/tap/async"))


def job_document(phase: str, error: str = "") -> str:
    """A job as UWS 1.1 describes it."""
    summary = f'<uws:errorSummary type="fatal"><uws:message>{error}</uws:message></uws:errorSummary>' if error else ""
    link = '<uws:result id="result" xlink:href="/tap/async/7/results/result"/>' if phase == "COMPLETED" else ""
    return (
        '<?xml version="1.0"?><uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0"'
        ' xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1"><uws:jobId>7</uws:jobId>'
        f"<uws:phase>{phase}</uws:phase><uws:executionDuration>0</uws:executionDuration>"
        f"<uws:parameters/><uws:results>{link}</uws:results>{summary}</uws:job>"
    )


def votable(table: Table, after: str = "", ucds: dict[str, str] | None = None, binary: bool = False) -> bytes:
    """A TAP or SIA answer with status OK; `after` is put behind the table, where a late status comes."""
    document = from_table(table)
    for column in document.get_first_table().fields:
        column.ucd = (ucds or {}).get(column.name)
    stream = io.BytesIO()
    document.to_xml(stream, tabledata_format="binary2" if binary else "tabledata")
    status = '<RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/>'
    text = stream.getvalue().decode()
    return text.replace('<RESOURCE type="results">', status).replace("</RESOURCE>", f"{after}</RESOURCE>").encode()


def error_votable(message: str) -> bytes:
    """A refusal as DALI prescribes."""
    return (
        '<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">'
        f'<INFO name="QUERY_STATUS" value="ERROR">{message}</INFO></RESOURCE></VOTABLE>'
    ).encode()


IMAGE_UCDS = {
    "access_url": "VOX:Image_AccessReference",
    "obs_title": "VOX:Image_Title",
    "obs_bandpass": "VOX:BandPass_ID",
    "format": "VOX:Image_Format",
}


def image_list(url: str, rows: list[tuple[str, str, str, str]]) -> bytes:
    """An SIA answer of Data Lab's kind; a row is (bandpass, proctype, prodtype, exptime)."""
    bands, processing, products, exposures = (list(column) for column in zip(*rows, strict=True))
    names = [f"{band.split()[0]}-{product}" for band, product in zip(bands, products, strict=True)]
    table = Table(
        {
            "access_url": [f"{url}/cutout?siaRef={name}&POS=1,2" for name in names],
            "obs_title": names,
            "obs_bandpass": bands,
            "format": ["image/fits"] * len(rows),
            "proctype": processing,
            "prodtype": products,
            "exptime": exposures,
        }
    )
    return votable(table, ucds=IMAGE_UCDS)


def fits_file(seed: int = 0) -> bytes:
    """A small image whose pixels say which it is."""
    stream = io.BytesIO()
    fits.PrimaryHDU(np.full((60, 60), seed, dtype=np.float32)).writeto(stream)
    return stream.getvalue()
