"""HSM at the stamp's centre in the label band, with SEP's segmentation as mask or without a mask.

SEP (Barbary 2016; Source Extractor, Bertin & Arnouts 1996) with its defaults of detection and deblending; pixels that
it assigns to other galaxies are masked. HSM (Hirata & Seljak 2003; Mandelbaum et al. 2005), as in GalSim: adaptive
moments of the image, and re-Gaussianisation with the true PSF.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.peers.blends import Blends, Measured, Peer
from deblend_assets.science.stamps.conventions import shear_from_distortion

# Source Extractor's default threshold, in units of the pixel noise.
THRESHOLD = 1.5
# A detection farther from the target's place, the stamp's centre, is not the target [arcsec].
MATCH = 1.0
# Of FLUX_AUTO, as SEP's manual has it: Kron factor, and least radius [pixel].
_KRON_FACTOR, _KRON_LEAST = 2.5, 1.75


def regauss(
    images: np.ndarray, psf: galsim.GSObject, scale: float, weights: np.ndarray | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shapes of the galaxies at the centres of stamps, pixel frame.

    Args:
        images: (N, y, x), any flux unit.
        psf: of the band, without the pixel, as in BTK.
        scale: [arcsec / pixel].
        weights: (N, y, x), 0 where a pixel belongs to another galaxy; None: all pixels count.

    Returns:
        (N, 2) intrinsic shear-type g by REGAUSS, (N, 2) distortion e of the adaptive moments with the PSF; NaN where
        one fails.
    """
    psf_image = psf.drawImage(nx=images.shape[-1], ny=images.shape[-2], scale=scale)
    intrinsic, observed = np.full((len(images), 2), np.nan), np.full((len(images), 2), np.nan)
    for k in np.flatnonzero(np.isfinite(images).all(axis=(-2, -1))):
        found = regauss_stamp(images[k], psf_image, None if weights is None else weights[k])
        intrinsic[k], observed[k] = regauss_shapes(found)
    return intrinsic, observed


def regauss_stamp(
    image: np.ndarray, psf: galsim.Image, weight: np.ndarray | None = None, **settings: Any
) -> galsim.hsm.ShapeData:
    """REGAUSS of one stamp, as GalSim answers.

    Args:
        image: (y, x), any flux unit; its first pixel is (1, 1), as GalSim counts.
        psf: pixel included.
        weight: (y, x), 0 where a pixel does not count; None: all count.
        settings: of `galsim.hsm.EstimateShear`.

    Returns:
        Also of stamps that GalSim refuses, as one of which no pixel counts, what a failed fit gives.
    """
    pixels = galsim.Image(np.ascontiguousarray(image, dtype=np.float64))
    used = None if weight is None else galsim.Image(np.ascontiguousarray(weight, dtype=np.int32))
    try:
        return galsim.hsm.EstimateShear(pixels, psf, weight=used, shear_est="REGAUSS", strict=False, **settings)
    except galsim.GalSimHSMError:
        return galsim.hsm.ShapeData()


def regauss_shapes(found: galsim.hsm.ShapeData) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intrinsic shear-type g and observed distortion e, (2,) each; NaN where REGAUSS or the moments failed."""
    g, e = np.full(2, np.nan), np.full(2, np.nan)
    if found.moments_status == 0:
        e[:] = found.observed_shape.e1, found.observed_shape.e2
    if found.correction_status == 0 and np.hypot(found.corrected_e1, found.corrected_e2) < 1:
        g[:] = shear_from_distortion(np.array(found.corrected_e1), np.array(found.corrected_e2))
    return g, e


def detect(
    image: np.ndarray, noise: float | np.ndarray, lost: np.ndarray | None = None
) -> tuple[np.ndarray, NDArray[np.int32]]:
    """SEP on one stamp (y, x) without sky: its table, and its segmentation (row + 1, 0 on the sky).

    Args:
        image: (y, x).
        noise: standard deviation of a sky pixel, in the unit of the stamp; one for all, or (y, x).
        lost: (y, x), pixels to leave out.
    """
    import sep

    pixels = np.ascontiguousarray(image, dtype=np.float32)
    found: tuple[np.ndarray, NDArray[np.int32]] = sep.extract(
        pixels, THRESHOLD, err=noise, mask=lost, segmentation_map=True
    )
    return found


def nearest(found: np.ndarray, x: float, y: float) -> tuple[int, float]:
    """Row of SEP's table nearest to a place, and its distance [pixel]; -1 and infinity for an empty one."""
    if not len(found):
        return -1, np.inf
    apart = np.hypot(found["y"] - y, found["x"] - x)
    return int(apart.argmin()), float(apart.min())


def _nearest_the_centre(found: np.ndarray, shape: tuple[int, ...]) -> tuple[int, float]:
    return nearest(found, (shape[-1] - 1) / 2, (shape[-2] - 1) / 2)


def others(images: np.ndarray, noise: float) -> NDArray[np.int32]:
    """(N, y, x) weights: 0 on the pixels that SEP assigns to a galaxy other than the one nearest the centre.

    Args:
        images: (N, y, x), without sky.
        noise: standard deviation of a sky pixel, in the same unit.
    """
    weights = np.ones(images.shape, dtype=np.int32)
    for k, image in enumerate(images):
        found, segments = detect(image, noise)
        own, _ = _nearest_the_centre(found, image.shape)
        weights[k] = (segments == 0) | (segments == own + 1)
    return weights


