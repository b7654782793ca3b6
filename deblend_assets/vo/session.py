"""An HTTP session with time-outs, few requests at a time, bounded answers and retries.

pyvo takes it as its `session`. The limits are those of the transport adapter, so that every request obeys them, each
hop of a redirect included.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import re
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import IncompleteRead
from typing import Any
from urllib.parse import urlsplit

import requests
from pyvo.utils.http import USER_AGENT
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.exceptions import HTTPError as TransportError
from urllib3.response import HTTPResponse

from deblend_assets.errors import ArchiveError
from deblend_assets.settings import ArchiveSettings
from deblend_assets.vo.contents import (
    MEBIBYTE,
    PassingFault,
    Refusal,
    archive_fault,
    expand,
    fault_in,
    is_html,
    origin_of,
    shortened,
    shown,
    too_large,
    words_of,
)
from deblend_assets.vo.retries import Retries, TransientError, parse_retry_after
from deblend_assets.vo.schemes import require_scheme

PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
MAX_REDIRECTS = 5
# A body that arrives slowly is given up after this many times the longest silence.
DEADLINE_FACTOR = 10
CHUNK_BYTES = 65_536
# The job list and documents of jobs (UWS 1.1 §2.2); results are judged where they are read.
_JOB = re.compile(r"/async(/[^/]+(/phase)?)?/?$")

_LATER = "see whether the archive is up and reachable, then run the same command again"
_REMEDIES = {
    401: "requests are anonymous; choose a service that allows that",
    403: "requests are anonymous; choose a service that allows that",
    404: "check the URLs in the profile's archive section",
}


class GuardedAdapter(HTTPAdapter):
    """Sends requests: time-outs, a few at a time, whole bodies within a limit, retries of failures that may pass."""

    def __init__(self, settings: ArchiveSettings, retries: Retries) -> None:
        super().__init__(pool_maxsize=settings.connections, max_retries=0)
        self._timeout_s = settings.timeout_s
        self._max_bytes = int(settings.max_table_mb * MEBIBYTE)
        self._retries = retries
        self._slots = threading.BoundedSemaphore(settings.connections)
        self._counting = threading.Lock()
        self._reached: set[str] = set()
        self.sent = 0

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
        *,
        max_bytes: int | None = None,
        attempts: int | None = None,
    ) -> requests.Response:
        """The response with its body read; the settings replace the caller's `stream` and `timeout`.

        Raises:
            ArchiveError: the server refused, its answer is too large, or every try failed.
        """
        # A loopback service is never behind a proxy, whatever the environment says.
        proxies = {} if _is_loopback(request.url or "") else proxies

        def once() -> requests.Response:
            with self._slots, _passing_faults(request.url or "", self._timeout_s):
                with self._counting:
                    self.sent += 1
                send = super(GuardedAdapter, self).send
                self._require_scheme(request.url or "", proxies)
                timeouts = (self._timeout_s, self._timeout_s)
                response = send(request, stream=True, timeout=timeouts, verify=verify, cert=cert, proxies=proxies)
                with contextlib.closing(response.raw):
                    body = self._body(response, max_bytes or self._max_bytes)
                _judge(response, body)
            # The body is decoded: readers of `raw` and of `content` find the same bytes.
            response.headers.pop("Content-Encoding", None)
            response.raw = HTTPResponse(body=io.BytesIO(body), status=response.status_code, preload_content=False)
            return response

        return self._retries.run(once, attempts=attempts)

    def _require_scheme(self, url: str, proxies: dict[str, str] | None) -> None:
        """Refuse, at the first https request to a server, one that speaks http: it would be silent to each try."""
        origin = origin_of(url)
        if url.startswith("https:") and origin not in self._reached and select_proxy(url, proxies) is None:
            require_scheme(url, self._timeout_s)
        self._reached.add(origin)

    def _body(self, response: requests.Response, limit: int) -> bytes:
        where = shown(response.url)
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise too_large(f"an answer of {int(declared)} bytes", limit, where)
        body = bytearray()
        deadline = time.monotonic() + DEADLINE_FACTOR * self._timeout_s
        # read1 returns what has arrived; read would wait for a whole chunk.
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > limit:
                raise too_large("the answer", limit, where)
            if time.monotonic() > deadline:
                error = ArchiveError(
                    f"the answer was not complete after {DEADLINE_FACTOR * self._timeout_s:g} s",
                    where=where,
                    remedy="raise timeout_s of the profile's archive section, or try again when the archive is faster",
                )
                raise TransientError(error)
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding in ("", "identity"):
            return bytes(body)
        if coding not in ("gzip", "x-gzip"):
            remedy = "the archive's server is at fault: only gzip was offered to it"
            raise Refusal(f"the answer is coded as {shortened(coding)!r}", where=where, remedy=remedy)
        try:
            return expand(bytes(body), limit, where)
        except Refusal:
            raise
        except ArchiveError as error:
            raise TransientError(error) from error


class GuardedSession(requests.Session):
    """A session for an archive's services: anonymous, http and https only, guarded as the settings say.

    Args:
        settings: time-outs, tries, connections, largest table.
        retries: when to send a request again.
    """

    def __init__(self, settings: ArchiveSettings, retries: Retries) -> None:
        super().__init__()
        self._adapter = GuardedAdapter(settings, retries)
        for scheme in ("http://", "https://"):
            self.mount(scheme, self._adapter)
        self.max_redirects = MAX_REDIRECTS
        self.headers["User-Agent"] = f"deblend_assets {USER_AGENT}"
        self.headers["Accept-Encoding"] = "gzip"
        # Without it requests would look for a password in ~/.netrc.
        self.auth = _anonymous

    @property
    def sent(self) -> int:
        """HTTP requests sent so far, repeated ones and hops of redirects included."""
        return self._adapter.sent

    def request(self, method: str, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """As `requests.Session.request`; raises ArchiveError alone."""
        with _plain_errors(str(url)):
            return super().request(method, url, *args, **kwargs)

    def download(self, url: str, max_bytes: int) -> bytes:
        """The content of a URL, at most `max_bytes` of it.

        Raises:
            ArchiveError: as `request`.
        """
        with _plain_errors(url):
            return self._send("GET", url, max_bytes=max_bytes).content

    def discard(self, url: str) -> None:
        """Delete what a URL names, in one try: tidying up must not wait for a server that is gone.

        Raises:
            ArchiveError: as `request`.
        """
        with _plain_errors(url):
            self._send("DELETE", url, attempts=1, allow_redirects=False)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """No credentials after a redirect either."""
        prepared_request.headers.pop("Authorization", None)

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        prepared = self.prepare_request(requests.Request(method, url))
        environment = self.merge_environment_settings(prepared.url or url, {}, True, None, None)
        return self.send(prepared, **environment, **options)


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _judge(response: requests.Response, body: bytes) -> None:
    """Raise where the status is an error, or an HTML page came in place of content, or a table of errors of a job."""
    where, status = shown(response.url), response.status_code
    if status in PASSING_STATUS or status >= 400:
        said = words_of(body)
        what = f"the archive answered {status} {shortened(response.reason or '')}{f': {said}' if said else ''}"
        if status in PASSING_STATUS:
            after = parse_retry_after(response.headers.get("Retry-After"))
            raise TransientError(ArchiveError(what, where=where, remedy=_LATER), retry_after=after)
        if isinstance(named := archive_fault(fault_in(body) or "", where), PassingFault):
            raise TransientError(ArchiveError(what, where=where, remedy=named.remedy))
        remedy = _REMEDIES.get(status, "correct what the archive's answer names")
        raise Refusal(what, where=where, remedy=remedy)
    fetched = response.request.method in ("GET", "POST") and 200 <= status < 300
    if fetched and is_html(body):
        # Maintenance pages and proxies' error pages come with status 200, and pass as other outages do.
        raise TransientError(
            ArchiveError(f"a web page came instead of data: {words_of(body)!r}", where=where, remedy=_LATER)
        )
    if fetched and _JOB.search(urlsplit(response.url).path) and (fault := fault_in(body)) is not None:
        raise archive_fault(fault, where)


@contextlib.contextmanager
def _passing_faults(url: str, timeout_s: float) -> Iterator[None]:
    """Turn the transport's faults into `TransientError`; a refused certificate or the wrong scheme into a `Refusal`."""
    try:
        yield
    except (requests.ConnectionError, requests.Timeout, TransportError) as error:
        cause = _root_of(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            remedy = "check the URL, the clock and REQUESTS_CA_BUNDLE"
            what = f"its certificate is not accepted ({cause.verify_message})"
            raise Refusal(what, where=shown(url), remedy=remedy) from error
        if isinstance(cause, TimeoutError):
            what = f"silent for {timeout_s:g} s"
        elif isinstance(cause, IncompleteRead):
            what = "the answer was cut short"
        else:
            if url.startswith("http:"):
                require_scheme(url, timeout_s)
            what = f"the connection failed ({shortened(getattr(cause, 'strerror', None) or type(cause).__name__)})"
        raise TransientError(ArchiveError(what, where=shown(url), remedy=_LATER)) from error


def _root_of(error: BaseException) -> BaseException:
    """The first failure of a chain, whose message is the shortest."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error


@contextlib.contextmanager
def _plain_errors(url: str) -> Iterator[None]:
    """Turn errors of `requests` itself into an ArchiveError."""
    try:
        yield
    except requests.TooManyRedirects as error:
        raise _unreachable(f"more than {MAX_REDIRECTS} redirects", url) from error
    except (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema) as error:
        raise _unreachable("it is, or leads to, a URL that is neither http nor https", url) from error
    except requests.RequestException as error:
        raise _unreachable(f"no request can be sent ({type(error).__name__})", url) from error


def _unreachable(what: str, url: str) -> Refusal:
    return Refusal(what, where=shown(url), remedy="check the URLs in the profile's archive section")
