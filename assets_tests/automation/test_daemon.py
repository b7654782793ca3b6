"""Real tiles under a real daemon: registered tiles are evaluated automatically; a new model renews them once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import torch

from assets_tests.assets.homes import Home
from assets_tests.assets.lineage import CATALOG, CHAIN, SKY, SKY_SHAPES, TEXT_OF_FEW, Lineage
from assets_tests.assets.reads import differences
from assets_tests.automation import hasty
from assets_tests.automation.daemons import looks, materializations, running, scheduler_over
from deblend_assets.assets.keys import TILE_ASSETS
from deblend_assets.automation.registries import TILE_REGISTRY
from deblend_assets.automation.registry_rows import evaluations
from deblend_assets.settings import PROFILE_FOLDER

pytestmark = pytest.mark.slow

EVALUATION = TILE_ASSETS["des_evaluation"]
ASKING = ("im3shape_catalog", "des_cutouts")


def smoke_text() -> str:
    """The smoke profile with small tiles and a network for every sky that starts from the shipped one."""
    text = (PROFILE_FOLDER / "smoke.toml").read_text()
    for old, new in {
        **TEXT_OF_FEW,
        'start = "fresh"\nwidths = [8, 16]\ndense = 32\n': 'start = "every"\n',
        "training = { epochs = 2, learning_rate = 1e-3 }\n\n[training_fields]": "training = { epochs = 1, "
        'learning_rate = 1e-6 }\n\n[recipes.sky_model]\nstart = "every"\n\n[training_fields]',
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Site(Home):
    """A Dagster home whose history the test reads and adds to, beside the daemon."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "tiles", smoke_text(), ())
        self.instance = dg.DagsterInstance.from_config(str(folder))

    @property
    def lineage(self) -> Lineage:
        """The present profile's, in this process, into the same history."""
        made = Lineage(self.storage, self.profile)
        made.instance = self.instance
        return made

    @property
    def model_version(self) -> str:
        return self.store.sky_model_version()

    def tile_runs(self) -> list[dg.DagsterRun]:
        """Runs of tiles that automation requested, oldest first."""
        found = [run for run in self.instance.get_runs() if "dagster/partition" in run.tags]
        return [run for run in reversed(found) if run.tags.get("dagster/from_automation_condition") == "true"]

    def made(self) -> dict[str, list[str]]:
        """The tile of every materialisation, by asset."""
        return {noun: materializations(self.instance, key) for noun, key in TILE_ASSETS.items()}

    def evaluated_with(self) -> dict[str, str | None]:
        """The model of each tile's latest evaluation."""
        return {name: found.model_version for name, found in evaluations(self.instance, EVALUATION).items()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The survey drawn by real runs; no tile is registered, and the shipped model measures."""
    torch.set_num_threads(1)
    opened = Site(tmp_path_factory.mktemp("site") / "home")
    opened.lineage.succeeds(CATALOG, SKY)
    with opened.instance:
        yield opened


@dataclass(frozen=True)
class Tiles:
    """What was made while the daemon ran.

    Attributes:
        names: of the tiles.
        made: as `Site.made`.
        model: that measured them.
        archive: files of the archive's answers.
    """

    names: list[str]
    made: dict[str, list[str]]
    model: str
    archive: list[Path]


@pytest.fixture(scope="module")
def tiles(site: Site) -> Tiles:
    """Written to the list while the daemon runs, and evaluated; then one is made by hand, and a new model trained."""
    names = sorted(site.profile.des.sky.tiles)
    assert len(names) == 2
    with running(hasty.__name__, site.environment, site.folder / "daemon.log") as daemon:
        daemon.until(lambda: all(looks(site.instance).values()), "a look of each sensor")
        assert TILE_REGISTRY.registered(site.instance) == []
        with (site.store.folder / "tiles.txt").open("a") as mine:
            mine.write(f"{names[0]}  # two more\n{names[1]}\n")
        daemon.until(lambda: materializations(site.instance, EVALUATION) == names, "two tiles evaluated")
        daemon.look_again(site.instance)
        assert site.made() == dict.fromkeys(TILE_ASSETS, names), "each once"
        lineage = site.lineage
        lineage.succeeds(*CHAIN, tile=names[0])
        found = Tiles(names, site.made(), site.model_version, sorted(lineage.des.archive_folder.rglob("*")))
        lineage = site.lineage
        lineage.succeeds(*SKY_SHAPES)
        assert differences(lineage.reads, lineage.deps) == []
        daemon.look_again(site.instance)
    return found


def test_two_tiles_that_come_while_the_daemon_runs_are_evaluated_automatically_and_once(
    site: Site, tiles: Tiles
) -> None:
    runs = site.tile_runs()
    assert sorted(run.tags["dagster/partition"] for run in runs) == tiles.names, "a run a tile, none once more"
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    assert {run.asset_selection for run in runs} == {frozenset(TILE_ASSETS.values())}
    for record in site.instance.fetch_materializations(EVALUATION, limit=100).records:
        page = Path(record.asset_materialization.metadata["report"].value).read_text(encoding="utf-8")
        assert record.partition_key in page[page.index("<title>") : page.index("</title>")]
        assert page.count("data:image/png;base64,") >= 10
    asked = [
        (record.run_id in {run.run_id for run in runs}, record.asset_materialization.metadata["archive_requests"].value)
        for noun in ASKING
        for record in site.instance.fetch_materializations(TILE_ASSETS[noun], limit=100).records
    ]
    assert len(asked) == 6
    assert all((requests > 0) == first for first, requests in asked), "made again, nothing is asked of the archive"


def test_a_new_model_renews_every_tile_once_by_the_weekly_schedule_alone(
    site: Site, tiles: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiles.model.startswith("shipped-")
    assert site.made() == tiles.made, "a new model alone requests nothing"
    assert site.evaluated_with() == dict.fromkeys(tiles.names, tiles.model)
    second = site.model_version
    assert second != tiles.model

    for variable, value in site.environment.items():
        monkeypatch.setenv(variable, value)
    with scheduler_over(hasty.__name__, site.instance) as scheduler:
        runs = scheduler.next_monday()
        assert sorted(run.tags["dagster/partition"] for run in runs) == tiles.names
        assert scheduler.run(*runs) == ["SUCCESS", "SUCCESS"]
        assert scheduler.next_monday() == []
        assert scheduler.reason == f"no tile left to evaluate with model {second}"
    assert site.evaluated_with() == dict.fromkeys(tiles.names, second)
    renewed = {noun: sorted([*tiles.made[noun], *tiles.names]) for noun in ("shape_catalog", "des_evaluation")}
    assert site.made() == {**tiles.made, **renewed}, "shapes and evaluation once more, catalogue and cutouts not"
    assert sorted(site.lineage.des.archive_folder.rglob("*")) == tiles.archive
