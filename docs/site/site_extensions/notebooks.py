"""Notebooks as pages of the site: their cells run when the page is read, and the page shows what they print and draw.

    python notebooks.py NOTEBOOK FOLDER

runs a notebook in the present folder, writes its figures into a folder, and prints the page. No Jupyter is needed.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx

SUFFIX = ".ipynb"
# Below docs/sections, where all that is made for the site lies.
FIGURES = "notebooks"


class Cell(NamedTuple):
    """A cell: its kind, "markdown" or "code", and its text."""

    kind: str
    text: str


class Output(NamedTuple):
    """What a cell gave: printed text, with the value of a last expression, and figures as PNG."""

    text: str = ""
    figures: tuple[bytes, ...] = ()


def cells(notebook: Path) -> list[Cell]:
    """The cells of a notebook, in order."""
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [Cell(cell["cell_type"], "".join(cell["source"])) for cell in found]


def run(found: Sequence[Cell], variables: dict[str, Any]) -> Iterator[Output]:
    """Run the cells in the present folder; what each gives, nothing for text.

    Args:
        found: cells, in order.
        variables: of the notebook, which are added to.
    """
    import matplotlib

    matplotlib.use("agg")
    variables.setdefault("__name__", "__main__")
    for number, cell in enumerate(found):
        yield _run(cell.text, f"cell {number}", variables) if cell.kind == "code" else Output()


def _run(text: str, where: str, variables: dict[str, Any]) -> Output:
    import matplotlib.pyplot as plt

    printed, figures, value = io.StringIO(), [], None
    statements = ast.parse(text, where)
    # As in Jupyter: the value of a last expression is shown, unless a semicolon ends it.
    last = statements.body[-1] if statements.body and not text.rstrip().endswith(";") else None
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            statements.body.pop()
        exec(compile(statements, where, "exec"), variables)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), variables)
    drawing = getattr(value, "_repr_png_", None)
    if drawing is not None:
        figures.append(drawing())
    elif value is not None:
        print(value, file=printed)
    for shown in plt.get_fignums():
        drawn = io.BytesIO()
        plt.figure(shown).savefig(drawn, format="png", dpi=90, facecolor="white", metadata={"Software": None})
        figures.append(drawn.getvalue())
    plt.close("all")
    return Output(printed.getvalue(), tuple(figures))


def page(notebook: Path, folder: Path) -> str:
    """A notebook as a page of MyST.

    Args:
        notebook: to be run.
        folder: for its figures, beside which the folder of the site's own pages lies.
    """
    found, parts, drawn = cells(notebook), list[str](), 0
    for cell, output in zip(found, run(found, {}), strict=True):
        parts.append(f"```python\n{cell.text}\n```" if cell.kind == "code" else cell.text)
        if output.text.strip():
            parts.append(f"```text\n{output.text.rstrip()}\n```")
        for figure in output.figures:
            drawn += 1
            name = f"{notebook.stem}_{drawn}.png"
            (folder / name).write_bytes(figure)
            parts.append(f"![Figure {drawn}](../sections/{folder.name}/{name})")
    title, *rest = parts
    download = f"{{download}}`Download this notebook <{notebook.name}>`"
    return "\n\n".join([title, download, *rest, ""])


def _show(app: Sphinx, name: str, content: list[str]) -> None:
    """A notebook's page in the place of its JSON."""
    notebook = Path(app.env.doc2path(name))
    if notebook.suffix != SUFFIX:
        return
    folder = Path(app.srcdir, "docs", "sections", FIGURES)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        ran = subprocess.run(
            [sys.executable, __file__, notebook, folder],
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    content[0] = ran.stdout


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_source_suffix(SUFFIX, "markdown")
    # Before what changes the text of pages.
    app.connect("source-read", _show, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    print(page(Path(sys.argv[1]), Path(sys.argv[2])))
