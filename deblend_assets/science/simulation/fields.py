"""A field: its sky, its sources, their light without noise, and its images as a telescope gives them.

The light is kept; images are made from it as often as they are wanted, each time with other noise, artefacts and masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation.cosmos import RealImages
from deblend_assets.science.simulation.renderers.galaxies import GalaxiesRenderer
from deblend_assets.science.simulation.sources import SkyCatalog, Sources, sample_sources
from deblend_assets.science.skies.artefacts import sample_artefacts
from deblend_assets.science.skies.masks import Damage
from deblend_assets.science.skies.psf import PSFModel
from deblend_assets.science.skies.saturation import saturate
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.settings import FieldSettings, MaskSettings

# Of a sky pixel's σ: a source's light is cut off where no band has more.
_LEAST_LIGHT = 0.01


class SourceLight(NamedTuple):
    """The noiseless light of one source on a rectangle of a field.

    Attributes:
        light: (band, y, x) float32 [image unit].
        x, y: pixel of the field on which the first pixel lies; may be negative.
    """

    light: NDArray[np.float32]
    x: int
    y: int


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


class FieldRenderer:
    """Renders the sources of fields of one sky.

    The PSF is constant within each of `cells` × `cells` parts of the field: a source is seen through that of its part.

    Args:
        sky: bands, PSFs, image shape, pixel scale.
        cells: along an axis; one is enough where no band's PSF varies.
        images: of `Morphology.REAL`, needed for those galaxies alone.
        device: where to compute.
    """

    def __init__(self, sky: Sky, cells: int, *, images: RealImages | None = None, device: str = "cpu") -> None:
        varies = any(not isinstance(band.psf, PSFModel) for band in sky.bands.values())
        self.sky, self.cells = sky, cells if varies else 1
        self._images, self._device = images, device
        self._renderers: dict[tuple[int, int], GalaxiesRenderer] = {}
        self._psf_images: dict[tuple[int, int, int], NDArray[np.float32]] = {}
        self.least = _LEAST_LIGHT * sky.column("sigma")

    def cell(self, x: NDArray, y: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Column and row of the part of the field that positions [pixel] are in, or nearest to; of the shape of x."""
        height, width = self.sky.shape
        column, row = (
            np.clip(np.floor((np.asarray(v) + 0.5) / side * self.cells), 0, self.cells - 1).astype(np.int64)
            for v, side in ((x, width), (y, height))
        )
        return column, row

    def psfs(self, x: float, y: float) -> list[galsim.GSObject]:
        """PSF of each band through which a source at a position [pixel] is seen, before the pixel [arcsec]."""
        column, row = self.cell(np.array(x), np.array(y))
        return self._psfs(int(column), int(row))

    def psf_images(self, x: float, y: float, side: int) -> NDArray[np.float32]:
        """The same, pixel included, on `side` × `side` pixels, centred on the middle one; (band, y, x) float32."""
        column, row = (int(v) for v in self.cell(np.array(x), np.array(y)))
        if (column, row, side) not in self._psf_images:
            rendered = [psf.drawImage(nx=side, ny=side, scale=self.sky.pixel_scale) for psf in self._psfs(column, row)]
            self._psf_images[column, row, side] = np.stack([image.array for image in rendered]).astype(np.float32)
        return self._psf_images[column, row, side]

    def _psfs(self, column: int, row: int) -> list[galsim.GSObject]:
        height, width = self.sky.shape
        x, y = ((k + 0.5) * side / self.cells - 0.5 for k, side in ((column, width), (row, height)))
        return self.sky.psfs(x, y)

    def _parts(self, x: NDArray, y: NDArray) -> Iterator[tuple[GalaxiesRenderer, NDArray[np.int64]]]:
        """The renderer of each part of the field, and the rows of the sources in it."""
        column, row = self.cell(x, y)
        for number in np.unique(row * self.cells + column):
            place = (int(number % self.cells), int(number // self.cells))
            if place not in self._renderers:
                self._renderers[place] = GalaxiesRenderer(
                    self.sky.names,
                    list(self.sky.column("zero_point")),
                    self._psfs(*place),
                    self.sky.pixel_scale,
                    images=self._images,
                    device=self._device,
                )
            yield self._renderers[place], np.flatnonzero(row * self.cells + column == number)

    def light(self, sources: Sources) -> NDArray[np.float32]:
        """All sources on one image, without noise; (band, y, x) float32 [image unit]."""
        total = np.zeros((len(self.sky.bands), *self.sky.shape), np.float32)
        for renderer, rows in self._parts(sources.x, sources.y):
            x, y = sources.x[rows], sources.y[rows]
            total += renderer.image(sources.bodies[rows], x, y, self.sky.shape, list(self.least))
        return total

    def pieces(self, sources: Sources) -> list[SourceLight]:
        """Each source alone, on a square that holds its light; the squares are not cut at the image's edges."""
        found: dict[int, SourceLight] = {}
        for renderer, rows in self._parts(sources.x, sources.y):
            sides = renderer.stamp_sides(sources.bodies[rows], list(self.least))
            for side in np.unique(sides):
                some = rows[sides == side]
                corner = [np.round(v[some] - (side - 1) / 2).astype(np.int64) for v in (sources.x, sources.y)]
                at = [v[some] - low - (side - 1) / 2 for v, low in zip((sources.x, sources.y), corner, strict=True)]
                stamps = renderer.stamps(sources.bodies[some], at[0], at[1], int(side)).cpu().numpy()
                for k, source in enumerate(some):
                    found[int(source)] = SourceLight(stamps[k], int(corner[0][k]), int(corner[1][k]))
        return [found[k] for k in range(len(sources))]


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

    @cached_property
    def light(self) -> NDArray[np.float32]:
        """The sources' light, (band, y, x) float32 [image unit]; rendered at its first use."""
        return self.renderer.light(self.sources)

    @property
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

    def observe(self, seed: int | Sequence[int], masks: MaskSettings | None = None) -> Observation:
        """Images with noise of sky and sources, artefacts and saturated stars, and the mask.

        Args:
            seed: of everything random; the same gives the same bytes, and twins of one field the same noise.
            masks: artefacts and quality of the mask; none: an undamaged image, nothing masked.
        """
        noise, artefacts, full = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
        images = self.sky.expose(self.light, noise, quarter_turns=self.quarter_turns)
        damage = Damage.none(self.light.shape)
        if masks is not None:
            damage = sample_artefacts(self.sky, masks, artefacts) | saturate(self.sky, self.light, masks, full)
        variance = np.broadcast_to(self.sky.column("sigma")[:, None, None] ** 2, self.light.shape)
        return Observation(damage.apply(images), damage.inverse_variance(variance), damage)

    def observed_image(self, seen: Observation, psf_side: int, lags: int = 6) -> ObservedImage:
        """An observation with all that it was observed with, to cut stamps from.

        x of the pixels is west and y north; there is no position on the sky. The noise correlation of a field that was
        turned is turned as its noise is.

        Args:
            seen: of this field.
            psf_side: of the PSFs' images, odd [pixel].
            lags: largest lag of the noise correlation along an axis [pixel].
        """
        jacobian = self.sky.pixel_scale * np.eye(2)
        return ObservedImage(
            bands=self.sky.names,
            pixels=seen.images,
            inverse_variance=seen.inverse_variance,
            mask=seen.mask,
            psf=lambda x, y: self.renderer.psf_images(x, y, psf_side),
            noise_correlation=np.stack(
                [np.rot90(band.correlation.lags(lags), -self.quarter_turns) for band in self.sky.bands.values()]
            ),
            zero_point=self.sky.column("zero_point"),
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
    return Field(FieldRenderer(sky, settings.psf_cells, images=images, device=device), sources)
