"""Bodies of an archive's answers: expansion within a limit, detection of HTML, text for error messages."""

from __future__ import annotations

import html
import re
import zlib
from urllib.parse import urlsplit

from deblend_assets.errors import ArchiveError

GZIP_MAGIC = b"\x1f\x8b"
# Comments are matched atomically: otherwise a hostile body of many would be tried in every combination.
_HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:(?><!--.*?-->)\s*)*+(?:<!doctype\s+html|<html)",
    re.IGNORECASE | re.DOTALL,
)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_VOTABLE = re.compile(rb"<(?:\w+:)?VOTABLE[\s>]")
_ERROR_STATUS = re.compile(
    rb"<(?:\w+:)?INFO(?=[^>]*\sname\s*=\s*[\"']QUERY_STATUS[\"'])(?=[^>]*\svalue\s*=\s*[\"']ERROR[\"'])"
    rb"[^>]*?(?:/>|>(.*?)</(?:\w+:)?INFO>)",
    re.IGNORECASE | re.DOTALL,
)
_HEAD_BYTES = 20_000
_WORDS = 200
MEBIBYTE = 2**20


class Refusal(ArchiveError):
    """A failure that a retry would repeat: the archive refused, or the answer is beyond its limit."""


class PassingFault(ArchiveError):
    """A failure that the archive names in its answer, and that may pass: its operation is begun anew."""


# The kinds of faults that SIA 2 and SODA prescribe, and what services of TAP and SIA 1, which have none, write.
_LASTING = re.compile(r"\b(usage|fatal|authentication|authorization) ?(fault|error)\b", re.IGNORECASE)
_PASSING = re.compile(
    r"\btransient ?(fault|error)|unavailable|temporarily|temporary (failure|error|outage|problem)|tim(ed|e)[ -]?out"
    r"|\b(try|retry|again) (again|later)|please retry|\boverload|\bbusy\b|conflict with recovery"
    r"|too many (connections|clients|requests|jobs)|connections? (pool|slots?|limit)|no (free|available) connections?"
    r"|connection (\w+ ){0,3}(refused|reset|closed|lost|terminated|broken|failed|timed out)"
    r"|(cannot|can't|could not|couldn't|unable to|failed to) (\w+ ){0,3}connect|\bdeadlock"
    r"|(shutting|starting|going) (down|up)|under maintenance|terminating connection|recovery mode",
    re.IGNORECASE,
)


def archive_fault(said: str, where: str, *, passing: bool = False) -> Refusal | PassingFault:
    """The error of an archive that says that it failed.

    Args:
        said: its words.
        where: for error lines.
        passing: whether the archive marks its failure as one that may pass; else its words decide.
    """
    line = shortened(said)
    if passing or (_PASSING.search(line) and not _LASTING.search(line)):
        remedy = "run the same command again later; the archive names its failure as one that passes"
        return PassingFault(f"the archive failed: {line}", where=where, remedy=remedy)
    return Refusal(f"the archive refused: {line}", where=where, remedy="correct what the archive's answer names")


def shown(url: str) -> str:
    """A URL for an error message: without query, fragment, user and password, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def shortened(text: str) -> str:
    """One line of printable text, at most 200 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _WORDS else line[: _WORDS - 1] + "…"


def is_html(body: bytes) -> bool:
    """Whether a body is an HTML page, by its first bytes: servers send tables and images as text/html too."""
    return bool(_HTML_START.match(body[:_HEAD_BYTES]))


def fault_in(body: bytes) -> str | None:
    """What a VOTable with QUERY_STATUS ERROR before its table says (DALI 1.1 §4.4); None for any other body."""
    found = _ERROR_STATUS.search(body[:_HEAD_BYTES]) if _VOTABLE.search(body[:_HEAD_BYTES]) else None
    if found is None:
        return None
    return shortened(html.unescape(_TAG.sub(" ", found[1].decode("utf-8", errors="replace")))) or "ERROR"


def words_of(body: bytes) -> str:
    """The text of an error document: an HTML page's title, else its text; empty for binary content."""
    head = body[:_HEAD_BYTES]
    if b"\0" in head:
        return ""
    text = head.decode("utf-8", errors="replace")
    title = _TITLE.search(text)
    return shortened(html.unescape(title[1] if title else _TAG.sub(" ", text)))


def too_large(what: str, limit: int, where: str) -> Refusal:
    """The error for content beyond its limit [byte]."""
    return Refusal(
        f"{what} exceeds {limit / MEBIBYTE:g} MiB",
        where=where,
        remedy="raise max_table_mb or max_image_mb of the profile's archive section if so much is expected",
    )


def expand(data: bytes, limit: int, where: str) -> bytes:
    """The content of gzip-compressed data (RFC 1952, one or more members), never more than `limit` bytes in memory.

    Raises:
        Refusal: it would expand beyond the limit.
        ArchiveError: it is cut short, or is not gzip.
    """
    expanded = bytearray()
    try:
        while data:
            member = zlib.decompressobj(wbits=31)
            expanded += member.decompress(data, limit + 1 - len(expanded))
            if len(expanded) > limit:
                raise too_large("what it expands to", limit, where)
            if not member.eof:
                raise zlib.error("cut short")
            data = member.unused_data
    except zlib.error as error:
        raise ArchiveError(
            f"its gzip compression is damaged ({error})", where=where, remedy="run the same command again"
        ) from error
    return bytes(expanded)
