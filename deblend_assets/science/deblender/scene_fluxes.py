"""Fluxes of overlapping sources solved together, band by band: weighted least squares, linear, possibly negative.

The model is Σ flux × source + a level of the sky, each source of unit light behind the stamp's PSF. With these columns
A, weights W and the image d, the solution is H⁻¹ AᵀW d, H = AᵀW A. W is the inverse variance times a Gaussian window
about the target (`window`): wings of what lies off the stamp reach its far side first, and the sky's level would take
them. The level may be held instead. The covariance has two parts:

* of the noise, H⁻¹ (AᵀW C W A) H⁻¹, C with the stamp's noise and its correlation;
* of the profiles, J Σ Jᵀ with the covariance Σ of shapes and positions and the derivatives J of the solution by them:
  to first order, which measures the spread as well as samples do (docs/scene_model.md).

Two sources on one place share their light in any ratio. A weak prior, of zero flux and as wide as the light that there
is (`PRIOR_ERRORS`), keeps their numbers finite, and their errors are as large as that light; their sum is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.deblender.scene_sources import NUMBERS, SceneSources, psf_sigma
from deblend_assets.science.simulation.renderers.sersic_stamps import RenderedStamps, SersicStamps
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.correlation import correlated
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

PRIOR_ERRORS = 10.0
"""Width of the prior of a flux: the light under the source, and so many errors of the source alone beside it. A source
that overlaps no other is shrunk by at most a fortieth of its error."""

HELD = 0.03
"""Error of a level of the sky that is held [noise of a pixel]."""
_FIRM = 0.01  # width of its prior, which what lifts the level does not overcome, in the same unit
_SOURCES = 48  # of a chunk: images and wave numbers are some 0.1 MB a source in six bands of 45 pixels

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SceneFluxes:
    """Fluxes of up to S sources on N stamps in B bands; NaN where there is no source, or no pixel of weight under it.

    Attributes:
        flux: (N, S, B) [image unit].
        covariance: between the sources of a stamp, (N, B, S, S), of noise and profiles.
        noise_covariance: the same of the noise alone.
        color_covariance: between the bands of a source, (N, S, B, B), of noise and profiles: what is wrong with a
            profile is wrong in all bands.
        chi2: reduced χ² under each source, (N, S, B): mean of the squared residuals, weighted with the source's squared
            light, over the mean that the noise alone leaves.
        blendedness: share of the light under each source's profile that is that of others, (N, S, B), in 0 to 1:
            1 - Σ own² / Σ own × all (Bosch et al. 2018, 1705.06766), over the pixels of weight; negative fluxes count
            as none.
        sky: level of the sky in each stamp, (N, B) [image unit / pixel].
    """

    flux: Floats
    covariance: Floats
    noise_covariance: Floats
    color_covariance: Floats
    chi2: Floats
    blendedness: Floats
    sky: Floats

    def rows(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_]) -> SceneFluxes:
        """Those of some of the stamps."""
        return SceneFluxes(**{name: values[chosen] for name, values in vars(self).items()})

    def with_rows(self, chosen: NDArray[np.integer], others: SceneFluxes) -> SceneFluxes:
        """The same with others in the place of some, (K,): of as many sources and bands."""
        found = {name: values.copy() for name, values in vars(self).items()}
        for name, values in vars(others).items():
            found[name][chosen] = values
        return SceneFluxes(**found)

    @property
    def error(self) -> Floats:
        """Standard error of each flux, (N, S, B), of noise and profiles."""
        return _errors(self.covariance)

    @property
    def noise_error(self) -> Floats:
        """The same of the noise alone."""
        return _errors(self.noise_covariance)


# Of the arrays, after that of the stamps: s of the sources, b of the bands.
_AXES = {
    "flux": "sb",
    "covariance": "bss",
    "noise_covariance": "bss",
    "color_covariance": "sbb",
    "chi2": "sb",
    "blendedness": "sb",
    "sky": "b",
}


def _errors(covariance: Floats) -> Floats:
    return np.sqrt(np.swapaxes(np.diagonal(covariance, axis1=-2, axis2=-1), 1, 2))


def solve_fluxes(stamps: ObservedStamps, sources: SceneSources, sky: Floats | None = None) -> SceneFluxes:
    """Fluxes of all sources on each stamp.

    Args:
        stamps: N of them; the inverse variance is that of the sky's noise.
        sources: on each of them.
        sky: its level where it is held, within `HELD`, (N, B) [image unit / pixel]; NaN, or None: it is solved for.

    Raises:
        MismatchError: sources of another number of stamps.
    """
    require_alike(stamps, sources)
    number, room, bands = len(stamps), sources.values.shape[1], len(stamps.bands)
    sizes = {"s": room, "b": bands}
    held = np.full((number, bands), np.nan) if sky is None else sky
    found = SceneFluxes(
        **{name: np.full((number, *(sizes[axis] for axis in axes)), np.nan) for name, axes in _AXES.items()}
    )
    for chosen, present, size in alike(stamps, sources, lambda size: max(1, _SOURCES // max(1, size))):
        there = {"s": np.arange(size), "b": present}
        part = _solve(stamps.rows(chosen), sources.rows(chosen).cut(size), present, held[chosen][:, present])
        for name, values in vars(part).items():
            getattr(found, name)[np.ix_(chosen, *(there[axis] for axis in _AXES[name]))] = values
    return found


def alike(
    stamps: ObservedStamps,
    sources: SceneSources,
    at_once: Callable[[int], int],
    chosen: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """Stamps with equally many sources in the same bands, which are solved together, some at a time.

    Args:
        stamps, sources: N of them; stamps without a band are left out.
        at_once: most stamps of so many sources.
        chosen: which stamps, (N,); default: all.

    Yields:
        Rows, numbers of the bands, and number of sources.
    """
    kinds, kind = np.unique(np.column_stack([sources.count, stamps.present]), axis=0, return_inverse=True)
    for k, (size, *present) in enumerate(kinds.tolist()):
        rows = np.flatnonzero((kind == k) if chosen is None else (kind == k) & chosen)
        each = at_once(size)
        for first in range(0, len(rows) if any(present) else 0, each):
            yield rows[first : first + each], np.flatnonzero(present), int(size)


def window(stamps: ObservedStamps, sources: SceneSources) -> Floats:
    """What the weights of N stamps are multiplied by: a round Gaussian about the position, (N, B, y, x), 1 there.

    Its sigma is twice the FWHM of a Gaussian that collects as much noise as the band's PSF, and in quadrature twice the
    target's half-light radius: the pixels that hold the target lose nothing.
    """
    sigma = FWHM_OVER_SIGMA * psf_sigma(stamps.psf)
    size = np.where(sources.star, 0.0, np.exp(sources.values[..., NUMBERS.index("ln_hlr")]))[:, :1].sum(axis=1)
    wide = (2 * sigma) ** 2 + (2 * size / stamps.pixel_scale)[:, None] ** 2
    return np.asarray(np.exp(-0.5 * stamps.squared_distance[:, None] / wide[:, :, None, None]))


def require_alike(stamps: ObservedStamps, sources: SceneSources) -> None:
    """MismatchError unless the sources are of as many stamps."""
    if len(stamps) != len(sources):
        raise MismatchError(
            f"{len(stamps)} stamps, sources of {len(sources)}", where="scene", remedy="give the sources of every stamp"
        )


class Solution(NamedTuple):
    """Weighted least squares with the weak prior of fluxes."""

    level: Floats  # of each column: the sources and the sky, (n, B, C)
    inverse: Floats  # of H with the prior, (n, B, C, C)
    prior: Floats  # inverse variance of the prior, (n, B, C)


def _solve(stamps: ObservedStamps, sources: SceneSources, present: NDArray[np.integer], held: Floats) -> SceneFluxes:
    """Of stamps with equally many sources, S each, in the bands that are present in all of them."""
    (n, size), bands = sources.star.shape, len(present)
    profiles, stamp, by_concentration = sources.profiles()
    rendered = SersicStamps(stamps.psf[:, present], stamps.pixel_scale, stamps.side).rendered(profiles, stamp)
    images = rendered.images.view(n, size, bands, stamps.side**2).transpose(1, 2)
    root = np.sqrt(stamps.inverse_variance[:, present].reshape(n, bands, 1, -1).astype(np.float64))
    # In units of the noise; float64, for what two like sources differ by. The sky's level is the last column.
    basis = np.concatenate([images.numpy() * root, root], axis=2)
    about = window(stamps, sources)[:, present].reshape(n, bands, 1, -1)
    taken = basis * about
    is_held, below = np.isfinite(held), np.nan_to_num(held)
    data = (stamps.pixels[:, present].reshape(n, bands, -1) - below[..., None]) * root[:, :, 0]
    normal = taken @ np.swapaxes(basis, -1, -2)
    widest = np.full((n, bands, size + 1), np.inf)
    widest[..., size] = np.where(is_held, _FIRM * sky_sigma(stamps.inverse_variance[:, present]), np.inf)
    solution, seen = least_squares(normal, (taken @ data[..., None])[..., 0], widest)
    residual = data - (solution.level[:, :, None] @ basis)[:, :, 0]

    spread_taken, sums = correlated_columns(taken, stamps.noise_correlation[:, present])
    doubt = solution.prior.copy()
    doubt[..., size] *= np.where(is_held, (HELD / _FIRM) ** 2, 1.0)
    noise = solution.inverse @ (sums + _diagonal(doubt)) @ solution.inverse
    noise = noise[..., :size, :size]
    spread = _spread(rendered, sources, by_concentration, taken, residual[:, :, None] * about, root, solution)[
        :, :, :size
    ]
    shapes = _limited(spread @ np.swapaxes(spread, -1, -2), solution.prior[..., :size])
    # (n, S, band, number): between the bands of each source, the numbers of all.
    per_source = spread.swapaxes(1, 2)
    color = per_source @ per_source.swapaxes(-1, -2)
    color *= _shrunk(color, shapes)
    index = np.arange(bands)
    color[:, :, index, index] += np.diagonal(noise, axis1=2, axis2=3).swapaxes(1, 2)

    own, light = solution.level[..., :size].clip(min=0), basis[:, :, :size]
    overlap = light @ np.swapaxes(light, -1, -2)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = (overlap * own[:, :, None, :]).sum(axis=-1)
        blendedness = 1 - np.diagonal(overlap, axis1=2, axis2=3) * own / total
        chi2 = _reduced(basis, spread_taken, sums, residual, solution)
    lost = np.where(seen[..., :size], 0.0, np.nan)
    pairs = lost[..., None] + lost[..., None, :]
    of_source = lost.swapaxes(1, 2)
    return SceneFluxes(
        flux=solution.level[..., :size].swapaxes(1, 2) + of_source,
        covariance=noise + shapes + pairs,
        noise_covariance=noise + pairs,
        color_covariance=color + of_source[..., None] + of_source[..., None, :],
        chi2=chi2.swapaxes(1, 2) + of_source,
        blendedness=blendedness.swapaxes(1, 2) + of_source,
        sky=np.where(seen[..., size], solution.level[..., size] + below, np.nan),
    )


def correlated_columns(taken: Floats, correlation: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Columns (n, B, C, pixels) times the correlation matrix of the noise, and the products of both, (n, B, C, C)."""
    middle = correlation.shape[-1] // 2
    coupled = np.count_nonzero(correlation, axis=(-2, -1)) > (correlation[..., middle, middle] != 0)
    spread = taken
    if coupled.any():
        side, spread, columns = round(taken.shape[-1] ** 0.5), taken.copy(), taken[coupled]
        spread[coupled] = correlated(columns.reshape(*columns.shape[:-1], side, side), correlation[coupled]).reshape(
            columns.shape
        )
    return spread, taken @ np.swapaxes(spread, -1, -2)


