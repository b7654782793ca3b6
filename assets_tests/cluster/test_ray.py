"""The project's own assets on a real Ray cluster of two nodes on this host, against the same command in one process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from assets_tests.assets.homes import CHECKOUT, Home, results
from assets_tests.assets.lineage import CATALOG, SIMULATED, Lineage, raw_smoke
from assets_tests.cluster import postgres_server, ray_nodes
from assets_tests.cluster.ray_nodes import ADDRESS, GPUS, JOBS_URL, PATIENCE_SECONDS, Cluster, wait_for
from deblend_assets.settings import PROFILE_FOLDER, parse_profile

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(ray_nodes.why_not()), reason=ray_nodes.why_not())]

SMOKE = (PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8")
ON_RAY = f'{SMOKE}\n[run]\nexecutor = "ray"\nray_address = "{JOBS_URL}"\n'
SIMULATION = ["--select", "group:simulation", "--partition-range", "train_000...test_001"]
SCENES = 112
# On its defaults everything lies below DAGSTER_HOME: relative folders would be another one in every step.
DAGSTER_YAML = "telemetry:\n  enabled: false\n"


class RayHome(Home):
    """A home whose runs start inside the cluster's namespace, and their steps on its nodes."""

    cluster: Cluster
    module = "deblend_assets.definitions"

    def materialize(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", self.module, *self.selection]
        # Steps get the cores that their tags ask for, and so many threads.
        environment = {k: v for k, v in self.environment.items() if k != "OMP_NUM_THREADS"}
        with (self.folder / f"{len(self.runs)}.log").open("wb") as log:
            run = subprocess.Popen(
                self.cluster.command(command, self.folder),
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.runs.append(run)
        return run

    @property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.folder))

    def messages(self) -> list[str]:
        """What the steps of the only run logged."""
        with self.instance as instance:
            (run,) = instance.get_runs()
            return [entry.user_message for entry in instance.all_logs(run.run_id)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "RAY_", "CUDA_", "DEBLEND_"))}
    with ray_nodes.running(environment) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Callable[..., RayHome]]:
    made: list[RayHome] = []

    def make(name: str, selection: list[str]) -> RayHome:
        made.append(RayHome(tmp_path_factory.mktemp("homes") / name, "cluster", ON_RAY, selection))
        made[-1].cluster = cluster
        (made[-1].folder / "dagster.yaml").write_text(DAGSTER_YAML)
        return made[-1]

    yield make
    for home in made:
        home.end()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process writes: checksums by path."""
    lineage = Lineage(
        tmp_path_factory.mktemp("alone"), parse_profile({"name": "cluster", **raw_smoke()}, where="smoke")
    )
    lineage.succeeds(CATALOG, *SIMULATED)
    return results(lineage.store.folder)


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Dagster's instance for several hosts where a Postgres can be started here, else that of one host."""
    if postgres_server.why_not():
        yield DAGSTER_YAML
        return
    with postgres_server.running() as url:
        monkeypatch.setenv("DEBLEND_POSTGRES_URL", url)
        yield (CHECKOUT / "cluster" / "dagster_postgres.yaml").read_text()


def test_both_nodes_draw_what_one_process_does_though_a_worker_is_killed_in_the_middle_of_a_shard(
    homes: Callable[..., RayHome], alone: dict[str, str], cluster: Cluster, history: str
) -> None:
    home = homes("spread", SIMULATION)
    (home.folder / "dagster.yaml").write_text(history)
    run = home.materialize()
    wait_for(lambda: bool(cluster.workers("_render_shard")) or run.poll() is not None, "a shard being drawn")
    victim = cluster.workers("_render_shard")[0]
    victim.send_signal(signal.SIGKILL)
    done = list(home.storage.glob("cluster/simulated/*/_done/*.json"))
    assert len(done) < SCENES // 16, "killed in the middle, not after the end"
    assert run.wait(PATIENCE_SECONDS) == 0, home.log()[-3000:]
    assert results(home.storage / "cluster") == alone
    (line,) = [line for line in home.messages() if re.search(r"rendering: .* scenes on ", line)]
    drawn = re.findall(r"(\d+) scenes on \S+ \((\w{8})\)", line)
    assert len({node for _, node in drawn}) == 2, line
    assert sum(int(scenes) for scenes, _ in drawn) == SCENES


def test_a_step_sees_the_gpus_that_ray_gave_it(homes: Callable[..., RayHome]) -> None:
    home = homes("sights", ["--select", "*"])
    home.module = "assets_tests.cluster.ray_sights"
    home.finish()
    with home.instance as instance:
        events = {
            name: instance.get_latest_materialization_event(dg.AssetKey(name))
            for name in ("first", "second", "without")
        }
    sights = {name: event.asset_materialization.metadata["sees"].value for name, event in events.items()}
    assert sights.pop("without") == ""
    assert sorted(sights.values()) == [str(gpu) for gpu in range(GPUS)]


def test_the_pool_inside(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "assets_tests/cluster/inside_ray.py"]
    run = subprocess.run(
        cluster.command(command, CHECKOUT),
        env={**os.environ, "RAY_ADDRESS": ADDRESS},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert run.returncode == 0, run.stdout[-5000:]
