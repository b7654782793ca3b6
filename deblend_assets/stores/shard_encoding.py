"""The bytes of a shard's four files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zarr

from deblend_assets.science.rendering import RenderedScenes
from deblend_assets.science.scene_truth import TRUTH_COLUMNS
from deblend_assets.science.scenes import Shard
from deblend_assets.settings import SimulationSettings
from deblend_assets.stores.files import sha256
from deblend_assets.stores.tables import to_parquet
from deblend_assets.stores.zarr_files import ZarrFiles

ARRAYS = ("isolated", "noisy", "blended")
LAYOUT = "zarr.json"
TRUTH_NOTE = (
    "One row a galaxy of a simulated scene, the target first. e1, e2: distortion (a^2-b^2)/(a^2+b^2), observed, "
    "PSF-convolved; g1, g2: shear-type (a-b)/(a+b), intrinsic. Axes: x with the column, y with the row; angles from "
    "+x towards +y. Fluxes in electrons of the whole exposure."
)


@dataclass(frozen=True)
class EncodedShard:
    """A shard as it will lie on disk.

    Attributes:
        files: content by the name of the array, and "truth".
        sha256: of each file.
        rows: of the truth, one a galaxy.
    """

    files: dict[str, bytes]
    sha256: dict[str, str]
    rows: int


@dataclass(frozen=True)
class ShardEncoder:
    """Turns a shard's scenes into its files.

    Attributes:
        settings: shapes and shards.
        bands: in the order of the arrays.
        layouts: `zarr.json` of each array.
    """

    settings: SimulationSettings
    bands: tuple[str, ...]
    layouts: Mapping[str, bytes]

    def encode(self, shard: Shard, scenes: RenderedScenes) -> EncodedShard:
        """All of a shard's scenes, in order; ValueError where some are missing."""
        if len(scenes.isolated) != shard.scenes:
            raise ValueError(f"shard {shard.key} has {shard.scenes} scenes, not {len(scenes.isolated)}")
        key, files = chunk_key(self.settings, shard), {}
        for name in ARRAYS:
            array = ZarrFiles({LAYOUT: self.layouts[name]})
            zarr.open_array(array.store, mode="r+")[shard.rows] = getattr(scenes, name)
            files[name] = array[key]
        files["truth"] = to_parquet(scenes.truth, truth_columns(self.bands), TRUTH_NOTE)
        return EncodedShard(files, {name: sha256(data) for name, data in files.items()}, len(scenes.truth))


def chunk_key(settings: SimulationSettings, shard: Shard) -> str:
    """Name of a shard's file below each array."""
    return f"c/{shard.start // settings.shard_scenes}/0/0/0"


def truth_columns(bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """TRUTH_COLUMNS with one column a band."""
    columns: dict[str, tuple[str, str]] = {}
    for name, (unit, meaning) in TRUTH_COLUMNS.items():
        if "{band}" in name:
            columns.update({name.format(band=band): (unit, f"{meaning}, band {band}") for band in bands})
        else:
            columns[name] = (unit, meaning)
    return columns
