"""Whole batches of galaxies in Fourier space, in torch: on the CPU, or on a CUDA device.

A galaxy is T(k) = s_d E(k'_d) + s_b V(k'_b) + s_a with E the exponential's transform (1 + k²r₀²)^(-3/2), V the de
Vaucouleurs profile's, tabulated from GalSim, and k' the wave vector in the component's own round frame. T is
evaluated once a galaxy and shared by the bands, each of which multiplies it by its PSF, the pixel and its flux. The
inverse transform is made for the stamp's pixels alone, as two matrix products (ky, then kx), the galaxy's position in
their phases: a stamp is a third of the grid's side, so that this costs less than an FFT of the whole grid, and k
beyond the pixels' Nyquist frequency is aliased as light is. T is real; its parts even and odd in ky go with the cosine
and the sine of the phase, so that a quarter of the plane is all that is multiplied. A PSF that is not its own image
under a turn by 180° (coma, trefoil, an offset centre) has an imaginary part too, odd in k, which takes two more
products.

The grid's step is that of GalSim (`components.grid_sizes`), hence both fold the same light back into the stamp.
Measured against BTK: see docs/rendering.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import galsim
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.simulation.renderers.components import Components, grid_sizes
from deblend_assets.science.simulation.renderers.fourier_grid import CHUNK, Grid, Pixels, on, stamps_of
from deblend_assets.science.simulation.surveys import SurveyModel

# Table of the de Vaucouleurs transform, uniform in ln k²: linear interpolation errs by 1e-7 there.
_LN_LOW, _LN_HIGH, _NODES = float(np.log(1e-8)), float(np.log(1e8)), 1 << 15
_DISC_SCALE = float(galsim.Exponential(half_light_radius=1.0).scale_radius)
# GalSim takes the exponential's transform for 0 below its `kvalue_accuracy`.
_DISC_MAX = galsim.GSParams().kvalue_accuracy ** (-2.0 / 3.0) - 1.0


@lru_cache(maxsize=1)
def _bulge_table() -> NDArray[np.float32]:
    profile = galsim.DeVaucouleurs(half_light_radius=1.0)
    k = np.exp(0.5 * np.linspace(_LN_LOW, _LN_HIGH, _NODES))
    return np.array([profile.kValue(galsim.PositionD(v, 0.0)).real for v in k.tolist()], dtype=np.float32)


class FourierRenderer:
    """See the module, and `renderers.new_galaxy_renderer` for the arguments.

    Args:
        device: where to compute.
    """

    def __init__(
        self,
        catalog: Mapping[str, NDArray],
        magnitudes: NDArray,
        survey: SurveyModel,
        pixels: int,
        shear: complex,
        device: torch.device | str = "cpu",
    ) -> None:
        self.survey, self.pixels, self.shear, self.device = survey, pixels, shear, torch.device(device)
        self.components = Components.of_catalog(catalog, magnitudes, np.asarray(survey.zero_point))
        self._psfs = [survey.btk_survey.get_filter(band).psf for band in survey.bands]
        self._psf_step = min(psf.stepk for psf in self._psfs)
        self._table = torch.from_numpy(_bulge_table()).to(self.device)
        self._grids: dict[int, tuple[Grid, Pixels]] = {}

    def render(self, row: NDArray, x: NDArray, y: NDArray, turn: NDArray) -> NDArray[np.float32]:
        """See `renderers.GalaxyRenderer`; a galaxy's stamp does not depend on the others of the batch."""
        stamps: NDArray[np.float32] = self.render_tensor(row, x, y, turn).cpu().numpy()
        return stamps

    def render_tensor(self, row: NDArray, x: NDArray, y: NDArray, turn: NDArray) -> Tensor:
        """As `render`, left on the device: (G, band, y, x) float32 [electron]."""
        ellipses = self.components.ellipses(row, np.radians(turn), self.shear)
        return self.render_ellipses(row, x, y, ellipses, self.sides(ellipses, x, y))

    def sides(self, ellipses: NDArray, x: NDArray, y: NDArray) -> NDArray[np.int64]:
        """Side of the Fourier grid that each galaxy needs, (G,); see `components.grid_sizes`."""
        return grid_sizes(ellipses, np.hypot(x, y), self._psf_step, self.survey.pixel_scale)

    def render_ellipses(self, row: NDArray, x: NDArray, y: NDArray, ellipses: NDArray, sizes: NDArray) -> Tensor:
        """Galaxies of the catalogue's light in shapes of one's own.

        Args:
            row, x, y: see `renderers.GalaxyRenderer`.
            ellipses: of disc and bulge, in place of the catalogue's, (G, 2, 3); see `Components.ellipses`.
            sizes: see `sides`, (G,). Of two grids each folds a little light of its own back into the stamp: what is
                to be compared has to be drawn on one.

        Returns:
            (G, band, y, x) float32 [electron], on the device.
        """
        share = self.components.share[row]
        # Galaxies of one grid and of the same components lie together: they are slices then, not scattered rows.
        order = np.lexsort((share[:, 1] > 0, share[:, 0] > 0, sizes))
        stamps = torch.empty((len(row), len(self._psfs), self.pixels, self.pixels), device=self.device)
        first = 0
        while first < len(order):
            side = int(sizes[order[first]])
            grid, pixels = self._grid(side)
            alike = int(np.searchsorted(sizes[order], side, side="right"))
            last = min(alike, first + max(1, int(CHUNK[self.device.type] / grid.product.numel())))
            chosen = order[first:last]
            light = self._render(grid, pixels, ellipses[chosen], share[chosen], x[chosen], y[chosen])
            flux = self._put(self.components.flux[row[chosen]])
            torch.mul(light, flux[:, :, None, None], out=stamps[first:last])
            first = last
        return stamps[torch.from_numpy(np.argsort(order)).to(self.device)]

    def _put(self, values: NDArray) -> Tensor:
        return on(self.device, values)

    def _grid(self, side: int) -> tuple[Grid, Pixels]:
        if side not in self._grids:
            scale = self.survey.pixel_scale
            grid = Grid.of_psfs(self._psfs, side, scale, self.device)
            self._grids[side] = grid, Pixels.of_grid(grid, self.pixels, scale)
        return self._grids[side]

    def _render(self, grid: Grid, pixels: Pixels, ellipses: NDArray, share: NDArray, x: NDArray, y: NDArray) -> Tensor:
        """Stamps of unit flux of galaxies sorted by their components; (G, band, y, x)."""
        even, odd = self._light(grid, ellipses, share)
        side, bands = len(grid.k), len(self._psfs)

        def with_psf(light: Tensor, other: Tensor, alike: Tensor | None, unlike: Tensor | None) -> Tensor | None:
            """(G, ky, band × kx); none where the PSF has no such part."""
            spectrum = None if alike is None else light.view(-1, side, 1, side) * alike
            if unlike is not None:
                second = other.view(-1, side, 1, side)
                spectrum = second * unlike if spectrum is None else spectrum.addcmul_(second, unlike)
            return None if spectrum is None else spectrum.view(len(light), side, bands * side)

        real, imaginary = (grid.even, grid.odd), (grid.even_imaginary, grid.odd_imaginary)
        first = with_psf(even, odd, *real)
        assert first is not None
        spectra = (first, with_psf(odd, even, *real), with_psf(even, odd, *imaginary), with_psf(odd, even, *imaginary))
        return stamps_of(spectra, pixels.phases(grid, x), pixels.phases(grid, y), bands)

    def _light(self, grid: Grid, ellipses: NDArray, share: NDArray) -> tuple[Tensor, Tensor]:
        """T(kx, ky) ± T(kx, -ky) of galaxies of unit flux, two of (G, K)."""
        above = self._put(share[:, 2])[:, None].repeat(1, grid.product.numel())
        below = above.clone()
        for component, transform in enumerate((self._disc, self._bulge)):
            # Sorted by whether they have a disc, then a bulge: at most two runs of each.
            has = share[:, component] > 0
            edges = np.flatnonzero(np.diff(np.concatenate([[False], has, [False]]).astype(np.int8)))
            for first, last in zip(edges[::2], edges[1::2], strict=True):
                q = self._put(ellipses[first:last, component])
                common = (q[:, :1] * grid.squares[0]).addcmul_(q[:, 2:], grid.squares[1])
                mixed = q[:, 1:2] * grid.product
                weight = self._put(share[first:last, component])[:, None]
                above[first:last].addcmul_(weight, transform((common + mixed).clamp_(min=0.0)))
                # Rounding may leave -1e-7 of a long galaxy's k'^2 along its axis.
                below[first:last].addcmul_(weight, transform((common - mixed).clamp_(min=0.0)))
        return above + below, above - below

    @staticmethod
    def _disc(k2: Tensor) -> Tensor:
        scaled = k2 * _DISC_SCALE**2
        root = (scaled + 1.0).rsqrt_()
        return (root * root * root).masked_fill_(scaled > _DISC_MAX, 0.0)

    def _bulge(self, k2: Tensor) -> Tensor:
        place = k2.clamp_(min=1.1e-8).log_().sub_(_LN_LOW).mul_((_NODES - 1) / (_LN_HIGH - _LN_LOW))
        below = place.to(torch.int32).clamp_(max=_NODES - 2)
        return torch.lerp(self._table[below], self._table[below + 1], place - below)
