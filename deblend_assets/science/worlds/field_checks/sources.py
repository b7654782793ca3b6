"""Bright detections of one band beside the PSF that was given for their place.

Star and PSF are measured in the same way on the same pixels: the PSF's image is moved to the star's centroid, loses the
pixels that the star has lost, and has the same sky subtracted. What pixels, masks and apertures do to the numbers is
then in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from deblend_assets.science.detection.detect import Detections
from deblend_assets.science.simulation.observed import adaptive_moments
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.stamps.conventions import shear_from_distortion
from deblend_assets.science.stamps.cutting import ObservedImage

LEAST_SNR = 25.0
"""S/N in the band from which on a detection is measured."""
# Radii of the inner and the outer aperture, and of the end of the ring of sky around the latter [FWHM].
_INNER, _OUTER, _RING = 0.75, 1.75, 3.0
# Whose stamp's half side is at least so many FWHM.
_LEAST_REACH = 2.25
# Distances of the nearest detection, and of the nearest that is as bright [FWHM].
_APART, _APART_BRIGHT = 1.75, 3.5
# Largest share of the outer aperture on pixels that are lost or another's.
_MOST_LOST = 0.2
_FWHM_OVER_SIGMA = 2 * np.sqrt(2 * np.log(2))

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BandSources:
    """N detections of one band; NaN where a number could not be measured.

    Attributes:
        row: of the detection, (N,).
        snr: in the band, (N,).
        flux: of a point source with the light in the outer aperture, (N,) [image unit].
        ln_size: ln of the size by adaptive moments over that of the given PSF, (N,).
        shape: g1 + i g2 less that of the given PSF, (N,) complex.
        ln_concentration: ln of the light in the inner aperture over that in the outer one, less the given PSF's, (N,).
        isolated: with all pixels of the core and without a neighbour, (N,).
    """

    row: NDArray[np.int64]
    snr: Floats
    flux: Floats
    ln_size: Floats
    shape: NDArray[np.complex128]
    ln_concentration: Floats
    isolated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)


def measure_sources(image: ObservedImage, sky_free: NDArray[np.float32], band: int, found: Detections) -> BandSources:
    """Measure the detections of S/N ≥ `LEAST_SNR` in a band whose stamps lie on the image.

    Args:
        image: of the field.
        sky_free: pixels of the band without the sky, (y, x) [image unit].
        band: its number.
        found: detections of the field.
    """
    snr = found.table[f"snr_{image.bands[band]}"].to_numpy(np.float64)
    x, y = (found.table[name].to_numpy(np.float64) for name in "xy")
    column, row = (np.round(values).astype(np.int64) for values in (x, y))
    half = image.psf(float(x.mean()), float(y.mean())).shape[-1] // 2 if len(x) else 0
    height, width = sky_free.shape
    on_image = (column >= half) & (column < width - half) & (row >= half) & (row < height - half)
    rows = np.flatnonzero(on_image & (snr >= LEAST_SNR))
    psf = np.array([image.psf(x[n], y[n])[band] for n in rows], np.float64).reshape(-1, 2 * half + 1, 2 * half + 1)
    fwhm = measure_psf_images(psf).fwhm
    corner = [(slice(row[n] - half, row[n] + half + 1), slice(column[n] - half, column[n] + half + 1)) for n in rows]
    own = np.array([np.isin(found.segments[place], (0, n + 1)) for n, place in zip(rows, corner, strict=True)])
    seen = np.array([image.inverse_variance[band][place] > 0 for place in corner])
    own, seen = (values.reshape(psf.shape).astype(bool) for values in (own, seen))
    stamps = np.array([sky_free[place] for place in corner], np.float64).reshape(psf.shape)
    return _measured(
        stamps, psf, own, seen, fwhm, rows, snr[rows], *_offsets(x, y, rows), _isolated(x, y, snr, rows, fwhm)
    )


def _offsets(x: Floats, y: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Positions from the middle of the pixel that they lie in, (N,) each."""
    return x[rows] - np.round(x[rows]), y[rows] - np.round(y[rows])


