"""The sensor of new tiles, look by look, on a real instance; the archive is a stand-in that counts and fails."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from assets_tests.automation.stand_ins import Storage
from deblend_assets.assets.keys import TILE_ASSETS
from deblend_assets.automation.registries import TILE_REGISTRY
from deblend_assets.automation.tile_sensor import NEW_TILES_SENSOR, TILE_AUTOMATION, build_sensors
from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.queries import tiles_query
from deblend_assets.settings import Profile
from deblend_assets.stores.project import ProjectStore

A, B, C, D = "DES0433-5331", "DES0000+0015", "DES2359-6000", "DES0436-5748"


class Archive:
    """Names tiles, or fails."""

    def __init__(self, *names: str) -> None:
        self.names, self.queries = list(names), list[str]()
        self.error: Exception | None = None

    @contextlib.contextmanager
    def client(self, store: ProjectStore, log: Callable[[str], None]) -> Iterator[Archive]:
        settings = store.profile.des.archive
        assert settings.job_timeout_s + settings.attempts * settings.timeout_s < 60, "Dagster gives a sensor a minute"
        yield self

    def query(self, adql: str, what: str, *, fresh: bool) -> pd.DataFrame:
        assert fresh, "a kept answer never names a new tile"
        self.queries.append(adql)
        if self.error:
            raise self.error
        return pd.DataFrame({"tilename": self.names})


class Sensor:
    """`new_tiles` with its cursor; what it requests is done, as the daemon does it."""

    def __init__(
        self, profile: Profile, instance: dg.DagsterInstance, storage: Storage, archive: Archive | None = None
    ) -> None:
        self.folder = Path(storage.root) / profile.name
        self.folder.mkdir(exist_ok=True)
        self.list = self.folder / "tiles.txt"
        self.instance = instance
        self.cursor: str | None = None
        self.reason: str | None = ""
        self._resources = {"storage": storage} | ({"archive": archive} if archive else {})
        self._sensor = build_sensors(profile, TILE_ASSETS.values())[0]

    def look(self) -> list[str]:
        """The tiles registered by one look."""
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, resources=self._resources)
        evaluated = self._sensor.evaluate_tick(context)
        self.cursor, self.reason = evaluated.cursor, evaluated.skip_message
        keys = [key for request in evaluated.dynamic_partitions_requests for key in request.partition_keys]
        if keys:
            self.instance.add_dynamic_partitions("des_tile", keys)
        return keys

    def let_an_hour_pass(self) -> None:
        memory = json.loads(self.cursor)
        self.cursor = json.dumps({**memory, "asked": memory["asked"] - 3601})


def with_tiles(profile: Profile, **tiles: object) -> Profile:
    des = profile.des.model_copy(update={"tiles": profile.des.tiles.model_copy(update=tiles)})
    return profile.model_copy(update={"des": des})


@pytest.fixture
def sensor(profile: Profile, instance: dg.DagsterInstance, storage: Storage) -> Sensor:
    return Sensor(profile, instance, storage)


def test_both_sensors_run_by_default(profile: Profile) -> None:
    sensors = build_sensors(profile, TILE_ASSETS.values())
    assert [sensor.name for sensor in sensors] == [NEW_TILES_SENSOR, TILE_AUTOMATION]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.RUNNING}
    assert sensors[0].required_resource_keys == {"storage"}, "an archive that nobody watches need not be there"


def test_tiles_of_the_list_are_registered_once(sensor: Sensor) -> None:
    assert sensor.look() == [], "no list"
    assert sensor.reason == "no new tile"
    sensor.list.write_text(f"# mine\n\n{A}   # the first\r\n  {B}\n{A}\n")
    assert sensor.look() == [A, B]
    assert sensor.reason == f"registered {A}, {B}"
    assert sensor.look() == []
    sensor.list.write_text(f"{A}\n{B}\n{C}\n")
    assert sensor.look() == [C]


def test_a_bad_line_is_named_and_the_others_count(sensor: Sensor) -> None:
    sensor.list.write_text(f"{A}\n../../etc\n{B}\nDES9900+0000 # no such hour\n")
    assert sensor.look() == [A, B]
    assert f"{sensor.list} line 2: '../../etc' is not a tile's name" in sensor.reason
    assert f"{sensor.list} line 4: 'DES9900+0000'" in sensor.reason
    sensor.list.write_text("nonsense\n" * 50)
    assert sensor.look() == []
    assert sensor.reason.endswith("line 5: 'nonsense' is not a tile's name; and 45 more problems")


@pytest.mark.parametrize("damage", ["bytes", "folder"])
def test_a_list_that_cannot_be_read_is_one_line(sensor: Sensor, damage: str) -> None:
    sensor.list.mkdir() if damage == "folder" else sensor.list.write_bytes(b"\xff\xfe\x00DES")
    assert sensor.look() == []
    assert str(sensor.list) in sensor.reason
    assert "\n" not in sensor.reason


def test_a_look_registers_no_more_than_the_profile_says(
    profile: Profile, instance: dg.DagsterInstance, storage: Storage
) -> None:
    sensor = Sensor(with_tiles(profile, new_tiles_per_tick=2), instance, storage)
    sensor.list.write_text("\n".join([A, B, C, D]))
    assert sensor.look() == [A, B]
    assert sensor.reason == f"registered {A}, {B}; 2 more at the next ticks"
    assert sensor.look() == [C, D]


def test_a_retired_tile_does_not_come_back_until_it_is_added(sensor: Sensor, instance: dg.DagsterInstance) -> None:
    sensor.list.write_text(f"{A}\n{B}\n")
    sensor.look()
    TILE_REGISTRY.retire(instance, sensor.folder, [A])
    assert sensor.look() == []
    TILE_REGISTRY.add(instance, sensor.folder, [A])
    assert TILE_REGISTRY.registered(instance) == [B, A]
    (sensor.folder / "tiles" / "retired.json").write_text("damaged")
    sensor.list.write_text(C)
    assert sensor.look() == []
    assert "retired.json" in sensor.reason, "which tiles are retired is not known"


def test_another_list_may_be_named(
    profile: Profile, instance: dg.DagsterInstance, storage: Storage, tmp_path: Path
) -> None:
    sensor = Sensor(with_tiles(profile, list_file=str(tmp_path / "mine")), instance, storage)
    (tmp_path / "mine").write_text(A)
    sensor.list.write_text(B)
    assert sensor.look() == [A]


@pytest.fixture
def archive() -> Archive:
    return Archive(A, B, C, "unnamed")


@pytest.fixture
def watching(profile: Profile, instance: dg.DagsterInstance, storage: Storage, archive: Archive) -> Sensor:
    return Sensor(with_tiles(profile, watch_archive=True, new_tiles_per_tick=2), instance, storage, archive)


def test_the_archive_is_asked_once_an_hour_and_what_it_named_is_remembered(
    watching: Sensor, archive: Archive, profile: Profile
) -> None:
    assert watching.look() == [A, B]
    assert "des_dr1.tile_info: 'unnamed' is not a tile's name" in watching.reason
    archive.names = [D]
    assert watching.look() == [C], "remembered"
    assert watching.look() == []
    assert archive.queries == [tiles_query(profile.des.archive)]
    watching.let_an_hour_pass()
    assert watching.look() == [D]
    assert len(archive.queries) == 2
    assert json.loads(watching.cursor)["found"] == []
    assert abs(json.loads(watching.cursor)["asked"] - time.time()) < 60


def test_a_failing_archive_is_one_line_and_the_list_still_counts(watching: Sensor, archive: Archive) -> None:
    archive.error = ArchiveError("refused", where="http://x", remedy="wait")
    watching.list.write_text(D)
    assert watching.look() == [D]
    assert watching.reason == f"registered {D}; refused [http://x]: wait"
    archive.error = None
    assert watching.look() == [], "asked in vain counts as asked"
    watching.let_an_hour_pass()
    assert watching.look() == [A, B]


@pytest.mark.parametrize("cursor", ["", "{}", "[]", "nonsense", '{"asked": "x", "found": []}'])
def test_a_cursor_of_another_version_begins_anew(watching: Sensor, cursor: str) -> None:
    watching.cursor = cursor
    assert watching.look() == [A, B]
