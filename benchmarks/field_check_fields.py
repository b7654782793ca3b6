"""The fields of `benchmarks.field_checks`, and the damages that are done to what is said of them.

Fields are those of the world `sky` of four surveys in turn, but larger and nearer to the Galaxy's plane, so that most
have twenty bright stars; their PSFs have no aberrations, whose transforms would take most of the time, and in every
second round of the surveys those that are not Gaussian are Moffat profiles of beta 2.5 to 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import Detections, detect
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.fields import Field, Observation, observe, observed_image, sample_field
from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.skies.noise import Kernel, resampled
from deblend_assets.science.skies.psf import Atmosphere, PSFModel, VaryingPSF
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.worlds.observed_fields import fwhm_pixels
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.settings import (
    CatalogSettings,
    FieldSettings,
    FieldSkySettings,
    MaskSettings,
)

SURVEYS = ("LSST", "DES", "HSC", "wide")
PIXELS, LATITUDE, BRIGHTEST_STAR, PSF_CELLS, PSF_SIDE = 800, 30.0, 16.0, 2, 41
BANDS = ("g", "r", "i")
GALAXIES, FAINTEST = 80_000, 28.0
# S/N of the stars that are counted.
BRIGHT = 50.0
# Of random numbers: fields of validation galaxies choose thresholds, those of test galaxies are judged.
STREAMS = {"validation": 1, "test": 2}


def catalog(split: str) -> SkyCatalog:
    """The generated population's galaxies of a split, shaped as in training, with measured counts."""
    settings = CatalogSettings()
    galaxies = generate_population(GALAXIES, settings.seed, i_max=FAINTEST)
    ids = galaxies["galtileid"].to_numpy()
    labelled = galaxies.assign(split=assign_split(ids, settings.fractions, salt=str(settings.seed)))
    return sky_catalog(labelled, settings, split, "training")


def benchmark_sky(number: int, rng: np.random.Generator) -> Sky:
    """The sky of a field."""
    name = SURVEYS[number % len(SURVEYS)]
    settings = FieldSkySettings(name=name, bands=None if name == "wide" else BANDS)
    sky = sample_sky(settings, (PIXELS, PIXELS), rng)
    beta = float(rng.uniform(2.5, 3.5)) if number // len(SURVEYS) % 2 == 0 else None
    return replace(sky, bands={name: replace(b, psf=_plain(b.psf, beta)) for name, b in sky.bands.items()})


def _plain(psf: PSFModel | VaryingPSF, beta: float | None) -> PSFModel | VaryingPSF:
    """A PSF without optics; a Moffat profile of this beta, unless it is a Gaussian."""
    if isinstance(psf, VaryingPSF):
        return replace(psf, model=_plain(psf.model, beta))
    if beta is None or psf.atmosphere == "gaussian":
        return replace(psf, optics=None)
    return replace(psf, optics=None, atmosphere="moffat", beta=beta)


def benchmark_field(number: int, split: str, galaxies: SkyCatalog) -> Field:
    """Field `number` of a split."""
    rng = np.random.default_rng([STREAMS[split], number])
    settings = FieldSettings(pixels=PIXELS, latitude=LATITUDE, psf_cells=PSF_CELLS, brightest_star=BRIGHTEST_STAR)
    return sample_field(galaxies, benchmark_sky(number, rng), settings, rng)


@dataclass(frozen=True, eq=False)
class Case:
    """An observed field with what is said of it.

    Attributes:
        image: pixels, and what was given.
        found: what was detected with it.
        bands: of the damage; none: nothing is wrong.
    """

    image: ObservedImage
    found: Detections
    bands: tuple[int, ...] = ()


