"""`normalization/normalization_statistics`: ⟨max⟩ per band, for Eq. 9."""

from collections.abc import Iterator, Sequence

import dagster as dg
import numpy as np

from deblend_assets.assets.common import ONE_RUN, OWNERS, check, clear_errors, code_version, cores, plot, rounded, table
from deblend_assets.assets.keys import DES_MODEL, simulated_keys, statistics_key
from deblend_assets.progress import Progress
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile


def normalization_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The statistics asset of a leg."""
    key, simulated = statistics_key(profile), simulated_keys(profile)

    @dg.asset(
        key=key,
        group_name="normalization" if profile.leg == "main" else DES_MODEL,
        deps=[simulated["isolated"], simulated["noisy"], simulated["blended"]],
        owners=OWNERS,
        op_tags=cores(1),
        backfill_policy=ONE_RUN,
        kinds={"numpy"},
        code_version=code_version("normalization"),
        check_specs=[
            dg.AssetCheckSpec(
                "normalised_range", asset=key, description="Clean training stamps lie in [0, 1) after Eq. 9."
            ),
            dg.AssetCheckSpec("round_trip", asset=key, description="Eq. 9 and its inverse give the electrons back."),
        ],
    )
    @clear_errors
    def normalization_statistics(context: dg.AssetExecutionContext, storage: Storage) -> dg.MaterializeResult:
        """⟨max x_raw,b⟩ of the noisy isolated training stamps, one a band (Eq. 9; Fig. 7 and 20 of the report).

        Streaming: one pass over the training shards, one shard in memory. Validation and test stamps take no part.
        Every checkpoint carries these statistics, and refuses others.
        """
        from deblend_assets.science.reports.figures.images import dynamic_range, raw_and_normalized
        from deblend_assets.science.stamps.normalization import mean_maximum

        store = storage.open(profile)
        arrays = store.arrays()
        shards = arrays.shards("train")
        progress = Progress("normalisation", len(shards), "shards", context.log.info)

        def batches() -> Iterator[np.ndarray]:
            for shard in shards:
                yield arrays.read("noisy", shard)
                progress.add(1)

        statistics = mean_maximum(batches(), arrays.bands)
        normalization = statistics.normalization(profile.normalization.beta)
        store.write_normalization(normalization, {"stamps": statistics.count})

        stamps = {name: arrays.read(name, shards[0]) for name in ("isolated", "noisy", "blended")}
        normalised = normalization.forward(stamps["isolated"])
        lowest, highest = float(normalised.min()), float(normalised.max())
        electrons = normalization.inverse(normalization.forward(stamps["noisy"].astype("float64")))
        worst = float(abs(electrons - stamps["noisy"]).max() / abs(stamps["noisy"]).max())
        rows = {
            band: {
                "⟨max⟩ [electron]": normalization.mean_max[k],
                "standard error [electron]": float(statistics.standard_error[k]),
                "sky noise [electron]": float(arrays.attributes["sky_electron_per_pixel"][k]) ** 0.5,
            }
            for k, band in enumerate(arrays.bands)
        }
        return dg.MaterializeResult(
            metadata={
                "dynamic_range": plot(dynamic_range(stamps["noisy"], normalization)),
                "stamps": statistics.count,
                "statistics": table(rows, "band"),
                "path": dg.MetadataValue.path(str(store.statistics_path)),
                "raw_and_normalised": plot(
                    raw_and_normalized(
                        _brightest(stamps["noisy"]),
                        normalization,
                        band=profile.simulation.label_band,
                        pixel_scale=arrays.attributes["pixel_scale_arcsec"],
                    )
                ),
                **rounded(
                    {f"mean_max_{band}": v for band, v in zip(arrays.bands, normalization.mean_max, strict=True)}
                ),
            },
            check_results=[
                # FFT rounding leaves clean stamps at -1e-6 of their peak here and there.
                check(
                    "normalised_range",
                    lowest > -1e-3 and highest < 1,
                    f"clean stamps from {lowest:.2g} to {highest:.4f}",
                    {"lowest": lowest, "highest": highest},
                ),
                check(
                    "round_trip",
                    worst < 1e-9,
                    f"largest difference {worst:.1g} of the brightest pixel, float64",
                    {"worst": worst},
                ),
            ],
        )

    return [normalization_statistics]


def _brightest(images: np.ndarray) -> np.ndarray:
    """The stamp with the highest pixel: Eq. 9 does most to bright cores."""
    return images[int(images.max(axis=(1, 2, 3)).argmax())]
