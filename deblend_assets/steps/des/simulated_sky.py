"""Renders the simulated survey with known truth, which a profile may use in place of an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from deblend_assets.progress import Progress
from deblend_assets.science.simulated_survey.sky import TileSky, observe_tile, sample_tile
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.format import Table
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.project import ProjectStore, library_versions


def render_sky(store: ProjectStore, log: Callable[[str], None]) -> Outcome:
    """Render and store the survey, or keep that of the same inputs and settings.

    Args:
        store: of the profile.
        log: receives progress lines.

    Raises:
        BusyError: another run is rendering it.
        SettingsError: the archive cannot hold tiles of these settings.
    """
    profile = store.profile
    des, catalog, names = DesStore(store), store.read_catalog(), profile.des.sky.tiles
    identity = des.sky_identity()
    with des.sky.lock():
        if not des.sky.finished(identity):
            survey = load_survey(profile.des.simulation.survey)
            galaxies = sky_catalog(catalog, profile.catalog, "test", "training")
            progress = Progress("rendering tiles", len(names), "tiles", log)

            def tiles() -> Iterator[TileSky]:
                for name in names:
                    field = sample_tile(name, galaxies, survey, profile)
                    log(f"{name}: {len(field.sources):,} sources on and around {field.sky.shape[0]:,} pixels squared")
                    yield observe_tile(name, field, survey, profile)
                    progress.add(1)

            des.sky.write(tiles(), identity, library_versions("galsim", "surveycodex", "numpy", "torch"))
        else:
            log(f"kept the survey of the same inputs and settings ({identity})")
        record = des.sky.check()
    truth = des.sky.table("simulation.truth")
    ids = np.unique(truth.loc[truth["star"] == 0, "galaxy_id"])
    foreign = ids[assign_split(ids, profile.catalog.fractions, salt=str(profile.catalog.seed)) != "test"]
    return Outcome(
        numbers={"sources": len(truth), "stars": int(truth["star"].sum()), "pixels": profile.des.sky.pixels},
        words={"tiles": ", ".join(names)},
        tables={"faults": Table.of(record["faults"], "tile")},
        paths={"path": des.sky.folder},
        checks=[
            Check(
                "held_out",
                not len(foreign),
                f"{len(foreign)} of {len(ids)} galaxies are of other splits",
                {"foreign": len(foreign), "galaxies": len(ids)},
            )
        ],
    )
