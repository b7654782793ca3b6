"""The profile of a stamp's target fitted to the pixels of all bands: Gauss–Newton steps from given numbers.

Fluxes of all sources and the level of the sky are solved for at each step and projected out; the other sources keep
their profiles. Position, g, size and concentration have weak priors (`_WIDTHS`), which hold them where the pixels say
nothing. Each band's weights are lowered by what the correlation of its noise takes of the information, so that
correlated noise widens the errors as it should.

The fit is linear in the pixels near its solution: `moved` says how a change of the images changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fluxes import (
    alike,
    correlated_columns,
    least_squares,
    require_alike,
    window,
)
from deblend_assets.science.deblender.scene_sources import NUMBERS, SceneSources
from deblend_assets.science.simulation import sersic
from deblend_assets.science.simulation.renderers.sersic_stamps import SersicStamps
from deblend_assets.science.stamps.observed import ObservedStamps

Floats = NDArray[np.float64]

_STEPS = 3
# Width of the prior of each number about where it begins [pixel, pixel, 1, 1, 1, 1].
_WIDTHS = np.array([1.0, 1.0, 0.7, 0.7, 1.0, 1.2])
# Largest step of each number, and limits of what is rendered.
_LARGEST = np.array([1.0, 1.0, 0.3, 0.3, 0.5, 1.0])
_FLATTEST = 0.93
_CONCENTRATIONS = tuple(float(sersic.concentration(n)) for n in (sersic.N_MIN, sersic.N_MAX))
# Share of its information that a band keeps at least, whatever the correlation of its noise.
_LEAST_SHARE = 0.05
# Root of the window from which on residuals count for chi squared.
_SEEN = 0.2
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class TargetFit:
    """Fitted numbers of the targets of N stamps; NaN of stamps that were not fitted.

    Attributes:
        values: `NUMBERS`, (N, 6).
        covariance: of their errors if the profile is a Sérsic profile, (N, 6, 6).
        chi2: reduced χ² under the target: mean of the squared residuals, weighted with the target's squared light, of
            all bands, (N,).
        blendedness: share of the light under the target's profile that is that of other sources, all bands, (N,).
    """

    values: Floats
    covariance: Floats
    chi2: Floats
    blendedness: Floats

    def rows(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_]) -> TargetFit:
        """Those of some of the stamps."""
        return TargetFit(**{name: values[chosen] for name, values in vars(self).items()})


def fit_targets(stamps: ObservedStamps, sources: SceneSources, chosen: NDArray[np.bool_]) -> TargetFit:
    """Fit the targets of some stamps.

    Args:
        stamps: N of them; the inverse variance is that of the sky's noise.
        sources: on each of them, the target first: where the fit begins.
        chosen: which stamps, (N,); those without a pixel of weight, and whose target is a star, are left out.

    Raises:
        MismatchError: sources of another number of stamps.
    """
    require_alike(stamps, sources)
    number = len(stamps)
    k = len(NUMBERS)
    fitted = chosen & ~sources.star[:, 0] & (sources.count > 0)
    found = TargetFit(*(np.full((number, *shape), np.nan) for shape in ((k,), (k, k), (), ())))
    for rows, bands, size in alike(stamps, sources, _at_once, fitted):
        scene = _Scene.of(stamps.rows(rows), sources.rows(rows).cut(size), bands)
        for into, values in zip(vars(found).values(), _fitted(scene), strict=True):
            into[rows] = values
    return found


class _Scene(NamedTuple):
    """Stamps with equally many sources in the same bands.

    Attributes:
        renderer: of the target's profile.
        begun: numbers of the target, (n, 6).
        others: images of the other sources and of the sky, in units of the noise under the window, (n, B, C, pixels).
        root: of the weights within the window, (n, B, 1, pixels).
        about: root of the window alone, (n, B, 1, pixels).
        data: the pixels in the same units, (n, B, pixels).
        share: of its information that each band keeps with its noise's correlation, (n, B).
        side: of the stamps [pixel].
    """

    renderer: SersicStamps
    begun: Floats
    others: Floats
    root: Floats
    about: Floats
    data: Floats
    share: Floats
    side: int

    @classmethod
    def of(cls, stamps: ObservedStamps, sources: SceneSources, bands: NDArray[np.integer]) -> _Scene:
        n, size, side = len(stamps), sources.star.shape[1], stamps.side
        about = np.sqrt(window(stamps, sources)[:, bands].reshape(n, len(bands), 1, -1))
        weight = stamps.inverse_variance[:, bands].reshape(n, len(bands), 1, -1).astype(np.float64)
        root = np.sqrt(weight) * about
        renderer = SersicStamps(stamps.psf[:, bands], stamps.pixel_scale, side)
        profiles, stamp, _ = sources.profiles()
        images = renderer.stamps(profiles, stamp).view(n, size, len(bands), -1).transpose(1, 2).numpy()
        others = np.concatenate([images[:, :, 1:] * root, root], axis=2)
        data = stamps.pixels[:, bands].reshape(n, len(bands), -1) * root[:, :, 0]
        share = _share(images[:, :, :1] * root, about, stamps.noise_correlation[:, bands])
        return cls(renderer, sources.values[:, 0].copy(), others, root, about, data, share, side)


def _share(own: Floats, about: Floats, correlation: NDArray[np.float32]) -> Floats:
    """Variance of white noise in the direction of the targets' images over that of the correlated noise, (n, B)."""
    _, sums = correlated_columns(own * about, correlation)
    light = np.maximum((own**2).sum(axis=(2, 3)), 1e-30)
    return np.asarray(np.clip(light / np.maximum(sums[:, :, 0, 0], 1e-30), _LEAST_SHARE, 1 / _LEAST_SHARE))


