"""What is true of a galaxy before any PSF: g, half-light radius, concentration, centroid of its light.

**g** is the shape of an elliptical Gaussian weight of fixed area. The weight and the second moments of the light under
it have one shape, and one centre, that of the light under the weight. The weight's area is tied to that of the
like-shaped ellipse which holds half of the light: σ² = r² / (2 ln 2), r the ellipse's sqrt(ab). The weight of a
Gaussian galaxy is the galaxy itself. A shear moves weight and light alike, hence g follows (g + γ) / (1 + γ* g)
exactly, for any light. As the area is that of half of the light, neither a cusp nor a knot can shrink the weight onto
itself: the weight of adaptive moments (Bernstein & Jarvis 2002) follows the cusp of a bulge. The wings of a bulge,
which dominate unweighted moments, are outside the weight.

All of it is that of the light in one band, r, whichever bands an image has. Computed on the profiles themselves: sums
over the radius and the angle of each profile, knots as points, no pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.science.simulation import sersic
from deblend_assets.science.simulation.galaxies import KNOTS, Galaxies, Morphology, ellipse_shapes, shear_matrix
from deblend_assets.science.stamps.conventions import CATSIM_BANDS, add_shear

TRUTH_BAND = "r"
# Nodes: evenly spaced in log radius (both ends without weight), and in angle over the whole turn.
_LN_RADII = np.linspace(np.log(1e-4), np.log(200.0), 48)
_ANGLES = 40
_CHUNK = 64  # galaxies at a time: their nodes stay in a core's cache
_STEPS, _TOLERANCE = 600, 1e-6  # six steps do, but of two thin ellipses that cross, hundreds

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class IntrinsicShapes:
    """Truth of galaxies, N rows; NaN for real images, which have no PSF-free profile.

    Attributes:
        g: shear-type g1 + i g2, (N,) complex.
        hlr: sqrt(ab) of the ellipse of shape g about the centroid that holds half of the light, (N,) [arcsec].
        concentration: 5 log10(r80 / r20) of the ellipses of shape g that hold 80 and 20 % of the light (Bershady,
            Jangren & Conselice 2000, AJ 119, 2645, with ellipses), (N,): 2.80 of a disc, 5.28 of a bulge.
        centroid: of the light under the weight, from the galaxy's centre, x + i y, (N,) complex [arcsec]; 0 without
            knots.
    """

    g: Complex
    hlr: Floats
    concentration: Floats
    centroid: Complex

    def __len__(self) -> int:
        return len(self.g)

    def __getitem__(self, rows: slice | NDArray) -> IntrinsicShapes:
        """Some of the galaxies, by a slice, a mask or row numbers."""
        return IntrinsicShapes(self.g[rows], self.hlr[rows], self.concentration[rows], self.centroid[rows])

    def turned(self, angle: ArrayLike) -> IntrinsicShapes:
        """After a turn from +x towards +y [rad], one for all or (N,)."""
        once = np.exp(1j * np.asarray(angle))
        return replace(self, g=self.g * once**2, centroid=self.centroid * once)

    def sheared(self, shear: ArrayLike) -> IntrinsicShapes:
        """After a shear g1 + i g2, one for all or (N,); sizes are kept, as areas are."""
        gamma = np.asarray(shear, np.complex128)
        moved = (self.centroid + gamma * self.centroid.conj()) / np.sqrt(1 - np.abs(gamma) ** 2)
        return replace(self, g=add_shear(self.g, gamma), centroid=moved)


def intrinsic_shapes(galaxies: Galaxies, band: str = TRUTH_BAND) -> IntrinsicShapes:
    """Truth of galaxies as they are; see the module.

    Args:
        galaxies: N of them, of any morphology.
        band: whose light; of u, g, r, i, z, y.

    Returns:
        N rows, each the same bits whichever the others are. A shear or turn of the galaxies changes it as its methods
        say: it need not be computed again.

    Raises:
        RuntimeError: no convergence (not observed).
    """
    light = galaxies.flux[:, CATSIM_BANDS.index(band)]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = light / light.sum(axis=1, keepdims=True)
    count = len(galaxies)
    g, hlr = np.full(count, np.nan, complex), np.full(count, np.nan)
    concentration, centroid = np.full(count, np.nan), np.zeros(count, complex)
    analytic = galaxies.morphology != Morphology.REAL
    centroid[~analytic] = np.nan
    for component in (0, 1):
        rows = np.flatnonzero(analytic & (share[:, component] == 1.0))  # similar ellipses: all of it is known
        radius, g[rows] = ellipse_shapes(galaxies.ellipses[rows, component])
        index = galaxies.n[rows, component]
        hlr[rows] = radius
        concentration[rows] = sersic.concentration(index)
    mixed = analytic & np.isfinite(share).all(axis=1) & (share.max(axis=1) < 1.0)
    for knotted in (False, True):
        rows = np.flatnonzero(mixed & ((share[:, KNOTS] > 0) == knotted))
        for chunk in np.array_split(rows, max(1, -(-len(rows) // _CHUNK))):
            if len(chunk):
                solver = _Solver(galaxies[chunk], share[chunk], knotted)
                g[chunk], hlr[chunk], centroid[chunk] = solver.solve()
                concentration[chunk] = solver.concentration()
    return IntrinsicShapes(g, hlr, concentration, centroid)


class ShapesOnDemand:
    """The truth of a catalogue's galaxies, computed when it is asked for: a field has a few of them.

    Args:
        galaxies: of the catalogue.
    """

    def __init__(self, galaxies: Galaxies) -> None:
        self._galaxies = galaxies

    def __getitem__(self, rows: slice | NDArray) -> IntrinsicShapes:
        """Of some of the galaxies, by a slice, a mask or row numbers."""
        return intrinsic_shapes(self._galaxies[rows])

    @cached_property
    def hlr(self) -> Floats:
        """Half-light radii of all of them, (N,) [arcsec]; some 50 µs each."""
        return intrinsic_shapes(self._galaxies).hlr


class _Solver:
    """The fixed point of some galaxies of several components, G rows, all with knots or all without.

    Each step works in the frame where the weight is round and at the origin. A component is there a sum over the radii
    and angles of its own round frame; `along` and `across` are the axes of its ellipse.
    """

    def __init__(self, galaxies: Galaxies, share: Floats, knotted: bool) -> None:
        self.knots, self.knotted = galaxies.knots, knotted
        number = np.maximum(galaxies.knot_count, 1)
        there = np.arange(self.knots.shape[1]) < number[:, None]
        self.knot_light = np.where(there, (share[:, KNOTS] / number)[:, None], 0.0)
        self.share = share[:, :2]
        # Of a component without light any ellipse will do.
        lit = (self.share > 0)[..., None]
        xx, xy, yy = np.moveaxis(np.where(lit, galaxies.ellipses, [1.0, 0.0, 1.0]), -1, 0)
        self.ellipses = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
        self.light_table = sersic.light_table(galaxies.n).ravel()
        # Of profiles on the weight's centre a quarter of the turn stands for the whole.
        self.angle = (np.arange(_ANGLES if knotted else _ANGLES // 4) + 0.5) * 2 * np.pi / _ANGLES
        # Light of each ring of the round profiles times powers of its radius, (G, 2, radius, 5).
        radii = np.exp(_LN_RADII)
        ring = 2 * np.pi * radii**2 * (_LN_RADII[1] - _LN_RADII[0])
        light = sersic.surface_brightness(radii, galaxies.n[..., None]) * ring * self.share[..., None]
        powers = range(5) if knotted else range(0, 5, 2)
        self.rings = np.stack([light * radii**power for power in powers], axis=-1)
        self.radii = radii
        whole = np.einsum("gc,gck->gk", self.share, galaxies.ellipses) / self.share.sum(axis=1)[:, None]
        radius, self.g = ellipse_shapes(whole)
        self.ln_radius = np.log(radius)
        self.centre = np.zeros(len(share), complex)

    def solve(self) -> tuple[Complex, Floats, Complex]:
        """g, half-light radius and centroid, (G,) each."""
        # A galaxy that is done does not move with those that are not.
        done = np.zeros(len(self.g), bool)
        for _ in range(_STEPS):
            self._place()
            before = self.ln_radius
            self.ln_radius = np.where(done, before, self._ln_radius_holding(0.5, before))
            residual, offset = self._residual()
            self.g = np.where(done, self.g, add_shear(residual, self.g))
            self.centre = np.where(done, self.centre, self.centre + self._in_the_sky(offset))
            changes = (residual, offset * np.exp(-self.ln_radius), self.ln_radius - before)
            done |= np.max(np.abs(changes), axis=0) < _TOLERANCE
            if done.all():
                return self.g, np.exp(self.ln_radius), self.centre
        raise RuntimeError(f"the shapes of {len(self.g)} galaxies did not converge in {_STEPS} steps")

    def concentration(self) -> Floats:
        """5 log10(r80 / r20) of the solution, (G,)."""
        self._place()
        r20, r80 = (self._ln_radius_holding(part, self.ln_radius) for part in (0.2, 0.8))
        return 5 / np.log(10.0) * (r80 - r20)

    def _place(self) -> None:
        """Brings the galaxies into the weight's frame."""
        inverse = shear_matrix(-self.g)
        value, axis = np.linalg.eigh(inverse[:, None] @ self.ellipses @ inverse[:, None].swapaxes(-1, -2))
        across, along = np.sqrt(np.moveaxis(np.maximum(value, 1e-300), -1, 0))
        centre = np.stack([self.centre.real, self.centre.imag], axis=-1)
        points = (self.knots - centre[:, None]) @ inverse.swapaxes(-1, -2)
        self._knots = points[..., 0] + 1j * points[..., 1]
        self._axis = axis[..., 0, 1] + 1j * axis[..., 1, 1]
        # Most of a long ellipse's light under the weight is near its minor axis: more of the angles lie there. The map
        # of the turn onto itself is smooth, so that equal weights of the new angle remain exact.
        stretch = np.sqrt(along / across)[..., None]
        c, s = np.cos(self.angle), stretch * np.sin(self.angle)
        # tan θ = tan(angle) / stretch would crowd the major axis; its inverse crowds the minor.
        length = np.hypot(c, s)
        self._angle_weight = stretch / length**2 / len(self.angle)
        self._u, self._v = along[..., None] * c / length, across[..., None] * s / length
        origin = -(inverse @ centre[:, :, None])[:, :, 0]
        start = ((origin[:, 0] + 1j * origin[:, 1])[:, None] * self._axis.conj())[..., None]
        self._u0, self._v0 = start.real, start.imag

    def _in_the_sky(self, offset: Complex) -> Complex:
        """A vector x + i y of the weight's frame in the sky's."""
        return (offset + self.g * offset.conj()) / np.sqrt(1 - np.abs(self.g) ** 2)

    def _ln_radius_holding(self, part: float, start: Floats) -> Floats:
        """ln of the radius about the weight that holds a part of the light, (G,): Newton's steps in a bracket.

        Light of knots comes in steps of the radius: every other step halves the bracket where there are some.
        """
        within = self._light_function()
        ln_r, low, high = start, start - 20.0, start + 20.0
        done = np.zeros(len(start), bool)
        for number in range(80):
            light, slope = within(ln_r)
            low, high = np.where(light < part, ln_r, low), np.where(light < part, high, ln_r)
            before, ln_r = ln_r, ln_r + np.clip((part - light) / np.maximum(slope, 1e-3), -0.7, 0.7)
            halve = (ln_r < low) | (ln_r > high) | ((number % 2 > 0) & (high - low < 1.5) & self.knotted)
            ln_r = np.where(done, before, np.where(halve, 0.5 * (low + high), ln_r))
            done |= np.minimum(np.abs(ln_r - before), high - low) < 0.1 * _TOLERANCE
            if done.all():
                break
        return np.asarray(ln_r)

    def _light_function(self) -> Callable[[Floats], tuple[Floats, Floats]]:
        """Light within exp(ln r), and its derivative by ln r without that of the knots; both (G,)."""
        u, v, u0, v0 = self._u, self._v, self._u0, self._v0
        square, cross, centre2 = u * u + v * v, u * u0 + v * v0, u0 * u0 + v0 * v0
        distance = np.abs(self._knots)
        weight = self._angle_weight * self.share[..., None]
        nodes = len(sersic.LIGHT_LN_R)
        first = np.arange(2 * len(u)).reshape(-1, 2, 1) * nodes
        low, step = sersic.LIGHT_LN_R[0], sersic.LIGHT_LN_R[1] - sersic.LIGHT_LN_R[0]

        def light_within(radius: Floats) -> tuple[Floats, Floats]:
            place = np.clip((np.log(np.maximum(radius, 1e-30)) - low) / step, 0, nodes - 2 + 1e-9)
            node = place.astype(np.int64)
            below, above = self.light_table[first + node], self.light_table[first + node + 1]
            return below + (place - node) * (above - below), (above - below) / step

        def within(ln_r: Floats) -> tuple[Floats, Floats]:
            if not self.knotted:
                light, slope = light_within(np.exp(ln_r)[:, None, None] / np.sqrt(square))
                return (weight * light).sum(axis=(1, 2)), (weight * slope).sum(axis=(1, 2))
            # The circle meets a ray from the component's centre at the radii (±root - cross) / square.
            r2 = np.exp(2 * ln_r)[:, None, None]
            root = np.sqrt(np.maximum(cross * cross + square * (r2 - centre2), 0.0))
            light, slope = light_within((root - cross) / square)
            light = light - light_within((-root - cross) / square)[0]
            inside = (self.knot_light * (distance <= np.exp(ln_r)[:, None])).sum(axis=1)
            return (weight * light).sum(axis=(1, 2)) + inside, (weight * slope).sum(axis=(1, 2))

        return within

    def _residual(self) -> tuple[Complex, Complex]:
        """Steps of g and of the centre in the weight's frame, (G,) each: Newton's for a galaxy that is nearly round."""
        half = np.log(2.0) * np.exp(-2 * self.ln_radius)  # 1 / (2 σ²)
        u, v, u0, v0 = self._u, self._v, self._u0, self._v0
        square = u * u + v * v
        exponent = (-half[:, None, None] * square)[..., None] * self.radii**2
        if self.knotted:
            exponent += (-2 * half[:, None, None] * (u * u0 + v * v0))[..., None] * self.radii
            exponent -= (half[:, None, None] * (u0 * u0 + v0 * v0))[..., None]
        # Sums over the radius of the weighted light times its powers, (G, 2, angle) each.
        sums = np.moveaxis((np.exp(exponent, out=exponent) @ self.rings) * self._angle_weight[..., None], -1, 0)
        if self.knotted:
            flux, first, second, size, fourth = self._moments_off_centre(*sums)
        else:
            flux, size, fourth = (
                (total * factor).sum(axis=(1, 2)) for total, factor in zip(sums, (1, square, square**2), strict=True)
            )
            first = np.zeros(len(flux), complex)
            second = (self._axis**2 * (sums[1] * (u * u - v * v)).sum(axis=2)).sum(axis=1)
        if self.knotted:
            z, distance2 = self._knots, np.abs(self._knots) ** 2
            weight = self.knot_light * np.exp(-half[:, None] * distance2)
            first, second = first + (weight * z).sum(axis=1), second + (weight * z * z).sum(axis=1)
            size, fourth = size + (weight * distance2).sum(axis=1), fourth + (weight * distance2**2).sum(axis=1)
            flux = flux + weight.sum(axis=1)
        # A shear δ of a round galaxy changes its second moment by δ (2 size - fourth / 2σ²), a shift by the like.
        step = second / np.maximum(2 * size - half * fourth, 0.5 * size)
        shift = first / np.maximum(flux - half * size, 0.25 * flux)
        return step * np.minimum(1.0, 0.5 / np.maximum(np.abs(step), 1e-12)), shift

    def _moments_off_centre(self, s0: Floats, s1: Floats, s2: Floats, s3: Floats, s4: Floats) -> tuple[NDArray, ...]:
        """Flux, x + i y, (x + i y)², r² and r⁴ of profiles beside the weight's centre, summed; (G,) each.

        With x + i y = ρ z + z0 on the component's axes, sums over ρ of its powers are given.
        """
        z, z0 = self._u + 1j * self._v, self._u0 + 1j * self._v0
        p2, p1, p0 = np.abs(z) ** 2, 2 * (z * z0.conj()).real, np.abs(z0) ** 2  # r² as a polynomial in ρ
        fourth = p2**2 * s4 + 2 * p2 * p1 * s3 + (p1**2 + 2 * p2 * p0) * s2 + 2 * p1 * p0 * s1 + p0**2 * s0
        return (
            s0.sum(axis=(1, 2)),
            (self._axis * (z * s1 + z0 * s0).sum(axis=2)).sum(axis=1),
            (self._axis**2 * (z * z * s2 + 2 * z * z0 * s1 + z0 * z0 * s0).sum(axis=2)).sum(axis=1),
            (p2 * s2 + p1 * s1 + p0 * s0).sum(axis=(1, 2)),
            fourth.sum(axis=(1, 2)),
        )
