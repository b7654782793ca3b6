"""Lineages made once a test run, by the first worker that needs one, and copied by the tests that damage them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assets_tests.assets.lineage import (
    ALL,
    CATALOG,
    CHAIN,
    FIELD_CHAIN,
    SIMULATED_FIELD,
    SKY,
    SMALL_FIELD,
    TILES_OF_FEW,
    Lineage,
    Made,
    smoke,
)
from assets_tests.shared import made_once


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lineage, Made]:
    """The LSST leg, finished as for a user; only read."""

    def make(root: Path) -> Made:
        return Made.by(Lineage(root, smoke(), whole=True), *ALL)

    root, made = made_once(tmp_path_factory, "lineage", make)
    return Lineage(root, smoke(), reads=made.reads), made


@pytest.fixture
def lineage(first_run: tuple[Lineage, Made], tmp_path: Path) -> Callable[..., Lineage]:
    """A copy of the finished lineage to do anything with; takes changes of the profile."""
    return lambda **changes: first_run[0].copy(tmp_path / "copy", **changes)


@pytest.fixture(scope="session")
def first_sky(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """The simulated survey, of which no tile was requested yet; only read. The shipped model measures its tiles."""

    def make(root: Path) -> Made:
        return Made.by(Lineage(root, smoke(**TILES_OF_FEW)), CATALOG, SKY)

    root, made = made_once(tmp_path_factory, "des_sky", make)
    return Lineage(root, smoke(**TILES_OF_FEW), reads=made.reads)


@pytest.fixture(scope="session")
def first_tiles(first_sky: Lineage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lineage, dict[str, Made]]:
    """Both tiles of the simulated survey, each made in one run; only read."""

    def make(root: Path) -> dict[str, Made]:
        lineage = first_sky.copy(root, whole=True, **TILES_OF_FEW)
        return {tile: Made.by(lineage, *CHAIN, tile=tile) for tile in lineage.profile.des.sky.tiles}

    root, made = made_once(tmp_path_factory, "tiles", make)
    reads = next(iter(made.values())).reads  # of both tiles
    return Lineage(root, smoke(**TILES_OF_FEW), reads=reads), made


@pytest.fixture
def surveyed(first_sky: Lineage, tmp_path: Path) -> Callable[..., Lineage]:
    """A copy of the survey; takes changes of the profile."""
    return lambda **changes: first_sky.copy(tmp_path / "surveyed", **{**TILES_OF_FEW, **changes})


@pytest.fixture
def tiled(first_tiles: tuple[Lineage, dict[str, Made]], tmp_path: Path) -> Callable[..., Lineage]:
    """A copy with both tiles made; takes changes of the profile."""
    return lambda **changes: first_tiles[0].copy(tmp_path / "tiled", **{**TILES_OF_FEW, **changes})


@pytest.fixture
def empty(tmp_path: Path) -> Callable[..., Lineage]:
    """A lineage of which nothing is materialised yet; takes changes of the profile."""
    return lambda **changes: Lineage(tmp_path / "empty", smoke(**changes))


@pytest.fixture(scope="session")
def first_field(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lineage, str, Made, Made]:
    """The simulated field, its name, and what was made of it; only read. The shipped model measures it."""

    def make(root: Path) -> tuple[str, Made, Made]:
        lineage = Lineage(root, smoke(**SMALL_FIELD), whole=True)
        simulated = Made.by(lineage, CATALOG, SIMULATED_FIELD)
        path = Path(simulated.metadata[SIMULATED_FIELD]["field_file"])
        lineage.fields.field(path.stem).source = path
        return path.stem, simulated, Made.by(lineage, *FIELD_CHAIN, field=path.stem)

    root, (name, simulated, made) = made_once(tmp_path_factory, "field", make)
    return Lineage(root, smoke(**SMALL_FIELD), reads=made.reads), name, simulated, made


@pytest.fixture
def measured(first_field: tuple[Lineage, str, Made, Made], tmp_path: Path) -> tuple[Lineage, str]:
    """A copy with the field, whose files are the copy's own, and its name."""
    lineage = first_field[0].copy(tmp_path / "measured", **SMALL_FIELD)
    name = first_field[1]
    lineage.fields.field(name).source = lineage.fields.watched / f"{name}.toml"
    return lineage, name
