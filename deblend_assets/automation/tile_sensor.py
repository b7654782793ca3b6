"""The sensor that registers new tiles from the user's list and, if the profile says so, from the archive's table.

The conditions in `conditions` then request their assets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from deblend_assets.automation.conditions import automation_sensor
from deblend_assets.automation.registries import TILE_REGISTRY
from deblend_assets.automation.ticks import tick_summary
from deblend_assets.errors import DeblendError, SettingsError
from deblend_assets.partitions import TILES
from deblend_assets.science.des.queries import tiles_query
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.settings import Profile, StorePath
from deblend_assets.stores.files import read_bytes
from deblend_assets.stores.project import ProjectStore

NEW_TILES_SENSOR = "new_tiles"
TILE_AUTOMATION = "des_automation"
LOOK_SECONDS = 60
ARCHIVE_SECONDS = 3600.0
# A sensor that takes longer than a minute (DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS) is ended and its cursor is lost.
_SHORT_WAITS = {"attempts": 2, "timeout_s": 10.0, "job_timeout_s": 30.0}


@dataclass
class SensorMemory:
    """What the sensor's cursor holds between two ticks.

    Attributes:
        asked: Unix time [s] of the last query to the archive, successful or not.
        found: tiles of the archive that are not registered yet.
    """

    asked: float = 0.0
    found: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, cursor: str | None) -> SensorMemory:
        """The content of a cursor; empty where another version wrote it."""
        try:
            content = json.loads(cursor or "{}")
            return cls(float(content["asked"]), [str(name) for name in content["found"]])
        except (ValueError, TypeError, KeyError):
            return cls()

    @property
    def cursor(self) -> str:
        return json.dumps(asdict(self))


def list_file(profile: Profile, folder: StorePath) -> StorePath:
    """The user's list of tiles.

    Args:
        profile: may name it (a relative path starts where Dagster was started).
        folder: the profile's, where `tiles.txt` lies otherwise.
    """
    named = profile.des.tiles.list_file
    return Path(named).expanduser() if named else folder / "tiles.txt"


def read_list(path: StorePath) -> list[tuple[str, str]]:
    """The entries of a list of tiles: plain text, one tile a line, `#` starts a comment.

    Returns:
        For each entry where it stands ("<path> line <number>") and its text, unchecked. Empty if there is no such file.

    Raises:
        SettingsError: the file cannot be read or is not text.
    """
    try:
        lines = read_bytes(path).decode().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot be read ({error})", where=str(path), remedy="write one tile a line, as plain text"
        ) from error
    entries = [(f"{path} line {number}", line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1)]
    return [(where, text) for where, text in entries if text]


def ask_archive(archive: Any, store: ProjectStore, log: Callable[[str], None]) -> list[tuple[str, str]]:
    """The tiles in the archive's table, in the form of `read_list`; ArchiveError where it does not answer.

    Args:
        archive: the resource `archive`.
        store: of a profile, which names the tables and limits the wait.
        log: takes a line for each retry.
    """
    settings = store.profile.des.archive
    with archive.client(store, log) as client:
        # A cached answer would never hold a new tile.
        rows = client.query(tiles_query(settings), "the table of tiles", fresh=True)
    return [(settings.tile_table, str(name)) for name in rows["tilename"]]


def tiles_among(entries: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """The entries that are names of tiles, in their order, and one line about each of the others."""
    names, problems = [], []
    for where, text in entries:
        try:
            names.append(tile_name(text))
        except SettingsError as error:
            problems.append(f"{where}: {error.what}")
    return names, problems


def build_sensors(profile: Profile, tile_assets: Collection[dg.AssetKey]) -> Sequence[dg.SensorDefinition]:
    """The sensor that registers tiles and the one that requests their assets.

    Args:
        profile: whose tiles.
        tile_assets: keys of the assets with a partition a tile.
    """
    settings = profile.des.tiles
    quick = _with_short_waits(profile)

    @dg.sensor(
        name=NEW_TILES_SENSOR,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"storage", "archive"} if settings.watch_archive else {"storage"},
        description="Registers new tiles from the user's list and, if the profile says so, from the archive's table.",
    )
    def new_tiles(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        store = context.resources.storage.open(quick)
        memory = SensorMemory.of(context.cursor)
        listed: list[str] = []
        problems: list[str] = []
        try:
            listed, problems = tiles_among(read_list(list_file(profile, store.folder)))
        except SettingsError as error:
            problems.append(str(error))
        if settings.watch_archive and time.time() - memory.asked >= ARCHIVE_SECONDS:
            memory.asked = time.time()
            try:
                answer = ask_archive(context.resources.archive, store, context.log.info)
                memory.found, strange = tiles_among(answer)
                problems += strange
            except DeblendError as error:
                problems.append(str(error))
        try:
            known = {*TILE_REGISTRY.registered(context.instance), *TILE_REGISTRY.retired(store.folder)}
        except DeblendError as error:  # without the list of retired tiles, one of them could be registered again
            return dg.SensorResult(skip_reason=str(error), cursor=memory.cursor)
        new = [name for name in dict.fromkeys([*listed, *memory.found]) if name not in known]
        taken = new[: settings.new_tiles_per_tick]
        memory.found = [name for name in memory.found if name in new[len(taken) :]]
        return dg.SensorResult(
            skip_reason=tick_summary("tile", taken, len(new) - len(taken), problems),
            dynamic_partitions_requests=[TILES.build_add_request(taken)] if taken else [],
            cursor=memory.cursor,
        )

    return [new_tiles, automation_sensor(TILE_AUTOMATION, "tile", tile_assets)]


def _with_short_waits(profile: Profile) -> Profile:
    """The profile with shorter waits for the archive."""
    archive = profile.des.archive
    shorter = {key: min(limit, getattr(archive, key)) for key, limit in _SHORT_WAITS.items()}
    des = profile.des.model_copy(update={"archive": archive.model_copy(update=shorter)})
    return profile.model_copy(update={"des": des})
