"""Each galaxy of a field or of a stamp alone: its neighbours taken away, or its model behind another PSF."""

from __future__ import annotations

from typing import Literal, TypeAlias

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.deblender.scene_images import SceneImages, scene_images
from deblend_assets.science.images.cells import cell_at, cells_of, outside
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_cells import overlap
from deblend_assets.science.measuring.field_look import Look, image_of
from deblend_assets.science.measuring.sky_scene import SkyScene, measure_scenes
from deblend_assets.science.simulation.renderers.sersic_stamps import SersicStamps
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.cutting import cut
from deblend_assets.science.stamps.observed import ObservedStamps

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
    drawn = common_psf(psf, max(look.fwhm), field.pixel_scale, look.side)
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
            stamps = stamps.with_nearest(field.settings.stamps.others)
            found[chosen] = targets_alone(stamps, measure_scenes(model, stamps), drawn)
    return found


def targets_alone(
    stamps: ObservedStamps, scene: SkyScene, psf: NDArray[np.float32] | None, images: SceneImages | None = None
) -> NDArray[np.float32]:
    """The targets of stamps alone, (N, band, side, side) [image unit]; NaN where nothing is measured.

    Args:
        stamps: of the targets.
        scene: what is measured of them.
        psf: of `common_psf`; None: their own, see `deblended`.
        images: of the scenes, where they are known.
    """
    if psf is None:
        images = images or scene_images(stamps, scene.sources, scene.fluxes)
        found = images.sources[:, 0] + images.residual
    else:
        found = np.zeros(stamps.pixels.shape, np.float32)
        profiles, stamp, _ = scene.sources.cut(1).profiles()
        psfs = np.broadcast_to(psf, stamps.pixels.shape)
        light = SersicStamps(psfs, stamps.pixel_scale, stamps.side).stamps(profiles, stamp).numpy()
        found[stamp] = light * np.nan_to_num(scene.fluxes.flux[stamp, 0])[..., None, None]
    measured = np.asarray(stamps.present.any(axis=1))
    return np.where(measured[:, None, None, None], found, np.float32(np.nan))


def common_psf(psf: CommonPSF, fwhm: float, pixel_scale: float, side: int) -> NDArray[np.float32] | None:
    """The image that all bands of deblended stamps have as their PSF, (side, side); None: their own.

    Args:
        psf: see `CommonPSF`.
        fwhm: of the widest band's PSF [pixel].
        pixel_scale: [arcsec].
        side: of the stamps [pixel].

    Raises:
        MismatchError: a PSF that is none of these.
    """
    if isinstance(psf, str):
        if psf == "own":
            return None
        if psf != "common":
            raise MismatchError(f"psf is {psf!r}", where="deblend", remedy='give "own", "common" or a galsim object')
        psf = galsim.Gaussian(fwhm=_WIDER * fwhm * pixel_scale)
    return np.asarray(psf.withFlux(1).drawImage(nx=side, ny=side, scale=pixel_scale).array, np.float32)


def _without(
    detections: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], distance: float
) -> NDArray[np.float64]:
    """Detections that are none of the targets."""
    from scipy.spatial import cKDTree

    if not len(detections) or not len(x):
        return detections
    apart, _ = cKDTree(np.stack([x, y], axis=1)).query(detections)
    return detections[apart > distance]