def _reduced(basis: Floats, spread_taken: Floats, sums: Floats, residual: Floats, solution: Solution) -> Floats:
    """Mean of the squared residuals under each source's squared light, over that of the noise alone, (n, B, S)."""
    # A mean over pixels needs no float64.
    columns, spread, together, inverse = (
        values.astype(np.float32, copy=False) for values in (basis, spread_taken, sums, solution.inverse)
    )
    light = columns[:, :, :-1] ** 2
    # Variance that the solution leaves of the noise in a pixel.
    influence = inverse @ columns
    left = 1 - (influence * (2 * spread - together @ influence)).sum(axis=2)
    both = light @ np.stack([(residual**2).astype(np.float32), left], axis=-1)
    return np.asarray(both[..., 0] / both[..., 1], dtype=np.float64)


def _diagonal(values: Floats) -> Floats:
    return values[..., None] * np.eye(values.shape[-1])


def least_squares(normal: Floats, along: Floats, widest: Floats | None = None) -> tuple[Solution, NDArray[np.bool_]]:
    """The solution with the weak prior, and which columns have a pixel of weight, (n, B, C).

    Args:
        normal: H of the weighted columns, (n, B, C, C).
        along: of the data, (n, B, C).
        widest: the prior's width at most, (n, B, C).
    """
    own = np.diagonal(normal, axis1=2, axis2=3)
    seen = own > 0
    safe = np.where(seen, own, 1.0)
    # Light under a column as if it stood alone, and its error.
    width = np.abs(along) / safe + PRIOR_ERRORS / np.sqrt(safe)
    width = width if widest is None else np.minimum(width, widest)
    prior = np.where(seen, width**-2.0, 1.0)
    scale = 1 / np.sqrt(safe)
    unit = normal * scale[..., None] * scale[..., None, :] + _diagonal(prior * scale**2)
    inverse = np.linalg.inv(unit) * scale[..., None] * scale[..., None, :]
    return Solution((inverse @ along[..., None])[..., 0], inverse, prior), seen


