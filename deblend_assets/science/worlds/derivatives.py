"""Light of single sources of a field, and its derivatives by shape, position, size, flux and PSF.

Central differences of the renderer's light, each source on one Fourier grid and one square of pixels. All sources are
changed at once: eleven renderings give the derivatives of a whole field. Light is linear in the fluxes: it is kept as
that of a source of unit flux in every band, so that a band in which a source is faint is as exact as the others.

The PSF's derivatives need no rendering. A shear of galaxy *and* PSF is one of the image, whose derivative is known from
that by position; less the derivative by the galaxy's own shear, that of the PSF is left. So for the size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.simulation.field_light import FieldRenderer, Squares
from deblend_assets.science.simulation.galaxies import NANOJANSKY_ZERO_POINT, Galaxies, Morphology
from deblend_assets.science.simulation.observed import adaptive_moments
from deblend_assets.science.stamps.conventions import CATSIM_BANDS

GEOMETRY = ("shear1", "shear2", "x", "y", "ln_size")
"""Parameters of a source beside its fluxes. A shear keeps areas; positions are in pixels."""

STEPS: Mapping[str, float] = {"shear1": 0.02, "shear2": 0.02, "x": 0.1, "y": 0.1, "ln_size": 0.04}
"""Half of a central difference, see `evaluation.fisher.STEPS`."""

PSF_PARAMETERS = ("psf_shear1", "psf_shear2", "psf_ln_size")
"""Parameters of a band's PSF, pixel included, about its own origin; its flux is kept."""

# Elements of the images that are drawn at a time: ten times 40 MB lie in memory.
_AT_ONCE = 10_000_000

Float32s = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SourceDerivatives:
    """One source on a rectangle of a field.

    Attributes:
        images: (6, band, y, x) float32, for a flux of one image unit in every band: derivative by each of GEOMETRY, and
            the light itself, which is the derivative by the flux.
        x, y: pixel of the field on which the first pixel lies; may be negative.
    """

    images: Float32s
    x: int
    y: int

    def on(self, corner: Sequence[int], side: int, band: int) -> Float32s:
        """The images of a band on a stamp, (6, side, side), 0 where the rectangle does not reach.

        Args:
            corner: x, y of the stamp's first pixel on the field.
            side: of the stamp [pixel].
            band: its number.
        """
        return self._placed(self.images[:, band], corner, side)

    def light_on(self, corner: Sequence[int], side: int) -> Float32s:
        """The light on a stamp in all bands, (band, side, side); see `on`."""
        return self._placed(self.images[-1], corner, side)

    def reaches(self, corner: Sequence[int], side: int) -> bool:
        """Whether the rectangle and a stamp overlap; see `on`."""
        height, width = self.images.shape[-2:]
        return bool(-width < self.x - corner[0] < side and -height < self.y - corner[1] < side)

    def _placed(self, images: Float32s, corner: Sequence[int], side: int) -> Float32s:
        stamp = np.zeros((len(images), side, side), np.float32)
        height, width = images.shape[-2:]
        left, low = self.x - int(corner[0]), self.y - int(corner[1])
        x0, x1, y0, y1 = max(left, 0), min(left + width, side), max(low, 0), min(low + height, side)
        if x0 < x1 and y0 < y1:
            stamp[:, y0:y1, x0:x1] = images[:, y0 - low : y1 - low, x0 - left : x1 - left]
        return stamp


@dataclass(frozen=True, eq=False)
class FieldDerivatives:
    """Derivatives of some sources of a field.

    Attributes:
        sources: by their row in the field.
        distortion: derivative by GEOMETRY of the adaptive moments e1, e2 of a noiseless source alone, (2, 5), by row
            and band; NaN where moments do not converge.
    """

    sources: Mapping[int, SourceDerivatives]
    distortion: Mapping[tuple[int, int], NDArray[np.float64]]


def reaching(squares: Squares, corners: NDArray[np.integer], side: int) -> NDArray[np.bool_]:
    """Which squares overlap any of the stamps, (R,).

    Args:
        squares: of R sources.
        corners: x, y of the stamps' first pixels, (T, 2).
        side: of the stamps [pixel].
    """
    apart_x, apart_y = (low[:, None] - corners[:, axis] for axis, low in ((0, squares.x), (1, squares.y)))
    beside = (apart_x < side) & (apart_x > -squares.side) & (apart_y < side) & (apart_y > -squares.side)
    return np.asarray(beside.any(axis=1))


def source_derivatives(
    renderer: FieldRenderer,
    galaxies: Galaxies,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    corners: NDArray[np.integer],
    side: int,
    moments: Sequence[tuple[int, int]] = (),
    guess: float = 2.5,
    steps: Mapping[str, float] = STEPS,
) -> FieldDerivatives:
    """Light and derivatives of those wanted sources whose light reaches any of some stamps.

    Args:
        renderer: of the field.
        galaxies: its sources, stars included, N of them.
        x, y: their positions [pixel], (N,).
        wanted: (N,).
        corners, side: of the stamps, see `reaching`.
        moments: rows of sources and bands in which the derivative of adaptive moments is wanted.
        guess: of the sources' sigma behind the PSF, for these [pixel].
        steps: half of the difference for each of GEOMETRY.
    """
    found: dict[int, SourceDerivatives] = {}
    distortion: dict[tuple[int, int], NDArray[np.float64]] = {}
    rows = np.flatnonzero(wanted)
    unit = of_unit_flux(galaxies[rows], renderer.sky.names, renderer.sky.column("zero_point"))
    for squares in _parts(renderer, galaxies[rows], x[rows], y[rows], corners, side):
        at = rows[squares.rows]
        number = {row: k for k, row in enumerate(at.tolist())}
        pairs = [(row, band) for row, band in moments if row in number]
        chosen = np.array([(number[row], band) for row, band in pairs], np.int64).reshape(-1, 2)
        images, ends = _differences(squares, unit[squares.rows], x[at], y[at], chosen, steps)
        for row, k in number.items():
            found[row] = _cut(images[:, k], int(squares.x[k]), int(squares.y[k]), renderer.sky.shape)
        for (row, band), seen in zip(pairs, ends.swapaxes(0, 1), strict=True):
            place = x[row] - squares.x[number[row]], y[row] - squares.y[number[row]]
            distortion[row, band] = _distortion(seen, *place, guess, steps)
    return FieldDerivatives(found, distortion)


