"""The sensor that registers fields from the watched folder, and requests those again whose files have changed.

The conditions in `conditions` request the assets of a field that is new. For a changed file this sensor does, since
Dagster does not see files. Each look takes a bounded time: what is left comes at the next.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import dagster as dg

from deblend_assets.automation.conditions import automation_sensor
from deblend_assets.automation.registries import FIELD_REGISTRY
from deblend_assets.automation.ticks import tick_summary
from deblend_assets.errors import DeblendError
from deblend_assets.partitions import FIELDS
from deblend_assets.settings import Profile
from deblend_assets.stores.fields import FieldsStore, field_name

NEW_FIELDS_SENSOR = "new_fields"
FIELD_AUTOMATION = "fields_automation"
LOOK_SECONDS = 60
# A sensor that takes longer than a minute is ended by Dagster.
BUDGET_SECONDS = 15.0
# A file that changed so recently may still be written [s].
SETTLED_SECONDS = 10.0
# A cursor that is no name; Dagster keeps the last one where it is given an empty one.
FIRST = "."


def build_field_sensors(profile: Profile, field_assets: Collection[dg.AssetKey]) -> Sequence[dg.SensorDefinition]:
    """The sensor of the files and the one that requests what is missing.

    Args:
        profile: whose fields.
        field_assets: keys of the assets with a partition a field.
    """
    assets = list(field_assets)

    @dg.sensor(
        name=NEW_FIELDS_SENSOR,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"storage"},
        job=dg.define_asset_job(
            "remake_fields", dg.AssetSelection.assets(*assets), description="Everything of fields whose files changed."
        ),
        description="Registers the fields of the watched folder, and requests those again whose files have changed.",
    )
    def new_fields(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        fields = FieldsStore(context.resources.storage.open(profile))
        look = FieldLook(fields, context.instance)
        try:
            taken, left, problems = look.new(profile.fields.fields_per_tick)
        except DeblendError as error:  # without the list of retired fields, one of them could be registered again
            return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
        changed, cursor = look.changed(context.cursor, profile.fields.fields_per_tick - len(taken))
        requests = [
            dg.RunRequest(run_key=f"{name}:{signature}", partition_key=name, asset_selection=assets)
            for name, signature in changed
        ]
        summary = tick_summary("field", taken, left, problems)
        if requests:
            context.log.info(f"{summary}; files changed of {', '.join(name for name, _ in changed)}")
        return dg.SensorResult(
            run_requests=requests,
            # Dagster takes a reason only where nothing is requested.
            skip_reason=None if requests else summary,
            dynamic_partitions_requests=[FIELDS.build_add_request(taken)] if taken else [],
            cursor=cursor,
        )

    return [new_fields, automation_sensor(FIELD_AUTOMATION, "field", assets)]


class FieldLook:
    """One look at the fields of a profile, for a bounded time.

    Args:
        fields: on disk.
        instance: where they are registered.
    """

    def __init__(self, fields: FieldsStore, instance: dg.DagsterInstance) -> None:
        self._fields, self._instance = fields, instance
        self._end = time.monotonic() + BUDGET_SECONDS

    def new(self, most: int) -> tuple[list[str], int, list[str]]:
        """Fields of the watched folder that are to be registered.

        Args:
            most: of them.

        Returns:
            Their names, each with its field.toml stored; number of those that wait; a line about each file that is no
            field.

        Raises:
            DeblendError: the list of retired fields cannot be read.
        """
        registered = set(FIELD_REGISTRY.registered(self._instance))
        retired = FIELD_REGISTRY.retired(self._fields.project.folder)
        waiting: dict[str, Path] = {}
        problems = []
        try:
            files = sorted(self._fields.watched.glob("*.toml"))
        except DeblendError as error:
            return [], 0, [str(error)]
        for path in files:
            try:
                name = _name_in(path, path.stat().st_mtime_ns)
            except DeblendError as error:
                problems.append(f"{path.name}: {error.what}")
                continue
            except OSError:  # it was there a moment ago
                continue
            if name in registered:
                problems += self._other(name, path)
            elif name in waiting:
                problems.append(f"{path.name}: {name} is the name of {waiting[name].name} too")
            elif name not in retired:
                waiting[name] = path
        taken = list(waiting)[:most]
        for name in taken:
            self._fields.field(name).source = waiting[name]
        return taken, len(waiting) - len(taken), problems

    def _other(self, name: str, path: Path) -> list[str]:
        """A line where a registered field has another file; where that is gone, this one takes its place."""
        field = self._fields.field(name)
        try:
            source = field.source
        except DeblendError:
            source = None
        if source is None or not source.is_file():
            field.source = path
        elif source != path:
            return [f"{path.name}: {name} is the name of {source} too"]
        return []

    def changed(self, cursor: str | None, most: int) -> tuple[list[tuple[str, str]], str]:
        """Registered fields whose files are not as they were when they were last checked.

        Fields that were never checked have no images yet: the conditions request them.

        Args:
            cursor: of the last look: the name that it ended with; none or FIRST: it came to the end.
            most: of them.

        Returns:
            Names and signatures of the files, and the next cursor.
        """
        # Not at the top: the definitions load this module, and it loads GalSim and astropy.
        from deblend_assets.steps.fields.inputs import glance_at

        under_way = FIELD_REGISTRY.under_way(self._instance)
        found: list[tuple[str, str]] = []
        for name in self._from(cursor):
            if len(found) >= most or time.monotonic() > self._end:
                return found, name
            if name in under_way or not FIELD_REGISTRY.allows(name):
                continue
            field = self._fields.field(name)
            try:
                last, source = field.attempt, field.source
            except DeblendError:
                continue
            if last is None:
                continue
            now = glance_at(source)
            if now.signature != last and not 0 <= time.time() - now.changed < SETTLED_SECONDS:
                found.append((name, now.signature))
        return found, FIRST

    def _from(self, cursor: str | None) -> Iterator[str]:
        """The registered names, from one on to the last."""
        registered = FIELD_REGISTRY.registered(self._instance)
        yield from registered[registered.index(cursor) if cursor in registered else 0 :]


@lru_cache(maxsize=20_000)
def _name_in(path: Path, changed: int) -> str:
    """Name of the field in a file; read again when the file changes."""
    from deblend_assets.stores.field_files import read_field_file

    return field_name(read_field_file(path).name)
