"""Renders the simulated survey with known truth, which a profile may use in place of an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers, whole_scenes
from deblend_assets.science.simulated_survey.sky import TileSky, assemble_tile, sky_simulation, tile_shard
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.format import Table
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.project import ProjectStore, library_versions


def render_sky(store: ProjectStore, workers: RenderingWorkers, log: Callable[[str], None]) -> Outcome:
    """Render and store the survey, or keep that of the same inputs and settings.

    Args:
        store: of the profile.
        workers: processes that render the scenes.
        log: receives progress lines.

    Raises:
        BusyError: another run is rendering it.
    """
    settings = store.profile.des
    des, catalog = DesStore(store), store.read_catalog()
    identity, names = des.sky_identity(), settings.sky.tiles
    used: set[int] = set()
    with des.sky.lock():
        if not des.sky.finished(identity):
            survey = load_survey(settings.simulation.survey)
            shards = [tile_shard(settings, name) for name in names]
            progress = Progress("rendering tiles", sum(s.scenes for s in shards), "scenes", log)

            def tiles() -> Iterator[TileSky]:
                with workers.start(catalog, sky_simulation(settings)) as pool:
                    rendered = pool.render(shards, progress, whole_scenes)
                    for name, (_, scenes) in zip(names, rendered, strict=True):
                        used.update(scenes.truth["galtileid"])
                        yield assemble_tile(name, scenes, survey, settings)

            des.sky.write(tiles(), identity, library_versions("blending-toolkit", "galsim", "surveycodex", "numpy"))
        else:
            log(f"kept the survey of the same inputs and settings ({identity})")
        record = des.sky.check()
    foreign = used & set(catalog.loc[catalog["split"] != "test", "galtileid"])
    truth = des.sky.table("simulation.truth")
    return Outcome(
        numbers={"scenes": int((truth["member"] == 0).sum()), "galaxies": len(truth)},
        words={"tiles": ", ".join(names)},
        tables={"faults": Table.of(record["faults"], "tile")},
        paths={"path": des.sky.folder},
        checks=[
            Check(
                "held_out",
                not foreign,
                f"{len(foreign)} galaxies of other splits among {len(used)} rendered now",
                {"foreign": len(foreign), "rendered_now": len(used)},
            )
        ],
    )
