"""Pages of the Python reference: one a module, below one a room of `deblend_assets.science`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from sphinx.application import Sphinx

from site_extensions.docstrings import marked_up
from site_extensions.sections import write

# Where a reader begins; the rooms of science follow.
FIRST = ("deblend_assets.api", "deblend_assets.settings", "deblend_assets.errors")
SCIENCE = "deblend_assets.science"


def title_of(module: str) -> str:
    """Name of a module on its page; that of the package for the names that it offers."""
    return "deblend_assets" if module == FIRST[0] else module.removeprefix("deblend_assets.")


def summary(module: str) -> str:
    """First paragraph of a module's docstring."""
    text = importlib.import_module(module).__doc__ or ""
    return marked_up(" ".join(text.strip().split("\n\n")[0].split()))


def children(package: str) -> list[str]:
    """Modules and packages directly below a package; none below a module."""
    path = getattr(importlib.import_module(package), "__path__", None)
    return [found.name for found in pkgutil.iter_modules(path, f"{package}.")] if path else []


def module_page(module: str, modules: list[str]) -> str:
    """A module's page: what its docstrings say, and a list of the modules below it."""
    title = title_of(module)
    lines = [title, "=" * len(title), "", f".. automodule:: {module}", ""]
    if modules:
        lines += [".. list-table::", "   :widths: 30 70", ""]
        for name in modules:
            lines += [f"   * - :doc:`{name.removeprefix(f'{module}.')} <{name}>`", f"     - {summary(name)}"]
        lines += ["", ".. toctree::", "   :hidden:", ""]
        lines += [f"   {name.rpartition('.')[2]} <{name}>" for name in modules]
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """Every page by its name."""
    rooms = children(SCIENCE)
    found = {name: module_page(name, []) for name in FIRST}
    waiting = list(rooms)
    for module in waiting:
        below = children(module)
        waiting += below
        found[module] = module_page(module, below)
    lines = ["Python reference", "================", "", ".. list-table::", "   :widths: 30 70", ""]
    for name in (*FIRST, *rooms):
        lines += [f"   * - :doc:`{title_of(name)} <{name}>`", f"     - {summary(name)}"]
    lines += ["", ".. toctree::", "   :hidden:", ""]
    lines += [f"   {title_of(name)} <{name}>" for name in (*FIRST, *rooms)]
    return {**found, "index": "\n".join([*lines, ""])}


def write_pages(app: Sphinx) -> None:
    """Write the pages into docs/api, and remove those of modules that are gone."""
    folder = Path(app.srcdir, "docs", "api")
    made = pages()
    for name, text in made.items():
        write(folder / f"{name}.rst", text)
    for path in folder.glob("*.rst"):
        if path.stem not in made:
            path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
