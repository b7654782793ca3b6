"""`des/simulated_sky`: the survey of known truth that a profile may ask in place of an archive."""

from collections.abc import Iterator, Sequence

import dagster as dg

from deblend_assets.assets.common import DISTRIBUTING, ONE_RUN, OWNERS, check, clear_errors, code_version, table
from deblend_assets.assets.keys import CATALOG, DES, SKY
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers, whole_scenes
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.stores.project import library_versions


def sky_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The simulated survey; none where the profile names a real archive."""
    if not profile.des.archive.served_here:
        return []

    @dg.asset(
        key=SKY,
        group_name=DES,
        deps=[CATALOG],
        owners=OWNERS,
        op_tags=DISTRIBUTING,
        backfill_policy=ONE_RUN,
        kinds={"galsim", "fits"},
        code_version=code_version("simulated_sky"),
        check_specs=[
            dg.AssetCheckSpec("held_out", asset=SKY, description="Every galaxy of the tiles is of the test split."),
        ],
    )
    @clear_errors
    def simulated_sky(
        context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        """A small survey of known truth: tiles of DES-like scenes drawn by BTK from held-out galaxies.

        Images in counts (zero point 30) with weight maps and WCS, an im3shape-like catalogue (truth plus noise, with
        the faults that real ones have) and the truth itself. A VO service on loopback (TAP, SIA 1, FITS) serves it to
        the DES leg as an archive would. Everything made from it is marked as simulated.
        """
        from deblend_assets.science.simulated_survey.sky import TileSky, assemble_tile, sky_simulation, tile_shard
        from deblend_assets.science.simulation.surveys import load_survey
        from deblend_assets.stores.des import DesStore

        store = storage.open(profile.des_leg)
        des, catalog = DesStore(store), store.read_catalog()
        identity, names = des.sky_identity(), profile.des.sky.tiles
        used: set[int] = set()
        if not des.sky.finished(identity):
            survey = load_survey(profile.des.simulation.survey)
            shards = [tile_shard(profile.des, name) for name in names]
            progress = Progress("drawing tiles", sum(s.scenes for s in shards), "scenes", context.log.info)

            def tiles() -> Iterator[TileSky]:
                with workers.start(catalog, sky_simulation(profile.des)) as pool:
                    drawn = pool.render(shards, progress, whole_scenes)
                    for name, (_, scenes) in zip(names, drawn, strict=True):
                        used.update(scenes.truth["galtileid"])
                        yield assemble_tile(name, scenes, survey, profile.des)

            des.sky.write(tiles(), identity, library_versions("blending-toolkit", "galsim", "surveycodex", "numpy"))
        else:
            context.log.info(f"kept the survey of the same inputs and settings ({identity})")
        record = des.sky.check()
        foreign = used & set(catalog.loc[catalog["split"] != "test", "galtileid"])
        truth = des.sky.table("simulation.truth")
        return dg.MaterializeResult(
            metadata={
                "tiles": ", ".join(names),
                "scenes": int((truth["member"] == 0).sum()),
                "galaxies": len(truth),
                "faults": table(record["faults"], "tile"),
                "path": dg.MetadataValue.path(str(des.sky.folder)),
            },
            check_results=[
                check(
                    "held_out",
                    not foreign,
                    f"{len(foreign)} galaxies of other splits among {len(used)} drawn now",
                    {"foreign": len(foreign), "drawn_now": len(used)},
                )
            ],
        )

    return [simulated_sky]