def shapes(
    images: np.ndarray, noise: float, psf: galsim.GSObject, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Detection and shapes of stamps in one band; returns as `regauss`, whether detected or not."""
    return regauss(images, psf, scale, others(images, noise))


class AutoAperture:
    """The aperture of FLUX_AUTO (Kron 1980), from one band for all; others' pixels as in Source Extractor.

    Args:
        image: of the band, (y, x).
        row: `x`, `y`, `a`, `b`, `theta` of the object, as SEP has them.
        segments: (y, x).
        number: of the object in `segments`.
        lost: (y, x), pixels to leave out.
    """

    def __init__(
        self,
        image: np.ndarray,
        row: Mapping[str, float] | np.void,
        segments: NDArray[np.int32],
        number: int,
        lost: np.ndarray | None = None,
    ) -> None:
        import sep

        self._x, self._y, self._a, self._b, self._theta = (
            np.atleast_1d(row[name]) for name in ("x", "y", "a", "b", "theta")
        )
        # In single precision SEP's own angle may be above π / 2, which its apertures refuse.
        self._theta = np.clip(self._theta, -np.pi / 2, np.pi / 2)
        self._own = {"segmap": segments, "seg_id": np.atleast_1d(np.int32(number))}
        pixels = np.ascontiguousarray(image, dtype=np.float32)
        self._radius, _ = sep.kron_radius(
            pixels, self._x, self._y, self._a, self._b, self._theta, 6.0, mask=lost, **self._own
        )

    @property
    def is_least(self) -> bool:
        """Whether the ellipse would be smaller than the least circle, or is not known: that circle is the aperture."""
        return not self._radius[0] * np.sqrt(self._a * self._b)[0] >= _KRON_LEAST

    @property
    def area(self) -> float:
        """Of the aperture [pixel]."""
        if self.is_least:
            return float(np.pi * _KRON_LEAST**2)
        return float(np.pi * (_KRON_FACTOR * self._radius[0]) ** 2 * (self._a * self._b)[0])

    def flux(
        self, image: np.ndarray, noise: np.ndarray | None = None, lost: np.ndarray | None = None
    ) -> tuple[float, float, int]:
        """Flux in a band, its error for white noise (0 without `noise`), and SEP's flags.

        Args:
            image: (y, x).
            noise: standard deviation of a pixel, (y, x).
            lost: (y, x), pixels to leave out; the flux is scaled by the area that they leave.
        """
        import sep

        pixels = np.ascontiguousarray(image, dtype=np.float32)
        settings = {"err": noise, "mask": lost, "subpix": 1, **self._own}
        if self.is_least:
            found = sep.sum_circle(pixels, self._x, self._y, _KRON_LEAST, **settings)
        else:
            ellipse = self._x, self._y, self._a, self._b, self._theta, _KRON_FACTOR * self._radius
            found = sep.sum_ellipse(pixels, *ellipse, **settings)
        flux, error, flags = (values[0] for values in found)
        return float(flux), float(error), int(flags)


def measure(blends: Blends) -> Measured:
    """SEP's segmentation, then HSM; a target that SEP does not find within 1 arcsec of the centre is a failure."""
    result = Measured.nothing(blends, images=True)
    assert result.images is not None
    weights = np.ones(blends.labelled.shape, dtype=np.int32)
    noise, scale = float(np.sqrt(blends.sky[blends.label])), blends.scale
    found = np.zeros(len(weights), dtype=bool)
    for k in np.flatnonzero(np.isfinite(blends.images).all(axis=(1, 2, 3))):
        rows, segments = detect(blends.labelled[k], noise)
        own, apart = _nearest_the_centre(rows, segments.shape)
        if apart * scale > MATCH:
            continue
        found[k], weights[k] = True, (segments == 0) | (segments == own + 1)
        aperture = AutoAperture(blends.labelled[k], rows[own], segments, own + 1)
        result.flux[k] = [aperture.flux(image)[0] for image in blends.images[k]]
        result.images[k] = blends.images[k] * weights[k]
    g, e = regauss(blends.labelled[found], blends.psfs[blends.label], scale, weights[found])
    result.g[found], result.e[found] = g, e
    return result


def measure_unmasked(blends: Blends) -> Measured:
    """HSM on the blend as it is; no fluxes, no images."""
    result = Measured.nothing(blends, images=False)
    g, e = regauss(blends.labelled, blends.psfs[blends.label], blends.scale)
    result.g[:], result.e[:] = g, e
    return result


SEP_HSM = Peer(
    name="sep_hsm",
    title="SEP mask + HSM",
    words="SEP's mask (1.5 σ, defaults), adaptive moments and REGAUSS, label band; FLUX_AUTO; given the PSF",
    module="sep",
    given_positions=False,
    measure=measure,
)
HSM = Peer(
    name="hsm",
    title="HSM on the blend",
    words="adaptive moments and REGAUSS on the blend, label band, no mask; given the PSF",
    module="galsim",
    given_positions=False,
    measure=measure_unmasked,
)
