"""Lost pixels of stamps, filled before the network measures: it takes a hole beside a galaxy for a lack of light there.

A lost pixel gets the scene's model and the residual of the pixel that lies opposite to it, as seen from the target. A
galaxy looks the same when it is turned by 180 degrees, so that this is right to first order where the model is not,
and the filled pixels have noise like all others. Opposite a pixel that is lost too, the model alone is taken where it
has light. Numbers: docs/trust.md.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fit import TargetFit
from deblend_assets.science.deblender.scene_fluxes import solve_fluxes
from deblend_assets.science.deblender.scene_images import scene_images
from deblend_assets.science.deblender.scene_sources import SceneSources
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import measured_psfs
from deblend_assets.science.sky_shapes.model import SkyMeasurement
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

# Lost pixels within this distance of a target change its shape [FWHM]; of a band with more of them there nothing is
# filled; light of a model that is worth filling [sky sigma].
_NEAR, _MOST_LOST, _LIGHT = 3.0, 0.5, 0.1


def has_holes(stamps: ObservedStamps) -> NDArray[np.bool_]:
    """Which bands of N stamps have lost pixels near the target, and not too many to fill them, (N, band)."""
    share = _lost_share(stamps)
    return np.asarray((share > 0) & (share <= _MOST_LOST))


def fill_holes(
    stamps: ObservedStamps, holes: NDArray[np.bool_], sources: SceneSources, fit: TargetFit
) -> ObservedStamps:
    """The stamps with the lost pixels of bands that have holes filled, at the weight of the other pixels.

    Args:
        stamps: N of them.
        holes: which bands have some, (N, band), by `has_holes`.
        sources: on each, the target first.
        fit: of the targets; where there is one it has their places and shapes, for it has no part in the holes.
    """
    values, fitted = sources.values.copy(), np.isfinite(fit.values[:, 0])
    values[fitted, 0] = fit.values[fitted]
    sources = SceneSources(values, sources.covariance, sources.star)
    fluxes = solve_fluxes(stamps, sources)
    images = scene_images(stamps, sources, fluxes)
    sigma = sky_sigma(stamps.inverse_variance)[:, :, None, None]
    lost = (stamps.inverse_variance == 0) & holes[:, :, None, None]
    model = images.model
    stamp, band, y, x = np.nonzero(lost & np.isfinite(sources.values[:, 0, 0])[:, None, None, None])
    at = np.floor(2 * sources.values[stamp, 0, :2] - np.stack([x, y], axis=1) + 0.5).astype(np.int64)
    inside = np.asarray(((at >= 0) & (at < stamps.side)).all(axis=1))
    left, low = np.where(inside[:, None], at, 0).T
    known = inside & (stamps.inverse_variance[stamp, band, low, left] > 0)
    value = model[stamp, band, y, x] + np.nan_to_num(fluxes.sky)[stamp, band]
    value += np.where(known, images.residual[stamp, band, low, left], 0)
    used = known | (model[stamp, band, y, x] > _LIGHT * sigma[stamp, band, 0, 0])
    place = stamp[used], band[used], y[used], x[used]
    pixels, weight = stamps.pixels.copy(), stamps.inverse_variance.copy()
    pixels[place], weight[place] = value[used], sigma[stamp[used], band[used], 0, 0] ** -2.0
    return ObservedStamps(stamps.bands, **(stamps.arrays() | {"pixels": pixels, "inverse_variance": weight}))


def with_rows(stamps: ObservedStamps, rows: NDArray[np.integer], others: ObservedStamps) -> ObservedStamps:
    """The stamps with pixels and weights of some of them replaced by those of others."""
    pixels, weight = stamps.pixels.copy(), stamps.inverse_variance.copy()
    pixels[rows], weight[rows] = others.pixels, others.inverse_variance
    return ObservedStamps(stamps.bands, **(stamps.arrays() | {"pixels": pixels, "inverse_variance": weight}))


def with_errors_between(found: SkyMeasurement, rows: NDArray[np.integer], holed: SkyMeasurement) -> SkyMeasurement:
    """Measurements of filled stamps, in some rows with the mean of two covariances: of the filled stamps, and holed.

    The first one counts the filled pixels as if they were known; the second one is too wide.

    Args:
        found: of N stamps.
        rows: of those that were filled, (n,).
        holed: of the same n as they were.
    """
    return found._replace(
        posterior=_between(found.posterior, rows, holed.posterior),
        likelihood=_between(found.likelihood, rows, holed.likelihood),
    )


def _between(own: GaussianPosterior, rows: NDArray[np.integer], holed: GaussianPosterior) -> GaussianPosterior:
    covariance, at = own.covariance.clone(), torch.from_numpy(np.asarray(rows))
    covariance[at] = (covariance[at] + holed.covariance) / 2
    return GaussianPosterior(
        own.mean,
        covariance=covariance,
        log_odds=own.log_odds,
        flags=own.flags,
        standardized=own.standardized,
        blocks=own.blocks,
    )


def _lost_share(stamps: ObservedStamps) -> NDArray[np.float64]:
    """Share of the pixels near the target that are lost, (N, band); 1 in an absent band."""
    present = stamps.present
    fwhm = measured_psfs(stamps.psf, present).fwhm
    near = stamps.squared_distance[:, None] < (_NEAR * fwhm[:, :, None, None]) ** 2
    share = (near & (stamps.inverse_variance == 0)).sum(axis=(2, 3)) / np.maximum(near.sum(axis=(2, 3)), 1)
    return np.where(present, share, 1.0)
