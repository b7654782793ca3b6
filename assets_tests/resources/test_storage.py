"""The storage resource: a profile's own folder, and the tag that recovery reads."""

from pathlib import Path

import dagster as dg

from deblend_assets.resources.machine import MACHINE_TAG, machine_name
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile


def test_a_profile_has_its_own_folder(profile: Profile, tmp_path: Path) -> None:
    other = profile.model_copy(update={"name": "other"})
    assert Storage(root=str(tmp_path)).open(profile).folder == tmp_path / "smoke"
    assert Storage(root=str(tmp_path)).open(other).folder == tmp_path / "other"


def test_every_run_says_which_machine_it_is_on(tmp_path: Path) -> None:
    @dg.asset
    def stored(storage: Storage) -> None:
        assert storage.root == str(tmp_path)

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([stored], instance=instance, resources={"storage": Storage(root=str(tmp_path))})
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert run.tags[MACHINE_TAG] == machine_name()
