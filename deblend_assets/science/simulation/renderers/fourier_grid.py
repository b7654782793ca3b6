"""Fourier grids of the batched renderers: the PSFs' transforms, phases, and the inverse transform to a stamp's pixels.

See `fourier` for how the plane is folded: spectra are kept as sums and differences over ±ky at kx ≥ 0 and ky ≥ 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import galsim
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = {"cpu": 7e4, "cuda": 2e7}
"""Elements (galaxies × wave vectors) of a chunk: small enough for a core's cache, large enough for a GPU."""

TAIL = 3e-5
"""Of a unit of light: what a transform is cut off at; GalSim cuts a profile off at 1e-3 (`maxk_threshold`)."""
_COARSE = 48  # steps to `maxk` at which it is looked for


def on(device: torch.device, values: NDArray) -> Tensor:
    """A float32 copy on a device."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


@dataclass(frozen=True)
class Grid:
    """Wave vectors of one grid size, kx ≥ 0 and ky ≥ 0; K = ky × kx.

    Attributes:
        k: of either axis, (k,) float64 [1/arcsec].
        squares: kx² and ky² of each wave vector; two of (K,) float32.
        product: 2 kx ky; (K,) float32.
        even, odd: parts of Re(PSF) × pixel × weight / side² that are even and odd in ky, (ky, band, kx) float32;
            no odd part where every PSF is its own mirror image.
        even_imaginary, odd_imaginary: the same of Im(PSF); none where every PSF is its own image under a turn by 180°.
    """

    k: Tensor
    squares: tuple[Tensor, Tensor]
    product: Tensor
    even: Tensor
    odd: Tensor | None
    even_imaginary: Tensor | None
    odd_imaginary: Tensor | None

    @classmethod
    def of_psfs(
        cls, psfs: Sequence[galsim.GSObject], side: int, scale: float, device: torch.device, reach: float | None = None
    ) -> Grid:
        """The grid of a side for PSFs, one a band, and pixels of `scale` arcsec.

        Args:
            psfs, side, scale, device: see above.
            reach: k up to which the light is taken [1/arcsec], see `reach_of`; by default the largest `maxk`.
        """
        step = 2 * np.pi / (side * scale)
        # As far as any band's PSF reaches; GalSim fills the grid to its edge in any case.
        n = max(side // 2, int((max(psf.maxk for psf in psfs) if reach is None else reach) / step))
        k = np.arange(n + 1) * step
        pixel = np.sinc(k * scale / (2 * np.pi))
        # One quarter stands for the plane: kx > 0 for its mirror image, ky > 0 for the pair ±ky.
        weight = np.where(k > 0, 2.0, 1.0)[None, :] * np.where(k > 0, 1.0, 0.5)[:, None] * np.outer(pixel, pixel)
        psf = np.stack([transform(p, n, step) for p in psfs])  # band, ky of both signs, kx
        scaled = weight / side**2
        parts = [
            0.5 * (values[:, n:] + sign * values[:, n::-1]) * scaled
            for values in (psf.real, psf.imag)
            for sign in (1, -1)
        ]
        # Rounding in the transforms of symmetric PSFs is no asymmetry.
        least = 1e-6 * np.abs(parts[0]).max()
        even, odd, even_imaginary, odd_imaginary = (
            on(device, part.transpose(1, 0, 2)) if np.abs(part).max() > least else None for part in parts
        )
        assert even is not None
        return cls(
            k=torch.from_numpy(k).to(device),
            squares=(on(device, np.tile(k**2, n + 1)), on(device, np.repeat(k**2, n + 1))),
            product=on(device, 2 * np.outer(k, k).ravel()),
            even=even,
            odd=odd,
            even_imaginary=even_imaginary,
            odd_imaginary=odd_imaginary,
        )


@dataclass(frozen=True)
class Pixels:
    """A stamp's pixels on a grid: cos and sin of k times their coordinate from the centre, (pixel, k) float32."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of_grid(cls, grid: Grid, pixels: int, scale: float) -> Pixels:
        """Of a stamp of `pixels` a side, of `scale` arcsec each."""
        phase = (np.arange(pixels) - (pixels - 1) / 2)[:, None] * scale * grid.k.cpu().numpy()
        return cls(on(grid.k.device, np.cos(phase)), on(grid.k.device, np.sin(phase)))

    def phases(self, grid: Grid, centre: NDArray) -> tuple[Tensor, Tensor]:
        """cos and sin of k (pixel - centre), (G, pixel, k) float32; centres [arcsec], (G,)."""
        # The angle needs float64; so far from the origin float32 would move the galaxy by 1e-6 pixel.
        angle = torch.from_numpy(np.asarray(centre, float)).to(grid.k.device)[:, None] * grid.k
        cos, sin = angle.cos().float()[:, None], angle.sin().float()[:, None]
        return torch.addcmul(self.cos * cos, self.sin, sin), torch.addcmul(self.sin * cos, self.cos, sin, value=-1)


