"""Real fields under a real daemon: dropped into the folder they are measured; a changed mask makes one field again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from astropy.io import fits

from assets_tests.assets.homes import Home
from assets_tests.assets.lineage import CATALOG, SIMULATED_FIELD, Lineage
from assets_tests.automation import hasty
from assets_tests.automation.daemons import OF_FIELDS, looks, materializations, running
from deblend_assets.assets.keys import FIELD_ASSETS
from deblend_assets.automation.registries import FIELD_REGISTRY
from deblend_assets.automation.registry_rows import evaluations
from deblend_assets.settings import PROFILE_FOLDER

pytestmark = pytest.mark.slow

PROFILE = (PROFILE_FOLDER / "smoke.toml").read_text() + "\n[fields.simulated]\npixels = 96\n\n[run]\nworkers = 1\n"
QUALITY = FIELD_ASSETS["field_quality"]
NAMES = ["a", "b"]


class Site(Home):
    """A home with the images of a field, which tests drop under several names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "mine", PROFILE, ())
        self.instance = dg.DagsterInstance.from_config(str(folder))
        lineage = Lineage(self.storage, self.profile)
        found = lineage.succeeds(CATALOG, SIMULATED_FIELD).asset_materializations_for_node("fields__simulated_field")
        self.toml = Path(str(found[0].metadata["field_file"].value)).rename(folder / "simulated.toml")
        self.images = self.storage / "fields" / "simulated_mine"

    def drop(self, name: str) -> None:
        """The images first, as a user would."""
        watched = self.storage / "fields"
        shutil.copytree(self.images, watched / name)
        text = self.toml.read_text().replace('"simulated_mine/', f'"{name}/')
        part = watched / f"{name}.part"
        part.write_text(text)
        part.rename(watched / f"{name}.toml")

    def made(self) -> dict[str, list[str]]:
        """The field of every materialisation, by asset."""
        return {noun: materializations(self.instance, key) for noun, key in FIELD_ASSETS.items()}

    def fields_run(self) -> list[str]:
        """The field of every run, oldest first; all ended well."""
        runs = [run for run in reversed(self.instance.get_runs()) if "dagster/partition" in run.tags]
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert {run.asset_selection for run in runs} == {frozenset(FIELD_ASSETS.values())}
        return [run.tags["dagster/partition"] for run in runs]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path / "home")
    with opened.instance:
        yield opened


def test_two_fields_dropped_while_the_daemon_runs_are_measured_once_and_a_changed_mask_makes_one_again(
    site: Site,
) -> None:
    with running(hasty.__name__, site.environment, site.folder / "daemon.log") as daemon:
        daemon.until(lambda: all(looks(site.instance, OF_FIELDS).values()), "a look of each sensor")
        assert FIELD_REGISTRY.registered(site.instance) == []
        for name in NAMES:
            site.drop(name)
        daemon.until(lambda: materializations(site.instance, QUALITY) == NAMES, "two fields measured")
        daemon.look_again(site.instance, OF_FIELDS)
        assert site.made() == dict.fromkeys(FIELD_ASSETS, NAMES), "each once"
        assert sorted(site.fields_run()) == NAMES

        with fits.open(site.storage / "fields" / "b" / "r.fits", mode="update") as opened:
            opened["MSK"].data[40, 40] |= 1
        daemon.until(lambda: materializations(site.instance, QUALITY) == ["a", "b", "b"], "one of them once more")
        daemon.look_again(site.instance, OF_FIELDS)
    assert site.made() == {noun: ["a", "b", "b"] for noun in FIELD_ASSETS}
    assert site.fields_run()[2:] == ["b"]
    assert evaluations(site.instance, QUALITY).keys() == set(NAMES)
    for name in NAMES:
        page = site.storage / "mine" / "fields" / name / "quality.html"
        assert page.read_text(encoding="utf-8").count("data:image/png;base64,") >= 10
