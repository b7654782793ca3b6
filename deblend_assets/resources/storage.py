"""The storage folder, as a Dagster resource."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from deblend_assets.settings import Profile
from deblend_assets.stores.project import ProjectStore


class Storage(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folder that everything is written below.

    Attributes:
        root: absolute path; each profile has its own folder in it.
    """

    root: str

    def open(self, profile: Profile) -> ProjectStore:
        """The store of one profile."""
        return ProjectStore(Path(self.root), profile)
