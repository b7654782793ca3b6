"""The notebooks of docs/notebooks: each runs at a small size, and what it shows is right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from assets_tests.docs.pages import NOTEBOOKS, ROOT, name_of
from site_extensions.notebooks import Cell, Output, cells, page, run

FOLDER = ROOT / "docs" / "notebooks"


def run_small(
    name: str, small: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], list[Output]]:
    """The variables of a notebook, and what its cells gave, with smaller numbers in its first cell of code."""
    monkeypatch.chdir(folder)
    found = cells(FOLDER / f"{name}.ipynb")
    first = next(n for n, cell in enumerate(found) if cell.kind == "code")
    for own, smaller in small.items():
        assert own in found[first].text
        found[first] = Cell("code", found[first].text.replace(own, smaller))
    variables: dict[str, Any] = {}
    plt.close("all")  # of others in this process
    outputs = list(run(found, variables))
    assert list(folder.iterdir()) == [], "nothing is left where it ran"
    return variables, outputs


def figures(outputs: list[Output]) -> int:
    found = [figure for output in outputs for figure in output.figures]
    assert all(figure.startswith(b"\x89PNG") for figure in found)
    return len(found)


def test_an_image_is_measured_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, outputs = run_small("measure_an_image", {"side, scale = 240": "side, scale = 180"}, tmp_path, monkeypatch)
    assert figures(outputs) == 3
    rows, matched = found["rows"], found["matched"]
    assert matched.sum() >= 8
    for k in (1, 2):
        pulls = (rows[f"g{k}"] - found[f"g{k}"][matched]) / np.sqrt(rows[f"g_cov_{k}{k}"])
        assert np.sqrt(np.mean(pulls**2)) < 2


def test_the_lens_has_a_positive_tangential_shear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By TreeCorr, from the catalogue as it is: no component is flipped."""
    found, outputs = run_small("tangential_shear", {"side = 600": "side = 340"}, tmp_path, monkeypatch)
    assert figures(outputs) == 1
    ng, truth = found["ng"], found["reduced_shear"]
    mean, error = np.average(ng.xi, weights=ng.weight), 1 / np.sqrt(np.sum(1 / ng.varxi))
    assert mean > 4 * error
    assert (np.abs(ng.xi - truth(ng.meanr)) < 4 * np.sqrt(ng.varxi)).all()
    assert abs(np.average(ng.xi_im, weights=ng.weight)) < 4 * error
    assert 0.6 < found["response"] < 1.2
    text = " ".join(cell.text for cell in cells(FOLDER / "tangential_shear.ipynb"))
    assert "Detection is not in it" in text
    assert "flip_g2" not in text


def test_injected_galaxies_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"480, 0.2": "300, 0.2", "60, 100": "20, 36"}
    found, outputs = run_small("inject_and_judge", small, tmp_path, monkeypatch)
    assert figures(outputs) == 1
    assert next(output.text for output in outputs if output.text).startswith("Injected 36 galaxies")
    assert len(found["good"]) > 10
    assert all(np.median(np.abs(values)) < 1.3 for values in found["pulls"].values()), "0.67 is right"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_outputs_are_not_kept(notebook: Path) -> None:
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in found if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert {cell["execution_count"] for cell in code} == {None}


def test_a_page_shows_what_cells_print_and_draw(tmp_path: Path) -> None:
    text = ["print(1)\n", "2"]
    drawn = ["import matplotlib.pyplot as plt\n", "x = 3\n", "plt.plot([0, 1]);"]
    parts = [("markdown", ["# Why?\n", "\n", "So."]), ("code", text), ("code", drawn), ("code", ["x + 1"])]
    notebook = tmp_path / "why.ipynb"
    made = {"cells": [{"cell_type": kind, "source": source} for kind, source in parts]}
    notebook.write_text(json.dumps(made), encoding="utf-8")
    shown = page(notebook, tmp_path)
    assert shown.startswith("# Why?\n\nSo.\n\n{download}`Download this notebook <why.ipynb>`\n\n```python\nprint(1)")
    assert "```text\n1\n2\n```" in shown
    assert "```text\n4\n```" in shown, "a cell sees what was set before"
    assert "Line2D" not in shown, "a semicolon hides it"
    assert shown.count(f"(../sections/{tmp_path.name}/why_1.png)") == 1
    assert (tmp_path / "why_1.png").read_bytes().startswith(b"\x89PNG")