def reach_of(psfs: Sequence[galsim.GSObject], scale: float) -> float:
    """Largest kx or ky at which the transform of a PSF and the pixel exceeds `TAIL` [1/arcsec].

    `maxk` is that of the profile, and of a convolution that of its narrowest part: three times as large, for an
    atmosphere behind sharp optics.
    """
    reach = 0.0
    for psf in psfs:
        step = psf.maxk / _COARSE
        k = np.arange(-_COARSE, _COARSE + 1) * step
        pixel = np.abs(np.sinc(k * scale / (2 * np.pi)))
        light = np.abs(transform(psf, _COARSE, step)) * pixel[:, None] * pixel[None, _COARSE:]
        seen_y, seen_x = np.nonzero(light > TAIL)
        reach = max(reach, np.abs(k[seen_y]).max() + step, k[_COARSE + seen_x].max() + step)
    return float(min(reach, max(psf.maxk for psf in psfs)))


def transform(profile: galsim.GSObject, n: int, step: float) -> NDArray:
    """A profile's transform at kx of 0 … n and ky of -n … n steps, (ky, kx) complex."""
    image = galsim.ImageCD(galsim.BoundsI(0, n, -n, n), scale=step)
    values: NDArray = profile.drawKImage(image=image, recenter=False).array
    return values


def stamps_of(
    spectra: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
    phases_x: tuple[Tensor, Tensor],
    phases_y: tuple[Tensor, Tensor],
    bands: int,
) -> Tensor:
    """Inverse transform to the stamps' pixels, (G, band, y, x).

    Re[Σ S e^(i(kx x + ky y))] of the spectrum S = A + iB, rows first: A goes with the cosine of the phase, B with minus
    its sine.

    Args:
        spectra: A even in ky, A odd, B even, B odd; each (G, ky, band × kx), or none where it is zero.
        phases_x, phases_y: see `Pixels.phases`.
        bands: number of bands.
    """
    (cos_x, sin_x), (cos_y, sin_y) = phases_x, phases_y
    even, odd, even_imaginary, odd_imaginary = spectra
    count, p, side = cos_y.shape

    def rows(phase: Tensor, spectrum: Tensor) -> Tensor:
        """(G, y × band, kx)."""
        return torch.bmm(phase, spectrum).view(count, p * bands, side)

    light = torch.bmm(rows(cos_y, even), cos_x.mT)
    for along_y, along_x, spectrum in (
        (sin_y, sin_x, odd),
        (cos_y, sin_x, even_imaginary),
        (sin_y, cos_x, odd_imaginary),
    ):
        if spectrum is not None:
            light = torch.baddbmm(light, rows(along_y, spectrum), along_x.mT, alpha=-1)
    return light.view(-1, p, bands, p).permute(0, 2, 1, 3)
