"""Names of images in FITS files, as users type them: PATH, PATH[EXT] or PATH[EXT][PLANE]."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deblend_assets.errors import MissingDataError

_BRACKETS = re.compile(r"(?P<path>[^\[\]]+)\[(?P<extension>[^\[\]]+)\](?:\[(?P<plane>\d+)\])?")


@dataclass(frozen=True)
class ImageName:
    """Where an image lies.

    Attributes:
        path: of the file.
        extension: its number (the primary is 0), its EXTNAME, or (EXTNAME, EXTVER); None: the first image.
        plane: of a cube, from 0.
        text: the name as it was typed, for messages.
    """

    path: Path
    extension: str | int | tuple[str, int] | None
    plane: int | None
    text: str

    def require_file(self) -> None:
        """Raise MissingDataError unless the file exists."""
        if not self.path.is_file():
            raise MissingDataError(
                "is not a file",
                where=str(self.path),
                remedy="name a FITS image, as PATH, PATH[EXT] or PATH[EXT][PLANE]",
            )


def image_name(text: str) -> ImageName:
    """Take a name apart: `PATH`, `PATH[EXT]` (number or name, or `NAME,VERSION`) or `PATH[EXT][PLANE]` of a cube.

    A file whose own name ends in brackets is found too.
    """
    found = _BRACKETS.fullmatch(text)
    if found is None or Path(text).exists():
        return ImageName(Path(text), None, None, text)
    plane = found["plane"]
    return ImageName(Path(found["path"]), _extension(found["extension"]), int(plane) if plane else None, text)


def absolute(text: str, folder: Path) -> str:
    """The same name with its path below a folder, where it is relative.

    Args:
        text: see `image_name`.
        folder: of the file that holds the name.
    """
    return str(folder / Path(text).expanduser())


def _extension(text: str) -> str | int | tuple[str, int]:
    name, _, version = (part.strip() for part in text.partition(","))
    if version.isdecimal():
        return name, int(version)
    return int(text) if text.strip().isdecimal() else text.strip()
