"""CPU time a stamp of the network for every sky, from stamps in memory to rows, against the shipped networks and SEP.

The shipped networks of one survey each measure in eight orientations; SEP and HSM measure fluxes in all bands and the
shape in the reference band. All measure the same detections of simulated fields, on one thread, in interleaved rounds;
the process's CPU time is counted, so that other work on the machine counts little. Where no network for every sky is
shipped, one with freshly drawn weights measures, whose speed is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from benchmarks.field_pictures import catalog
from benchmarks.rows import Row, ratio_row
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.measuring.observed import fits, measure_observed
from deblend_assets.science.measuring.sky_observed import measure_sky
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.measuring.trust import trust_of
from deblend_assets.science.peers.observed import sep_hsm
from deblend_assets.science.peers.observed.methods import detected_positions
from deblend_assets.science.simulation.fields import sample_field
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.skies.psf_images import forget
from deblend_assets.science.sky_shapes.calibration import SkyCalibration
from deblend_assets.science.sky_shapes.model import SkyModel, multiplies_bfloat16
from deblend_assets.science.sky_shapes.network import SkyShapeNetwork
from deblend_assets.science.sky_shapes.population import SkyPopulation
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.cutting import cut
from deblend_assets.science.stamps.observed import ObservedStamps, joined
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.worlds.observed_fields import fwhm_pixels, noise_lags
from deblend_assets.settings import FieldSettings, FieldSkySettings, MaskSettings
from deblend_assets.steps.measuring.model import load_sky_model, shipped_model
from deblend_assets.stores.shipped import EVERY, surveys

# Those whose pixel scales the shipped networks take.
SURVEYS = ("LSST",)
SIDE, LAGS, LEAST_SNR = 49, 6, 5.0
WIDTHS, DENSE = (64, 128, 192), 256
TODAY, SEP, NETWORK, SCENES, TRUST, ALL = (
    "shipped networks, eight orientations",
    "SEP + HSM",
    "network and posterior",
    "with the scene model",
    "flags alone",
    "rows with fluxes and flags",
)


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table of benchmarks."""
    number, rounds = (32, 1) if quick else (256, 5)
    torch.set_num_threads(1)
    stamps = detections(number, 400 if quick else 700)
    found = seconds(stamps, rounds)
    rate = {name: 1 / np.median(times) for name, times in found.items()}
    rounded = multiplies_bfloat16()
    size = f"{rounds} rounds of {len(stamps)} stamps, {stamps.others_count.mean():.1f} other detections each"

    def row(name: str, peer: str, bar: float | None) -> Row:
        detail = f"{rate[name]:,.0f} against {rate[peer]:,.0f} stamps in a second of CPU, {size}"
        return ratio_row(f"every sky: {name}", peer, found[name], found[peer], bar=bar, detail=detail)

    yield row(NETWORK, TODAY, 10.0 if rounded else 7.0)
    yield row(NETWORK, SEP, 0.5)
    yield row(SCENES, TODAY, 2.1)
    yield row(ALL, TODAY, 2.1)
    yield row(ALL, SEP, None)
    yield row(TRUST, TODAY, None)


def detections(number: int, pixels: int) -> ObservedStamps:
    """Stamps of simulated fields of `SURVEYS`, as many of each.

    Args:
        number: of all stamps; fewer where the fields have fewer detections.
        pixels: side of a field.
    """
    galaxies, each = catalog(), number // len(SURVEYS)
    return joined([_of_field(name, galaxies, pixels, each).in_bands(CATSIM_BANDS) for name in SURVEYS])


def _of_field(name: str, galaxies: SkyCatalog, pixels: int, number: int) -> ObservedStamps:
    rng = np.random.default_rng(1)
    sky = sample_sky(FieldSkySettings(name=name), (pixels, pixels), rng)
    field = sample_field(galaxies, sky, FieldSettings(pixels=pixels), rng)
    seen = field.observe(1, MaskSettings())
    found = detect(
        seen.images,
        seen.inverse_variance,
        fwhm_pixels(sky),
        sky.names,
        zero_points=sky.column("zero_point").tolist(),
        noise_correlation=noise_lags(sky),
    )
    x, y = (found.table[axis].to_numpy() for axis in "xy")
    bright = np.flatnonzero(found.table["snr"] >= LEAST_SNR)
    # The same in all runs, and from all over the field.
    chosen = np.sort(np.random.default_rng(2).permutation(bright)[:number])
    return cut(field.observed_image(seen, 15, LAGS), x, y, SIDE, chosen)


def sky_model() -> SkyModel:
    """The shipped one, or where there is none one of the same size with freshly drawn weights."""
    if "sky" in surveys().get(EVERY, ()):
        return load_sky_model(None)
    count = len(QUANTITIES)
    population = PriorMoments((0.0,) * count, tuple(tuple(row) for row in np.eye(count)))
    return SkyModel(SkyShapeNetwork(WIDTHS, DENSE), SkyPopulation(CATSIM_BANDS), SkyCalibration(), population, 1)


def seconds(stamps: ObservedStamps, rounds: int) -> dict[str, list[float]]:
    """CPU time a stamp of each method in interleaved rounds, after one that is not counted."""
    today, model, positions = [shipped_model(name, "cpu") for name in SURVEYS], sky_model(), detected_positions(stamps)
    assert np.any([fits(one.frame, stamps) for one in today], axis=0).all()
    scene = measure_scenes(model, stamps)
    methods: Mapping[str, Callable[[], object]] = {
        TODAY: lambda: measure_observed(today, stamps),
        SEP: lambda: sep_hsm.measure(stamps, positions),
        NETWORK: lambda: model.measure(stamps),
        SCENES: lambda: measure_scenes(model, stamps),
        TRUST: lambda: trust_of(stamps, scene),
        ALL: lambda: measure_sky(model, stamps),
    }
    found: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, method in methods.items():
            # PSFs are measured anew, as those of other stamps would be.
            forget()
            begun = time.process_time()
            method()
            if number:
                found[name].append((time.process_time() - begun) / len(stamps))
    return found
