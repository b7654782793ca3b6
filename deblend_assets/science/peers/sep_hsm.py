"""HSM at the stamp's centre in the label band, with SEP's segmentation as mask or without a mask.

SEP (Barbary 2016; Source Extractor, Bertin & Arnouts 1996) with its defaults of detection and deblending; pixels that
it assigns to other galaxies are masked. HSM (Hirata & Seljak 2003; Mandelbaum et al. 2005), as in GalSim: adaptive
moments of the image, and re-Gaussianisation with the true PSF.
"""

from __future__ import annotations

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.peers.blends import Blends, Measured, Peer
from deblend_assets.science.stamps.conventions import shear_from_distortion

# Source Extractor's default threshold, in units of the pixel noise.
THRESHOLD = 1.5
# A detection farther from the stamp's centre is not the target [arcsec].
_MATCH = 1.0
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
        image = galsim.Image(np.ascontiguousarray(images[k], dtype=np.float64), scale=scale)
        weight = None if weights is None else galsim.Image(np.ascontiguousarray(weights[k], dtype=np.int32))
        result = galsim.hsm.EstimateShear(image, psf_image, weight=weight, shear_est="REGAUSS", strict=False)
        if result.moments_status == 0:
            observed[k] = result.observed_shape.e1, result.observed_shape.e2
        if result.correction_status == 0 and np.hypot(result.corrected_e1, result.corrected_e2) < 1:
            intrinsic[k] = shear_from_distortion(np.array(result.corrected_e1), np.array(result.corrected_e2))
    return intrinsic, observed


def detect(image: np.ndarray, noise: float) -> tuple[np.ndarray, NDArray[np.int32], int]:
    """SEP on one stamp (y, x) without sky: its table, its segmentation, and the row nearest the centre (-1: none).

    Args:
        noise: standard deviation of a sky pixel, in the unit of the stamp.
    """
    import sep

    found, segments = sep.extract(
        np.ascontiguousarray(image, dtype=np.float32), THRESHOLD, err=noise, segmentation_map=True
    )
    if not len(found):
        return found, segments, -1
    return found, segments, int(_offsets(found, image.shape).argmin())


def _offsets(found: np.ndarray, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.hypot(found["y"] - (shape[-2] - 1) / 2, found["x"] - (shape[-1] - 1) / 2)


def others(images: np.ndarray, noise: float) -> NDArray[np.int32]:
    """(N, y, x) weights: 0 on the pixels that SEP assigns to a galaxy other than the one nearest the centre.

    Args:
        images: (N, y, x), without sky.
        noise: standard deviation of a sky pixel, in the same unit.
    """
    weights = np.ones(images.shape, dtype=np.int32)
    for k, image in enumerate(images):
        _, segments, own = detect(image, noise)
        weights[k] = (segments == 0) | (segments == own + 1)
    return weights


def shapes(
    images: np.ndarray, noise: float, psf: galsim.GSObject, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Detection and shapes of stamps in one band; returns as `regauss`, whether detected or not."""
    return regauss(images, psf, scale, others(images, noise))


def _auto_fluxes(
    images: np.ndarray, label: int, row: np.void, segments: NDArray[np.int32], number: int
) -> NDArray[np.float64]:
    """FLUX_AUTO (Kron 1980): (band,), within the label band's Kron ellipse; others' pixels as in Source Extractor."""
    import sep

    x, y, a, b, theta = (np.atleast_1d(row[name]) for name in ("x", "y", "a", "b", "theta"))
    own = {"segmap": segments, "seg_id": np.atleast_1d(np.int32(number))}
    planes, fluxes = np.ascontiguousarray(images, dtype=np.float32), np.full(len(images), np.nan)
    radius, _ = sep.kron_radius(planes[label], x, y, a, b, theta, 6.0, **own)
    for band, image in enumerate(planes):
        if radius[0] * np.sqrt(a * b)[0] < _KRON_LEAST:
            flux, _, _ = sep.sum_circle(image, x, y, _KRON_LEAST, subpix=1, **own)
        else:
            flux, _, _ = sep.sum_ellipse(image, x, y, a, b, theta, _KRON_FACTOR * radius, subpix=1, **own)
        fluxes[band] = flux[0]
    return fluxes


def measure(blends: Blends) -> Measured:
    """SEP's segmentation, then HSM; a target that SEP does not find within 1 arcsec of the centre is a failure."""
    result = Measured.nothing(blends, images=True)
    assert result.images is not None
    weights = np.ones(blends.labelled.shape, dtype=np.int32)
    noise, scale = float(np.sqrt(blends.sky[blends.label])), blends.scale
    found = np.zeros(len(weights), dtype=bool)
    for k in np.flatnonzero(np.isfinite(blends.images).all(axis=(1, 2, 3))):
        rows, segments, own = detect(blends.labelled[k], noise)
        if own < 0 or _offsets(rows, segments.shape)[own] * scale > _MATCH:
            continue
        found[k], weights[k] = True, (segments == 0) | (segments == own + 1)
        result.flux[k] = _auto_fluxes(blends.images[k], blends.label, rows[own], segments, own + 1)
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
