"""DS9 region files: circles, ellipses, boxes and polygons on the sky or on the image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deblend_assets.errors import CorruptDataError

_SKY, _IMAGE = ("fk5", "icrs", "j2000"), ("image", "physical")
_OTHER_FRAMES = ("fk4", "b1950", "galactic", "ecliptic", "wcs", "linear", "amplifier", "detector")
_SHAPES = {"circle": (3, 3), "ellipse": (4, 5), "box": (4, 5), "polygon": (6, 10_000)}  # least and most numbers
# Without an area.
_IGNORED = ("global", "point", "text", "line", "vector", "ruler", "compass", "segment", "projection")
_UNITS = {'"': 1.0, "'": 60.0, "d": 3600.0, "r": 206264.806}  # [arcsec]


class Region(NamedTuple):
    """One region.

    Attributes:
        shape: circle, ellipse, box or polygon.
        sky: whether it is given on the sky.
        points: its centre or corners, (ra, dec) [deg], or (x, y) [pixel, from 1].
        sizes: radius; half axes; half sides [arcsec or pixel].
        angle: of the first axis [deg], counter-clockwise from x; on the sky from west, over north.
        lost: whether its pixels are lost; otherwise they are kept whatever other regions say (`-circle`).
    """

    shape: str
    sky: bool
    points: tuple[tuple[float, float], ...]
    sizes: tuple[float, ...]
    angle: float
    lost: bool


def read_regions(path: Path) -> list[Region]:
    """The regions of a DS9 file; points, texts and lines have no area and are passed over.

    Raises:
        CorruptDataError: not text, another shape or frame, or numbers that cannot be read; one line with its number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptDataError(
            f"cannot be read as DS9 regions ({error})", where=str(path), remedy="give a .reg file of DS9"
        ) from error
    found, frame = [], "image"
    for number, statement in _statements(text):
        where = f"{path}, line {number}"
        word = re.match(r"[+-]?\s*([a-z]\w*)", statement.lower())
        name = word[1] if word else ""
        if name in _SKY + _IMAGE:
            frame = name
        elif name in _SHAPES:
            found.append(_region(name, statement, frame in _SKY, where))
        elif name not in _IGNORED:
            kind = "frame" if name in _OTHER_FRAMES else "shape"
            raise CorruptDataError(
                f"has the {kind} {name or statement!r}",
                where=where,
                remedy=f"give {', '.join(_SHAPES)} in {', '.join(_SKY + _IMAGE)}",
            )
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Number of the line and statement; a line may hold several."""
    for number, line in enumerate(text.splitlines(), 1):
        for statement in line.partition("#")[0].split(";"):
            if statement.strip():
                yield number, statement.strip()


def _region(shape: str, statement: str, sky: bool, where: str) -> Region:
    words = re.split(r"[,\s]+", re.sub(r"^[+-]?\s*\w+|[()]|\|\|", " ", statement).strip())
    least, most = _SHAPES[shape]
    try:
        if not least <= len(words) <= most or (shape == "polygon" and len(words) % 2):
            raise ValueError(f"{len(words)} numbers")
        sizes: tuple[float, ...] = ()
        angle = 0.0
        if shape == "polygon":
            places = words
        else:
            places = words[:2]
            count = 1 if shape == "circle" else 2
            sizes = tuple(_size(word, sky) / (2 if shape == "box" else 1) for word in words[2 : 2 + count])
            angle = float(words[4].rstrip("d")) if len(words) > 4 else 0.0
        points = tuple(
            (_place(x, sky, 15.0), _place(y, sky, 1.0)) for x, y in zip(places[::2], places[1::2], strict=True)
        )
        if any(not size > 0 for size in sizes):
            raise ValueError("no positive size")
    except ValueError as error:
        raise CorruptDataError(f"cannot be read ({error}): {statement}", where=where, remedy="correct it") from error
    return Region(shape, sky, points, sizes, angle, not statement.startswith("-"))


def _place(word: str, sky: bool, hours: float) -> float:
    """A coordinate; sexagesimal ones are hours on the first axis."""
    parts = [part for part in re.split(r"[:hdms°'\"]+", word) if part] if sky else [word]
    if len(parts) == 1:
        return float(parts[0])
    value = sum(abs(float(part)) / 60**power for power, part in enumerate(parts))
    factor = hours if ":" in word or "h" in word else 1.0
    return (-value if word.startswith("-") else value) * factor


def _size(word: str, sky: bool) -> float:
    """A length [arcsec], without a unit in degrees; on an image [pixel]."""
    if not sky:
        return float(word.rstrip("ip"))
    return float(word[:-1]) * _UNITS[word[-1]] if word[-1] in _UNITS else float(word) * 3600.0
