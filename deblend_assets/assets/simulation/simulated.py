"""`simulated/{truth, isolated, noisy, blended}`: one rendering pass a shard, four assets."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import dagster as dg
import numpy as np

from deblend_assets.assets.common import DISTRIBUTING, ONE_RUN, OWNERS, clear_errors, code_version, plot
from deblend_assets.assets.keys import CATALOG, DES_MODEL, simulated_keys
from deblend_assets.partitions import shard_partitions, shards_of
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.stores.project import library_versions

_DESCRIPTIONS = {
    "truth": "What is known of every galaxy of every scene: positions, magnitudes, S/N, blendedness, intrinsic "
    "shear-type g (adaptive moments without PSF) and observed distortion e (Eq. 12-14 of the report). Parquet, "
    "one row a galaxy, units and meanings in the schema.",
    "isolated": "The target alone, without noise: the truth that stages 1 and 2 reconstruct (section 3.1.2, dataset "
    "1). Zarr, (scene, band, y, x) float32, electrons of the whole exposure.",
    "noisy": "The target alone with photon noise of target and sky (section 3.1.2, dataset 2): input of stage 1.",
    "blended": "Target and up to two neighbours with photon noise of their own (section 3.1.2, dataset 3): input of "
    "stages 2 and 3.",
}


def simulated_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The four assets of a leg, partitioned by shard."""
    keys = simulated_keys(profile)
    main = profile.leg == "main"

    @dg.multi_asset(
        name="simulated_shards" if main else "des_simulated_shards",
        group_name="simulation" if main else DES_MODEL,
        partitions_def=shard_partitions(profile),
        backfill_policy=ONE_RUN,
        op_tags=DISTRIBUTING,
        specs=[
            dg.AssetSpec(
                key,
                deps=[CATALOG],
                description=_DESCRIPTIONS[name],
                owners=OWNERS,
                kinds={"parquet"} if name == "truth" else {"zarr", "galsim"},
                code_version=code_version("simulated"),
            )
            for name, key in keys.items()
        ],
        check_specs=[
            dg.AssetCheckSpec("complete", asset=keys["truth"], description="Every scene has exactly one target."),
            dg.AssetCheckSpec(
                "split_by_galaxy",
                asset=keys["truth"],
                description="Every galaxy belongs, by the hash of its id, to the split of its scene.",
            ),
            dg.AssetCheckSpec(
                "agrees_with_btk",
                asset=keys["isolated"],
                description="A sample of each shard, drawn again by BTK, is the same: within 1e-3 of the galaxy's peak "
                "and 0.02 of the sky's noise in every pixel.",
            ),
            dg.AssetCheckSpec("finite", asset=keys["blended"], description="No pixel of the three arrays is NaN."),
            dg.AssetCheckSpec(
                "noise_level",
                asset=keys["noisy"],
                description="Scatter of (noisy - isolated) over what sky and target photons predict is 1, per band.",
            ),
        ],
    )
    @clear_errors
    def simulated(
        context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers
    ) -> Iterator[dg.MaterializeResult]:
        from deblend_assets.assets.simulation.shard_checks import ShardChecks
        from deblend_assets.science.reports.figures.scenes import scenes
        from deblend_assets.science.simulation.surveys import load_survey

        store = storage.open(profile)
        catalog = store.read_catalog()
        survey = load_survey(profile.simulation.survey)
        arrays = store.create_arrays(survey)
        shards = shards_of(profile, list(context.partition_keys))
        missing = [shard for shard in shards if not arrays.is_done(shard)]
        if len(missing) < len(shards):
            context.log.info(f"kept {len(shards) - len(missing)} finished shards of {len(shards)}")
        arrays.require_space(len(missing))
        started = time.monotonic()
        if missing:
            progress = Progress("rendering", sum(s.scenes for s in missing), "scenes", context.log.info)
            versions = library_versions("blending-toolkit", "galsim", "surveycodex", "numpy", "torch", "zarr")
            with ExitStack() as stack:
                for shard in missing:
                    stack.enter_context(arrays.lock(shard))
                pool = stack.enter_context(workers.start(catalog, profile.simulation))
                for _ in pool.render(missing, progress, arrays.writer({"versions": versions})):
                    pass  # a line of progress a shard
        seconds = time.monotonic() - started

        checks = ShardChecks(profile, arrays, catalog, survey)
        for shard in shards:
            checks.add(shard)
        rendered = sum(s.scenes for s in missing)
        numbers: dict[str, dg.MetadataValue | float] = {
            "scenes": sum(s.scenes for s in shards),
            "scenes_rendered_now": rendered,
            "scenes_per_second": rendered / seconds if rendered else 0.0,
            "workers": workers.count,
            "path": dg.MetadataValue.path(str(arrays.folder)),
        }
        results = checks.results()
        first = shards[0]
        # The most crowded of its first scenes: a third of all have no neighbour, and would show none.
        sizes = arrays.read_truth([first]).groupby("scene").size().to_numpy()
        shown = np.sort(np.argsort(-sizes[:60], kind="stable")[:6])
        stamps = {name: arrays.read(name, first)[shown] for name in ("isolated", "noisy", "blended")}
        label, pixel_scale = profile.simulation.label_band, arrays.attributes["pixel_scale_arcsec"]
        gallery = plot(scenes(stamps, band=label, index=arrays.bands.index(label), pixel_scale=pixel_scale))
        for name, key in keys.items():
            metadata = {**numbers, "scenes_of_the_first_shard": gallery} if name == "blended" else dict(numbers)
            yield dg.MaterializeResult(asset_key=key, metadata=metadata, check_results=results.get(name, []))

    return [simulated]
