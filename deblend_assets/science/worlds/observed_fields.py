"""A field of known truth after one observation: what was detected in it, and what is true of each detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import Detections, detect
from deblend_assets.science.detection.light import nearby, sum_weights
from deblend_assets.science.detection.truth import NEAR_FWHM, DetectionTruth, match
from deblend_assets.science.simulation.fields import Field, Observation
from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.worlds.sources_alone import RenderedAlone, SourcesAlone
from deblend_assets.settings import DetectionSettings, MaskSettings

# Pixels: the noise of coadds reaches some five pixels, beyond which its correlation is below a hundredth.
_LAGS = 6


class LitField(Protocol):
    """A field whose light and truth are known: a `Field`, or a kept one."""

    @property
    def sky(self) -> Sky:
        """What it is observed with."""
        ...

    @property
    def psfs(self) -> PatchPSFs:
        """The PSFs of its patches."""
        ...

    @property
    def light(self) -> NDArray[np.float32]:
        """The sources' light, (band, y, x) float32 [image unit]."""
        ...

    @property
    def truth(self) -> pd.DataFrame:
        """One row a source; see `sources.TRUTH_COLUMNS`."""
        ...

    def observe(self, seed: int | Sequence[int], masks: MaskSettings | None = None) -> Observation:
        """See `fields.observe`."""
        ...

    def observed_image(self, seen: Observation, psf_side: int, lags: int = 6) -> ObservedImage:
        """See `fields.observed_image`."""
        ...


FieldT = TypeVar("FieldT", bound=LitField)
FieldT_co = TypeVar("FieldT_co", bound=LitField, covariant=True)


@dataclass(frozen=True, eq=False)
class ObservedField(Generic[FieldT_co]):
    """A field after one observation.

    Attributes:
        field: its sky and sources, S of them.
        seen: the images.
        alone: what is true of each source alone.
        snr: true S/N of each source over all bands, (S,); see `SourcesAlone.snr`.
        detections: D of them.
        truth: of the detections.
    """

    field: FieldT_co
    seen: Observation
    alone: SourcesAlone
    snr: NDArray[np.float64]
    detections: Detections
    truth: DetectionTruth


def observe_field(
    field: Field, seed: int | Sequence[int], masks: MaskSettings | None, detection: DetectionSettings
) -> ObservedField[Field]:
    """Expose a field, detect in its images, and find out what is true of the detections.

    Args:
        field: what is observed; its sources are rendered one by one.
        seed: of noise and artefacts, see `Field.observe`.
        masks: artefacts and quality of the mask; none: an undamaged image.
        detection: how sources are detected.
    """
    alone = RenderedAlone.of(field)
    return observe_known(field.lit(alone.light), alone, seed, masks, detection)


def observe_known(
    field: FieldT,
    alone: SourcesAlone,
    seed: int | Sequence[int],
    masks: MaskSettings | None,
    detection: DetectionSettings,
) -> ObservedField[FieldT]:
    """`observe_field` where the truth of each source alone is known.

    Args:
        field, seed, masks, detection: see `observe_field`.
        alone: of its sources.
    """
    sky, sources = field.sky, field.truth
    seen = field.observe(seed, masks)
    correlations = noise_lags(sky)
    found = detect(
        seen.images,
        seen.inverse_variance,
        fwhm_pixels(sky),
        sky.names,
        detection,
        zero_points=sky.column("zero_point").tolist(),
        noise_correlation=correlations,
    )
    x, y = (found.table[name].to_numpy() for name in "xy")
    weights, _ = sum_weights(seen.inverse_variance, sky.column("zero_point").tolist())
    areas = np.array([band.correlation.area for band in sky.bands.values()])
    circle = np.pi * found.fwhm**2
    noise = float(np.sqrt(circle * ((weights * sky.column("sigma")) ** 2 * areas).sum()))
    truth = match(
        alone.light_within(x, y, found.fwhm, weights),
        nearby(x, y, sources["x"].to_numpy(), sources["y"].to_numpy(), NEAR_FWHM * found.fwhm),
        sources["star"].to_numpy(),
        noise,
    )
    return ObservedField(field, seen, alone, alone.snr(seen.inverse_variance, correlations), found, truth)


def fwhm_pixels(sky: Sky) -> list[float]:
    """FWHM of each band's PSF at the centre of a sky's images [pixel]."""
    return [sky.measured_psf(band).shape.fwhm / sky.pixel_scale for band in sky.names]


def noise_lags(sky: Sky) -> list[NDArray[np.float64] | None]:
    """Correlation of each band's noise at the first lags; none where it is white."""
    return [None if band.correlation.white else band.correlation.lags(_LAGS) for band in sky.bands.values()]