class _Linear(NamedTuple):
    """The scene linearised about some numbers of the target.

    Attributes:
        slopes: derivatives of the target's image by its numbers, without what fluxes and sky can follow, times the
            share of its information that a band keeps, (n, B, 6, pixels).
        information: H of the numbers, (n, 6, 6).
        gradient: of the log-likelihood by them, (n, 6).
        chi2, blendedness: see `TargetFit`.
    """

    slopes: Floats
    information: Floats
    gradient: Floats
    chi2: Floats
    blendedness: Floats


def _linear(scene: _Scene, values: Floats) -> _Linear:
    n, bands = scene.data.shape[:2]
    sources = SceneSources(values[:, None], np.zeros((n, 1, len(NUMBERS), len(NUMBERS))), np.zeros((n, 1), bool))
    profiles, stamp, by_concentration = sources.profiles()
    rendered = scene.renderer.rendered(profiles, stamp)
    own = rendered.images.view(n, bands, 1, -1).numpy() * scene.root
    basis = np.concatenate([own, scene.others], axis=2)
    solution, _ = least_squares(basis @ np.swapaxes(basis, -1, -2), (basis @ scene.data[..., None])[..., 0])
    residual = scene.data - (solution.level[:, :, None] @ basis)[:, :, 0]
    slopes = rendered.slopes(scene.side).view(n, bands, len(NUMBERS), -1).numpy()
    slopes[:, :, -1] *= by_concentration[:, None, None].astype(np.float32)
    slopes *= (solution.level[:, :, :1, None] * scene.root).astype(np.float32)
    # The projection needs no float64, which the fluxes of two like sources do.
    columns = basis.astype(np.float32)
    along = (slopes @ np.swapaxes(columns, -1, -2)) @ solution.inverse.astype(np.float32)
    slopes = slopes - along @ columns
    weighted = slopes * scene.share[:, :, None, None].astype(np.float32)
    information = (weighted @ np.swapaxes(slopes, -1, -2)).sum(axis=1, dtype=np.float64)
    gradient = (weighted @ residual.astype(np.float32)[..., None])[..., 0].sum(axis=1, dtype=np.float64)
    # Without the window, which lowers residuals, where it leaves anything to see.
    about = scene.about[:, :, 0]
    squared = np.where(about > _SEEN, own[:, :, 0] ** 2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = (squared * (residual / np.maximum(about, _SEEN)) ** 2).sum(axis=(1, 2)) / squared.sum(axis=(1, 2))
        light = solution.level[:, :, :-1].clip(min=0)[..., None] * basis[:, :, :-1]
        target = light[:, :, 0]
        blendedness = 1 - (target**2).sum(axis=(1, 2)) / (target * light.sum(axis=2)).sum(axis=(1, 2))
    # Of a target without light all is that of others.
    blendedness = np.nan_to_num(blendedness, nan=1.0)
    return _Linear(weighted, information, gradient, chi2, blendedness)


def _fitted(scene: _Scene) -> tuple[Floats, ...]:
    """Values, covariance, χ² and blendedness of the targets of a scene."""
    prior = np.diag(_WIDTHS**-2.0)
    values = _possible(scene.begun.copy())
    for _ in range(_STEPS):
        linear = _linear(scene, values)
        pull = linear.gradient + (scene.begun - values) @ prior
        step = np.linalg.solve(linear.information + prior, pull[..., None])[..., 0]
        shortened = np.minimum(1.0, (_LARGEST / np.maximum(np.abs(step), 1e-12)).min(axis=1, keepdims=True))
        values = _possible(values + step * shortened)
    # The last step is small: what the scene is before it holds for the end.
    covariance = np.asarray(np.linalg.inv(linear.information + prior), np.float64)
    return values, covariance, linear.chi2, linear.blendedness


def moved(stamps: ObservedStamps, sources: SceneSources, fit: TargetFit, changes: NDArray[np.floating]) -> Floats:
    """How fits change with their images, to first order, (N, 6, D); NaN where there is no fit.

    Args:
        stamps, sources: those that were fitted.
        fit: of their targets.
        changes: of the pixels, along D directions, (D, N, band, y, x) [image unit].
    """
    found = np.full((len(stamps), len(NUMBERS), len(changes)), np.nan)
    for rows, bands, size in alike(stamps, sources, _at_once, np.isfinite(fit.values[:, 0])):
        scene = _Scene.of(stamps.rows(rows), sources.rows(rows).cut(size), bands)
        slopes = _linear(scene, fit.values[rows]).slopes
        change = changes[:, rows][:, :, bands].reshape(len(changes), len(rows), len(bands), -1) * scene.root[:, :, 0]
        along = np.einsum("nbkp,dnbp->nkd", slopes, change)
        found[rows] = fit.covariance[rows] @ along
    return found


def _at_once(size: int) -> int:
    return _AT_ONCE


def _possible(values: Floats) -> Floats:
    """Numbers (n, 6) that can be rendered."""
    modulus = np.hypot(values[:, 2], values[:, 3])
    values[:, 2:4] *= np.minimum(1.0, _FLATTEST / np.maximum(modulus, 1e-12))[:, None]
    values[:, -1] = np.minimum(np.maximum(values[:, -1], _CONCENTRATIONS[0]), _CONCENTRATIONS[1])
    return values
