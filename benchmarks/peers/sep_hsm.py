"""What many would run: SEP finds the galaxies of a stamp, HSM measures the one at the centre (one band).

SEP (Barbary 2016; Source Extractor, Bertin & Arnouts 1996) with its defaults of detection and deblending; pixels that
it gives to other galaxies are masked. HSM (Hirata & Seljak 2003; Mandelbaum et al. 2005), as in GalSim: adaptive
moments of the image, and re-Gaussianisation with the true PSF.
"""

from __future__ import annotations

import galsim
import numpy as np

from deblend_assets.science.conventions import shear_from_distortion

# Source Extractor's usual threshold, in units of the pixel noise.
THRESHOLD = 1.5


def regauss(
    images: np.ndarray, psf: galsim.GSObject, scale: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Shapes of the galaxies at the centres of stamps, pixel frame.

    Args:
        images: (N, y, x), any flux unit.
        psf: of the band, without the pixel, as BTK draws it.
        scale: [arcsec / pixel].
        weights: (N, y, x), 0 where a pixel is another galaxy's; none: all count.

    Returns:
        (N, 2) intrinsic shear-type g by REGAUSS, (N, 2) distortion e of the adaptive moments with the PSF; NaN where
        one fails.
    """
    psf_image = psf.drawImage(nx=images.shape[-1], ny=images.shape[-2], scale=scale)
    intrinsic, observed = np.full((len(images), 2), np.nan), np.full((len(images), 2), np.nan)
    for k, array in enumerate(images):
        image = galsim.Image(np.ascontiguousarray(array, dtype=np.float64), scale=scale)
        weight = None if weights is None else galsim.Image(np.ascontiguousarray(weights[k], dtype=np.int32))
        result = galsim.hsm.EstimateShear(image, psf_image, weight=weight, shear_est="REGAUSS", strict=False)
        if result.moments_status == 0:
            observed[k] = result.observed_shape.e1, result.observed_shape.e2
        if result.correction_status == 0 and np.hypot(result.corrected_e1, result.corrected_e2) < 1:
            intrinsic[k] = shear_from_distortion(np.array(result.corrected_e1), np.array(result.corrected_e2))
    return intrinsic, observed


def others(images: np.ndarray, noise: float) -> np.ndarray:
    """(N, y, x) int32 weights: 0 on the pixels that SEP gives to a galaxy other than the one nearest the centre.

    Args:
        images: (N, y, x), without sky.
        noise: standard deviation of a sky pixel, in the same unit.
    """
    import sep

    weights = np.ones(images.shape, dtype=np.int32)
    centre = (np.array(images.shape[-2:]) - 1) / 2
    for k, array in enumerate(images):
        found, segments = sep.extract(
            np.ascontiguousarray(array, dtype=np.float32), THRESHOLD, err=noise, segmentation_map=True
        )
        if len(found):
            own = 1 + int(np.hypot(found["y"] - centre[0], found["x"] - centre[1]).argmin())
            weights[k] = (segments == 0) | (segments == own)
    return weights


def measure(images: np.ndarray, noise: float, psf: galsim.GSObject, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Detection and shapes of stamps in one band; returns as `regauss`."""
    return regauss(images, psf, scale, others(images, noise))
