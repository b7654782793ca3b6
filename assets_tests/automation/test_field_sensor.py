"""The sensor of fields, look by look, on a real instance: which files it registers, and which it requests again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.automation.stand_ins import IMAGES, MODEL, Storage, stand_in_assets, stand_in_definitions
from assets_tests.dagster_internals import partition_loading_context
from deblend_assets.assets.keys import FIELD_ASSETS
from deblend_assets.automation import field_sensor
from deblend_assets.automation.field_sensor import FIELD_AUTOMATION, FIRST, NEW_FIELDS_SENSOR, build_field_sensors
from deblend_assets.automation.registries import FIELD_REGISTRY
from deblend_assets.partitions import FIELDS
from deblend_assets.settings import FieldsSettings, Profile
from deblend_assets.steps.fields.inputs import glance_at
from deblend_assets.stores.fields import FieldsStore

ALL = frozenset(FIELD_ASSETS.values())
LONG_AGO = time.time() - 3600


def write_field(folder: Path, name: str, text: str = "") -> Path:
    """A field.toml, an image and a mask that nothing here opens; all an hour old."""
    folder.mkdir(parents=True, exist_ok=True)
    for named in (f"{name}.fits", f"{name}_mask.fits"):
        (folder / named).write_text(name)
    path = folder / f"{name}.toml"
    path.write_text(f'{text}\n[bands.r]\nimage = "{name}.fits"\nbmask = "{name}_mask.fits"\n')
    for file in (path, folder / f"{name}.fits", folder / f"{name}_mask.fits"):
        os.utime(file, (LONG_AGO, LONG_AGO))
    return path


class Sensor:
    """`new_fields` with its cursor; what it registers is registered, as the daemon does it."""

    def __init__(self, profile: Profile, instance: dg.DagsterInstance, storage: Storage, **settings: object) -> None:
        profile = profile.model_copy(update={"fields": FieldsSettings(**settings)})
        self.store = FieldsStore(storage.open(profile))
        self.folder = self.store.watched
        self.instance, self.storage = instance, storage
        self.cursor: str | None = None
        self.reason: str | None = ""
        self._definitions = stand_in_definitions(profile, storage)
        self._sensor = build_field_sensors(profile, FIELD_ASSETS.values())[0]

    def look(self) -> list[str]:
        """The fields registered by one look."""
        return self.both()[0]

    def both(self) -> tuple[list[str], dict[str, dg.RunRequest]]:
        """The fields registered, and the runs requested by field."""
        context = dg.build_sensor_context(
            self.instance,
            cursor=self.cursor,
            resources={"storage": self.storage},
            repository_def=self._definitions.get_repository_def(),
        )
        with partition_loading_context(dynamic_partitions_store=self.instance):  # as the daemon does
            evaluated = self._sensor.evaluate_tick(context)
        self.cursor, self.reason = evaluated.cursor, evaluated.skip_message
        keys = [key for request in evaluated.dynamic_partitions_requests for key in request.partition_keys]
        if keys:
            self.instance.add_dynamic_partitions(str(FIELDS.name), keys)
        return keys, {str(request.partition_key): request for request in evaluated.run_requests}

    def checked(self, *names: str) -> None:
        """The files of fields are checked, as `field_images` does it."""
        for name in names:
            field = self.store.field(name)
            field.attempt = glance_at(field.source).signature


@pytest.fixture
def sensor(profile: Profile, instance: dg.DagsterInstance, storage: Storage) -> Sensor:
    return Sensor(profile, instance, storage)


def test_both_sensors_run_by_default(profile: Profile) -> None:
    sensors = build_field_sensors(profile, FIELD_ASSETS.values())
    assert [sensor.name for sensor in sensors] == [NEW_FIELDS_SENSOR, FIELD_AUTOMATION]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.RUNNING}


def test_fields_of_the_folder_are_registered_once_with_their_files(sensor: Sensor) -> None:
    assert sensor.look() == [], "no folder"
    assert sensor.reason == "no new field"
    path = write_field(sensor.folder, "a")
    write_field(sensor.folder, "file", 'name = "b"')
    assert sensor.look() == ["a", "b"]
    assert sensor.reason == "registered a, b"
    assert sensor.store.field("a").source == path
    assert sensor.store.field("b").source == sensor.folder / "file.toml"
    assert sensor.look() == []
    assert FIELD_REGISTRY.registered(sensor.instance) == ["a", "b"]


def test_what_is_no_field_is_named_and_the_others_count(sensor: Sensor) -> None:
    write_field(sensor.folder, "a")
    write_field(sensor.folder, "c", 'name = "../../etc"')
    write_field(sensor.folder, "d", 'name = "a"')
    (sensor.folder / "e.toml").write_text("bands = ")
    (sensor.folder / "f.toml").write_text('[bands.r]\nimage = "x"\nmaks = "y"')
    assert sensor.look() == ["a"]
    assert sensor.reason is not None
    for words in (
        "c.toml: '../../etc' cannot be the name of a field",
        "d.toml: a is the name of a.toml too",
        "e.toml: is not TOML (",
        "f.toml: bands.r.maks: is not a known key",
    ):
        assert words in sensor.reason
    assert sensor.look() == []
    assert f"d.toml: a is the name of {sensor.folder / 'a.toml'} too" in str(sensor.reason), "and of a registered one"


def test_a_wrong_file_is_read_again_once_it_is_mended(sensor: Sensor) -> None:
    write_field(sensor.folder, "a", "[detection")
    assert sensor.look() == []
    (sensor.folder / "a.toml").write_text('[bands.r]\nimage = "a.fits"')
    assert sensor.look() == ["a"]


def test_many_fields_are_registered_some_at_a_time(
    profile: Profile, instance: dg.DagsterInstance, storage: Storage
) -> None:
    sensor = Sensor(profile, instance, storage, fields_per_tick=2)
    for name in "abc":
        write_field(sensor.folder, name)
    assert sensor.look() == ["a", "b"]
    assert sensor.reason == "registered a, b; 1 more at the next ticks"
    assert sensor.look() == ["c"]


def test_a_retired_field_stays_retired(sensor: Sensor) -> None:
    write_field(sensor.folder, "a")
    sensor.look()
    FIELD_REGISTRY.retire(sensor.instance, sensor.store.project.folder, ["a"])
    assert sensor.look() == []
    assert FIELD_REGISTRY.retired(sensor.store.project.folder) == {"a"}


def test_another_folder_is_watched_where_the_profile_names_it(
    profile: Profile, instance: dg.DagsterInstance, storage: Storage, tmp_path: Path
) -> None:
    sensor = Sensor(profile, instance, storage, folder=str(tmp_path / "mine"))
    write_field(tmp_path / "mine", "a")
    assert sensor.look() == ["a"]


def test_a_changed_mask_requests_its_field_and_no_other(sensor: Sensor) -> None:
    for name in ("a", "b"):
        write_field(sensor.folder, name)
    sensor.look()
    assert sensor.both() == ([], {}), "not checked yet: the conditions request them"
    sensor.checked("a", "b")
    assert sensor.both() == ([], {})
    mask = sensor.folder / "a_mask.fits"
    mask.write_text("another")
    os.utime(mask, (LONG_AGO + 60, LONG_AGO + 60))
    _, requested = sensor.both()
    assert requested.keys() == {"a"}
    assert requested["a"].asset_selection is not None
    assert set(requested["a"].asset_selection) == ALL
    assert requested["a"].run_key == f"a:{glance_at(sensor.folder / 'a.toml').signature}"
    assert sensor.both()[1]["a"].run_key == requested["a"].run_key, "Dagster starts a run key once"
    sensor.checked("a")
    assert sensor.both() == ([], {})


def test_a_file_that_comes_or_goes_is_a_change(sensor: Sensor) -> None:
    write_field(sensor.folder, "a")
    (sensor.folder / "a_mask.fits").unlink()
    sensor.look()
    sensor.checked("a")
    write_field(sensor.folder, "a")
    assert sensor.both()[1].keys() == {"a"}
    sensor.checked("a")
    (sensor.folder / "a.fits").unlink()
    assert sensor.both()[1].keys() == {"a"}


def test_a_file_that_is_being_written_is_left_until_it_rests(sensor: Sensor) -> None:
    write_field(sensor.folder, "a")
    sensor.look()
    sensor.checked("a")
    mask = sensor.folder / "a_mask.fits"
    mask.write_text("half of it")
    assert sensor.both() == ([], {})
    rested = time.time() - field_sensor.SETTLED_SECONDS - 1
    os.utime(mask, (rested, rested))
    assert sensor.both()[1].keys() == {"a"}


def test_a_field_with_a_run_under_way_is_left_alone(sensor: Sensor) -> None:
    write_field(sensor.folder, "a")
    sensor.look()
    sensor.checked("a")
    (sensor.folder / "a.fits").unlink()

    @dg.job
    def nothing() -> None:
        """A job whose run is fabricated."""

    run = sensor.instance.create_run_for_job(
        nothing, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "a"}
    )
    assert sensor.both() == ([], {})
    sensor.instance.report_run_canceled(run)
    assert sensor.both()[1].keys() == {"a"}


def test_what_the_time_does_not_suffice_for_comes_at_the_next_looks(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_field(sensor.folder, name)
    sensor.look()
    sensor.checked("a", "b", "c")
    (sensor.folder / "c.fits").unlink()
    started = time.monotonic()
    clock = iter([started, started, started, started + 60])
    with monkeypatch.context() as patch:
        patch.setattr(field_sensor.time, "monotonic", lambda: next(clock))
        assert sensor.both() == ([], {})
    assert sensor.cursor == "c"
    assert sensor.both()[1].keys() == {"c"}
    assert sensor.cursor == FIRST


def test_a_field_of_a_bad_name_that_the_ui_took_disturbs_nothing(sensor: Sensor) -> None:
    write_field(sensor.folder, "a")
    sensor.instance.add_dynamic_partitions(str(FIELDS.name), ["../../etc", "without a file"])
    assert sensor.both() == (["a"], {})
    assert sensor.both() == ([], {})


def test_a_new_field_is_requested_whole_and_once_and_no_new_model_requests_it(storage: Storage) -> None:
    instance = dg.DagsterInstance.ephemeral()
    assets = stand_in_assets()
    definitions = dg.Definitions(assets=assets, resources={"storage": storage})
    cursor = None

    def tick() -> set[tuple[str, dg.AssetKey]]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        cursor = result.cursor
        return {(name, key) for key in ALL for name in result.get_requested_partitions(key)}

    def make(*keys: dg.AssetKey, field: str | None = None) -> None:
        dg.materialize(
            assets, selection=list(keys), partition_key=field, instance=instance, resources={"storage": storage}
        )

    instance.add_dynamic_partitions(str(FIELDS.name), ["a"])
    assert tick() == {("a", key) for key in ALL}, "where no model is trained the shipped one measures"
    make(*ALL, field="a")
    assert [tick(), tick()] == [set(), set()]
    make(MODEL)
    assert [tick(), tick()] == [set(), set()]
    make(IMAGES, field="a")
    assert tick() == {("a", key) for key in ALL - {IMAGES}}


@pytest.mark.slow
def test_a_look_at_two_thousand_fields_is_short(sensor: Sensor) -> None:
    """Dagster ends a look after a minute."""
    names = [f"field_{number:04d}" for number in range(2000)]
    for name in names:
        sensor.store.field(name).source = write_field(sensor.folder, name)
    sensor.instance.add_dynamic_partitions(str(FIELDS.name), names)
    sensor.checked(*names)
    times = []
    for _ in range(2):
        started = time.monotonic()
        assert sensor.both() == ([], {})
        times.append(time.monotonic() - started)
        assert sensor.cursor == FIRST
    (sensor.folder / "field_1234.fits").unlink()
    started = time.monotonic()
    assert sensor.both()[1].keys() == {"field_1234"}
    times.append(time.monotonic() - started)
    print("seconds a look at 2,000 fields:", [round(seconds, 2) for seconds in times])
    assert max(times) < 30
