"""Response of shapes that network and fit give together: that of each, with the weight that it has.

The fit is linear in the pixels near its solution (`scene_fit.moved`), and a shear or another PSF changes the pixels as
`StampChanges` says. With K of `FittedShapes`, g changes by (1 - K) of the network's change and K times the fit's. Two
parts are left out: the change of K itself, and the noise's part of the fit's response, of the order of 1 / (S/N)².
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fit import moved
from deblend_assets.science.deblender.scene_images import scene_images
from deblend_assets.science.deblender.scene_sources import NUMBERS
from deblend_assets.science.measuring.sky_scene import SkyScene
from deblend_assets.science.sky_shapes.changes import LIGHT, StampChanges
from deblend_assets.science.sky_shapes.inputs import given
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.sky_shapes.response import Response
from deblend_assets.science.stamps.observed import ObservedStamps

Floats = NDArray[np.float64]

_G = slice(QUANTITIES.index("g1"), QUANTITIES.index("g2") + 1)
_OF_G = slice(NUMBERS.index("g1"), NUMBERS.index("g2") + 1)
_AT_ONCE = 32


def with_fit_response(answer: Response, stamps: ObservedStamps, scene: SkyScene, bands: tuple[str, ...]) -> Response:
    """Responses of the joined posterior mean of g, pixel frame; NaN where the network's are.

    Args:
        answer: of the network's posterior mean.
        stamps: N of them.
        scene: of the same stamps.
        bands: of the network.
    """
    rows = np.flatnonzero(np.isfinite(answer.shear[:, 0, 0]) & np.isfinite(scene.fit.values[:, 0]))
    parts = [np.array(part) for part in answer]
    for first in range(0, len(rows), _AT_ONCE):
        chosen = rows[first : first + _AT_ONCE]
        gain = scene.gain[chosen][:, _G]
        kept = np.eye(2) - gain[:, :, _OF_G]
        for part, of_fit in zip(parts, _of_fit(stamps, scene, chosen, bands), strict=True):
            part[chosen] = kept @ part[chosen] + gain @ of_fit
    return Response(*parts)


def _of_fit(
    stamps: ObservedStamps, scene: SkyScene, rows: NDArray[np.integer], bands: tuple[str, ...]
) -> tuple[Floats, Floats, Floats]:
    """Derivatives of the fitted numbers by shear, PSF, and the given PSF alone, (n, 6, 2) each."""
    some = stamps.rows(rows)
    wide = some.in_bands(bands)
    operators = StampChanges(wide, given(wide))
    model = scene_images(some, scene.sources.rows(rows), scene.fluxes.rows(rows)).model
    at = [bands.index(band) for band in some.bands]
    padded = np.zeros(wide.pixels.shape, np.float32)
    padded[:, at] = model
    of_pixels, of_model = (
        operators.of_images(torch.from_numpy(images)).numpy()[:, :, at] for images in (wide.pixels, padded)
    )
    changes = np.concatenate([of_pixels, -of_model[LIGHT // 2 :]])
    found = moved(some, scene.begun.rows(rows), scene.fit.rows(rows), changes)
    shear, image, psf_model = (found[:, :, k : k + 2] for k in (0, 2, 4))
    return shear, image + psf_model, psf_model
