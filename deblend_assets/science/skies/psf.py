"""The PSF of a band: atmosphere convolved with optics, its change over the field, and its step at a chip's edge.

A PSF is light before the pixel: images are made by convolving it with a square pixel, as GalSim does by default.
Frame: arcsec, x with the column, y with the row.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol

import galsim
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.skies.limits import FWHM_ARCSEC, MOFFAT_BETA, PSF_SHEAR
from deblend_assets.science.skies.psf_shape import measure_psf

Atmosphere = Literal["kolmogorov", "moffat", "gaussian"]

# The largest change of ln size and of either component of g that a field's variation may have.
MAX_SIZE_CHANGE, MAX_SHEAR_CHANGE = 0.03, 0.02
_FWHM_TOLERANCE = 5e-4
_LEAST_SEEING = 0.5  # of the FWHM
_ARCSEC = 180 / np.pi * 3600  # in a radian
# Side of the optical PSF's image [arcsec]. Behind a seeing of 0.5 arcsec it is within 3e-3 of the peak of a four times
# larger one, in a tenth of the time.
_PUPIL_FIELD = 4.0
# Profiles that are kept: twice the bands of a field. One with optics takes 20 MB.
_KEPT = 12


class PSF(Protocol):
    """A PSF that may change over an image."""

    def at(self, x: float, y: float) -> galsim.GSObject:
        """The PSF at a position.

        Args:
            x, y: in the image [pixel], 0 at the centre of the first pixel.

        Returns:
            A profile of unit flux, before the pixel [arcsec].
        """
        ...


@dataclass(frozen=True)
class Optics:
    """A telescope's diffraction and aberrations.

    Attributes:
        diameter: of the mirror [m].
        wavelength: [nm].
        obscuration: diameter of the central obstruction over the mirror's.
        defocus, coma1, coma2, trefoil1, trefoil2: aberrations [wave], coefficients of Noll's Zernike polynomials, as
            GalSim's `OpticalPSF` takes them.
    """

    diameter: float
    wavelength: float
    obscuration: float = 0.0
    defocus: float = 0.0
    coma1: float = 0.0
    coma2: float = 0.0
    trefoil1: float = 0.0
    trefoil2: float = 0.0

    def __post_init__(self) -> None:
        aberrations = (self.defocus, self.coma1, self.coma2, self.trefoil1, self.trefoil2)
        if not (0 < self.diameter < 100 and 200 < self.wavelength < 3000 and 0 <= self.obscuration < 1):
            raise SettingsError(
                f"diameter {self.diameter:g} m, wavelength {self.wavelength:g} nm, obscuration {self.obscuration:g}",
                where="Optics",
                remedy="give a diameter in m, a wavelength in nm (200 to 3000) and an obscuration below 1",
            )
        if not np.isfinite(aberrations).all() or max(map(abs, aberrations)) > 10:
            raise SettingsError(
                f"aberrations {aberrations}", where="Optics", remedy="give waves; none may be beyond 10"
            )

    def profile(self) -> galsim.GSObject:
        """The optical PSF, without the atmosphere."""
        metres = self.wavelength * 1e-9
        with warnings.catch_warnings():
            # The pupil's grid is coarser than GalSim's rule, which is made for diffraction alone.
            warnings.simplefilter("ignore", galsim.GalSimWarning)
            pupil = galsim.Aperture(
                diam=self.diameter,
                lam=self.wavelength,
                obscuration=self.obscuration,
                pupil_plane_scale=metres / (_PUPIL_FIELD / _ARCSEC),
                pupil_plane_size=2 * self.diameter,
            )
            profile = galsim.OpticalPSF(
                lam=self.wavelength,
                diam=self.diameter,
                aper=pupil,
                defocus=self.defocus,
                coma1=self.coma1,
                coma2=self.coma2,
                trefoil1=self.trefoil1,
                trefoil2=self.trefoil2,
            )
            _ = profile.stepk  # GalSim makes the pupil, and warns, when it is first needed
        return profile


@dataclass(frozen=True)
class ConstantPSF:
    """Any profile, the same all over the image.

    Attributes:
        profile: of unit flux, before the pixel [arcsec].
    """

    profile: galsim.GSObject

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`."""
        return self.profile


