"""What all tests share: their order over the workers, a smoke profile and its catalogue."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.settings import Profile, load_profile

# Workers take files in this order: those that last or wait longest first, so that none is left to itself at the end.
# Of files that mostly wait (Slurm, the UI, daemons, Ray) no more than two go together: the cores would be idle.
LONGEST = (
    "cluster/test_slurm.py",
    "ui/test_ui.py",
    "assets/test_referee.py",
    "assets/test_kill.py",
    "assets/test_object_store.py",
    "automation/test_field_daemon.py",
    "assets/test_worlds.py",
    "assets/test_field_kill.py",
    "automation/test_daemon.py",
    "assets/test_several_devices.py",
    "assets/test_tile_kills.py",
    "cluster/test_ray.py",
    "assets/test_tiles.py",
    "assets/test_faults.py",
    "assets/test_lineage.py",
    "assets/test_tile_faults.py",
    "science/shapes/test_exact_posterior.py",
    "science/simulation/test_renderers.py",
    "steps/fields/test_measure.py",
    "steps/fields/test_catalog.py",
    "science/measuring/test_galaxies_alone.py",
    "science/shapes/test_model.py",
    "science/shapes/test_posterior.py",
    "science/peers/test_observed.py",
    "science/peers/test_peers.py",
    "science/sky_shapes/test_objective.py",
    "science/worlds/test_world_fields.py",
    "science/simulation/test_galaxies_renderer.py",
    "science/training/test_loop.py",
    "steps/sky_shapes/test_fields.py",
    "wiring/test_makefile.py",
    "wiring/test_wheel.py",
    "wiring/test_recovery.py",
    "wiring/test_layers.py",
    "stores/test_checkpoints.py",
    "stores/test_object_store.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the order within a file stays."""
    folder = Path(__file__).parent
    rank = {folder / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def profile() -> Profile:
    return load_profile("smoke")


@pytest.fixture(scope="session")
def catalog(profile: Profile) -> pd.DataFrame:
    """A small generated catalogue with its splits."""
    galaxies = generate_population(profile.catalog.galaxies, profile.catalog.seed)
    ids = galaxies["galtileid"].to_numpy()
    return galaxies.assign(split=assign_split(ids, profile.catalog.fractions, salt=str(profile.catalog.seed)))


@pytest.fixture(autouse=True)
def _own_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test writes into the checkout's storage folder, and none depends on the caller's profile."""
    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "storage"))
    monkeypatch.delenv("DEBLEND_PROFILE", raising=False)


@pytest.fixture(autouse=True)
def _as_many_threads_as_before() -> Iterator[None]:
    """TreeCorr gives OpenMP all cores for the rest of a process; tests of torch then took five times their CPU time."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
