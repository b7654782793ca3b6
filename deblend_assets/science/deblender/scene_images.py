"""Images of a solved scene: each source, all of them, what they leave, and each source with the others taken away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fluxes import SceneFluxes, require_alike
from deblend_assets.science.deblender.scene_sources import SceneSources
from deblend_assets.science.simulation.renderers.sersic_stamps import SersicStamps
from deblend_assets.science.stamps.observed import ObservedStamps

_STAMPS = 64  # at a time


@dataclass(frozen=True, eq=False)
class SceneImages:
    """Images of up to S sources on N stamps [image unit].

    Attributes:
        sources: model of each source behind the stamp's PSF, (N, S, band, y, x) float32; 0 where there is no source or
            its flux is not known.
        residual: pixels less all models and the sky's level, (N, band, y, x) float32; 0 on pixels without weight.
    """

    sources: NDArray[np.float32]
    residual: NDArray[np.float32]

    @property
    def model(self) -> NDArray[np.float32]:
        """All sources, (N, band, y, x)."""
        return self.sources.sum(axis=1)

    @property
    def alone(self) -> NDArray[np.float32]:
        """Each source as if it stood alone: its model and the residual, (N, S, band, y, x).

        On pixels without weight it is the model.
        """
        return self.sources + self.residual[:, None]


def scene_images(stamps: ObservedStamps, sources: SceneSources, fluxes: SceneFluxes) -> SceneImages:
    """Images of the scenes that `scene_fluxes.solve_fluxes` solved.

    Args:
        stamps: N of them.
        sources: those that were solved for.
        fluxes: the solution.

    Raises:
        MismatchError: sources of another number of stamps.
    """
    require_alike(stamps, sources)
    number, room, bands, side = len(stamps), sources.values.shape[1], len(stamps.bands), stamps.side
    models = np.zeros((number, room, bands, side, side), dtype=np.float32)
    psf = np.where(stamps.present[..., None, None], stamps.psf, 0)
    there = np.isfinite(sources.values[..., 0])
    for first in range(0, number, _STAMPS):
        rows = slice(first, first + _STAMPS)
        profiles, stamp, _ = sources.rows(rows).profiles()
        renderer = SersicStamps(psf[rows], stamps.pixel_scale[rows], side)
        models[rows][there[rows]] = renderer.stamps(profiles, stamp).numpy()
    models *= np.nan_to_num(fluxes.flux).astype(np.float32)[..., None, None]
    sky = np.nan_to_num(fluxes.sky).astype(np.float32)[..., None, None]
    residual = np.where(stamps.inverse_variance > 0, stamps.pixels - models.sum(axis=1) - sky, np.float32(0))
    return SceneImages(models, residual)
