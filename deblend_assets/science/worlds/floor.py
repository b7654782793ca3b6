"""The Fisher floor in a field: lowest errors of an unbiased estimate of targets from their stamps.

The Cramér-Rao bound of a Gaussian likelihood whose covariance is known: that of the sky, correlated where it is, and of
the photons of all sources. Lost pixels have no part in it. Free are position, shape (a shear, which keeps the area),
ln size and the flux in each band, of the target and of every source of true S/N ≥ 3 whose light reaches the stamp; a
star has no shape and no size. Fainter sources are known, and so are bulge-to-disc ratio, colours within a galaxy, its
knots, and the number of sources.

Other sources have a Gaussian prior (`Scatter`). The target has none, except in the columns "_population", where it has
the same one. In the columns "_psf" the PSF of each band is free too, within a prior (`PSFScatter`).

`evaluation.fisher` is the floor of the report's scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation.fields import Field
from deblend_assets.science.simulation.observed import reference_band
from deblend_assets.science.skies.inverse_noise import WHITE_PART, InverseNoise
from deblend_assets.science.skies.noise import NoiseCorrelation
from deblend_assets.science.stamps.columns import per_band
from deblend_assets.science.stamps.conventions import g_response
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.statistics.fisher import marginal_covariance
from deblend_assets.science.worlds.derivatives import (
    GEOMETRY,
    PSF_PARAMETERS,
    STEPS,
    FieldDerivatives,
    psf_derivatives,
    source_derivatives,
)

LEAST_SNR = 3.0
"""True S/N over all bands from which on a source beside the target is free."""
# … and has this S/N on the stamp. A fainter one, known to a factor of e, would raise no error by 1 %.
_LEAST_SNR_ON_STAMP = 0.1
_LEAST_FLUX = 1e-6  # over that of the brightest band, for the prior of a band without light

FLOOR_COLUMNS = {
    "sigma_g1": ("", "of the shear-type shape before the PSF; NaN for stars and real images"),
    "sigma_g2": ("", "the same"),
    "cov_g12": ("", "covariance of g1 and g2"),
    "sigma_e1": ("", "of the distortion behind the PSF, adaptive moments in the reference band; NaN for stars"),
    "sigma_e2": ("", "the same"),
    "sigma_ln_size": ("", "of the ln of a size before the PSF; NaN for stars"),
    "sigma_x": ("pixel", "of the position along a row"),
    "sigma_y": ("pixel", "of the position along a column"),
    "sigma_flux_{band}": ("image unit", "of the whole flux in a band; NaN in an absent band"),
}
"""Unit and meaning of the columns of `target_floor`; {band} once a band. Each comes again with "_population", and all
but sigma_e with "_psf"."""


@dataclass(frozen=True)
class Scatter:
    """Standard deviations of the priors: what is known of a galaxy before it is seen.

    By default those of the generated population with the morphologies of training, to i = 27.

    Attributes:
        g: of each component of the shear-type shape.
        ln_size: of ln half-light radius.
        ln_flux: of ln flux, in each band on its own.
        position: of x and of y, in FWHM of the PSF.
    """

    g: float = 0.3
    ln_size: float = 0.7
    ln_flux: float = 1.3
    position: float = 1.0


@dataclass(frozen=True)
class PSFScatter:
    """How well the PSF of a band is known, standard deviations; each band on its own.

    Attributes:
        ln_size: of ln FWHM, pixel included.
        g: of each component of its ellipticity.
    """

    ln_size: float = 0.01
    g: float = 0.005


def target_floor(
    field: Field,
    stamps: ObservedStamps,
    sources: ArrayLike,
    true_snr: ArrayLike,
    fwhm: ArrayLike,
    *,
    scatter: Scatter = Scatter(),
    psf: PSFScatter = PSFScatter(),
    steps: Mapping[str, float] = STEPS,
    white_part: float = WHITE_PART,
) -> pd.DataFrame:
    """Lowest errors of the targets of one field; see the module.

    The noise's correlation is the sky's own: that of the stamps is cut off at its largest lag, and a cut function need
    not be one of any noise.

    Args:
        field: with all its sources.
        stamps: of T targets, cut from an observation of it; their inverse variances are those of the sky's noise. Their
            bands are the field's; others among them are absent.
        sources: row of each target in `field.sources`, (T,); -1 for a spurious one.
        true_snr: of every source of the field, over all bands (`detection.light.true_snr`); 0 where unknown.
        fwhm: of the PSF at each target, reference band, (T,) [pixel].
        scatter: priors.
        psf: how well the PSF is known in the columns "_psf".
        steps: half of the differences, see `derivatives.STEPS`.
        white_part: see `inverse_noise.WHITE_PART`.

    Returns:
        One row a target, `floor_columns`; NaN without a source, without a pixel, and where all is singular.

    Raises:
        MismatchError: arguments that do not fit together.
    """
    target, snr = np.asarray(sources, np.int64), np.asarray(true_snr, np.float64)
    width = np.broadcast_to(np.asarray(fwhm, np.float64), target.shape)
    _require(field, stamps, target, snr)
    weight = stamps.inverse_variance[:, [stamps.bands.index(band) for band in field.sky.names]]
    table = pd.DataFrame(np.nan, index=range(len(target)), columns=list(floor_columns(stamps.bands)))
    rows = np.flatnonzero((target >= 0) & (weight > 0).any(axis=(1, 2, 3)))
    if not len(rows):
        return table
    reference = np.zeros(len(target), np.int64)
    reference[rows] = reference_band(field.sky.names, np.asarray((weight[rows] > 0).any(axis=(2, 3))))
    wanted = snr >= LEAST_SNR
    wanted[target[rows]] = True
    found = source_derivatives(
        field.renderer,
        field.sources.bodies,
        field.sources.x,
        field.sources.y,
        wanted,
        stamps.corner[rows],
        stamps.side,
        moments=list(zip(target[rows].tolist(), reference[rows].tolist(), strict=True)),
        guess=float(np.median(width[rows])) / 2,
        steps=steps,
    )
    rows = rows[np.isin(target[rows], list(found.sources))]  # the others have no light on any stamp
    problem = _Problem(field, found, target[rows], weight[rows], stamps.corner[rows])
    for k, (row, matrix) in enumerate(zip(rows, problem.matrices(white_part), strict=True)):
        sigmas = problem.sigmas(k, matrix, int(reference[row]), float(width[row]), scatter, psf)
        table.loc[row] = pd.Series(sigmas).reindex(table.columns)
    return table


def floor_columns(bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """`FLOOR_COLUMNS` with one column a band and all suffixes, and `free`."""
    one = per_band(FLOOR_COLUMNS, bands)
    known = {
        f"{name}_population": (unit, f"{meaning}; with the population's prior") for name, (unit, meaning) in one.items()
    }
    free = {
        f"{name}_psf": (unit, f"{meaning}; the PSF free")
        for name, (unit, meaning) in one.items()
        if not name.startswith("sigma_e")
    }
    return {"free": ("", "sources that are free, the target among them")} | one | known | free


class _Problem:
    """The Fisher matrices of T targets of a field.

    Parameters of a target, in this order: GEOMETRY and fluxes of the target, the same of the other free sources, then
    PSF_PARAMETERS of each band.
    """

    def __init__(
        self, field: Field, found: FieldDerivatives, target: NDArray, weight: NDArray, corners: NDArray
    ) -> None:
        self.field, self.found, self.target, self.corners = field, found, target, corners
        self.side = weight.shape[-1]
        sky = field.sky
        self.flux = field.sources.bodies.flux_in(sky.names, sky.column("zero_point")).sum(axis=2)
        self.seen = weight > 0
        photons = _stamps_of(sky.source_variance(field.light), corners, self.side)
        self.variance = np.where(self.seen, 1 / np.where(self.seen, weight, 1), 0) + photons
        self.members = [self._members(k, weight[k]) for k in range(len(target))]
        self.parameters = len(GEOMETRY) + len(sky.bands)

    def _members(self, k: int, weight: NDArray) -> NDArray[np.int64]:
        """Rows of the target and of the sources with enough light on its stamp."""
        members = [int(self.target[k])]
        for row, source in self.found.sources.items():
            if row != members[0] and source.reaches(self.corners[k], self.side):
                light = self.flux[row][:, None, None] * source.light_on(self.corners[k], self.side)
                if np.vdot(weight * light, light) > _LEAST_SNR_ON_STAMP**2:
                    members.append(row)
        return np.array(members)

    def matrices(self, white_part: float) -> list[NDArray[np.float64]]:
        """The Fisher matrix of each target, without priors."""
        bands = list(self.field.sky.bands.values())
        sizes = [len(members) * self.parameters + len(bands) * len(PSF_PARAMETERS) for members in self.members]
        matrices = [np.zeros((size, size)) for size in sizes]
        noise: dict[bytes, InverseNoise] = {}
        for b, band in enumerate(bands):
            lags = np.rot90(band.correlation.values, -self.field.quarter_turns)
            key = lags.tobytes()
            if key not in noise:
                # One at a time: each takes 50 MB, and bands of one correlation mostly follow one another.
                noise = {key: InverseNoise(NoiseCorrelation(lags), self.side, white_part)}
            for k, matrix in enumerate(matrices):
                if self.seen[k, b].any():
                    place, columns = self._columns(k, b)
                    matrix[np.ix_(place, place)] += noise[key].gram(columns, self.variance[k, b], self.seen[k, b])
        return matrices

    def _columns(self, k: int, b: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Derivatives of target k's stamp in a band, (P, y, x), and their places among its parameters."""
        members, n = self.members[k], len(GEOMETRY)
        images = np.stack([self.found.sources[row].on(self.corners[k], self.side, b) for row in members], axis=1)
        bright = self.flux[members, b][:, None, None]
        x, y = (values[members] - self.corners[k, axis] for axis, values in enumerate(self._positions))
        pixel = np.arange(self.side, dtype=np.float32)
        dx, dy = pixel - x[:, None, None], pixel[:, None] - y[:, None, None]
        of_psf = (bright * psf_derivatives(images, dx, dy)).sum(axis=1)
        images[:n] *= bright
        first = np.arange(len(members)) * self.parameters
        own = np.concatenate([np.arange(n), [n + b]])[:, None] + first
        shared = len(members) * self.parameters + b * len(PSF_PARAMETERS) + np.arange(len(PSF_PARAMETERS))
        columns = np.concatenate([images.reshape(-1, self.side, self.side), of_psf])
        return np.concatenate([own.ravel(), shared]), columns

    @property
    def _positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.field.sources.x, self.field.sources.y

    def sigmas(
        self, k: int, matrix: NDArray, reference: int, fwhm: float, scatter: Scatter, psf: PSFScatter
    ) -> dict[str, float]:
        """The columns of target k."""
        members = self.members[k]
        own, of_sources = self.parameters, len(members) * self.parameters
        prior = [self._prior(row, fwhm, scatter) for row in members]
        sources = matrix[:of_sources, :of_sources].copy()
        for number in range(1, len(members)):
            part = slice(number * own, (number + 1) * own)
            sources[part, part] += prior[number]
        population = sources.copy()
        population[:own, :own] += prior[0]
        whole = matrix.copy()
        whole[:of_sources, :of_sources] = sources
        of_psf = np.array([psf.g, psf.g, psf.ln_size] * len(self.field.sky.bands)) ** -2.0
        whole[np.arange(of_sources, len(whole)), np.arange(of_sources, len(whole))] += of_psf
        columns: dict[str, float] = {"free": len(members)}
        for suffix, information in (("", sources), ("_population", population), ("_psf", whole)):
            covariance = marginal_covariance(information, own)
            columns |= {f"{name}{suffix}": value for name, value in self._of(k, covariance, reference).items()}
        return columns

    def _prior(self, row: int, fwhm: float, scatter: Scatter) -> NDArray[np.float64]:
        """Information on a source's parameters beforehand, (P, P)."""
        flux = self.flux[row]
        sigma_flux = scatter.ln_flux * np.maximum(flux, _LEAST_FLUX * flux.max())
        sigma = np.array([np.inf, np.inf, *[scatter.position * fwhm] * 2, scatter.ln_size, *sigma_flux])
        prior = np.diag(sigma**-2.0)
        response = self._response(row)
        prior[:2, :2] = response.T @ response / scatter.g**2
        return prior

    def _response(self, row: int) -> NDArray[np.float64]:
        """Change of g with the shear; the unit matrix for what has no g."""
        g = complex(self.field.sources.shapes.g[row])
        return np.asarray(g_response(g)) if np.isfinite(g) else np.eye(2)

    def _of(self, k: int, covariance: NDArray[np.float64], reference: int) -> dict[str, float]:
        """The columns without a suffix, from the covariance of the target's parameters."""
        row, n = int(self.target[k]), len(GEOMETRY)
        star, known = bool(self.field.sources.star[row]), bool(np.isfinite(self.field.sources.shapes.g[row]))
        shape = np.full((2, 2), np.nan)
        if known:
            response = self._response(row)
            shape = response @ covariance[:2, :2] @ response.T
        moments = self.found.distortion[row, reference]
        observed = np.full((2, 2), np.nan) if star else moments @ covariance[:n, :n] @ moments.T
        variance = np.diag(covariance)
        squares = {"g1": shape[0, 0], "g2": shape[1, 1], "e1": observed[0, 0], "e2": observed[1, 1]}
        squares |= {"ln_size": np.nan if star else variance[4], "x": variance[2], "y": variance[3]}
        squares |= {f"flux_{band}": variance[n + b] for b, band in enumerate(self.field.sky.names)}
        return {f"sigma_{name}": float(np.sqrt(value)) for name, value in squares.items()} | {"cov_g12": shape[0, 1]}


def _stamps_of(images: NDArray[np.float64], corners: NDArray[np.integer], side: int) -> NDArray[np.float64]:
    """Stamps of a field's images, (T, band, side, side), 0 beyond them."""
    padded = np.pad(images, ((0, 0), (side, side), (side, side)))
    return np.stack([padded[:, y + side : y + 2 * side, x + side : x + 2 * side] for x, y in corners])


def _require(field: Field, stamps: ObservedStamps, target: NDArray, snr: NDArray) -> None:
    number = len(field.sources)
    problem = None
    if not set(field.sky.names) <= set(stamps.bands):
        problem = f"stamps of the bands {' '.join(stamps.bands)}, a field of {' '.join(field.sky.names)}"
    elif target.shape != (len(stamps),) or snr.shape != (number,):
        problem = f"{len(stamps)} stamps, {target.shape} targets; {number} sources, {snr.shape} S/N"
    elif len(target) and (target.min() < -1 or target.max() >= number):
        problem = f"targets from {target.min()} to {target.max()}, of {number} sources"
    if problem:
        raise MismatchError(
            problem, where="target_floor", remedy="give stamps, sources and S/N of one field, each target's row"
        )
