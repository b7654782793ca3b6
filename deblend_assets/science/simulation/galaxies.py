"""Galaxies of any morphology as arrays: what a field shears, turns and renders, and what their truth is made from.

A galaxy is the sum of two Sérsic profiles on one centre, each with an index, an ellipse and a flux in every band of its
own, and of knots: points that share one flux equally. A bulge with the disc's angle or another, a single profile, a
colour gradient are special cases. Real images (`real_images`) take the place of both.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import CatalogError, SettingsError
from deblend_assets.science.simulation import sersic
from deblend_assets.science.stamps.conventions import CATSIM_BANDS

NANOJANSKY_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy (Oke & Gunn 1983, ApJ 266, 713), to 6e-5 mag."""
DISC, BULGE, KNOTS = 0, 1, 2
"""The last axis of `Galaxies.flux`. A single profile is kept as the disc, whatever its index."""

Floats = NDArray[np.float64]


class Morphology(enum.IntEnum):
    """Where a galaxy's shape is from; the numbers are stored."""

    CATSIM = 0
    """Exponential disc and de Vaucouleurs bulge of one angle, of one colour: the report's."""
    SERSIC = 1
    """One profile, n as in the COSMOS fits."""
    ALIGNED = 2
    """Disc and redder bulge of one angle."""
    COSMOS = 3
    """Fits of COSMOS galaxies: one profile, or disc and redder bulge of their own angles."""
    MISALIGNED = 4
    """Disc and redder bulge, each with its own ellipticity and angle."""
    KNOTTED = 5
    """Disc and redder bulge of one angle, a part of the disc's light in knots."""
    REAL = 6
    """An image of a COSMOS galaxy, its PSF removed."""
    STAR = 7
    """A point: one knot at the centre."""


