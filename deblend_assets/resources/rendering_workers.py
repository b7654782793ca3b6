"""The resource of processes that render scenes or fields, one for each core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from deblend_assets.resources.fork_server import number_of_processes
from deblend_assets.resources.worker_pool import WorkerPool, worker_pool
from deblend_assets.settings import SceneSettings
from deblend_assets.stores.temporary import temporary_folder

if TYPE_CHECKING:
    from deblend_assets.science.simulation.rendering import RenderedScenes, ShardRenderer
    from deblend_assets.science.simulation.scenes import Shard

# What workers need that render scenes.
_SCENE_MODULES = (
    "deblend_assets.resources.rendering_workers",
    "deblend_assets.science.simulation.rendering",
    "deblend_assets.science.simulation.renderers.fourier",
    "btk.survey",
)


# What a worker opens once, from a catalogue and settings.
Open = Callable[[pd.DataFrame, Any], Any]


def open_renderer(catalog: pd.DataFrame, settings: SceneSettings) -> ShardRenderer:
    """The renderer of a rendering process.

    Raises:
        SettingsError, CatalogError: no scene can be rendered with these settings from this catalogue.
    """
    from deblend_assets.science.simulation.rendering import ShardRenderer
    from deblend_assets.science.simulation.surveys import load_survey

    return ShardRenderer(catalog, settings, load_survey(settings.survey))


class RenderingWorkers(dg.ConfigurableResource):
    """A pool of rendering processes.

    Attributes:
        processes: number of processes; 0: one for each core that this process may use.
    """

    processes: int = 0

    @property
    def count(self) -> int:
        return number_of_processes(self.processes)

    @contextmanager
    def start(self, catalog: pd.DataFrame, settings: Any, opened: Open = open_renderer) -> Iterator[WorkerPool]:
        """A pool that renders scenes of one simulation, or what `opened` prepares; it ends with the block.

        Args:
            catalog: of galaxies.
            settings: of the simulation, or what `opened` takes.
            opened: prepares a worker from both, once.

        Raises:
            SettingsError, CatalogError: nothing can be rendered with these settings from this catalogue.
        """
        # Errors of every worker are raised here first: a worker that cannot start breaks the pool, and its reason is
        # lost.
        opened(catalog, settings)
        # Passed by a file: a process reads its pipe only when its imports are done, and the next one is not started
        # before.
        with temporary_folder() as folder:
            path = folder / "catalog.parquet"
            catalog.to_parquet(path, compression=None)
            with self.pool((path, settings, opened), _open_with_catalog) as pool:
                yield pool

    @contextmanager
    def pool(
        self, given: Any, opened: Callable[[Any], Any], modules: Sequence[str] = _SCENE_MODULES
    ) -> Iterator[WorkerPool]:
        """A pool whose workers hold what `opened` makes of `given`; it ends with the block.

        Args:
            given: sent to every worker; small.
            opened: prepares a worker, once.
            modules: that the workers need, imported once for all where this program has had no pool yet.
        """
        with worker_pool(self.count, given, opened, modules) as pool:
            yield pool


def whole_scenes(renderer: ShardRenderer, shard: Shard) -> RenderedScenes:
    """The rendered scenes of a shard."""
    return renderer.render_whole(shard)


def _open_with_catalog(given: tuple[Path, Any, Open]) -> Any:
    path, settings, opened = given
    return opened(pd.read_parquet(path), settings)
