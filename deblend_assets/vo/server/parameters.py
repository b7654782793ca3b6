"""Parameters of a VO request: case-insensitive names, from the URL's query and a form's body (DALI 1.1, section 2)."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

_LARGEST_BODY = 1_000_000  # bytes
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


async def parameters(request: Request) -> dict[str, str]:
    """Upper-case names and their (last) values.

    Raises:
        HTTPException: the body is no URL-encoded form (415), or too long (413).
    """
    pairs = parse_qsl(request.url.query, keep_blank_values=True)
    if request.method == "POST":
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST_BODY:
                raise HTTPException(413, "the request is too long")
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if body and kind != "application/x-www-form-urlencoded":
            raise HTTPException(415, "send parameters as application/x-www-form-urlencoded; uploads are not served")
        pairs += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name.upper(): value for name, value in pairs}


def whole_number(text: str) -> int | None:
    """A whole number of at most 18 digits; None where the text is anything else."""
    return int(text) if _WHOLE.fullmatch(text) else None


def numbers(text: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """Comma-separated decimal numbers, as many as one of `counts`; ValueError where it is anything else."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in counts or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{' or '.join(map(str, counts))} decimal numbers expected, got {text!r}")
    return tuple(float(part) for part in parts)


def position_and_size(given: dict[str, str]) -> tuple[float, float, float, float]:
    """POS and SIZE of SIA 1 and of a cutout: (RA, Dec, width, height) [deg], the sides as angles on the sky.

    As Astro Data Lab's cutouts take them, without 1/cos δ: SIZE=0.02,0.02 is 275 × 275 pixels at Dec -45°.

    Raises:
        ValueError: one is missing, not a number, or out of range.
    """
    for name in ("POS", "SIZE"):
        if name not in given:
            raise ValueError(f"{name} is missing")
    ra, dec = numbers(given["POS"], (2,))
    sides = numbers(given["SIZE"], (1, 2))
    if not (0 <= ra <= 360 and -90 <= dec <= 90):
        raise ValueError(f"POS is out of range: {given['POS']!r}")
    if not all(0 <= side <= 10 for side in sides):
        raise ValueError(f"SIZE is out of range: {given['SIZE']!r}")
    return ra, dec, sides[0], sides[-1]
