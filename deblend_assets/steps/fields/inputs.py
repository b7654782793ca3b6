"""What a field is made of, as one fingerprint: its settings and the sizes and times of its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deblend_assets.settings import fingerprint
from deblend_assets.stores.field_files import FieldFile
from deblend_assets.stores.field_files.names import image_name

_FILES = ("image", "weight", "variance", "rms", "bmask", "psf")


def files_of(settings: FieldFile) -> Iterator[Path]:
    """The files that a field names, each once."""
    seen: set[Path] = set()
    for files in settings.bands.values():
        for key in _FILES:
            value = getattr(files, key)
            text = value.get("path") if isinstance(value, dict) else value
            if not isinstance(text, str):
                continue
            path = image_name(text).path
            if path not in seen and path.is_file():
                seen.add(path)
                yield path


def inputs_of(settings: FieldFile, positions: str | None = None, origin: int | None = None) -> str:
    """Changes with any key of the field and with any of its files, by size and time of change.

    Args:
        settings: of the field.
        positions: a table of positions that is measured in the place of detections.
        origin: of its pixels.
    """
    files = [*files_of(settings), *([] if positions is None else [image_name(positions).path])]
    stats = {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
    return fingerprint(settings, stats, positions, origin)
