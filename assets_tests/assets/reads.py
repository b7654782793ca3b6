"""What each asset reads from the stores, recorded while it runs, against the dependencies that it declares.

Recorded are reads of what another asset wrote: tables, arrays, statistics, checkpoints, images of the survey. Records
and checksums that only identify inputs (`stores.project`: fingerprints form a chain) are not reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from deblend_assets.assets.keys import SKY, TRAINING_FIELDS
from deblend_assets.resources.storage import Storage
from deblend_assets.stores import checkpoints, fields, project, referee, tiles
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.stores.training_fields import TrainingFieldStore

Reads = dict[str, set[str]]
# Tables of a tile that have no asset of their own.
_WRITTEN_BY = {"des/attrition": "des/im3shape_catalog", "des/truth": "des/im3shape_catalog"}
SIMULATED = ("truth", "isolated", "noisy", "blended")


class _Recorder:
    """Reads by the asset that makes them; the asset is the one that last opened the storage."""

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        self._current: tuple[str, ...] = ()

    def begin(self) -> None:
        keys = dg.AssetExecutionContext.get().selected_asset_keys
        self._current = tuple(key.to_user_string() for key in keys)
        for asset in self._current:
            self.reads.setdefault(asset, set())  # also where nothing is read

    def add(self, what: str) -> None:
        name = what.split(" of ")[0]
        for asset in self._current:
            self.reads.setdefault(asset, set()).add(_WRITTEN_BY.get(name, name))


@contextmanager
def recorded_reads(reads: Reads) -> Iterator[None]:
    """Add to `reads` what every asset reads that runs in this process within the block."""
    recorder = _Recorder(reads)
    with pytest.MonkeyPatch.context() as patch:
        opened = Storage.open

        def open_storage(storage: Storage, *args: Any, **kwargs: Any) -> Any:
            recorder.begin()
            return opened(storage, *args, **kwargs)

        patch.setattr(Storage, "open", open_storage)
        for module in (project, checkpoints, referee, tiles, fields):
            _record_vouched(patch, module, recorder)
        _record_arrays(patch, recorder)
        for method in ("table", "image"):
            _record_method(patch, SimulatedSky, method, SKY.to_user_string(), recorder)
        _record_method(patch, TrainingFieldStore, "read", TRAINING_FIELDS.to_user_string(), recorder)
        yield


def _record_vouched(patch: pytest.MonkeyPatch, module: Any, recorder: _Recorder) -> None:
    """The stores' one way to read a table or a checkpoint names the asset that wrote it."""
    read = module.read_vouched

    def read_vouched(path: Any, *, asset: str) -> Any:
        recorder.add(asset)
        return read(path, asset=asset)

    patch.setattr(module, "read_vouched", read_vouched)


def _record_method(patch: pytest.MonkeyPatch, cls: type, name: str, what: str, recorder: _Recorder) -> None:
    method = getattr(cls, name)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder.add(what)
        return method(self, *args, **kwargs)

    patch.setattr(cls, name, call)


def _record_arrays(patch: pytest.MonkeyPatch, recorder: _Recorder) -> None:
    read, read_truth = SimulatedArrays.read, SimulatedArrays.read_truth

    def recorded(arrays: SimulatedArrays, name: str, shard: Any) -> Any:
        recorder.add(f"simulated/{name}")
        return read(arrays, name, shard)

    def recorded_truth(arrays: SimulatedArrays, shards: Any) -> Any:
        recorder.add("simulated/truth")
        return read_truth(arrays, shards)

    def frame(name: str) -> property:
        """An attribute that records that it is read; stored as before, so that worker processes find it."""

        def value(arrays: SimulatedArrays) -> Any:
            recorder.add("simulated/attributes")
            return vars(arrays)[name]

        def store(arrays: SimulatedArrays, content: Any) -> None:
            vars(arrays)[name] = content

        return property(value, store)

    patch.setattr(SimulatedArrays, "read", recorded)
    patch.setattr(SimulatedArrays, "read_truth", recorded_truth)
    for name in ("attributes", "bands"):
        patch.setattr(SimulatedArrays, name, frame(name), raising=False)


def declared_deps(definitions: dg.Definitions) -> dict[str, set[str]]:
    """The upstream assets of every asset, by name."""
    graph = definitions.resolve_asset_graph()
    return {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }


def differences(
    reads: Reads, deps: Mapping[str, Collection[str]], excused: Mapping[str, Mapping[str, str]] | None = None
) -> list[str]:
    """One line for each read that is not declared, and for each dependency that is not read.

    Args:
        reads: by asset, of `recorded_reads`.
        deps: by asset, of `declared_deps`.
        excused: by asset: declared dependencies that need not be read, each with the reason.
    """
    lines = []
    for asset, read in sorted(reads.items()):
        declared, own = set(deps[asset]), {asset, *_siblings(asset)}
        excuses = set((excused or {}).get(asset, {}))
        data = {name for name in read if not name.endswith("/attributes")} - own
        lines += [f"{asset} reads {name}, which it does not declare" for name in sorted(data - declared)]
        unread = declared - data - excuses
        for frame in {name for name in read if name.endswith("/attributes")}:
            # Bands, pixel scale and zero points of the arrays lie beside all four: any of them stands for the frame.
            arrays = {frame.replace("attributes", name) for name in SIMULATED}
            if not declared & arrays and asset not in arrays:
                lines.append(f"{asset} reads {frame} and declares none of the arrays")
            unread -= arrays
        lines += [f"{asset} declares {name}, which it does not read" for name in sorted(unread)]
    return lines


def _siblings(asset: str) -> set[str]:
    """The assets that one function makes together."""
    group, _, name = asset.partition("/")
    return {f"{group}/{other}" for other in SIMULATED} if name in SIMULATED else set()
