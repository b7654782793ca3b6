"""Galaxies of any morphology in Fourier space, whole batches at once: stamps, and whole images of a field.

As `fourier`, for `Galaxies`: a Sérsic profile's transform is tabulated over n and k (`sersic.transform_table`), knots
are sums of phases, as one matrix product over the knots, and a bulge of its own colour is mixed with the disc band by
band before the PSF. Real images are transformed by GalSim, one by one. Fluxes are not rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import galsim
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation import sersic
from deblend_assets.science.simulation.cosmos import RealImages
from deblend_assets.science.simulation.galaxies import BULGE, DISC, KNOTS, Galaxies, Morphology
from deblend_assets.science.simulation.renderers.components import grid_sizes
from deblend_assets.science.simulation.renderers.fourier_grid import (
    CHUNK,
    Grid,
    Pixels,
    on,
    reach_of,
    stamps_of,
    transform,
)

STAMP_SIDES = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Sides of the stamps that a field is made of [pixel]."""
_KEPT_GRID = 256
_DISC_SCALE = float(galsim.Exponential(half_light_radius=1.0).scale_radius)

# A part of the spectrum for each of: real and even in ky, real and odd, imaginary and even, imaginary and odd.
Parts = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
Spectra = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
Side = TypeVar("Side", int, NDArray[np.int64])


@lru_cache(maxsize=4)
def _table(device: torch.device) -> Tensor:
    return torch.from_numpy(sersic.transform_table()[2]).to(device)


