"""What surrounds a detection: the PSF at its place, masked pixels, bright stars, other detections, its true target."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from deblend_assets.science.field_shear.fields import ShearedField
from deblend_assets.science.simulation.patch_psfs import PatchPSFs

Floats = NDArray[np.float64]
# AB magnitude in i of the stars that `star_distance` is to.
BRIGHT_STAR = 19.0
_LEVEL = 1e9  # of distances to what a field has not [arcsec]


class Places:
    """Of the positions in one image.

    Args:
        image: of a field.
        reference: number of the band whose PSF and mask count.
    """

    def __init__(self, image: ShearedField, reference: int) -> None:
        sky = image.field.sky
        self._scale, self._band = sky.pixel_scale, reference
        self._psfs: PatchPSFs = image.field.psfs
        lost = image.seen.mask[reference] != 0
        self._to_mask = ndimage.distance_transform_edt(~lost) if lost.any() else np.full(sky.shape, _LEVEL)
        truth = image.field.truth
        stars = truth[truth["star"] & (truth["mag_i"] < BRIGHT_STAR)]
        self._stars = stars[["x", "y"]].to_numpy(float)
        self._truth, self._flux = truth, f"flux_{sky.names[reference]}"

    def add(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with what surrounds each row.

        It gains `crowding`, `psf_fwhm`, `psf_g`, `psf_g1`, `psf_g2`, `mask_distance`, `star_distance` and `redshift`.

        Args:
            table: all detections of one catalogue, `x` and `y` on the unsheared image [pixel].
        """
        x, y = (table[name].to_numpy(float) for name in "xy")
        at = np.stack([x, y], axis=1).reshape(-1, 2)
        patch = self._psfs.patch(x, y)
        shapes = {int(k): self._psfs.psf_shape(int(k), self._band) for k in np.unique(patch)}
        g = np.array([shapes[int(k)].g for k in patch], dtype=complex)
        fwhm = np.array([shapes[int(k)].fwhm for k in patch], dtype=float)
        height, width = self._to_mask.shape
        column, row = (np.clip(np.rint(v).astype(int), 0, n - 1) for v, n in ((x, width), (y, height)))
        return table.assign(
            crowding=self._scale * nearest_other(at),
            psf_fwhm=fwhm,
            psf_g=np.abs(g),
            psf_g1=g.real,
            psf_g2=g.imag,
            mask_distance=self._scale * self._to_mask[row, column],
            star_distance=self._scale * _distance(at, self._stars),
            redshift=target_redshifts(self._truth, self._flux, at, fwhm / self._scale),
        )


def target_redshifts(truth: pd.DataFrame, flux: str, at: Floats, within: Floats) -> Floats:
    """Redshifts of the true targets, each the brightest source nearby; NaN of a star and where there is no source.

    Args:
        truth: of a field's sources.
        flux: its column that says which is the brightest.
        at: positions, (N, 2) [pixel].
        within: distance of each up to which sources count, (N,) [pixel].

    Returns:
        (N,).
    """
    found = np.full(len(at), np.nan)
    if not len(at) or truth.empty:
        return found
    # A star's is 0.
    redshift = truth["redshift"].where(~truth["star"].astype(bool)).to_numpy(float)
    light = truth[flux].to_numpy(float)
    tree = cKDTree(truth[["x", "y"]].to_numpy(float))
    for row, near in enumerate(tree.query_ball_point(at, within)):
        if near:
            found[row] = redshift[max(near, key=lambda source: float(light[source]))]
    return found


def nearest_other(at: Floats) -> Floats:
    """Distance of each of the positions (N, 2) to the next one, (N,); very large for a single one."""
    if len(at) < 2:
        return np.full(len(at), _LEVEL)
    return np.asarray(cKDTree(at).query(at, k=2)[0][:, 1])


def _distance(at: Floats, to: Floats) -> Floats:
    return np.asarray(cKDTree(to).query(at)[0]) if len(to) else np.full(len(at), _LEVEL)
