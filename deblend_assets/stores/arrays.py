"""The simulated arrays: three sharded Zarr arrays, truth tables, and a marker that vouches for each shard.

    <folder>/simulation.json            what this simulation is, for a person to read
    <folder>/arrays.zarr/{isolated,noisy,blended}
    <folder>/truth/train_000.parquet    one row a galaxy
    <folder>/_done/train_000.json       written last: checksums of the shard's four files

A partition is exactly one Zarr shard of each array, so that two writers never touch one file. Only marked shards are
read, and reading compares checksums.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.science.simulation.rendering import RenderedScenes, ShardRenderer
from deblend_assets.science.simulation.scene_truth import TRUTH_COLUMNS
from deblend_assets.science.simulation.scenes import Shard, all_shards
from deblend_assets.science.stamps.columns import per_band
from deblend_assets.settings import SimulationSettings, StorePath, fingerprint
from deblend_assets.stores.files import (
    each,
    exclusive_lock,
    is_file,
    read_bytes,
    read_checked,
    read_json,
    remove,
    require_space,
    sha256,
    to_json,
    write_atomic,
)
from deblend_assets.stores.tables import from_parquet, to_parquet
from deblend_assets.stores.zarr_files import ZarrFiles

ARRAYS = ("isolated", "noisy", "blended")
ASSET = "the simulated shard"
TRUTH_NOTE = (
    "One row a galaxy of a simulated scene, the target first. e1, e2: distortion (a^2-b^2)/(a^2+b^2), observed, "
    "PSF-convolved; g1, g2: shear-type (a-b)/(a+b), intrinsic. Axes: x with the column, y with the row; angles from "
    "+x towards +y. Fluxes in electrons of the whole exposure."
)
_MEANING = {
    "isolated": "target alone, no noise",
    "noisy": "target alone, photon noise of target and sky",
    "blended": "target and neighbours, photon noise of all and sky",
}


class SimulatedArrays:
    """One simulation on disk.

    Args:
        folder: of the simulation, named by its fingerprint.
        settings: shapes and shards.
        attributes: survey attributes for the arrays, `bands` among them.
        identity: what the fingerprint was made from, written to `simulation.json`.
    """

    def __init__(
        self, folder: StorePath, settings: SimulationSettings, attributes: dict[str, Any], identity: dict[str, Any]
    ) -> None:
        self.folder, self.settings, self.attributes, self.identity = folder, settings, attributes, identity
        self.bands: tuple[str, ...] = tuple(attributes["bands"])
        self._layouts: dict[str, bytes] = {}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(scene, band, y, x) of each array, all splits together."""
        scenes = sum(shard.scenes for shard in all_shards(self.settings))
        return scenes, len(self.bands), self.settings.stamp_pixels, self.settings.stamp_pixels

    @property
    def zarr_path(self) -> StorePath:
        return self.folder / "arrays.zarr"

    def create(self) -> None:
        """Lay out the empty arrays once; later calls, also from other processes, find them there."""
        description = self.folder / "simulation.json"
        if is_file(description):
            return
        files = ZarrFiles()
        group = zarr.create_group(files.store, attributes=self.attributes)
        _, bands, ny, nx = self.shape
        # Inner chunks of some 2.5 MB: a few stamps can be looked at without reading the whole shard.
        chunk = max(d for d in range(1, 51) if self.settings.shard_scenes % d == 0)
        for name in ARRAYS:
            group.create_array(
                name,
                shape=self.shape,
                shards=(self.settings.shard_scenes, bands, ny, nx),
                chunks=(chunk, bands, ny, nx),
                dtype="float32",
                # A scene never written reads as NaN: 0 would look like sky.
                fill_value=np.nan,
                compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
                dimension_names=("scene", "band", "y", "x"),
                attributes={**self.attributes, "description": _MEANING[name]},
            )
        # A layout without its description was interrupted, or another process is making it (the tasks of an array job
        # begin at once): the same bytes are written again, each file whole.
        for name, data in files.items():
            write_atomic(self.zarr_path / name, data)
        write_atomic(description, to_json(self.identity))

    def lock(self, shard: Shard) -> contextlib.AbstractContextManager[None]:
        """Hold a shard while it is rendered; BusyError where another run holds it."""
        return exclusive_lock(self.folder / "_locks" / f"{shard.key}.lock", f"shard {shard.key}")

    def _marker(self, shard: Shard) -> StorePath:
        return self.folder / "_done" / f"{shard.key}.json"

    def _truth_path(self, shard: Shard) -> StorePath:
        return self.folder / "truth" / f"{shard.key}.parquet"

    def _chunk_key(self, shard: Shard) -> str:
        return f"c/{shard.start // self.settings.shard_scenes}/0/0/0"

    def _layout(self, name: str) -> bytes:
        """`zarr.json` of an array."""
        path = self.zarr_path / name / "zarr.json"
        try:
            return self._layouts.get(name) or self._layouts.setdefault(name, read_bytes(path))
        except FileNotFoundError as error:
            raise CorruptDataError(
                "is missing",
                where=str(path),
                remedy=f"delete {self.folder} and materialise the simulated assets again",
            ) from error

    def _shard_files(self, name: str, shard: Shard, data: bytes | None) -> ZarrFiles:
        """The files of an array in memory: its layout and, where `data` is given, one shard."""
        known = {} if data is None else {self._chunk_key(shard): data}
        return ZarrFiles({"zarr.json": self._layout(name), **known})

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard's marker is there and its files agree with it."""
        try:
            self.verify(shard)
        except (MissingDataError, CorruptDataError):
            return False
        return True

    def marker(self, shard: Shard) -> dict[str, Any]:
        """The marker of a shard.

        Raises:
            MissingDataError: it was never finished.
            CorruptDataError: the marker is not one.
        """
        try:
            marker = read_json(self._marker(shard))
        except MissingDataError as error:
            raise MissingDataError(
                f"shard {shard.key} is not finished",
                where=str(self.folder),
                remedy=f"materialise the simulated assets for partition {shard.key}",
            ) from error
        sums = marker.get("sha256") if isinstance(marker, dict) else None
        if not isinstance(sums, dict) or sums.keys() != {*ARRAYS, "truth"}:
            raise CorruptDataError(
                f"is not the marker of shard {shard.key}",
                where=str(self._marker(shard)),
                remedy=f"materialise the simulated assets for partition {shard.key} again",
            )
        return marker

    def verify(self, shard: Shard, names: Sequence[str] = (*ARRAYS, "truth")) -> None:
        """Compare files of a shard with its marker.

        Raises:
            MissingDataError: the shard was never finished.
            CorruptDataError: a file is missing, cut off or changed.
        """
        marker = self.marker(shard)
        for name in names:
            self._read_file(name, shard, marker)

    def _path(self, name: str, shard: Shard) -> StorePath:
        return self._truth_path(shard) if name == "truth" else self.zarr_path / name / self._chunk_key(shard)

    def _read_file(self, name: str, shard: Shard, marker: dict[str, Any]) -> bytes:
        """The bytes that the marker vouches for; errors as `verify`."""
        path = self._path(name, shard)
        data = read_checked(path, marker["sha256"][name])
        if data is None:
            raise CorruptDataError(
                f"{name} of shard {shard.key} is not what was written (checksum differs)",
                where=str(path),
                remedy=f"materialise the simulated assets for partition {shard.key} again",
            )
        return data

    def require_space(self, shards: int) -> None:
        """StorageError where `shards` shards may not fit on the disk; an object store is not checked."""
        _, bands, ny, nx = self.shape
        needed = shards * self.settings.shard_scenes * bands * ny * nx * 4 * len(ARRAYS)
        require_space(self.folder, needed, f"{shards} shards")

    def write(self, shard: Shard, scenes: RenderedScenes, info: dict[str, Any]) -> dict[str, Any]:
        """Store a whole shard and vouch for it; call inside `lock(shard)`.

        Args:
            shard: which.
            scenes: all of its scenes, in order.
            info: kept in the marker (versions, seconds).

        Returns:
            The marker.
        """
        if len(scenes.isolated) != shard.scenes:
            raise ValueError(f"shard {shard.key} has {shard.scenes} scenes, not {len(scenes.isolated)}")
        remove(self._marker(shard))
        checksums = {}
        for name in (*ARRAYS, "truth"):
            data = self._encode(name, shard, scenes)
            write_atomic(self._path(name, shard), data)
            checksums[name] = sha256(data)
        marker = {**info, "shard": shard.key, "rows": len(scenes.truth), "sha256": checksums}
        write_atomic(self._marker(shard), to_json(marker))
        return marker

    def writer(self, info: dict[str, Any]) -> Callable[[ShardRenderer, Shard], None]:
        """A function that renders and stores a shard in another process that sees this folder; lock the shard here."""
        for name in ARRAYS:  # read once here, not for every shard there
            self._layout(name)
        return functools.partial(self._render, info)

    def _render(self, info: dict[str, Any], renderer: ShardRenderer, shard: Shard) -> None:
        self.write(shard, renderer.render_whole(shard), info)

    def _encode(self, name: str, shard: Shard, scenes: RenderedScenes) -> bytes:
        if name == "truth":
            return to_parquet(scenes.truth, truth_columns(self.bands), TRUTH_NOTE)
        files = self._shard_files(name, shard, None)
        zarr.open_array(files.store, mode="r+")[shard.rows] = getattr(scenes, name)
        return files[self._chunk_key(shard)]

    def read(self, name: str, shard: Shard) -> np.ndarray:
        """One array of one verified shard: (scene, band, y, x) float32 [electron]."""
        files = self._shard_files(name, shard, self._read_file(name, shard, self.marker(shard)))
        return np.asarray(zarr.open_array(files.store, mode="r")[shard.rows])

    def read_truth(self, shards: Sequence[Shard]) -> pd.DataFrame:
        """Truth of verified shards, one row a galaxy."""

        def table(shard: Shard) -> pd.DataFrame:
            data = self._read_file("truth", shard, self.marker(shard))
            return from_parquet(data, where=str(self._truth_path(shard)), asset=ASSET)

        return pd.concat(each(table, shards, self.folder), ignore_index=True)

    def targets(self, shards: Sequence[Shard]) -> pd.DataFrame:
        """Truth of the targets alone, one row a scene, in array order."""
        truth = self.read_truth(shards)
        return truth[truth["member"] == 0].reset_index(drop=True)

    def shards(self, split: str) -> list[Shard]:
        return [shard for shard in all_shards(self.settings) if shard.split == split]

    def fingerprint_of(self, shards: Sequence[Shard]) -> str:
        """Changes when any byte written for these shards does; MissingDataError where one is not finished."""
        return fingerprint([marker["sha256"] for marker in each(self.marker, shards, self.folder)])


def truth_columns(bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """TRUTH_COLUMNS with one column a band."""
    return per_band(TRUTH_COLUMNS, bands)
