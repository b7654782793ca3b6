"""Measuring ⟨max⟩ per band for Eq. 9."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from deblend_assets.progress import Progress
from deblend_assets.science.reports.figures.images import dynamic_range, raw_and_normalized
from deblend_assets.science.stamps.normalization import mean_maximum
from deblend_assets.science.statistics.format import Table
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.project import ProjectStore


def measure_statistics(store: ProjectStore, log: Callable[[str], None]) -> Outcome:
    """Measure the mean maximum of the noisy isolated training stamps and store it.

    Args:
        store: of the profile.
        log: takes progress lines.
    """
    profile, arrays = store.profile, store.arrays()
    shards = arrays.shards("train")
    progress = Progress("normalisation", len(shards), "shards", log)

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
    return Outcome(
        figures={
            "dynamic_range": dynamic_range(stamps["noisy"], normalization),
            "raw_and_normalised": raw_and_normalized(
                _brightest(stamps["noisy"]),
                normalization,
                band=profile.simulation.label_band,
                pixel_scale=arrays.attributes["pixel_scale_arcsec"],
            ),
        },
        numbers={
            "stamps": statistics.count,
            **{f"mean_max_{band}": v for band, v in zip(arrays.bands, normalization.mean_max, strict=True)},
        },
        tables={"statistics": Table.of(rows, "band")},
        paths={"path": store.statistics_path},
        checks=[
            # FFT rounding leaves clean stamps at -1e-6 of their peak here and there.
            Check(
                "normalised_range",
                lowest > -1e-3 and highest < 1,
                f"clean stamps from {lowest:.2g} to {highest:.4f}",
                {"lowest": lowest, "highest": highest},
            ),
            Check(
                "round_trip",
                worst < 1e-9,
                f"largest difference {worst:.1g} of the brightest pixel, float64",
                {"worst": worst},
            ),
        ],
    )


def _brightest(images: np.ndarray) -> np.ndarray:
    """The stamp with the highest pixel: Eq. 9 changes bright cores most."""
    return images[int(images.max(axis=(1, 2, 3)).argmax())]
