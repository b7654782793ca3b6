"""The wheel: all of the package is in it, and it measures where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import deblend_assets
from assets_tests.assets.homes import CHECKOUT, PATIENCE_SECONDS

pytestmark = pytest.mark.slow

SOURCES = ("deblend_assets", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, at: Path) -> str:
    """The output of a command that knows nothing of this checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DEBLEND_", "DAGSTER_", "PYTHON", "PIP_"))}
    environment |= {"OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ended = subprocess.run(
        list(map(str, command)), cwd=at, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, in which setuptools may leave what it likes; without network."""
    at = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        source, copy = CHECKOUT / name, at / "source" / name
        copy.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", at, at / "source", at=at)
    (built,) = at.glob("*.whl")
    return built


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(files.read(name))


def test_every_file_of_the_package_is_in_it_and_nothing_else(wheel: Path) -> None:
    package = CHECKOUT / "deblend_assets"
    ours = {p.relative_to(CHECKOUT).as_posix() for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    for part in ("profiles/demo.toml", "weights/index.json", "weights/LSST_shapes.pt", "py.typed"):
        assert f"deblend_assets/{part}" in names
    assert any(name.startswith("deblend_assets/science/reports/") and name.endswith(".j2") for name in names)


def test_it_says_its_version_licence_and_addresses(wheel: Path) -> None:
    said = metadata(wheel)
    assert said["Version"] == deblend_assets.__version__
    assert said["License-Expression"] == "BSD-3-Clause"
    named = {line.partition(",")[0] for line in said.get_all("Project-URL", [])}
    assert named == {"Homepage", "Repository", "Documentation", "Changelog"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment with the wheel, and with this one's libraries but not its deblend_assets."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, at=folder)
    scripts = folder / "bin"
    (libraries,) = folder.glob("lib/python*/site-packages")
    # A line of a .pth file adds a folder and none of the .pth files in it, which an editable installation consists of.
    paths = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    (libraries / "libraries.pth").write_text("\n".join(sorted(paths)) + "\n")
    install = ("install", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", "--python", scripts / "python", *install, at=folder)
    where = run(scripts / "python", "-c", "import deblend_assets; print(deblend_assets.__file__)", at=folder)
    assert Path(where.strip()).is_relative_to(libraries)
    return scripts


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stamps of sky with a blob in the middle, as files."""
    folder = tmp_path_factory.mktemp("stamps")
    y, x = np.mgrid[-22:23, -22:23]
    blob = 2000 * np.exp(-(x**2 + y**2) / (2 * 3.0**2))
    for n in range(2):
        noise = np.random.default_rng(n).normal(0, 100, (6, 45, 45))
        np.save(folder / f"{n}.npy", (blob + noise).astype(np.float32))
    said = {"bands": list("ugrizy"), "unit": "electron", "pixel_scale_arcsec": 0.2}
    (folder / "stamps.json").write_text(json.dumps(said))
    return folder


def test_the_command_measures_with_the_shipped_weights(installed: Path, stamps: Path, tmp_path: Path) -> None:
    assert (
        run(installed / "deblend_assets", "--version", at=tmp_path) == f"deblend_assets {deblend_assets.__version__}\n"
    )
    run(installed / "deblend_assets", "measure", stamps, "--out", "out", at=tmp_path)
    rows = pd.read_parquet(tmp_path / "out" / "measurements.parquet")
    assert len(rows) == 2
    assert np.isfinite(rows[["g1", "g2", "flux_r"]]).all(axis=None)


def test_a_script_measures_the_same_numbers(installed: Path, stamps: Path, tmp_path: Path) -> None:
    code = f"""
import deblend_assets as da
table = da.measure({str(stamps)!r})
print(len(table), table["flux_r"].unit, da.deblend({str(stamps)!r}).shape)
"""
    assert run(installed / "python", "-c", code, at=tmp_path) == "2 nJy (2, 6, 45, 45)\n"
