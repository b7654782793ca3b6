"""Inventories of other projects' pages, bundled as text: a build needs no network."""

from __future__ import annotations

import zlib
from pathlib import Path


def compiled(folder: Path, out: Path) -> dict[str, tuple[str, str]]:
    """The value of `intersphinx_mapping` for the files of a folder.

    Args:
        folder: files PROJECT.txt. The first line is the address of the project's pages; each further one is
            `name role address`, as in an inventory, where a $ at an address's end stands for the name.
        out: folder for the inventories in Sphinx's form.

    Returns:
        Project → address and path of its inventory in Sphinx's form.
    """
    out.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for source in sorted(folder.glob("*.txt")):
        address, *entries = source.read_text(encoding="utf-8").splitlines()
        body = "".join(f"{name} {role} 1 {page} -\n" for name, role, page in (line.split() for line in entries))
        head = f"# Sphinx inventory version 2\n# Project: {source.stem}\n# Version:\n"
        path = out / f"{source.stem}.inv"
        path.write_bytes(f"{head}# The remainder of this file is compressed using zlib.\n".encode())
        with path.open("ab") as file:
            file.write(zlib.compress(body.encode()))
        mapping[source.stem] = (address, str(path))
    return mapping
