"""Fields of known shear: their skies, sources and seeds, and their images under each lens.

Twins have the same galaxies, the same noise, which moves with them (`twin_noise`), and the same artefacts and masks,
which never move.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.field_shear.bins import SLICE_EDGES
from deblend_assets.science.field_shear.design import TWINS, ShearField, Twin
from deblend_assets.science.field_shear.twin_noise import twin_noise
from deblend_assets.science.simulation.fields import Field, Observation, observed_image, sample_field
from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.settings import FieldSettings, FieldShearSettings, FieldSkySettings, MaskSettings

Redshifts = tuple[float, float] | None
# Streams of random numbers of a field.
_SKY, _SOURCES, NOISE, _DAMAGE = range(4)


class ShearFields:
    """Fields of known shear of the test galaxies.

    Args:
        catalog: galaxies, of the test split alone.
        settings: of the run.
        field: what a field contains; its `pixels` are those of the run.
        masks: artefacts and quality of the mask; none: undamaged images.
    """

    def __init__(
        self, catalog: SkyCatalog, settings: FieldShearSettings, field: FieldSettings, masks: MaskSettings | None
    ) -> None:
        self._catalog, self._settings, self._masks = catalog, settings, masks
        self._field = field.model_copy(update={"pixels": settings.pixels})

    def field(self, which: ShearField) -> Field:
        """The field without shear; the same whenever it is made."""
        side = self._settings.pixels
        skies = FieldSkySettings(name=which.survey, correlated=float(which.correlated))
        sky = sample_sky(skies, (side, side), np.random.default_rng(self.seed(which, _SKY)))
        return sample_field(self._catalog, sky, self._field, np.random.default_rng(self.seed(which, _SOURCES)))

    def twins(self, which: ShearField) -> list[ShearedField]:
        """Its images, in the order of `TWINS`."""
        return self.observed(which, self.field(which))

    def observed(self, which: ShearField, field: Field, redshifts: Redshifts = None) -> list[ShearedField]:
        """The images of a field that is known.

        Args:
            which, field: the field.
            redshifts: see `ShearedField`. Noise moves with the far galaxies, which it changes most.
        """
        sky, seed = field.sky, self.seed(which, NOISE)
        correlations = [band.correlation for band in sky.bands.values()]
        psf = field.psfs.psf_images(*sky.centre, self._settings.psf_side)
        found = []
        for twin in TWINS:
            shear, turns = which.shear(self._settings.shear, twin), int(twin.turned)
            sheared = field.twin(shear=shear, quarter_turns=turns, redshifts=redshifts)
            moves = shear if redshifts is None or redshifts[1] == inf else 0j
            noise = twin_noise(correlations, psf, sky.shape, seed, moves, turns)
            seen = sheared.observe(self.seed(which, _DAMAGE), self._masks, noise=noise.own)
            found.append(ShearedField(twin, sheared, seen, shear, noise.added, redshifts, moves))
        return found

    def seed(self, which: ShearField, stream: int) -> Sequence[int]:
        """Of everything random of a stream; the same for all twins."""
        key = (zlib.crc32(which.survey.encode()), which.number, stream)
        words = np.random.SeedSequence(self._settings.seed, spawn_key=key).generate_state(4)
        return [int(word) for word in words]


@dataclass(frozen=True, eq=False)
class ShearedField:
    """One image of a field.

    Attributes:
        twin: which.
        field: sheared.
        seen: its images.
        shear: reduced shear g1 + i g2, behind the turn.
        white_noise: for methods that add noise, see `TwinNoise`.
        redshifts: of the galaxies that are sheared, from the first up to the second; none: all.
        noise_shear: by which the noise was moved.
    """

    twin: Twin
    field: Field
    seen: Observation
    shear: complex
    white_noise: NDArray[np.float32]
    redshifts: Redshifts
    noise_shear: complex

    def image(self, condition: Condition, psf_side: int, lags: int) -> ObservedImage:
        """What a method is given.

        Args:
            condition: which PSF.
            psf_side: of the PSF's images, odd [pixel].
            lags: largest lag of the noise correlation along an axis [pixel].
        """
        psfs = condition.psfs(self.field.psfs)
        return observed_image(psfs, self.seen, psf_side, lags, quarter_turns=self.field.quarter_turns)


@dataclass(frozen=True)
class Condition:
    """Which PSF the methods are given, and which galaxies are sheared; the PSF of the light is always the sky's.

    Attributes:
        name: in the table of sums.
        words: for readers.
        growth: of the given PSF's size over the true one's.
        e1: distortion added to the given PSF.
        redshifts: see `ShearedField`.
    """

    name: str
    words: str
    growth: float = 0.0
    e1: float = 0.0
    redshifts: Redshifts = None

    def psfs(self, true: PatchPSFs) -> PatchPSFs:
        """The PSFs that are given."""
        return true if not self.growth and not self.e1 else _WrongPSFs(true, self)


EXACT = Condition("exact", "the true PSF")
WRONG = (
    Condition("size_0.1", "PSF given 0.1 % too large", growth=0.001),
    Condition("size_0.3", "PSF given 0.3 % too large", growth=0.003),
    Condition("size_1", "PSF given 1 % too large", growth=0.01),
    Condition("e_0.002", "PSF given with e1 too large by 0.002", e1=0.002),
    Condition("e_0.01", "PSF given with e1 too large by 0.01", e1=0.01),
)
CONDITIONS = {condition.name: condition for condition in (EXACT, *WRONG)}
SLICES = tuple(
    Condition(f"slice_{number}", f"below {high:g}" if high < inf else f"{low:g} and more", redshifts=(low, high))
    for number, (low, high) in enumerate(pairwise(SLICE_EDGES))
)
"""One redshift slice sheared alone; the images as they are suffice, since R is that of `EXACT`."""


class _WrongPSFs(PatchPSFs):
    """PSFs that differ from those of the light."""

    def __init__(self, true: PatchPSFs, condition: Condition) -> None:
        super().__init__(true.sky, true.patches)
        self._condition = condition

    def psfs_of(self, number: int) -> list[galsim.GSObject]:
        wrong = self._condition
        return [psf.dilate(1 + wrong.growth).shear(e1=wrong.e1) for psf in super().psfs_of(number)]
