"""Blends rendered for a training, see `science.simulation.light`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from deblend_assets.errors import SettingsError
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.simulation.light import BlendLight, joined, light_shards, render_light
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.stores.project import ProjectStore


def light_of(
    store: ProjectStore, workers: RenderingWorkers, scenes: dict[str, int], log: Callable[[str], None]
) -> dict[str, BlendLight]:
    """Blends of some splits.

    Args:
        store: with the catalogue.
        workers: render the blends.
        scenes: number of scenes by split.
        log: takes progress lines.

    Raises:
        SettingsError: they do not fit into `[run] memory_gb`.
    """
    settings = store.profile.simulation
    bands = len(load_survey(settings.survey).bands)
    wanted = sum(scenes.values()) * bands * settings.stamp_pixels**2 * 4 / 2**30
    if wanted > store.profile.run.memory_gb:
        raise SettingsError(
            f"the light of {sum(scenes.values()):,} blends takes {wanted:.1f} GiB, [run] memory_gb is "
            f"{store.profile.run.memory_gb:g}",
            where=f"profile {store.profile.name}",
            remedy="request fewer in the recipe (scenes, drawn_scenes), or raise memory_gb",
        )
    progress = Progress("rendering blends", sum(scenes.values()), "scenes", log)
    found = {}
    with workers.start(store.read_catalog(), settings) as pool:
        for split, count in scenes.items():
            shards = light_shards(settings, split, count)
            found[split] = joined([light for _, light in pool.render(shards, progress, render_light)])
    return found


def stamps_of(light: BlendLight) -> tuple[torch.Tensor, torch.Tensor]:
    """The light of targets and others as the objectives take it."""
    return torch.from_numpy(light.target), torch.from_numpy(light.others)


def recombined(store: ProjectStore) -> bool:
    """Whether neighbours may be exchanged between scenes: every neighbour is fainter than every target."""
    settings = store.profile.simulation
    return settings.neighbour_i_min >= settings.target_i_max
