"""The noiseless light of a field: galaxies and stars behind the PSF of a sky, which varies over the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.cosmos import RealImages
from deblend_assets.science.simulation.galaxies import Galaxies
from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.simulation.renderers.galaxies import GalaxiesRenderer, unfolded_side
from deblend_assets.science.skies.psf import ConstantPSF, PSFModel
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.source_light import SourceLight


@dataclass(frozen=True)
class Squares:
    """Sources that are seen through one PSF set, on squares of one side which hold their light.

    Attributes:
        rows: which of the sources, (R,).
        x, y: pixel of the field on which each square's first pixel lies, (R,).
        side: of the squares [pixel].
    """

    rows: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    side: int
    _renderer: GalaxiesRenderer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: slice | NDArray) -> Squares:
        """Some of the squares."""
        return replace(self, rows=self.rows[chosen], x=self.x[chosen], y=self.y[chosen])

    def drawn(self, galaxies: Galaxies, x: NDArray, y: NDArray, *, grid: int | None = None) -> NDArray[np.float32]:
        """Each source alone on its square, (R, band, y, x) [image unit].

        Args:
            galaxies, x, y: of the squares, (R,); they may differ a little from those that the squares were made for.
            grid: see `GalaxiesRenderer.stamps`.
        """
        at = [v - low - (self.side - 1) / 2 for v, low in ((x, self.x), (y, self.y))]
        stamps: NDArray[np.float32] = self._renderer.stamps(galaxies, at[0], at[1], self.side, grid=grid).cpu().numpy()
        return stamps

    @property
    def grid(self) -> int:
        """Side of a Fourier grid that folds no light into the squares."""
        return unfolded_side(self.side)


class FieldRenderer(PatchPSFs):
    """Renders fields of one sky.

    All sources of a patch are seen through the PSFs at its centre; `psfs` gives these PSFs, so that the PSF given for a
    position is exactly the one of its light.

    Args:
        sky: bands, PSFs, zero points, pixel scale, shape.
        patches: a side; one is used where no band's PSF varies.
        least: light a pixel below which a source is cut off, in σ of a pixel of the sky.
        images: where the images of `Morphology.REAL` are; needed for those galaxies alone.
        device: where to compute.

    Raises:
        SettingsError: fewer patches than one, or `least` that is not positive.
    """

    def __init__(
        self,
        sky: Sky,
        patches: int = 4,
        *,
        least: float = 0.01,
        images: RealImages | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if patches < 1 or not least > 0:
            raise SettingsError(
                f"{patches} patches a side and light down to {least} σ",
                where="FieldRenderer",
                remedy="give at least one patch, and a positive limit",
            )
        varies = any(not isinstance(band.psf, PSFModel | ConstantPSF) for band in sky.bands.values())
        super().__init__(sky, patches if varies else 1)
        self._least = (least * sky.column("sigma")).tolist()
        self._images, self._device = images, device
        self._renderers: dict[int, GalaxiesRenderer] = {}

    def light(self, galaxies: Galaxies, x: NDArray, y: NDArray) -> NDArray[np.float32]:
        """The light of all sources, without noise.

        Args:
            galaxies: G of them, stars included; those off the image add the light that reaches it.
            x, y: positions from 0 at the centre of the first pixel [pixel], (G,).

        Returns:
            (band, y, x) float32 [image unit].
        """
        total = np.zeros((len(self.sky.bands), *self.sky.shape), np.float32)
        patch = self.patch(x, y)
        for number in np.unique(patch):
            rows = np.flatnonzero(patch == number)
            total += self._renderer(int(number)).image(galaxies[rows], x[rows], y[rows], self.sky.shape, self._least)
        return total

    def alone(self, galaxies: Galaxies, x: NDArray, y: NDArray, pixels: int) -> NDArray[np.float32]:
        """Every source alone, without noise, on a stamp around it.

        Args:
            galaxies, x, y: see `light`.
            pixels: side of the stamps, odd; the middle pixel is the one nearest to the source.

        Returns:
            (G, band, y, x) float32 [image unit]: the light of the source in the pixels of the field.
        """
        stamps = np.zeros((len(galaxies), len(self.sky.bands), pixels, pixels), np.float32)
        patch = self.patch(x, y)
        for number in np.unique(patch):
            rows = np.flatnonzero(patch == number)
            dx, dy = (values[rows] - np.round(values[rows]) for values in (x, y))
            stamps[rows] = self._renderer(int(number)).stamps(galaxies[rows], dx, dy, pixels, self._least).cpu().numpy()
        return stamps

    def pieces(self, galaxies: Galaxies, x: NDArray, y: NDArray) -> list[SourceLight]:
        """Each source alone, on a square that holds its light; the squares are not cut at the image's edges.

        Args:
            galaxies, x, y: see `light`.
        """
        found: dict[int, SourceLight] = {}
        for squares in self.squares(galaxies, x, y):
            stamps = squares.drawn(galaxies[squares.rows], x[squares.rows], y[squares.rows])
            for stamp, row, left, bottom in zip(stamps, squares.rows, squares.x, squares.y, strict=True):
                found[int(row)] = SourceLight(stamp, int(left), int(bottom))
        return [found[k] for k in range(len(galaxies))]

    def pieces_of_light(self, galaxies: Galaxies, x: NDArray, y: NDArray) -> list[SourceLight]:
        """The same on the Fourier grids of `light`, which is the sum of these pieces; without a pixel off the image.

        A piece of `pieces` may have half a per cent of its light folded back into its square.

        Args:
            galaxies, x, y: see `light`.
        """
        height, width = self.sky.shape
        nothing = SourceLight(np.zeros((len(self.sky.bands), 0, 0), np.float32), 0, 0)
        found = [nothing] * len(galaxies)
        for whole in self.squares(galaxies, x, y):
            beside = (
                (whole.x + whole.side <= 0) | (whole.x >= width) | (whole.y + whole.side <= 0) | (whole.y >= height)
            )
            squares = whole[~beside]
            if not len(squares):
                continue
            stamps = squares.drawn(galaxies[squares.rows], x[squares.rows], y[squares.rows], grid=squares.grid)
            for stamp, row, left, bottom in zip(stamps, squares.rows, squares.x, squares.y, strict=True):
                found[int(row)] = SourceLight(stamp, int(left), int(bottom))
        return found

    def squares(self, galaxies: Galaxies, x: NDArray, y: NDArray) -> Iterator[Squares]:
        """Where the light of each source lies, those of one PSF set and one side together.

        Args:
            galaxies, x, y: see `light`.
        """
        patch = self.patch(x, y)
        for number in np.unique(patch):
            rows = np.flatnonzero(patch == number)
            renderer = self._renderer(int(number))
            sides = renderer.stamp_sides(galaxies[rows], self._least)
            for side in np.unique(sides):
                some = rows[sides == side]
                left, bottom = (np.round(v[some] - (side - 1) / 2).astype(np.int64) for v in (x, y))
                yield Squares(some, left, bottom, int(side), renderer)

    def _renderer(self, number: int) -> GalaxiesRenderer:
        if number not in self._renderers:
            self._renderers[number] = GalaxiesRenderer(
                self.sky.names,
                self.sky.column("zero_point").tolist(),
                self.psfs_of(number),
                self.sky.pixel_scale,
                images=self._images,
                device=self._device,
                like=next(iter(self._renderers.values()), None),
            )
        return self._renderers[number]