@dataclass(frozen=True)
class PSFModel:
    """The PSF of a band, constant over the image.

    What the parameters say is what `measure_psf` measures on the profile, optics included.

    Attributes:
        atmosphere: profile of the atmosphere; Gaussian is that of reconvolved images.
        fwhm: of the whole PSF, 0.5 to 1.4 [arcsec]; see `PSFShape.fwhm`.
        beta: of the Moffat profile, 2 to 5; none for the others.
        g1, g2: shear-type ellipticity of the adaptive moments, |g| up to 0.1.
        dx, dy: centroid of the adaptive moments [arcsec], at most half a FWHM away.
        optics: convolved with the atmosphere; none: atmosphere alone.
    """

    atmosphere: Atmosphere
    fwhm: float
    beta: float | None = None
    g1: float = 0.0
    g2: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    optics: Optics | None = None

    def __post_init__(self) -> None:
        if self.atmosphere not in ("kolmogorov", "moffat", "gaussian"):
            raise SettingsError(
                f"unknown atmosphere {self.atmosphere!r}",
                where="PSFModel.atmosphere",
                remedy="choose kolmogorov, moffat or gaussian",
            )
        FWHM_ARCSEC.require(self.fwhm, "PSFModel.fwhm")
        PSF_SHEAR.require(abs(self.g), "PSFModel.g1, g2")
        if (self.beta is not None) != (self.atmosphere == "moffat"):
            raise SettingsError(
                f"beta is {self.beta}", where="PSFModel.beta", remedy="give beta for a Moffat profile, and only there"
            )
        if self.beta is not None:
            MOFFAT_BETA.require(self.beta, "PSFModel.beta")
        if not np.hypot(self.dx, self.dy) <= 0.5 * self.fwhm:
            raise SettingsError(
                f"offset ({self.dx:g}, {self.dy:g}) arcsec is outside the PSF's half maximum",
                where="PSFModel.dx, dy",
                remedy="give the centroid's offset in arcsec, at most half a FWHM",
            )

    @property
    def g(self) -> complex:
        """The ellipticity as g1 + i g2."""
        return complex(self.g1, self.g2)

    def profile(self, ln_size: float = 0.0, g: complex | None = None) -> galsim.GSObject:
        """The PSF as a GalSim profile of unit flux, before the pixel [arcsec].

        Args:
            ln_size: ln of a factor on its size.
            g: its ellipticity; none: the model's.

        Raises:
            SettingsError: the optics alone are wider than `fwhm`.
        """
        base, own = _round_base(self.atmosphere, self.fwhm, self.beta, self.optics)
        wanted = self.g if g is None else g
        # Aberrations leave the base the ellipticity o. The shear s that makes it g: g = (o + s)/(1 + s* o).
        change, product = wanted - own, wanted * own
        shear = (change + product * np.conj(change)) / (1 - abs(product) ** 2)
        if ln_size:
            base = base.dilate(float(np.exp(ln_size)))
        if shear:
            base = base.shear(g1=float(shear.real), g2=float(shear.imag))
        return base.shift(self.dx, self.dy) if self.dx or self.dy else base

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`; the same everywhere."""
        return self.profile()


@lru_cache(maxsize=_KEPT)
def _round_base(
    atmosphere: Atmosphere, fwhm: float, beta: float | None, optics: Optics | None
) -> tuple[galsim.GSObject, complex]:
    """Atmosphere and optics of the given total FWHM, centred; and the ellipticity that the aberrations leave."""
    if optics is None:
        return _atmosphere(atmosphere, fwhm, beta), 0j
    telescope = optics.profile()
    seeing = fwhm
    for _ in range(12):
        whole = galsim.Convolve(_atmosphere(atmosphere, seeing, beta), telescope)
        try:
            shape = measure_psf(whole, guess=fwhm)
        except SettingsError:
            break  # several peaks: little but the optics is left
        if abs(shape.fwhm / fwhm - 1) < _FWHM_TOLERANCE:
            return whole.shift(-shape.x, -shape.y), shape.g
        # Widths add up in quadrature, nearly: the difference of the squares converges in a few steps.
        squared = seeing**2 + fwhm**2 - shape.fwhm**2
        seeing = squared**0.5 if squared > (0.5 * seeing) ** 2 else 0.5 * seeing
        if seeing < _LEAST_SEEING * fwhm:
            break
    raise SettingsError(
        f"the optics leave too little of a FWHM of {fwhm:g} arcsec to the atmosphere",
        where="PSFModel.optics",
        remedy="lower the aberrations or raise fwhm",
    )


def _atmosphere(atmosphere: Atmosphere, fwhm: float, beta: float | None) -> galsim.GSObject:
    if atmosphere == "moffat":
        return galsim.Moffat(beta=beta, fwhm=fwhm)
    return galsim.Kolmogorov(fwhm=fwhm) if atmosphere == "kolmogorov" else galsim.Gaussian(fwhm=fwhm)


@dataclass(frozen=True)
class ChipEdge:
    """A step of the PSF along a line of the image: beyond it another chip was exposed.

    Attributes:
        axis: along which the chips follow one another.
        position: of the edge on that axis [pixel].
        ln_size, g1, g2: added to those of the PSF at and beyond the position.
    """

    axis: Literal["x", "y"]
    position: float
    ln_size: float
    g1: float
    g2: float


# Functions of u and v in -1 to 1, of mean 0 over the square.
_TERMS = 5


def _terms(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """u, v, uv, P2(u), P2(v) with P2 Legendre's polynomial; (…, 5)."""
    return np.stack([u, v, u * v, 1.5 * u * u - 0.5, 1.5 * v * v - 0.5], axis=-1)


@dataclass(frozen=True)
class PSFVariation:
    """The change of size and ellipticity over an image: polynomials of second degree, and one step.

    Attributes:
        shape: of the image, (y, x) [pixel].
        ln_size, g1, g2: coefficients of u, v, uv, P2(u), P2(v), with u = v = -1 and 1 at the image's outer pixels.
        edge: a chip's edge; none: a smooth PSF.
    """

    shape: tuple[int, int]
    ln_size: tuple[float, ...]
    g1: tuple[float, ...]
    g2: tuple[float, ...]
    edge: ChipEdge | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 2 or any(len(c) != _TERMS for c in (self.ln_size, self.g1, self.g2)):
            raise SettingsError(
                f"image of {self.shape} pixels, {len(self.ln_size)}, {len(self.g1)}, {len(self.g2)} coefficients",
                where="PSFVariation",
                remedy=f"give the image's (y, x) and {_TERMS} coefficients each",
            )
        if not np.isfinite([self.ln_size, self.g1, self.g2]).all():
            raise SettingsError(
                "coefficients are not finite", where="PSFVariation", remedy="give numbers; 0 for no variation"
            )

    @classmethod
    def random(cls, shape: tuple[int, int], rng: np.random.Generator, *, edge: bool = False) -> PSFVariation:
        """Variation of random strength within ±`MAX_SIZE_CHANGE` in ln size and ±`MAX_SHEAR_CHANGE` in g1 and g2.

        Args:
            shape: of the image, (y, x) [pixel].
            rng: random numbers.
            edge: whether a chip's edge crosses the image; smooth part and step share the range then.
        """
        grid = np.linspace(-1, 1, 33)
        terms = _terms(*np.meshgrid(grid, grid))
        limits = np.array([MAX_SIZE_CHANGE, MAX_SHEAR_CHANGE, MAX_SHEAR_CHANGE])
        smooth = rng.uniform(0, 1, 3) * limits
        coefficients = rng.normal(size=(3, _TERMS))
        coefficients *= (smooth / np.abs(terms @ coefficients.T).max(axis=(0, 1)))[:, None]
        ln_size, g1, g2 = (tuple(map(float, row)) for row in coefficients)
        if not edge:
            return cls(shape, ln_size, g1, g2)
        axis: Literal["x", "y"] = "x" if rng.random() < 0.5 else "y"
        position = float(rng.uniform(0.2, 0.8) * (shape[1 if axis == "x" else 0] - 1))
        step = (limits - smooth) * rng.uniform(-1, 1, 3)
        return cls(shape, ln_size, g1, g2, ChipEdge(axis, position, *map(float, step)))

    @property
    def largest(self) -> tuple[float, float]:
        """Largest |change of ln size| and |change of g| over the image; with a chip's edge an upper limit."""
        height, width = self.shape
        grid = np.meshgrid(np.linspace(0, width - 1, 65), np.linspace(0, height - 1, 65))
        sizes, shears = replace(self, edge=None).at(*grid)
        size, shear = float(np.abs(sizes).max()), float(np.abs(shears).max())
        if self.edge is None:
            return size, shear
        return size + abs(self.edge.ln_size), shear + abs(complex(self.edge.g1, self.edge.g2))

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
        """The change at positions in the image.

        Args:
            x, y: [pixel], any one shape, 0 at the centre of the first pixel; outside the image the value of its edge.

        Returns:
            ln of the factor on the size, and what is added to g1 + i g2; both of the shape of x.
        """
        x, y = np.asarray(x, float), np.asarray(y, float)
        height, width = self.shape
        u, v = np.clip(2 * x / (width - 1) - 1, -1, 1), np.clip(2 * y / (height - 1) - 1, -1, 1)
        terms = _terms(u, v)
        ln_size = terms @ np.array(self.ln_size)
        g = terms @ (np.array(self.g1) + 1j * np.array(self.g2))
        if self.edge is not None:
            beyond = (x if self.edge.axis == "x" else y) >= self.edge.position
            ln_size = ln_size + beyond * self.edge.ln_size
            g = g + beyond * complex(self.edge.g1, self.edge.g2)
        return ln_size, g


@dataclass(frozen=True)
class VaryingPSF:
    """A PSF model whose size and ellipticity change over the image.

    Attributes:
        model: the PSF without the change.
        variation: of size and ellipticity; the offset stays the model's.
    """

    model: PSFModel
    variation: PSFVariation

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`."""
        ln_size, change = self.variation.at(x, y)
        return self.model.profile(float(ln_size), self.model.g + complex(change))
