"""Each galaxy of a field alone: its neighbours taken away, or its model behind another PSF."""

from __future__ import annotations

from typing import Literal, TypeAlias

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.deblender.scene_images import scene_images
from deblend_assets.science.images.cells import cell_at, cells_of, outside
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_cells import overlap
from deblend_assets.science.measuring.field_look import Look, image_of
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.simulation.renderers.sersic_stamps import SersicStamps
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.cutting import cut

# FWHM of the common PSF over that of the widest band.
_WIDER = 1.1
_AT_ONCE = 32

CommonPSF: TypeAlias = Literal["own", "common"] | galsim.GSObject
"""Which PSF deblended stamps have: their own, one round PSF for all bands, or a galsim object before the pixel."""


def deblended(
    model: SkyModel,
    field: Field,
    look: Look,
    targets: pd.DataFrame,
    detections: pd.DataFrame,
    psf: CommonPSF = "own",
) -> NDArray[np.float32]:
    """Stamps of galaxies alone, (N, band, side, side) [image unit], the middle pixel nearest to the position.

    With their own PSF: the pixels less the models of all other sources and the sky's level; the model on lost pixels.
    With another PSF: the model of the galaxy, without noise.

    Args:
        model: calibrated.
        field: images.
        look: at them.
        targets: x, y [pixel, from 0], (N,).
        detections: x, y of everything that was detected; one within a FWHM of a target is the target.
        psf: see `CommonPSF`.

    Raises:
        MismatchError: a position off the image, or a PSF that is none of these.
    """
    x, y = (targets[name].to_numpy(np.float64) for name in "xy")
    cells = cells_of(field.shape, overlap(look))
    of_cell = cell_at(cells, x, y)
    if (of_cell < 0).any():
        raise MismatchError(
            f"{int((of_cell < 0).sum())} positions are off the image", where=field.name, remedy="leave them out"
        )
    found = np.zeros((len(x), len(field.names), look.side, look.side), np.float32)
    others = _without(detections[["x", "y"]].to_numpy(np.float64), x, y, max(look.fwhm))
    for cell in cells:
        rows = np.flatnonzero(of_cell == cell.number)
        image = image_of(field, look, cell.outer) if len(rows) else None
        for first in range(0, len(rows), _AT_ONCE):
            assert image is not None
            chosen = rows[first : first + _AT_ONCE]
            near = others[outside(cell.outer, *others.T) == 0]
            places = np.concatenate([np.stack([x[chosen], y[chosen]], axis=1), near]) - (cell.outer.x0, cell.outer.y0)
            stamps = cut(image, places[:, 0], places[:, 1], look.side, np.arange(len(chosen)))
            scene = measure_scenes(model, stamps.with_nearest(field.settings.stamps.others))
            if isinstance(psf, str) and psf == "own":
                found[chosen] = scene_images(stamps, scene.sources, scene.fluxes).alone[:, 0]
                continue
            profiles, stamp, _ = scene.sources.cut(1).profiles()
            images = np.broadcast_to(_drawn(psf, field, look), (len(chosen), len(field.names), look.side, look.side))
            light = SersicStamps(images, stamps.pixel_scale, look.side).stamps(profiles, stamp).numpy()
            found[chosen[stamp]] = light * np.nan_to_num(scene.fluxes.flux[stamp, 0])[..., None, None]
    return found


def _drawn(psf: CommonPSF, field: Field, look: Look) -> NDArray[np.float32]:
    if isinstance(psf, str):
        if psf != "common":
            raise MismatchError(f"psf is {psf!r}", where="deblend", remedy='give "own", "common" or a galsim object')
        psf = galsim.Gaussian(fwhm=_WIDER * max(look.fwhm) * field.pixel_scale)
    image = psf.withFlux(1).drawImage(nx=look.side, ny=look.side, scale=field.pixel_scale).array
    return np.asarray(image, np.float32)


def _without(
    detections: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], distance: float
) -> NDArray[np.float64]:
    """Detections that are none of the targets."""
    from scipy.spatial import cKDTree

    if not len(detections) or not len(x):
        return detections
    apart, _ = cKDTree(np.stack([x, y], axis=1)).query(detections)
    return detections[apart > distance]