@dataclass(frozen=True)
class Galaxies:
    """Galaxies at their own centre, N rows; x along the column, y along the row, angles from +x towards +y.

    Attributes:
        id: identity, unique in its catalogue, (N,) int64.
        morphology: `Morphology`, (N,) int8.
        redshift: (N,).
        flux: of disc, bulge and knots in u, g, r, i, z, y, (N, 6, 3) [nJy].
        n: Sérsic index of disc and bulge, (N, 2); 1 and 4 where they have no light.
        ellipses: half-light ellipse of disc and bulge as a matrix, whose eigenvalues are its semi-axes squared:
            Qxx, Qxy, Qyy, (N, 2, 3) [arcsec²]; 0 without light.
        knots: positions of the knots, (N, K, 2) [arcsec]; those beyond a galaxy's number are 0.
        knot_count: number of knots, (N,) int; 0 where their flux is 0.
        jacobian: all shears and turns so far, (N, 2, 2): the galaxy at x was at jacobian⁻¹ x. Only real images need
            it; the other attributes are already transformed.
        image: row of the galaxy in its collection of real images, (N,) int; -1 without.
    """

    id: NDArray[np.int64]
    morphology: NDArray[np.int8]
    redshift: Floats
    flux: Floats
    n: Floats
    ellipses: Floats
    knots: Floats
    knot_count: NDArray[np.int64]
    jacobian: Floats
    image: NDArray[np.int64]

    def __post_init__(self) -> None:
        count, knots = len(self.id), self.knots.shape[1]
        expected = {
            "flux": (count, len(CATSIM_BANDS), 3),
            "n": (count, 2),
            "ellipses": (count, 2, 3),
            "knots": (count, knots, 2),
            "jacobian": (count, 2, 2),
        }
        for field in fields(self):
            shape = getattr(self, field.name).shape
            if shape != expected.get(field.name, (count,)):
                raise ValueError(f"Galaxies.{field.name} has shape {shape}, not {expected.get(field.name, (count,))}")

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, rows: slice | NDArray) -> Galaxies:
        """Some of the galaxies, by a slice, a mask or row numbers (each as often as it is named)."""
        return Galaxies(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def build(
        cls,
        ids: ArrayLike,
        morphology: Morphology,
        redshift: ArrayLike,
        flux: Floats,
        n: Floats,
        hlr: Floats,
        shape: NDArray[np.complex128],
        knots: Floats | None = None,
        knot_count: NDArray[np.int64] | None = None,
        image: NDArray[np.int64] | None = None,
    ) -> Galaxies:
        """Galaxies of one morphology from radii and ellipticities.

        Args:
            ids, redshift: (N,).
            morphology: of all of them.
            flux, n: see the class.
            hlr: half-light radius sqrt(ab) of disc and bulge, (N, 2) [arcsec]; ignored without light.
            shape: shear-type g1 + i g2 of disc and bulge, (N, 2); ignored without light.
            knots, knot_count, image: see the class; none without them.

        Raises:
            CatalogError: a flux that is negative or not finite; an index out of GalSim's range, a radius that is not
                positive or an abs(g) of 1 or more where there is light; knots without light, or light without knots.
        """
        ids = np.asarray(ids, np.int64)
        count = len(ids)
        lit = flux[:, :, :2].max(axis=1) > 0
        _refuse(~(np.isfinite(flux) & (flux >= 0)).all(axis=(1, 2)), ids, "a flux that is negative or not finite")
        _refuse(
            ~((n >= sersic.N_MIN) & (n <= sersic.N_MAX) | ~lit).all(axis=1), ids, "a Sérsic index beyond 0.3 to 6.2"
        )
        _refuse(~((hlr > 0) & np.isfinite(hlr) | ~lit).all(axis=1), ids, "a half-light radius that is not positive")
        _refuse(~((np.abs(shape) < 1) | ~lit).all(axis=1), ids, "an ellipticity of 1 or more")
        some = np.zeros(count, np.int64) if knot_count is None else knot_count
        _refuse((some > 0) != (flux[:, :, KNOTS].max(axis=1) > 0), ids, "knots without light, or light without knots")
        return cls(
            id=ids,
            morphology=np.full(count, morphology, np.int8),
            redshift=np.asarray(redshift, np.float64),
            flux=flux,
            n=np.where(lit, n, [1.0, 4.0]),
            ellipses=np.where(lit[..., None], ellipse_matrices(np.where(lit, hlr, 1.0), np.where(lit, shape, 0)), 0.0),
            knots=np.zeros((count, 0, 2)) if knots is None else knots,
            knot_count=some,
            jacobian=np.broadcast_to(np.eye(2), (count, 2, 2)).copy(),
            image=np.full(count, -1, np.int64) if image is None else image,
        )

    @classmethod
    def of_stars(cls, ids: ArrayLike, flux: Floats) -> Galaxies:
        """Points, which are rendered as galaxies are.

        Args:
            ids: (N,).
            flux: in u, g, r, i, z, y, (N, 6) [nJy], not 0 in all bands.
        """
        count = len(flux)
        none, points = np.ones((count, 2)), np.zeros((count, 1, 2))
        light = np.zeros((*flux.shape, 3))
        light[:, :, KNOTS] = flux
        number = np.ones(count, np.int64)
        return cls.build(
            ids,
            Morphology.STAR,
            np.zeros(count),
            light,
            none,
            none,
            np.zeros((count, 2), np.complex128),
            points,
            number,
        )

    @classmethod
    def of_catsim(cls, catalog: Mapping[str, NDArray]) -> Galaxies:
        """The report's galaxies, as its scenes show them but for the light of active nuclei, which is the disc's here.

        Args:
            catalog: `catalog.CATSIM_COLUMNS`, each (N,).
        """
        light = np.stack([np.asarray(catalog[f"fluxnorm_{part}"], np.float64) for part in ("disk", "bulge", "agn")], 1)
        stars = light[:, :2] / light[:, :2].sum(axis=1, keepdims=True)
        total = nanojansky(np.stack([np.asarray(catalog[f"{band}_ab"], np.float64) for band in CATSIM_BANDS], axis=1))
        flux = np.zeros((len(light), len(CATSIM_BANDS), 3))
        flux[:, :, :2] = total[:, :, None] * stars[:, None, :]
        major, minor = (np.stack([np.asarray(catalog[f"{s}_{c}"], np.float64) for c in "db"], 1) for s in "ab")
        angle = np.radians(np.where(light[:, 0] > 0, catalog["pa_disk"], catalog["pa_bulge"]))[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            shape = (major - minor) / (major + minor) * np.exp(2j * angle)
        index = np.broadcast_to([1.0, 4.0], (len(light), 2))
        return cls.build(
            catalog["galtileid"], Morphology.CATSIM, catalog["redshift"], flux, index, np.sqrt(major * minor), shape
        )

    def transformed(self, matrix: ArrayLike) -> Galaxies:
        """After a linear map of the sky, x' = matrix x; (2, 2), or each galaxy's own (N, 2, 2). Fluxes are kept."""
        m = np.broadcast_to(np.asarray(matrix, np.float64), (len(self), 2, 2))
        xx, xy, yy = np.moveaxis(self.ellipses, -1, 0)
        full = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
        moved = m[:, None] @ full @ m[:, None].swapaxes(-1, -2)
        return replace(
            self,
            ellipses=np.stack([moved[..., 0, 0], moved[..., 0, 1], moved[..., 1, 1]], axis=-1),
            knots=self.knots @ m.swapaxes(-1, -2),
            jacobian=m @ self.jacobian,
        )

    def turned(self, angle: ArrayLike) -> Galaxies:
        """After a turn by an angle from +x towards +y [rad], one for all or (N,)."""
        c, s = np.cos(angle), np.sin(angle)
        return self.transformed(np.moveaxis(np.array([[c, -s], [s, c]]), (0, 1), (-2, -1)))

    def sheared(self, shear: ArrayLike) -> Galaxies:
        """After a shear g1 + i g2 that keeps areas, as `galsim.Shear`; one for all or (N,)."""
        return self.transformed(shear_matrix(shear))

    def magnified(self, factor: ArrayLike) -> Galaxies:
        """With all lengths multiplied by a factor, the flux kept; one for all or (N,)."""
        return self.transformed(np.asarray(factor, np.float64)[..., None, None] * np.eye(2))

    def flux_in(self, bands: Sequence[str], zero_points: ArrayLike) -> Floats:
        """Fluxes of disc, bulge and knots in units of an image, (N, band, 3).

        Args:
            bands: of u, g, r, i, z, y, in either case: DES's Y takes y.
            zero_points: AB magnitude of one unit, (band,).

        Raises:
            SettingsError: another band.
        """
        rows = [CATSIM_BANDS.index(band.lower()) for band in bands if band.lower() in CATSIM_BANDS]
        if len(rows) != len(bands):
            raise SettingsError(
                f"bands {', '.join(bands)}", where="Galaxies.flux_in", remedy=f"choose of {', '.join(CATSIM_BANDS)}"
            )
        scale = 10.0 ** (0.4 * (np.asarray(zero_points, np.float64) - NANOJANSKY_ZERO_POINT))
        return self.flux[:, rows] * scale[:, None]

    def magnitudes(self) -> Floats:
        """AB magnitudes of the whole galaxy in u, g, r, i, z, y, (N, 6); infinite without light."""
        with np.errstate(divide="ignore"):
            return NANOJANSKY_ZERO_POINT - 2.5 * np.log10(self.flux.sum(axis=2))


def concatenate(parts: Sequence[Galaxies]) -> Galaxies:
    """All galaxies of several tables, in order."""
    most = max(part.knots.shape[1] for part in parts)
    wide = [
        replace(part, knots=np.pad(part.knots, ((0, 0), (0, most - part.knots.shape[1]), (0, 0)))) for part in parts
    ]
    return Galaxies(**{f.name: np.concatenate([getattr(part, f.name) for part in wide]) for f in fields(Galaxies)})


def nanojansky(magnitudes: ArrayLike) -> Floats:
    """Flux [nJy] of AB magnitudes."""
    return np.asarray(10.0 ** (-0.4 * (np.asarray(magnitudes, np.float64) - NANOJANSKY_ZERO_POINT)))


def shear_matrix(shear: ArrayLike) -> Floats:
    """The matrix of area 1 of a shear g1 + i g2, (..., 2, 2): a circle becomes an ellipse of shape g."""
    g = np.asarray(shear, np.complex128)
    matrix = np.array([[1 + g.real, g.imag], [g.imag, 1 - g.real]]) / np.sqrt(1 - np.abs(g) ** 2)
    return np.moveaxis(matrix, (0, 1), (-2, -1))


def ellipse_matrices(radius: ArrayLike, shape: ArrayLike) -> Floats:
    """Qxx, Qxy, Qyy, (..., 3), of ellipses of area π radius² and shear-type shape g1 + i g2."""
    g = np.asarray(shape, np.complex128)
    square = np.abs(g) ** 2
    terms = np.stack([1 + square + 2 * g.real, 2 * g.imag, 1 + square - 2 * g.real], axis=-1)
    return np.asarray(np.asarray(radius, np.float64)[..., None] ** 2 * terms / (1 - square)[..., None])


def ellipse_shapes(ellipses: Floats) -> tuple[Floats, NDArray[np.complex128]]:
    """Radius sqrt(ab) and shear-type shape g1 + i g2 of ellipses (..., 3); the inverse of `ellipse_matrices`."""
    xx, xy, yy = np.moveaxis(ellipses, -1, 0)
    root = np.sqrt(np.maximum(xx * yy - xy**2, 0.0))
    size = xx + yy + 2 * root
    shape = (xx - yy + 2j * xy) / np.where(size > 0, size, 1.0)
    return np.sqrt(root), shape


def _refuse(bad: NDArray[np.bool_] | np.bool_, ids: NDArray[np.int64], what: str) -> None:
    if bad.any():
        raise CatalogError(
            f"{what} in {int(bad.sum())} of {len(ids)} galaxies, first in galaxy {ids[bad.argmax()]}",
            where="Galaxies",
            remedy="correct or drop those rows",
        )
