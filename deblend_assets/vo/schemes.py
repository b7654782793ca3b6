"""Which of http and https a port speaks, found out at once: the wrong one may leave both sides waiting in silence."""

from __future__ import annotations

import contextlib
import socket
import ssl
from urllib.parse import urlsplit

from deblend_assets.vo.contents import Refusal, shown

# Servers answer the first bytes of either protocol within a second; one that does not is left to the request itself.
PROBE_S = 2.0
_PORTS = {"http": 80, "https": 443}


def require_scheme(url: str, timeout_s: float) -> None:
    """Do nothing where the port speaks the URL's scheme, or where that is not clear.

    Args:
        url: whose server is reached directly, not by a proxy.
        timeout_s: longest wait for an answer [s], within `PROBE_S`.

    Raises:
        Refusal: an https URL of a port that speaks http, or the reverse.
    """
    parts = urlsplit(url)
    address, wait_s = (parts.hostname or "", parts.port or _PORTS[parts.scheme]), min(timeout_s, PROBE_S)
    speaks_tls = _speaks_tls(address, wait_s)
    if parts.scheme == "https" and not speaks_tls and _speaks_http(address, wait_s):
        raise _wrong(url, "http")
    if parts.scheme == "http" and speaks_tls:
        raise _wrong(url, "https")


def _wrong(url: str, spoken: str) -> Refusal:
    parts = urlsplit(shown(url))
    return Refusal(
        f"port {parts.port or _PORTS[parts.scheme]} speaks {spoken}, not {parts.scheme}",
        where=shown(url),
        remedy=f"write {spoken}://{parts.netloc} in the profile's archive section",
    )


def _speaks_tls(address: tuple[str, int], timeout_s: float) -> bool:
    # Who it is, and whether with a certificate that is accepted, is for the request to judge.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection(address, timeout_s) as connection,
        context.wrap_socket(connection, server_hostname=address[0]),
    ):
        return True
    return False


def _speaks_http(address: tuple[str, int], timeout_s: float) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout_s) as connection:
        connection.sendall(f"HEAD / HTTP/1.0\r\nHost: {address[0]}\r\n\r\n".encode())
        # Servers that speak https answer 400, in plain text, that they do.
        version, _, status = connection.recv(64).partition(b" ")
        return version.startswith(b"HTTP/") and not status.startswith(b"400")
    return False
