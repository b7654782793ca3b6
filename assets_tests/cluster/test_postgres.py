"""The instance for several hosts, as `cluster/dagster_postgres.yaml` describes it, on a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.assets.homes import CHECKOUT, Home
from assets_tests.cluster import postgres_server
from deblend_assets.automation.recovery import recover_dead_runs
from deblend_assets.resources.machine import MACHINE_TAG, machine_name
from deblend_assets.settings import PROFILE_FOLDER

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(postgres_server.why_not()), reason=postgres_server.why_not())]

CATALOG = ["--select", "simulation/galaxy_catalog"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    with postgres_server.running() as url:
        monkeypatch.setenv("DEBLEND_POSTGRES_URL", url)
        home = Home(tmp_path / "home", "postgres", (PROFILE_FOLDER / "smoke.toml").read_text(), CATALOG)
        (home.folder / "dagster.yaml").write_text((CHECKOUT / "cluster" / "dagster_postgres.yaml").read_text())
        try:
            yield home
        finally:
            home.end()


def test_a_materialisation_is_recorded_in_postgres_and_read_back(home: Home) -> None:
    home.finish()
    with dg.DagsterInstance.from_config(str(home.folder)) as instance:
        assert "Postgres" in type(instance.event_log_storage).__name__
        event = instance.get_latest_materialization_event(dg.AssetKey(["simulation", "galaxy_catalog"]))
        assert event is not None
        metadata = event.asset_materialization.metadata
        assert metadata["galaxies"].value == home.profile.catalog.galaxies
        (run,) = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert run.tags[MACHINE_TAG] == machine_name()
        assert instance.event_log_storage.supports_global_concurrency_limits
        assert recover_dead_runs(instance) == []
    assert not list(home.folder.rglob("*.db")), "nothing in SQLite beside it"
