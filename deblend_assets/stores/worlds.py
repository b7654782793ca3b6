"""A world on disk: shards of stamps, a table of truth for each, and a marker that vouches for both.

<folder>/description.json, stamps.zarr, _done/00000.json    see `observed_stamps`
<folder>/truth/00000.parquet                                one row a target; its checksum is in the marker
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.science.worlds.targets import Targets, target_columns
from deblend_assets.settings import StorePath, fingerprint
from deblend_assets.stores.files import each, read_checked, require_space, sha256, write_atomic
from deblend_assets.stores.observed_stamps import StampLayout, StampStore
from deblend_assets.stores.tables import from_parquet, to_parquet

TRUTH_NOTE = (
    "One row a target: a detection in a simulated field, with what is true of it. g: shear-type (a-b)/(a+b) before the "
    "PSF; e: distortion (a^2-b^2)/(a^2+b^2) behind the PSF, adaptive moments, of the reference band. Pixel frame, "
    "angles from +x towards +y. Positions count from 0 at the centre of the field's first pixel."
)


class WorldStore:
    """Targets of one world.

    Args:
        folder: of the world, named by its fingerprint.
        layout: of the stamps of all shards.
        identity: what the fingerprint was made from.
        asset: its key.
    """

    def __init__(self, folder: StorePath, layout: StampLayout, identity: Mapping[str, Any], asset: str) -> None:
        self.folder, self.asset = folder, asset
        self.stamps = StampStore(folder, layout, identity)

    @property
    def shards(self) -> range:
        """Numbers of all shards."""
        return range(self.stamps.layout.shards)

    def create(self) -> None:
        """Lay out the empty arrays once."""
        self.stamps.create()

    def require_space(self, shards: int) -> None:
        """StorageError where the pixels and PSFs of so many shards may not fit on the disk."""
        layout = self.stamps.layout
        stamp = len(layout.bands) * 4 * (layout.side**2 + layout.psf_side**2)
        require_space(self.folder, shards * layout.shard_stamps * stamp, f"{shards} shards of {self.asset}")

    def lock(self, shard: int) -> contextlib.AbstractContextManager[None]:
        """Hold a shard while it is made; BusyError where another run holds it."""
        return self.stamps.lock(shard)

    def _truth_path(self, shard: int) -> StorePath:
        return self.folder / "truth" / f"{shard:05d}.parquet"

    def write(self, shard: int, targets: Targets, info: Mapping[str, Any]) -> None:
        """Store a whole shard and vouch for it; call inside `lock(shard)`, after `create`."""
        data = to_parquet(targets.truth, target_columns(), TRUTH_NOTE)
        write_atomic(self._truth_path(shard), data)
        # The stamps' marker comes last: until then neither file is trusted.
        self.stamps.write(shard, targets.stamps, {**info, "truth_sha256": sha256(data)})

    def is_done(self, shard: int) -> bool:
        """Whether the shard's marker is there and its files agree with it."""
        try:
            self.stamps.verify(shard)
            self.read_truth([shard])
        except (MissingDataError, CorruptDataError):
            return False
        return True

    def read(self, shard: int) -> Targets:
        """The targets of a shard.

        Raises:
            MissingDataError: it was never finished.
            CorruptDataError: a file is missing, cut off or changed.
        """
        return Targets(self.stamps.read(shard), self._read_truth(shard))

    def read_truth(self, shards: Sequence[int] | None = None) -> pd.DataFrame:
        """Truth of some shards, or of all, one row a target in their order; errors as `read`."""
        return pd.concat(each(self._read_truth, shards or self.shards, self.folder), ignore_index=True)

    def _read_truth(self, shard: int) -> pd.DataFrame:
        path, marker = self._truth_path(shard), self.stamps.marker(shard)
        data = read_checked(path, str(marker.get("truth_sha256")))
        if data is None:
            raise CorruptDataError(
                f"truth of shard {shard} is missing, or not what was written",
                where=str(path),
                remedy=f"materialise {self.asset} again",
            )
        return from_parquet(data, where=str(path), asset=self.asset)

    def sha256(self) -> str:
        """Changes when any byte of any shard does; MissingDataError where one is not finished."""
        markers = each(self.stamps.marker, self.shards, self.folder)
        return fingerprint([[marker["sha256"], marker["truth_sha256"]] for marker in markers])