class GalaxiesRenderer:
    """Renders galaxies seen through one PSF a band, without noise.

    Args:
        bands: names, of u, g, r, i, z, y in either case; (band,).
        zero_points: AB magnitude of one unit of the images, (band,).
        psfs: of the bands, of unit flux, arcsec; any GalSim profile.
        pixel_scale: [arcsec].
        images: where the images of `Morphology.REAL` are; needed for those galaxies alone.
        device: where to compute.
        like: a renderer of nearly the same PSFs, whose extent in real and Fourier space is taken instead of measured.
    """

    def __init__(
        self,
        bands: Sequence[str],
        zero_points: Sequence[float],
        psfs: Sequence[galsim.GSObject],
        pixel_scale: float,
        *,
        images: RealImages | None = None,
        device: torch.device | str = "cpu",
        like: GalaxiesRenderer | None = None,
    ) -> None:
        if not len(bands) == len(zero_points) == len(psfs):
            raise MismatchError(
                f"{len(bands)} bands, {len(zero_points)} zero points and {len(psfs)} PSFs",
                where="GalaxiesRenderer",
                remedy="give one of each a band",
            )
        self.bands, self.zero_points, self.pixel_scale = tuple(bands), tuple(zero_points), pixel_scale
        self.images, self.device = images, torch.device(device)
        self._psfs = list(psfs)
        self._psf_step = min(psf.stepk for psf in self._psfs)
        self._reach: float = reach_of(self._psfs, pixel_scale) if like is None else like._reach
        self._grids: dict[int, Grid] = {}
        self._pixels: dict[tuple[int, int], Pixels] = {}
        self._psf_edges: NDArray | None = None if like is None else like._psf_at_edges()

    def stamps(
        self,
        galaxies: Galaxies,
        x: NDArray,
        y: NDArray,
        pixels: int,
        least: Sequence[float] | None = None,
        *,
        grid: int | None = None,
    ) -> Tensor:
        """Every galaxy alone on a stamp of its own.

        Args:
            galaxies: G of them.
            x, y: where its centre is from the stamp's [pixel], (G,).
            pixels: side of the stamps.
            least: light a pixel that may be folded back into the stamps from beyond them, (band,) [unit of the images];
                by default half a per cent of the galaxy's, as GalSim does. Small galaxies take a quarter of the time.
            grid: side of every galaxy's Fourier grid [pixel], instead of what `least` asks for: light that changes
                with a galaxy's parameters changes smoothly on one grid alone. See `unfolded_side`.

        Returns:
            (G, band, y, x) float32, on the device; a stamp does not depend on the others but by rounding.
        """
        x, y = (np.asarray(values, np.float64) * self.pixel_scale for values in (x, y))
        if grid is not None:
            sizes = np.full(len(galaxies), grid)
        elif least is None:
            sizes = self._grid_sides(galaxies, np.hypot(x, y), pixels)
        else:
            sizes = unfolded_side(np.maximum(self.stamp_sides(galaxies, least), pixels))
        flux = galaxies.flux_in(self.bands, self.zero_points)
        kinds = _kinds(galaxies, flux)
        order = np.lexsort((kinds, sizes))
        stamps = torch.empty((len(galaxies), len(self._psfs), pixels, pixels), device=self.device)
        first = 0
        while first < len(order):
            side, kind = int(sizes[order[first]]), int(kinds[order[first]])
            waves, centre = self._grid(side, pixels)
            most = max(1, int(CHUNK[self.device.type] / waves.product.numel()))
            rows = order[first : first + most]
            rows = rows[(sizes[rows] == side) & (kinds[rows] == kind)]
            spectra = self._spectra(waves, galaxies[rows], flux[rows], kind)
            phases = [centre.phases(waves, values[rows]) for values in (x, y)]
            stamps[torch.from_numpy(rows).to(self.device)] = stamps_of(spectra, phases[0], phases[1], len(self._psfs))
            first += len(rows)
        return stamps

    def image(
        self, galaxies: Galaxies, x: NDArray, y: NDArray, shape: tuple[int, int], least: Sequence[float]
    ) -> NDArray[np.float32]:
        """All galaxies on one image.

        Args:
            galaxies: G of them; those off the image add the light that reaches it.
            x, y: positions from 0 at the centre of the first pixel [pixel], (G,).
            shape: (y, x) of the image.
            least: light a pixel below which a galaxy is cut off, (band,) [unit of the images]: a hundredth of the
                noise of a pixel is never seen. A stamp is as large as its brightest band needs.

        Returns:
            (band, y, x) float32.
        """
        total = np.zeros((len(self._psfs), *shape), np.float32)
        sides = self.stamp_sides(galaxies, least)
        for side in np.unique(sides):
            rows = np.flatnonzero(sides == side)
            corner = [np.round(values[rows] - (side - 1) / 2).astype(np.int64) for values in (x, y)]
            seen = np.ones(len(rows), bool)
            for low, length in zip(corner, shape[::-1], strict=True):
                seen &= (low + side > 0) & (low < length)
            rows, (left, bottom) = rows[seen], [values[seen] for values in corner]
            # Only as many stamps at a time as fit into some 100 MB.
            for some in np.array_split(
                np.arange(len(rows)), max(1, len(rows) * len(self._psfs) * side**2 // 25_000_000)
            ):
                if len(some):
                    at = [values[rows[some]] - low[some] - (side - 1) / 2 for values, low in ((x, left), (y, bottom))]
                    stamps = self.stamps(galaxies[rows[some]], at[0], at[1], int(side), least).cpu().numpy()
                    _add(total, stamps, left[some], bottom[some])
        return total

    def stamp_sides(self, galaxies: Galaxies, least: Sequence[float]) -> NDArray[np.int64]:
        """Side of the stamp that holds each galaxy where it is brighter than `least`, of `STAMP_SIDES`, (G,).

        At a stamp's edge the light is no more than that of the whole galaxy in the PSF's wing and of its own profile
        along its major axis together.
        """
        flux = galaxies.flux_in(self.bands, self.zero_points)
        edge = np.asarray(STAMP_SIDES) / 2 - 1.0
        light = flux.sum(axis=2)[:, :, None] * self._psf_at_edges()[None]  # (G, band, side)
        xx, xy, yy = np.moveaxis(galaxies.ellipses, -1, 0)
        major = np.sqrt(0.5 * (xx + yy + np.hypot(xx - yy, 2 * xy))) / self.pixel_scale
        area = np.pi * np.sqrt(np.maximum(xx * yy - xy**2, 1e-12)) / self.pixel_scale**2
        for c in (DISC, BULGE):
            # A stamp's own size is added to the profile's: the PSF spreads what is inside.
            radius = edge[None] / np.maximum(major[:, c, None], 1e-3)
            profile = sersic.surface_brightness(radius, galaxies.n[:, c, None]) * np.pi / area[:, c, None]
            light += flux[:, :, None, c] * profile[:, None]
        reach = np.hypot(galaxies.knots[..., 0], galaxies.knots[..., 1]).max(axis=1, initial=0.0) / self.pixel_scale
        enough = (light < np.asarray(least, np.float64)[:, None]).all(axis=1) & (reach[:, None] < edge)
        return np.asarray(STAMP_SIDES)[np.where(enough.any(axis=1), enough.argmax(axis=1), len(STAMP_SIDES) - 1)]

    def _psf_at_edges(self) -> NDArray:
        """Most light a pixel of a point source beyond the edge of each of `STAMP_SIDES`, (band, side)."""
        if self._psf_edges is None:
            side = STAMP_SIDES[-1]
            n, middle = side // 4, side // 8
            edges = []
            for psf in self._psfs:
                image = np.abs(psf.drawImage(nx=n + 1, ny=n + 1, scale=self.pixel_scale).array)
                y, x = np.mgrid[: n + 1, : n + 1] - n // 2
                far = np.hypot(x, y)
                # Beyond the image, wings of r⁻³: no shallower one carries a finite light.
                beyond = image[far >= middle].max()
                edges.append(
                    [
                        image[far >= s / 2 - 1].max() if s / 2 - 1 <= middle else beyond * (middle / (s / 2)) ** 3
                        for s in STAMP_SIDES
                    ]
                )
            self._psf_edges = np.array(edges)
        return self._psf_edges

    def _grid_sides(self, galaxies: Galaxies, offset: NDArray, pixels: int) -> NDArray[np.int64]:
        """Side of the Fourier grid of each galaxy, (G,): GalSim's, and no smaller than the stamp."""
        steps = sersic.step_in_k(galaxies.n)
        reach = np.hypot(galaxies.knots[..., 0], galaxies.knots[..., 1]).max(axis=1, initial=0.0)
        sizes = grid_sizes(galaxies.ellipses, offset + reach, self._psf_step, self.pixel_scale, steps)
        for row in np.flatnonzero(galaxies.morphology == Morphology.REAL):
            real = np.array([[self._real(galaxies, row).stepk ** -2.0]]) * np.array([[1.0, 0.0, 1.0]])
            sizes[row] = grid_sizes(real[None], offset[[row]], self._psf_step, self.pixel_scale, np.ones((1, 1)))[0]
        return np.maximum(sizes, galsim.Image.good_fft_size(pixels))

    def _grid(self, side: int, pixels: int) -> tuple[Grid, Pixels]:
        if side not in self._grids:
            # Of the large ones, each tens of MB and for few galaxies, the last alone is kept.
            self._grids = {known: grid for known, grid in self._grids.items() if known <= _KEPT_GRID}
            self._pixels = {known: value for known, value in self._pixels.items() if known[0] in self._grids}
            self._grids[side] = Grid.of_psfs(self._psfs, side, self.pixel_scale, self.device, self._reach)
        if (side, pixels) not in self._pixels:
            self._pixels[side, pixels] = Pixels.of_grid(self._grids[side], pixels, self.pixel_scale)
        return self._grids[side], self._pixels[side, pixels]

    def _real(self, galaxies: Galaxies, row: int) -> galsim.GSObject:
        """A real image as it is turned and sheared by now, of unit flux."""
        if self.images is None:
            raise MismatchError(
                "real galaxies without their images", where="GalaxiesRenderer", remedy="give `images` to the renderer"
            )
        jacobian = galaxies.jacobian[row]
        profile = self.images.profile(int(galaxies.image[row]))
        return profile.transform(*jacobian.ravel()) / abs(np.linalg.det(jacobian))

    def _spectra(self, grid: Grid, galaxies: Galaxies, flux: NDArray, kind: int) -> Spectra:
        """Spectra of galaxies of one kind behind the PSFs, each (G, ky, band × kx)."""
        lights: list[tuple[Parts, Tensor]] = []
        if kind & _REAL:
            lights.append((self._real_parts(grid, galaxies), on(self.device, flux[:, :, DISC])))
        else:
            for component, bit in ((DISC, _DISC), (BULGE, _BULGE)):
                if kind & bit:
                    exponential = component == DISC and bool(kind & _EXPONENTIAL)
                    parts = self._sersic_parts(grid, galaxies, component, exponential)
                    lights.append((parts, on(self.device, flux[:, :, component])))
            if kind & _KNOTS:
                lights.append((self._knot_parts(grid, galaxies), on(self.device, flux[:, :, KNOTS])))
        side, bands = len(grid.k), len(self._psfs)

        def mixed(part: int) -> Tensor | None:
            """One part of the galaxies' light in each band, (G, ky, band, kx); none where no component has it."""
            total: Tensor | None = None
            for parts, amount in lights:
                values = parts[part]
                if values is not None:
                    factor, term = amount[:, None, :, None], values.view(-1, side, 1, side)
                    total = term * factor if total is None else total.addcmul_(term, factor)
            return total

        def summed(*terms: tuple[Tensor | None, Tensor | None, int]) -> Tensor | None:
            """Σ sign × light × PSF, (G, ky, band × kx), of the terms that are there."""
            total: Tensor | None = None
            for values, psf, sign in terms:
                if values is not None and psf is not None:
                    total = sign * (values * psf) if total is None else total.addcmul_(values, psf, value=sign)
            return None if total is None else total.view(-1, side, bands * side)

        # (A + iB)(C + iD), each a sum of a part even in ky and one odd: like parities make an even product.
        light = [mixed(part) for part in range(4)]
        real, imaginary = (grid.even, grid.odd), (grid.even_imaginary, grid.odd_imaginary)
        spectra = []
        for one, other in ((0, 1), (1, 0)):
            a, a_other, b, b_other = light[one], light[other], light[one + 2], light[other + 2]
            spectra.append(
                (
                    summed((a, real[0], 1), (a_other, real[1], 1), (b, imaginary[0], -1), (b_other, imaginary[1], -1)),
                    summed((a, imaginary[0], 1), (a_other, imaginary[1], 1), (b, real[0], 1), (b_other, real[1], 1)),
                )
            )
        (even, even_imaginary), (odd, odd_imaginary) = spectra
        assert even is not None
        return even, odd, even_imaginary, odd_imaginary

    def _sersic_parts(self, grid: Grid, galaxies: Galaxies, component: int, exponential: bool) -> Parts:
        """Sum and difference over ±ky of one profile's transform, (G, K) each; it has no imaginary part."""
        q = on(self.device, galaxies.ellipses[:, component])
        common = (q[:, :1] * grid.squares[0]).addcmul_(q[:, 2:], grid.squares[1])
        mixed = q[:, 1:2] * grid.product
        # Rounding may leave -1e-7 of a long galaxy's k'^2 along its axis.
        squares = ((common + mixed).clamp_(min=0.0), common.sub_(mixed).clamp_(min=0.0))
        if exponential:
            above, below = (_exponential(k2) for k2 in squares)
        else:
            index, part = _place(galaxies.n[:, component])
            table = _table(self.device)
            weight = on(self.device, part)[:, None]
            rows = torch.from_numpy(index).to(self.device)
            own = torch.lerp(table[rows], table[rows + 1], weight)
            above, below = (_tabulated(k2, own) for k2 in squares)
        return above + below, above.sub_(below), None, None

    def _knot_parts(self, grid: Grid, galaxies: Galaxies) -> Parts:
        """Sums and differences over ±ky of the knots' transform, Σ e^(-i k·x) / number; (G, K) each."""
        most = int(galaxies.knot_count.max())
        there = np.arange(most) < galaxies.knot_count[:, None]
        weight = on(self.device, 2.0 * there / galaxies.knot_count[:, None])
        x, y = (
            torch.from_numpy(np.ascontiguousarray(galaxies.knots[:, :most, axis])).to(self.device)[:, :, None] * grid.k
            for axis in (0, 1)
        )
        cos_x, sin_x, cos_y, sin_y = (values.float() for values in (x.cos(), x.sin(), y.cos(), y.sin()))
        cos_y, sin_y = cos_y * weight[:, :, None], sin_y * weight[:, :, None]
        even, odd = torch.bmm(cos_y.mT, cos_x), -torch.bmm(sin_y.mT, sin_x)
        return even, odd, -torch.bmm(cos_y.mT, sin_x), -torch.bmm(sin_y.mT, cos_x)

    def _real_parts(self, grid: Grid, galaxies: Galaxies) -> Parts:
        """Sums and differences over ±ky of the transforms of real images, (G, K) each."""
        n, step = len(grid.k) - 1, float(grid.k[1])
        values = np.stack([transform(self._real(galaxies, row), n, step) for row in range(len(galaxies))])
        above, below = values[:, n:], values[:, n::-1]
        parts = [part.reshape(len(values), -1) for part in (above + below, above - below)]
        even, odd = (on(self.device, part.real) for part in parts)
        return even, odd, on(self.device, parts[0].imag), on(self.device, parts[1].imag)


# Bits of what a galaxy consists of.
_DISC, _BULGE, _KNOTS, _EXPONENTIAL, _REAL = 1, 2, 4, 8, 16


def _kinds(galaxies: Galaxies, flux: NDArray) -> NDArray[np.int64]:
    """What each galaxy consists of in the bands of an image, (G,): galaxies of one kind are rendered together."""
    lit = flux.max(axis=1) > 0
    kinds = lit @ np.array([_DISC, _BULGE, _KNOTS])
    kinds |= np.where(lit[:, DISC] & (galaxies.n[:, DISC] == 1.0), _EXPONENTIAL, 0)
    kinds = np.where(galaxies.morphology == Morphology.REAL, _REAL, kinds)
    return np.where(kinds == 0, _DISC, kinds)  # without light: of whatever profile


def _place(n: NDArray) -> tuple[NDArray[np.int64], NDArray]:
    """Row of the table of transforms below each index, and the part of the way to the next."""
    ln_n = sersic.transform_table()[0]
    place = (np.log(n) - ln_n[0]) / (ln_n[1] - ln_n[0])
    row = np.clip(place.astype(np.int64), 0, len(ln_n) - 2)
    return row, place - row


def _exponential(k2: Tensor) -> Tensor:
    root = (k2 * _DISC_SCALE**2 + 1.0).rsqrt_()
    return root * root * root


def _tabulated(k2: Tensor, rows: Tensor) -> Tensor:
    """Transforms from each galaxy's own row, linear in ln k; both (G, K) and (G, nodes)."""
    ln_k = sersic.transform_table()[1]
    low, step, nodes = float(ln_k[0]), float(ln_k[1] - ln_k[0]), len(ln_k)
    place = k2.clamp_(min=1e-12).log_().mul_(0.5 / step).sub_(low / step).clamp_(0.0, nodes - 1.001)
    below = place.to(torch.int64)
    part = place.sub_(below)
    return torch.lerp(rows.gather(1, below), rows.gather(1, below + 1), part)


def unfolded_side(stamps: Side) -> Side:
    """Sides of Fourier grids for stamps that hold all light above a limit; shaped like the stamps' sides.

    A grid repeats after its side. Half as large again as the stamp, it brings no light into the stamp from nearer than
    the stamp's side, which is twice the distance where the light falls below the limit.
    """
    return 3 * stamps // 4 * 2


def _add(total: NDArray, stamps: NDArray, left: NDArray, bottom: NDArray) -> None:
    """Adds stamps (G, band, side, side) to an image at their first column and row, cut at its edges."""
    side = stamps.shape[-1]
    for stamp, x, y in zip(stamps, left, bottom, strict=True):
        x0, y0 = max(int(x), 0), max(int(y), 0)
        x1, y1 = min(int(x) + side, total.shape[2]), min(int(y) + side, total.shape[1])
        total[:, y0:y1, x0:x1] += stamp[:, y0 - int(y) : y1 - int(y), x0 - int(x) : x1 - int(x)]
