"""Batches of Sérsic profiles and points behind PSF images, with their derivatives; in torch, on the CPU.

A profile of half-light radius r and shear g has the transform T(|S k| r), T from `sersic.transform_table`; its stamps
are inverse FFTs of T × PSF image. A grid is larger than the stamp, lest light that leaves the stamp on one side comes
back on the other: how much larger depends on the profile's wings. A PSF's transform ends at the Nyquist frequency of
its image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.simulation import sersic

PARAMETERS = ("x", "y", "g1", "g2", "ln_hlr", "ln_n")
"""What slopes are by, in their order; x and y in pixels, hlr in arcsec."""

G_MAX = 0.95
"""|g| of the longest profile: longer ones are rendered with this one."""

Floats = NDArray[np.float64]

_EVERY = 4  # nodes of the table in ln k: steps of 2 %, linear interpolation errs by 3e-5
_SOURCES = 4  # of a chunk, for a core's cache
_LEAST_GRID = 1.4  # sides of a stamp
_GRIDS = 6
_FOLDED = 1e-4  # of the brightest pixel: light at the distance from which it is folded back


@dataclass(frozen=True, eq=False)
class Profiles:
    """G sources.

    Attributes:
        x, y: (G,) [pixel], from 0 at the centre of the first pixel of the stamp; beyond its edge too.
        g1, g2: shear-type shape before the PSF, (G,).
        ln_hlr: ln of sqrt(ab) of the ellipse that holds half of the light, (G,) [arcsec].
        n: Sérsic's index, (G,), within `sersic.N_MIN` and `N_MAX`.
        point: whether it is the PSF itself, (G,) bool; its shape, size and index may then be anything.
    """

    x: Floats
    y: Floats
    g1: Floats
    g2: Floats
    ln_hlr: Floats
    n: Floats
    point: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, chosen: NDArray[np.integer]) -> Profiles:
        """Some of them."""
        return Profiles(**{name: values[chosen] for name, values in vars(self).items()})


class SersicStamps:
    """Renders sources of unit flux on stamps, each behind the PSFs of its own stamp.

    Args:
        psf: PSF images, pixel included, centred on the middle pixel, (P, band, y, x), odd sides; a source has the
            light that its PSF has.
        pixel_scale: [arcsec / pixel], (P,).
        side: of the stamps [pixel].
    """

    def __init__(self, psf: NDArray[np.floating], pixel_scale: Floats, side: int) -> None:
        self.side, self.pixel_scale = side, np.asarray(pixel_scale, np.float64)
        self._psf = torch.from_numpy(np.ascontiguousarray(psf, np.float32))
        self._grids = _grid_sides(side)
        self._transforms: dict[int, Tensor] = {}
        # Radius of the disc that has the light of a narrow PSF at its brightest [pixel], (P,).
        peak = (psf.max(axis=(2, 3)) / np.maximum(psf.sum(axis=(2, 3)), 1e-30)).max(axis=1)
        self._core = 1 / np.sqrt(np.pi * np.clip(peak, 1e-6, 1.0))

    def stamps(self, sources: Profiles, stamp: NDArray[np.integer]) -> Tensor:
        """Images, (G, band, y, x) float32.

        Args:
            sources: G of them.
            stamp: row of each among the PSFs, (G,).
        """
        return self._images(self._parts(sources, stamp), len(sources))

    def rendered(self, sources: Profiles, stamp: NDArray[np.integer]) -> RenderedStamps:
        """Images, and what their derivatives are made from.

        Args:
            sources, stamp: see `stamps`.
        """
        parts = list(self._parts(sources, stamp))
        return RenderedStamps(self._images(parts, len(sources)), parts, self._transform)

    def _parts(self, sources: Profiles, stamp: NDArray[np.integer]) -> Iterator[_Part]:
        grids = self._grid_of(sources, stamp)
        for grid in np.unique(grids):
            rows = np.flatnonzero(grids == grid)
            for first in range(0, len(rows), _SOURCES):
                chosen = rows[first : first + _SOURCES]
                waves = _Waves.of(sources.rows(chosen), int(grid), self.pixel_scale[stamp[chosen]])
                yield _Part(torch.from_numpy(chosen), torch.from_numpy(stamp[chosen]), int(grid), waves)

    def _images(self, parts: Iterable[_Part], number: int) -> Tensor:
        found = torch.empty((number, self._psf.shape[1], self.side, self.side))
        for part in parts:
            spectra = part.waves.image() * self._transform(part.grid)[part.stamp]
            whole = torch.fft.irfft2(spectra, s=(part.grid, part.grid))
            found[part.rows] = whole[..., : self.side, : self.side]
        return found

    def _grid_of(self, sources: Profiles, stamp: NDArray[np.integer]) -> NDArray[np.int64]:
        """Side of the grid of each source, (G,): the smallest that folds nothing back into the stamp, else the largest.

        Nothing is no pixel of the PSF's image, and of the profile no more than `_FOLDED`.
        """
        g = np.minimum(np.hypot(sources.g1, sources.g2), G_MAX)
        with np.errstate(over="ignore"):
            radius = np.exp(sources.ln_hlr) / self.pixel_scale[stamp]
        major = radius * np.sqrt((1 + g) / (1 - g))
        core = self._core[stamp]
        brightest = sersic.light_within(core / np.maximum(radius, 1e-6), sources.n) / (np.pi * core**2)
        reach = np.maximum(*(np.maximum(values, self.side - 1 - values) for values in (sources.x, sources.y)))
        grids = np.asarray(self._grids)
        distance = np.maximum(grids - reach[:, None], 1.0)
        beyond = distance >= max(self._psf.shape[-2:]) // 2
        wings = sersic.surface_brightness(distance / np.maximum(major, 1e-6)[:, None], sources.n[:, None])
        folded = wings / np.maximum(radius, 1e-6)[:, None] ** 2
        enough = beyond & ((folded < _FOLDED * brightest[:, None]) | sources.point[:, None])
        return grids[np.where(enough.any(axis=1), enough.argmax(axis=1), len(grids) - 1)]

    def _transform(self, grid: int) -> Tensor:
        """Of the PSF images, (P, band, ky, kx) complex64; made once a grid."""
        if grid not in self._transforms:
            height, width = self._psf.shape[-2:]
            half = [min(length // 2, (grid - 1) // 2) for length in (height, width)]
            rows, columns = (
                slice(length // 2 - h, length // 2 + h + 1) for length, h in zip((height, width), half, strict=True)
            )
            padded = torch.zeros((*self._psf.shape[:2], grid, grid))
            padded[..., : 2 * half[0] + 1, : 2 * half[1] + 1] = self._psf[..., rows, columns]
            self._transforms[grid] = torch.fft.rfft2(torch.roll(padded, (-half[0], -half[1]), dims=(2, 3)))
        return self._transforms[grid]


class _Part(NamedTuple):
    """Sources on one grid.

    Attributes:
        rows: of the sources.
        stamp: row of each among the PSFs.
        grid: side [pixel].
        waves: of the sources.
    """

    rows: Tensor
    stamp: Tensor
    grid: int
    waves: _Waves


@dataclass(frozen=True, eq=False)
class RenderedStamps:
    """What `SersicStamps.rendered` gives of G sources.

    Attributes:
        images: (G, band, y, x) float32.
    """

    images: Tensor
    _parts: list[_Part]
    _transform: Callable[[int], Tensor]

    def slopes_times(self, others: Tensor) -> Tensor:
        """Sums over the pixels of the images' derivatives by `PARAMETERS` times other images, (G, band, 6, C) float32.

        They are summed over the wave numbers, which by Parseval's theorem is the same: the other images are
        transformed, not each derivative. A point's derivatives are by x and y alone.

        Args:
            others: C images for each PSF and band, (P, band, C, y, x) float32.
        """
        found = torch.empty((*self.images.shape[:2], len(PARAMETERS), others.shape[2]))
        spectra: dict[tuple[int, int], Tensor] = {}
        for part in self._parts:
            new = [own for own in part.stamp.unique().tolist() if (part.grid, own) not in spectra]
            if new:
                spectra |= zip([(part.grid, own) for own in new], self._spectra(others, new, part.grid), strict=True)
            slopes = torch.view_as_real(part.waves.slopes()).flatten(2)
            for row, own, slope in zip(part.rows.tolist(), part.stamp.tolist(), slopes, strict=True):
                sums = slope @ spectra[part.grid, own].flatten(0, 1).T
                found[row] = sums.view(len(PARAMETERS), *found.shape[1::2]).transpose(0, 1)
        return found

    def slopes(self, side: int) -> Tensor:
        """The images' derivatives by `PARAMETERS`, (G, band, 6, y, x) float32.

        Args:
            side: of the images [pixel].
        """
        found = torch.empty((*self.images.shape[:2], len(PARAMETERS), side, side))
        for part in self._parts:
            spectra = part.waves.slopes()[:, None] * self._transform(part.grid)[part.stamp][:, :, None]
            found[part.rows] = torch.fft.irfft2(spectra, s=(part.grid, part.grid))[..., :side, :side]
        return found

    def _spectra(self, others: Tensor, stamp: list[int], grid: int) -> Tensor:
        """Of some stamps' images, times the conjugate PSF's, over the number of waves, (P, band, C, 2 × waves)."""
        # The half plane of frequencies that rfft2 gives stands for the whole one; grids are even.
        count = torch.full((grid // 2 + 1,), 2.0 / grid**2)
        count[[0, -1]] = 1.0 / grid**2
        psf = self._transform(grid)[stamp].conj() * count
        spectra = torch.fft.rfft2(others[stamp], s=(grid, grid)).mul_(psf[:, :, None])
        return torch.view_as_real(spectra).flatten(3)


def _grid_sides(side: int) -> list[int]:
    """The first `_GRIDS` powers of two, three and nine times such too, from 1.4 stamps on: for fast transforms."""
    lengths = sorted(base << power for base in (2, 6, 18) for power in range(16))
    first = next(k for k, length in enumerate(lengths) if length >= _LEAST_GRID * side)
    return lengths[first : first + _GRIDS]


class _Waves(NamedTuple):
    """Transforms of G sources on one grid, before any PSF.

    Attributes:
        table: T, its slopes by ln k and ln n, and 0, (G, ky, kx, 4) float32.
        by_g: of the derivatives of ln k by g1 and g2, (2, G, ky, kx) float32, when asked for.
        phase: exp(-i k·x), (G, ky, kx) complex64.
        ky, kx: [1 / pixel], (ky, 1) and (1, kx) float32.
    """

    table: Tensor
    by_g: Callable[[], Tensor]
    phase: Tensor
    ky: Tensor
    kx: Tensor

    @classmethod
    def of(cls, sources: Profiles, grid: int, scale: Floats) -> _Waves:
        k_y, k_x = 2 * np.pi * np.fft.fftfreq(grid), 2 * np.pi * np.fft.rfftfreq(grid)
        # The angle needs float64.
        rows, columns = (
            torch.from_numpy(np.exp(-1j * at[:, None] * k).astype(np.complex64))
            for at, k in ((sources.y, k_y), (sources.x, k_x))
        )
        ky, kx = torch.from_numpy(k_y[:, None]).float(), torch.from_numpy(k_x[None]).float()
        plus, cross, square = kx**2 - ky**2, 2 * kx * ky, kx**2 + ky**2
        shrink = np.minimum(1.0, G_MAX / np.maximum(np.hypot(sources.g1, sources.g2), 1e-12))
        g1, g2, size = (
            torch.from_numpy(np.where(sources.point, 0.0, values)).float()[:, None, None]
            for values in (sources.g1 * shrink, sources.g2 * shrink, sources.ln_hlr - np.log(scale))
        )
        below = 1 - (g1**2 + g2**2)
        q = ((2 - below) * square + (2 * g1) * plus + (2 * g2) * cross) / below
        q[:, 0, 0] = 1.0
        table = _tabulated(size + 0.5 * q.log(), np.where(sources.point, 1.0, sources.n))
        flat = torch.tensor([1.0, 0.0, 0.0, 0.0])
        table[:, 0, 0], table[torch.from_numpy(sources.point)] = flat, flat

        def by_g() -> Tensor:
            return torch.stack([(g * square + term) / (below * q) + g / below for g, term in ((g1, plus), (g2, cross))])

        return cls(table, by_g, rows[:, :, None] * columns[:, None, :], ky, kx)

    def image(self) -> Tensor:
        """(G, 1, ky, kx) complex64."""
        return (self.phase * self.table[..., 0])[:, None]

    def slopes(self) -> Tensor:
        """The derivatives by `PARAMETERS`, (G, 6, ky, kx) complex64."""
        by_ln_k = self.table[..., 1]
        first, second = self.by_g() * by_ln_k
        slopes = torch.stack([first, second, by_ln_k, self.table[..., 2]], dim=1)
        lit = self.phase * self.table[..., 0]
        moved = torch.stack([lit * (-1j * k) for k in (self.kx, self.ky)], dim=1)
        return torch.cat([moved, self.phase[:, None] * slopes], dim=1)


@lru_cache(maxsize=1)
def _table() -> tuple[float, float, Tensor]:
    """First ln k and step of the nodes; T and its slope by ln k, (row, node, 2) float32."""
    _, ln_k, values = sersic.transform_table()
    slope = np.gradient(values.astype(np.float64), ln_k, axis=1)
    both = np.stack([values, slope], axis=-1)[:, ::_EVERY]
    return float(ln_k[0]), float(ln_k[_EVERY] - ln_k[0]), torch.from_numpy(both.astype(np.float32))


def _tabulated(ln_k: Tensor, n: Floats) -> Tensor:
    """T, its slopes by ln k and by ln n, and 0, of indices (G,) at wave numbers (G, ky, kx).

    Returns:
        (G, ky, kx, 4), linear in both.
    """
    first, step, table = _table()
    ln_n = sersic.transform_table()[0]
    width = float(ln_n[1] - ln_n[0])
    place = (np.log(n) - ln_n[0]) / width
    row = np.clip(place.astype(np.int64), 0, len(ln_n) - 2)
    part = torch.from_numpy(np.clip(place - row, 0.0, 1.0)).float()[:, None, None]
    low, high = table[torch.from_numpy(row)], table[torch.from_numpy(row + 1)]
    by_n = (high[..., :1] - low[..., :1]) / width
    own = torch.cat([torch.lerp(low, high, part), by_n, torch.zeros_like(by_n)], dim=-1)
    nodes = own.shape[1]
    at = ((ln_k - first) / step).clamp_(0.0, nodes - 1.001)
    node = at.to(torch.int64)
    part = (at - node)[..., None]
    node += nodes * torch.arange(len(n))[:, None, None]
    flat = own.view(-1, 4)
    found = flat[node.view(-1)].view(*node.shape, 4)
    return found.lerp_(flat[node.view(-1) + 1].view(*node.shape, 4), part)