def _spread(
    rendered: RenderedStamps,
    sources: SceneSources,
    by_concentration: Floats,
    taken: Floats,
    left: Floats,
    root: Floats,
    solution: Solution,
) -> Floats:
    """J L of the solution's derivatives J and L Lᵀ = Σ, (n, B, C, S × 6).

    Args:
        rendered, sources, by_concentration: as `_solve` has them.
        taken: the columns within the window, in units of the noise, (n, B, C, pixels).
        left: the residual within it, (n, B, 1, pixels).
        root: of the inverse variance.
        solution: of the scene.
    """
    (n, size), (bands, columns) = sources.star.shape, taken.shape[1:3]
    weighted = (np.concatenate([taken, left], axis=2) * root).astype(np.float32)
    side = round(taken.shape[-1] ** 0.5)
    # Slopes times columns and times the residual, (n, S, B, 6, C + 1).
    sums = rendered.slopes_times(torch.from_numpy(weighted.reshape(n, bands, columns + 1, side, side)))
    per_number = np.ones((n, size, len(NUMBERS)))
    per_number[..., -1] = by_concentration.reshape(n, size)
    values, vectors = np.linalg.eigh(sources.covariance)
    factor = per_number[..., None] * vectors * np.sqrt(values.clip(min=0))[..., None, :]
    along = factor.swapaxes(-1, -2)[:, :, None] @ sums.double().numpy().reshape(n, size, *sums.shape[1:])
    along = along.transpose(0, 2, 1, 3, 4)
    change = -along[..., :columns] * solution.level[:, :, :size, None, None]
    np.einsum("nbsqs->nbsq", change[..., :size])[...] += along[..., columns]
    return solution.inverse @ change.reshape(n, bands, -1, columns).swapaxes(-1, -2)


def _limited(covariance: Floats, prior: Floats) -> Floats:
    """A covariance, nowhere larger than that of the prior: C - C (C + T)⁻¹ C."""
    scale = np.sqrt(prior)
    unit = covariance * scale[..., None] * scale[..., None, :]
    limited = np.linalg.solve(unit + np.eye(unit.shape[-1]), unit)
    return 0.5 * (limited + limited.swapaxes(-1, -2)) / (scale[..., None] * scale[..., None, :])


def _shrunk(color: Floats, shapes: Floats) -> Floats:
    """Factors on the profiles' part between bands, (n, S, B, B), for variances that `_limited` has changed."""
    before = np.diagonal(color, axis1=2, axis2=3)
    after = np.diagonal(shapes, axis1=2, axis2=3).swapaxes(1, 2)
    ratio = np.sqrt(np.divide(after, before, out=np.ones_like(before), where=before > 0))
    return ratio[..., None] * ratio[..., None, :]
