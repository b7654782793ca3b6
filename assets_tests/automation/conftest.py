"""A real instance on disk, and the tiles' lineage over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.automation.stand_ins import Storage


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A DAGSTER_HOME."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """The storage of `_own_storage`, with a model called "first"."""
    root = tmp_path / "storage"
    root.mkdir()
    (tmp_path / "model_version").write_text("first")
    return Storage(root=str(root), model=str(tmp_path / "model_version"))


@pytest.fixture
def code_server(home: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a code server that loads `stand_ins` inherits: the instance, the storage, the file of the model."""
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("DEBLEND_STORAGE", storage.root)
    monkeypatch.setenv("STAND_IN_MODEL", storage.model)
    monkeypatch.setenv("DEBLEND_PROFILE", "smoke")