def _isolated(x: Floats, y: Floats, snr: Floats, rows: NDArray[np.int64], fwhm: Floats) -> NDArray[np.bool_]:
    """Which of the rows have no detection near, and none as bright a little farther."""
    places = np.stack([x, y], axis=1)
    tree = cKDTree(places)
    alone = np.zeros(len(rows), bool)
    for k, (n, width) in enumerate(zip(rows, fwhm, strict=True)):
        others = [m for m in tree.query_ball_point(places[n], _APART_BRIGHT * width) if m != n]
        apart = np.hypot(*(places[others] - places[n]).T)
        alone[k] = not ((apart < _APART * width) | (np.nan_to_num(snr[others]) >= snr[n])).any()
    return alone


def _measured(
    stamps: Floats,
    psf: Floats,
    own: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    fwhm: Floats,
    rows: NDArray[np.int64],
    snr: Floats,
    x: Floats,
    y: Floats,
    isolated: NDArray[np.bool_],
) -> BandSources:
    """The numbers of stamps (N, side, side) with their PSFs; x and y from the middle pixel's centre."""
    half = psf.shape[-1] // 2
    used = own & seen
    grid = np.arange(-half, half + 1)
    radius = np.hypot(grid[None, None, :] - x[:, None, None], grid[None, :, None] - y[:, None, None])
    radius /= fwhm[:, None, None]
    stamps = _without_sky(stamps, used, radius)
    guess = fwhm / _FWHM_OVER_SIGMA
    star = adaptive_moments(stamps, half + x, half + y, guess)
    middle = np.full(len(psf), float(half))
    still = adaptive_moments(psf, middle, middle, guess)
    moved = np.stack(
        [_shifted(image, dx, dy) for image, dx, dy in zip(psf, star.x - still.x, star.y - still.y, strict=True)]
    ).reshape(psf.shape)
    model = _without_sky(moved, used, radius)
    like = adaptive_moments(np.nan_to_num(model), star.x, star.y, guess)
    inner, outer = (radius < limit for limit in (_INNER, _OUTER))
    lights = [[np.where(part, values, 0.0).sum(axis=(1, 2)) for part in (inner, outer)] for values in (stamps, model)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ln_concentration = np.log(lights[0][0] / lights[0][1] * lights[1][1] / lights[1][0])
        flux = lights[0][1] / lights[1][1]
        ln_size = np.log(star.sigma / like.sigma)
    core = (seen | ~inner).all(axis=(1, 2)) & (own | ~inner).all(axis=(1, 2))
    lost = (outer & ~used).sum(axis=(1, 2)) / np.maximum(outer.sum(axis=(1, 2)), 1)
    reach = half >= _LEAST_REACH * fwhm
    shape = [complex_shear(*moments) for moments in ((star.e1, star.e2), (like.e1, like.e2))]
    return BandSources(
        row=rows,
        snr=snr,
        flux=flux,
        ln_size=ln_size,
        shape=shape[0] - shape[1],
        ln_concentration=ln_concentration,
        isolated=isolated & core & (lost < _MOST_LOST) & reach,
    )


def complex_shear(e1: Floats, e2: Floats) -> NDArray[np.complex128]:
    """g1 + i g2 of a distortion."""
    g1, g2 = shear_from_distortion(e1, e2)
    return np.asarray(g1 + 1j * g2)


def _without_sky(images: Floats, used: NDArray[np.bool_], radius: Floats) -> Floats:
    """Images less the median of the ring around the outer aperture, 0 on pixels that are not used."""
    ring = used & (radius > _OUTER) & (radius < _RING)
    with np.errstate(all="ignore"):
        sky = np.array(
            [np.median(image[part]) if part.any() else 0.0 for image, part in zip(images, ring, strict=True)]
        )
    return np.asarray(np.where(used, images - sky[:, None, None], 0.0))


def _shifted(image: Floats, dx: float, dy: float) -> Floats:
    """An image moved by a part of a pixel, by the phase of its transform; NaN for a shift that is not finite."""
    if not (np.isfinite(dx) and np.isfinite(dy)):
        return np.full(image.shape, np.nan)
    return np.asarray(np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), (dy, dx))).real)
