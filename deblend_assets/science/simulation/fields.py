"""A field: its sky, its sources, their light without noise, and its images as a telescope gives them.

The light is kept; images are made from it as often as they are wanted, each time with other noise, artefacts and masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation.cosmos import RealImages
from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.simulation.sources import SkyCatalog, Sources, sample_sources
from deblend_assets.science.skies.artefacts import sample_artefacts
from deblend_assets.science.skies.masks import Damage
from deblend_assets.science.skies.saturation import saturate
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.settings import FieldSettings, MaskSettings


@dataclass(frozen=True)
class Observation:
    """Images of a field.

    Attributes:
        images: (band, y, x) float32 [image unit].
        inverse_variance: of the sky's noise, 0 where the mask has a bit, (band, y, x) float32. It leaves out photons of
            sources, from which the noiseless light could be read.
        damage: pixels that artefacts touch, and the mask.
    """

    images: NDArray[np.float32]
    inverse_variance: NDArray[np.float32]
    damage: Damage

    @property
    def mask(self) -> NDArray[np.uint16]:
        """`MaskBit` of every pixel in the mask, (band, y, x)."""
        return self.damage.mask


@dataclass(frozen=True, eq=False)
class Field:
    """A field without noise.

    Attributes:
        renderer: of its sky.
        sources: galaxies and stars; what lies outside the image too.
        quarter_turns: how often the field, with its noise, was turned by 90° from +x to +y.
    """

    renderer: FieldRenderer
    sources: Sources
    quarter_turns: int = 0

    @property
    def sky(self) -> Sky:
        """What it is observed with."""
        return self.renderer.sky

    @property
    def psfs(self) -> PatchPSFs:
        """The PSFs of its patches."""
        return self.renderer

    @cached_property
    def light(self) -> NDArray[np.float32]:
        """The sources' light, (band, y, x) float32 [image unit]; rendered at its first use."""
        return self.renderer.light(self.sources.bodies, self.sources.x, self.sources.y)

    @cached_property
    def truth(self) -> pd.DataFrame:
        """One row a source; see `sources.TRUTH_COLUMNS`."""
        return self.sources.truth(self.sky)

    def twin(
        self, *, shear: complex = 0j, quarter_turns: int = 0, redshifts: tuple[float, float] | None = None
    ) -> Field:
        """The same sources, turned, then sheared; observed with the same seed it has the same noise.

        Two twins of ±shear differ by it alone. In twins turned by 90° the sources and the noise turn, so that shapes
        and pixel noise cancel in their mean; PSF, residual of the sky and artefacts stay.

        Args:
            shear: reduced shear g1 + i g2 of shapes and positions of galaxies, about the image's centre; stars stay.
            quarter_turns: turns by 90° from +x to +y about the centre; an odd number needs a square image.
            redshifts: shear galaxies of redshifts from the first up to the second alone.

        Raises:
            MismatchError: a turn of an image that is not square.
        """
        if quarter_turns % 2 and self.sky.shape[0] != self.sky.shape[1]:
            raise MismatchError(
                f"an image of {self.sky.shape} pixels has no twin turned by 90 degrees",
                where="Field.twin",
                remedy="use square fields",
            )
        turned = self.sources.turned(quarter_turns, self.sky.centre) if quarter_turns else self.sources
        lensed = turned.sheared(shear, self.sky.centre, redshifts) if shear else turned
        return Field(self.renderer, lensed, (self.quarter_turns + quarter_turns) % 4)

    def lit(self, light: NDArray[np.float32]) -> Field:
        """The same field, whose light is known.

        Args:
            light: that which `light` would be, such as the sum of its sources.
        """
        known = replace(self)
        known.__dict__["light"] = light  # where the cached property keeps it
        return known

    def observe(
        self,
        seed: int | Sequence[int],
        masks: MaskSettings | None = None,
        *,
        noise: NDArray[np.floating] | None = None,
    ) -> Observation:
        """See `observe`; twins of one field have the same noise."""
        return observe(self.sky, self.light, seed, masks, quarter_turns=self.quarter_turns, noise=noise)

    def observed_image(self, seen: Observation, psf_side: int, lags: int = 6) -> ObservedImage:
        """See `observed_image`."""
        return observed_image(self.renderer, seen, psf_side, lags, quarter_turns=self.quarter_turns)


def observe(
    sky: Sky,
    light: NDArray[np.float32],
    seed: int | Sequence[int],
    masks: MaskSettings | None = None,
    *,
    quarter_turns: int = 0,
    noise: NDArray[np.floating] | None = None,
) -> Observation:
    """Images with noise of sky and sources, artefacts and saturated stars, and the mask.

    Args:
        sky: what is observed with.
        light: of the sources, (band, y, x) float32 [image unit].
        seed: of everything random; the same gives the same bytes.
        masks: artefacts and quality of the mask; none: an undamaged image, nothing masked.
        quarter_turns: see `Field`.
        noise: see `unit` of `Sky.noise`.
    """
    own, artefacts, full = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    images = sky.expose(light, own, quarter_turns=quarter_turns, unit=noise)
    damage = Damage.none(light.shape)
    if masks is not None:
        damage = sample_artefacts(sky, masks, artefacts) | saturate(sky, light, masks, full)
    variance = np.broadcast_to(sky.column("sigma")[:, None, None] ** 2, light.shape)
    return Observation(damage.apply(images), damage.inverse_variance(variance), damage)


def observed_image(
    psfs: PatchPSFs, seen: Observation, psf_side: int, lags: int = 6, *, quarter_turns: int = 0
) -> ObservedImage:
    """An observation with all that it was observed with, to cut stamps from.

    x of the pixels is west and y north; there is no position on the sky. The noise correlation of a field that was
    turned is turned as its noise is.

    Args:
        psfs: of the field's patches, and their sky.
        seen: of this field.
        psf_side: of the PSFs' images, odd [pixel].
        lags: largest lag of the noise correlation along an axis [pixel].
        quarter_turns: see `Field`.
    """
    sky = psfs.sky
    jacobian = sky.pixel_scale * np.eye(2)
    return ObservedImage(
        bands=sky.names,
        pixels=seen.images,
        inverse_variance=seen.inverse_variance,
        mask=seen.mask,
        psf=lambda x, y: psfs.psf_images(x, y, psf_side),
        noise_correlation=np.stack(
            [np.rot90(band.correlation.lags(lags), -quarter_turns) for band in sky.bands.values()]
        ),
        zero_point=sky.column("zero_point"),
        jacobian=lambda x, y: jacobian,
    )


def sample_field(
    catalog: SkyCatalog,
    sky: Sky,
    settings: FieldSettings,
    rng: np.random.Generator,
    *,
    images: RealImages | None = None,
    device: str = "cpu",
) -> Field:
    """A random field under a sky.

    Args:
        catalog: galaxies.
        sky: what it is observed with; its shape is the field's.
        settings: what it contains.
        rng: random numbers; the same give the same field.
        images: of `Morphology.REAL`, where the catalogue has those.
        device: where to render.
    """
    sources = sample_sources(catalog, sky, settings, rng)
    return Field(FieldRenderer(sky, patches=settings.psf_cells, images=images, device=device), sources)