def of_unit_flux(galaxies: Galaxies, bands: Sequence[str], zero_points: NDArray[np.float64]) -> Galaxies:
    """The galaxies with a flux of one image unit in every band.

    Where a galaxy has no light in a band, it is of the mean composition of the others.

    Args:
        galaxies: N of them, each with light in a band at least.
        bands, zero_points: of the image.
    """
    total = galaxies.flux.sum(axis=2, keepdims=True)
    lit = total > 0
    share = galaxies.flux / np.where(lit, total, 1.0)
    mean = share.sum(axis=1, keepdims=True) / np.maximum(lit.sum(axis=1, keepdims=True), 1)
    flux = np.where(lit, share, mean)
    for band, zero_point in zip(bands, zero_points, strict=True):
        flux[:, CATSIM_BANDS.index(band.lower())] *= 10 ** (0.4 * (NANOJANSKY_ZERO_POINT - zero_point))
    return replace(galaxies, flux=flux)


def psf_derivatives(
    images: NDArray[np.floating], dx: NDArray[np.floating], dy: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Derivative of sources' light by `PSF_PARAMETERS`, (3, …, y, x); see the module.

    Args:
        images: see `SourceDerivatives`, (6, …, y, x).
        dx, dy: offsets of the pixels from the source [pixel]; of shapes that go with (…, y, x).
    """
    shear1, shear2, by_x, by_y, ln_size, light = images
    return np.stack(
        [
            dx * by_x - dy * by_y - shear1,
            dy * by_x + dx * by_y - shear2,
            dx * by_x + dy * by_y - 2 * light - ln_size,
        ]
    )


def _parts(
    renderer: FieldRenderer, galaxies: Galaxies, x: NDArray, y: NDArray, corners: NDArray, side: int
) -> Iterator[Squares]:
    """Squares that reach the stamps, few enough at a time to be drawn together."""
    for squares in renderer.squares(galaxies, x, y):
        near = squares[reaching(squares, corners, side)]
        most = max(1, _AT_ONCE // (len(renderer.sky.bands) * squares.side**2))
        for first in range(0, len(near), most):
            yield near[first : first + most]


def _differences(
    squares: Squares, bodies: Galaxies, x: NDArray, y: NDArray, chosen: NDArray[np.int64], steps: Mapping[str, float]
) -> tuple[Float32s, Float32s]:
    """Derivatives and light, (6, R, band, y, x), and the images that the former are made from.

    Args:
        squares, bodies, x, y: R sources.
        chosen: number of a source and of a band, of which these images are wanted, (Q, 2).
        steps: half of the differences.

    Returns:
        See above; (10, Q, y, x): one after each step, and one before it.
    """

    def drawn(galaxies: Galaxies, dx: float = 0.0, dy: float = 0.0) -> Float32s:
        return squares.drawn(galaxies, x + dx, y + dy, grid=squares.grid)

    def changed(name: str, step: float) -> Float32s:
        match name:
            case "shear1":
                return drawn(bodies.sheared(step))
            case "shear2":
                return drawn(bodies.sheared(1j * step))
            case "x":
                return drawn(bodies, dx=step)
            case "y":
                return drawn(bodies, dy=step)
            case _:
                return drawn(bodies.magnified(np.exp(step)))

    light = drawn(bodies)
    images = np.zeros((len(GEOMETRY) + 1, *light.shape), np.float32)
    images[-1] = light
    ends = []
    points = bool((bodies.morphology == Morphology.STAR).all())
    for k, name in enumerate(GEOMETRY):
        up, down = light, light
        if name in ("x", "y") or not points:
            up, down = changed(name, steps[name]), changed(name, -steps[name])
            images[k] = (up - down) / np.float32(2 * steps[name])
        ends += [image[chosen[:, 0], chosen[:, 1]] for image in (up, down)]
    return images, np.stack(ends)


def _cut(images: Float32s, x: int, y: int, shape: tuple[int, int]) -> SourceDerivatives:
    """A copy of the part that lies on the field."""
    side = images.shape[-1]
    x0, x1 = max(x, 0), min(x + side, shape[1])
    y0, y1 = max(y, 0), min(y + side, shape[0])
    return SourceDerivatives(images[..., y0 - y : max(y1, y0) - y, x0 - x : max(x1, x0) - x].copy(), x0, y0)


def _distortion(ends: Float32s, x: float, y: float, guess: float, steps: Mapping[str, float]) -> NDArray[np.float64]:
    """Derivative of e1, e2 by GEOMETRY, (2, 5), from a source's images after and before each step."""
    shift = np.zeros(len(ends))
    seen = adaptive_moments(ends, x + shift, y + shift, guess)
    e = np.stack([seen.e1, seen.e2]).reshape(2, -1, 2)
    return np.asarray((e[..., 0] - e[..., 1]) / (2 * np.array([steps[name] for name in GEOMETRY])))
