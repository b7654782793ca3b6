"""The code of docs/shape_catalog.md on a known tangential shear."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.measuring.sky_columns import tile_columns
from deblend_assets.stores.fits_tables import to_fits

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "shape_catalog.md").read_text(encoding="utf-8")
LENS = (30.0, -45.0)
SHEAR, SCATTER = 0.05, 0.2
# What the estimates answer with to a shear of 1.
RESPONSE = 0.8


def sheared(galaxies: int = 8000, seed: int = 3) -> pd.DataFrame:
    """Galaxies around the page's lens, with a tangential shear of 0.05 at all distances, in the catalogue's frame.

    Estimates are shrunk toward zero, and a single galaxy's response is noise. Tangential is
    γ_t = -(γ1 cos 2φ + γ2 sin 2φ), φ from west towards north.
    """
    rng = np.random.default_rng(seed)
    east, north = rng.uniform(-0.1, 0.1, (2, galaxies))
    phi = np.arctan2(north, -east)
    g = rng.normal(0, SCATTER, (2, galaxies)) - RESPONSE * SHEAR * np.stack([np.cos(2 * phi), np.sin(2 * phi)])
    dec = LENS[1] + north
    table = pd.DataFrame({"ra": LENS[0] + east / np.cos(np.radians(dec)), "dec": dec, "g1": g[0], "g2": g[1]})
    table["R11"], table["R22"] = RESPONSE + rng.normal(0, 1, (2, galaxies))
    # Not of every galaxy.
    table.loc[rng.random(galaxies) < 0.5, ["R11", "R22"]] = np.nan
    table["g_cov_11"], table["flags"], table["simulated"] = 0.05**2, np.zeros(galaxies, np.int32), True
    # What is flagged must not be used, and would ruin everything.
    table.loc[::10, ["g1", "flags"]] = [0.9, 4]
    return table.astype({"flags": np.int32})


def run_example(folder: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, page: str = PAGE) -> dict[str, Any]:
    """The page's only block of Python that uses TreeCorr, word for word, beside a catalogue; its variables."""
    columns = tile_columns("grizY")
    (folder / "shape_catalog.fits").write_bytes(to_fits(table, columns, "A test.", {"SIMULATD": True}))
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "treecorr" in block)
    monkeypatch.chdir(folder)
    matplotlib.use("agg")
    variables: dict[str, Any] = {}
    exec(compile(code, "docs/shape_catalog.md", "exec"), variables)
    return variables


def test_the_example_finds_the_shear_with_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_example(tmp_path, sheared(), monkeypatch)
    ng, gg = found["ng"], found["gg"]
    error = np.sqrt(ng.varxi)
    assert (np.abs(ng.xi - SHEAR) < 4 * error).all()
    assert (np.abs(ng.xi_im) < 4 * error).all()
    assert np.average(ng.xi, weights=1 / ng.varxi) > 8 / np.sqrt((1 / ng.varxi).sum()), "far from nothing"
    # Neighbours share their direction from the lens: γ² at small separations.
    assert gg.xip[0] == pytest.approx(SHEAR**2, abs=4 * float(np.sqrt(gg.varxip[0])))
    assert (tmp_path / "shear.png").read_bytes().startswith(b"\x89PNG")
    assert "simulated tile" in capsys.readouterr().out


def test_a_wrong_sign_of_g2_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = sheared()
    found = run_example(tmp_path, table.assign(g2=-table["g2"]), monkeypatch)
    mean = np.average(found["ng"].xi, weights=1 / found["ng"].varxi)
    assert abs(mean) < 0.2 * SHEAR
