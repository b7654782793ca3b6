"""Bright detections of one band beside the PSF that was given for their place.

Star and PSF are measured in the same way on the same pixels: the PSF's image is moved to the star's centroid, loses the
pixels that the star has lost, and has the same sky subtracted. What pixels, masks and apertures do to the numbers is
then in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import cKDTree

from deblend_assets.science.detection.detect import Detections
from deblend_assets.science.simulation.observed import Observed, adaptive_moments
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.stamps.batches import distinct
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA, shear_from_distortion
from deblend_assets.science.stamps.cutting import ObservedImage

LEAST_SNR = 25.0
"""S/N in the band from which on a detection is measured."""
# Radii of the inner and the outer aperture, and of the end of the ring of sky around the latter [FWHM].
_INNER, _OUTER, _RING = 0.75, 1.75, 3.0
# Whose stamp's half side is at least so many FWHM.
_LEAST_REACH = 2.25
APART, APART_BRIGHT = 1.75, 3.5
"""Least distances of the nearest detection of an isolated one, and of the nearest that is as bright [FWHM]."""
# Largest share of the outer aperture on pixels that are lost or another's.
_MOST_LOST = 0.2

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
    places = found.table[["x", "y"]].to_numpy(np.float64)
    if not len(places):
        return measure_stamps(np.zeros(0, np.int64), np.zeros(0), SourceStamps.none(), np.zeros(0, bool))
    nearest = np.round(places).astype(np.int64)
    half = image.psf(*places[0]).shape[-1] // 2
    on_image = ((nearest >= half) & (nearest < np.array(sky_free.shape[::-1]) - half)).all(axis=1)
    rows = np.flatnonzero(on_image & (snr >= LEAST_SNR))
    psf = np.array([image.psf(*places[n])[band] for n in rows], np.float64).reshape(-1, 2 * half + 1, 2 * half + 1)
    boxes = [tuple(slice(v - half, v + half + 1) for v in (nearest[n, 1], nearest[n, 0])) for n in rows]
    stamps = SourceStamps(
        light=np.array([sky_free[box] for box in boxes], np.float64).reshape(psf.shape),
        psf=psf,
        used=np.array(
            [
                (image.inverse_variance[band][box] > 0) & np.isin(found.segments[box], (0, n + 1))
                for n, box in zip(rows, boxes, strict=True)
            ],
            bool,
        ).reshape(psf.shape),
        fwhm=measure_psf_images(psf).fwhm,
        offset=places[rows] - nearest[rows],
    )
    return measure_stamps(rows, snr[rows], stamps, _isolated(places, snr, rows, stamps.fwhm))


class SourceStamps(NamedTuple):
    """N sources with their given PSFs.

    Attributes:
        light: without the sky, (N, side, side) [image unit].
        psf: of their places, (N, side, side).
        used: pixels that are known and no other detection's, (N, side, side).
        fwhm: of the PSFs, (N,) [pixel].
        offset: x and y of the detections from the centre of the middle pixel, (N, 2) [pixel].
    """

    light: Floats
    psf: Floats
    used: NDArray[np.bool_]
    fwhm: Floats
    offset: Floats

    @classmethod
    def none(cls) -> SourceStamps:
        """No source."""
        stamps = np.zeros((0, 1, 1))
        return cls(stamps, stamps, stamps.astype(bool), np.zeros(0), np.zeros((0, 2)))


def _isolated(places: Floats, snr: Floats, rows: NDArray[np.int64], fwhm: Floats) -> NDArray[np.bool_]:
    """Which of the rows have no detection near, and none as bright a little farther."""
    tree = cKDTree(places)
    alone = np.zeros(len(rows), bool)
    for k, (n, width) in enumerate(zip(rows, fwhm, strict=True)):
        others = [m for m in tree.query_ball_point(places[n], APART_BRIGHT * width) if m != n]
        apart = np.hypot(*(places[others] - places[n]).T)
        alone[k] = not ((apart < APART * width) | (np.nan_to_num(snr[others]) >= snr[n])).any()
    return alone


def measure_stamps(
    rows: NDArray[np.int64], snr: Floats, stamps: SourceStamps, without_neighbour: NDArray[np.bool_]
) -> BandSources:
    """The numbers of sources on their stamps.

    Args:
        rows, snr: see `BandSources`.
        stamps: of the sources.
        without_neighbour: sources that have no other within `APART` FWHM, nor one as bright within `APART_BRIGHT`.
    """
    half = stamps.psf.shape[-1] // 2
    grid = np.arange(-half, half + 1)
    x, y = stamps.offset.T
    radius = np.hypot(grid[None, None, :] - x[:, None, None], grid[None, :, None] - y[:, None, None])
    radius /= stamps.fwhm[:, None, None]
    inner, outer = (radius < limit for limit in (_INNER, _OUTER))
    lost = (outer & ~stamps.used).sum(axis=(1, 2)) / np.maximum(outer.sum(axis=(1, 2)), 1)
    core = (stamps.used | ~inner).all(axis=(1, 2))
    isolated = without_neighbour & core & (lost < _MOST_LOST) & (half >= _LEAST_REACH * stamps.fwhm)

    light = _without_sky(stamps.light, stamps.used, radius)
    guess = stamps.fwhm / FWHM_OVER_SIGMA
    star = adaptive_moments(light, half + x, half + y, guess)
    still = _psf_moments(stamps.psf, guess)
    model = _without_sky(_shifted(stamps.psf, star.x - still.x, star.y - still.y), stamps.used, radius)
    # Sources with neighbours are but told from stars: for them the PSF's moments without lost pixels do.
    beside = adaptive_moments(model[isolated], star.x[isolated], star.y[isolated], guess[isolated])
    like = Observed(*(np.array(values) for values in still))
    for values, exact in zip(like, beside, strict=True):
        values[isolated] = exact
    lights = [[np.where(part, v, 0.0).sum(axis=(1, 2)) for part in (inner, outer)] for v in (light, model)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ln_concentration = np.log(lights[0][0] / lights[0][1] * lights[1][1] / lights[1][0])
        flux = lights[0][1] / lights[1][1]
        ln_size = np.log(star.sigma / like.sigma)
    return BandSources(
        row=rows,
        snr=snr,
        flux=flux,
        ln_size=ln_size,
        shape=complex_shear(star.e1, star.e2) - complex_shear(like.e1, like.e2),
        ln_concentration=ln_concentration,
        isolated=isolated,
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


def _psf_moments(psf: Floats, guess: Floats) -> Observed:
    """Adaptive moments of PSFs (N, side, side); an image that occurs several times is measured once."""
    first, place = distinct(psf)
    middle = np.full(len(first), psf.shape[-1] // 2)
    return Observed(*(values[place] for values in adaptive_moments(psf[first], middle, middle, guess[first])))


def _shifted(images: Floats, dx: Floats, dy: Floats) -> Floats:
    """Images (N, side, side) moved by a part of a pixel each, by the phases of their transforms; no NaN moves."""
    side = images.shape[-1]
    dx, dy = (np.nan_to_num(values)[:, None, None] for values in (dx, dy))
    phase = dy * np.fft.fftfreq(side)[:, None] + dx * np.fft.rfftfreq(side)
    return np.asarray(fft.irfft2(fft.rfft2(images) * np.exp(-2j * np.pi * phase), s=(side, side)))