class DamagedField:
    """One field, and what becomes of it when something that is given is wrong in one band.

    Args:
        sky: of the field.
        light: of its sources, (band, y, x).
        truth: of its sources.
        patches: of PSFs, a side.
        number, split: of the field, for random numbers.
    """

    def __init__(
        self, sky: Sky, light: NDArray[np.float32], truth: pd.DataFrame, patches: int, number: int, split: str
    ) -> None:
        self.sky, self.light, self.truth = sky, light, truth
        self._psfs = PatchPSFs(sky, patches)
        self._stream = (STREAMS[split], number)
        self._rng = np.random.default_rng([*self._stream, 1])

    @cached_property
    def right(self) -> Case:
        """All that is given is true."""
        return self._case(self._psfs, self._observed(self.sky))

    def bright_stars(self, band: int) -> int:
        """True number of stars of S/N ≥ 50 in a band whose pixel has a weight."""
        name = self.sky.names[band]
        error = self.sky.measured_psf(name).flux_error * self.sky[name].sigma
        stars = self.truth[self.truth["star"] & (self.truth[f"flux_{name}"] >= BRIGHT * error)]
        x, y = (np.round(stars[axis]).to_numpy(np.int64) for axis in "xy")
        inside = (x >= 0) & (x < self.sky.shape[1]) & (y >= 0) & (y < self.sky.shape[0])
        return int((self.right.image.inverse_variance[band, y[inside], x[inside]] > 0).sum())

    def psf_size(self, band: int) -> Case:
        """A PSF that is 5 % too large, or too small."""
        factor = float(self._rng.choice([1.05, 1 / 1.05]))
        return self._with_psf(band, lambda psf: psf.dilate(factor))

    def psf_shape(self, band: int) -> Case:
        """A PSF whose g is off by 0.02, in any direction."""
        angle = self._rng.uniform(0, 2 * np.pi)
        return self._with_psf(band, lambda psf: psf.shear(g1=0.02 * np.cos(angle), g2=0.02 * np.sin(angle)))

    def psf_profile(self, band: int) -> Case:
        """A PSF of another profile and the same FWHM and g; see `other_profile`."""
        chosen = self.sky[self.sky.names[band]]
        other = replace(chosen, psf=other_profile(chosen.psf, self._rng))
        sky = replace(self.sky, bands={**self.sky.bands, self.sky.names[band]: other})
        return self._given(band, PatchPSFs(sky, self._psfs.patches))

    def unit(self, _: int) -> Case:
        """Pixels of all bands ten times too large or too small, and their weights alike: detections stay the same."""
        factor = float(self._rng.choice([10.0, 0.1]))
        seen = self.right.image
        wrong = replace(seen, pixels=seen.pixels * factor, inverse_variance=seen.inverse_variance / factor**2)
        return Case(wrong, self.right.found, tuple(range(len(seen.pixels))))

    def noise_white(self, band: int) -> Case:
        """Correlated noise that is said to be white; a field of white noise is observed again with correlated."""
        seen = self.right.image
        if self.sky[self.sky.names[band]].correlation.white:
            kernels: Sequence[Kernel] = ("bilinear", "lanczos3")
            correlation = resampled(kernels[self._rng.integers(2)])
            bands = {name: replace(b, correlation=correlation) for name, b in self.sky.bands.items()}
            sky = replace(self.sky, bands=bands)
            lags = (seen.noise_correlation.shape[-1] - 1) // 2
            seen = replace(
                seen,
                pixels=self._observed(sky).images,
                noise_correlation=np.stack([correlation.lags(lags)] * len(bands)),
            )
        given = seen.noise_correlation.copy()
        given[band] = 0.0
        given[band, given.shape[1] // 2, given.shape[2] // 2] = 1.0
        return self._detected(replace(seen, noise_correlation=given), band)

    def noise_level(self, band: int) -> Case:
        """A variance that is 1.5 times too large or too small."""
        weight = self.right.image.inverse_variance.copy()
        weight[band] *= float(self._rng.choice([1.5, 1 / 1.5]))
        return self._detected(replace(self.right.image, inverse_variance=weight), band)

    def _observed(self, sky: Sky) -> Observation:
        return observe(sky, self.light, self._stream, MaskSettings())

    def _case(self, psfs: PatchPSFs, seen: Observation) -> Case:
        return self._detected(observed_image(psfs, seen, PSF_SIDE), None)

    def _detected(self, image: ObservedImage, band: int | None) -> Case:
        found = detect(
            image.pixels,
            image.inverse_variance,
            fwhm_pixels(self.sky),
            image.bands,
            zero_points=image.zero_point.tolist(),
            noise_correlation=list(image.noise_correlation),
        )
        return Case(image, found, () if band is None else (band,))

    def _with_psf(self, band: int, change: Callable[[galsim.GSObject], galsim.GSObject]) -> Case:
        """The right image with a PSF that is changed about its centre in every patch."""
        return self._given(band, _ChangedPSFs(self.sky, self._psfs.patches, band, change))

    def _given(self, band: int, psfs: PatchPSFs) -> Case:
        """Of other PSFs. Detections are those of the right one: 5 % of one band's FWHM hardly change them."""
        image = replace(self.right.image, psf=lambda x, y: psfs.psf_images(x, y, PSF_SIDE))
        return Case(image, self.right.found, (band,))


class _ChangedPSFs(PatchPSFs):
    """The PSFs of a sky, of which those of one band are changed."""

    def __init__(self, sky: Sky, patches: int, band: int, change: Callable[[galsim.GSObject], galsim.GSObject]) -> None:
        super().__init__(sky, patches)
        self._band, self._change = band, change

    def psfs_of(self, number: int) -> list[galsim.GSObject]:
        """See `PatchPSFs`."""
        return [self._change(psf) if k == self._band else psf for k, psf in enumerate(super().psfs_of(number))]


def other_profile(psf: PSFModel | VaryingPSF, rng: np.random.Generator) -> PSFModel | VaryingPSF:
    """A PSF of the same FWHM and g, and another profile.

    Gaussian or Kolmogorov's for a Moffat profile of beta up to 3.5, Gaussian or a Moffat profile of beta 2.5 for one
    beyond; one of the other two, with a Moffat profile of beta 2.5 to 3.5, for a Gaussian and for Kolmogorov's.
    """
    if isinstance(psf, VaryingPSF):
        return replace(psf, model=other_profile(psf.model, rng))
    moffat: tuple[Atmosphere, float | None] = ("moffat", float(rng.uniform(2.5, 3.5)))
    choices: dict[str, list[tuple[Atmosphere, float | None]]] = {
        "moffat": [("gaussian", None), ("kolmogorov", None)],
        "kolmogorov": [("gaussian", None), moffat],
        "gaussian": [("kolmogorov", None), moffat],
    }
    if psf.beta is not None and psf.beta > 3.5:
        choices["moffat"][1] = ("moffat", 2.5)
    atmosphere, beta = choices[psf.atmosphere][rng.integers(2)]
    return replace(psf, atmosphere=atmosphere, beta=beta)
