"""AnaCal's FPFS (Li et al. 2018; Li & Mandelbaum 2023, 2208.10522): shapelet moments with an analytic shear response.

Forced at the stamp's centre in the label band. The galaxy is assumed isolated, and a shear small: the response
is of first order, so that ⟨e⟩ = ⟨R⟩ γ holds for an ensemble whose intrinsic shapes average out, whereas one
galaxy's e / ⟨R⟩ follows its shear-type g with a slope of its own, by its profile, size and flux. As the package
recommends, pure noise of the sky's variance is added, its moments turned by 90°, which rids e and R of noise bias.
Nothing is detected or selected here: every detection weight is 1.
"""

from __future__ import annotations

import zlib

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.peers.blends import Blends, Measured, Peer

# Width of the shapelets' Gaussian [arcsec]: that of examples of the package at a seeing of 0.6 to 0.8 arcsec.
SIGMA = 0.52
# Weighting constant C of e = M22 / (M00 + C), in σ of M00. The package's default of 30 is in nJy (zero point 31.4):
# at LSST's ten-year depth in r this many σ. Blends carry no zero point.
C_IN_SIGMA = 3.7
# Side of the stamp in Fourier space [pixel] and the threshold of its largest k: the package's defaults.
_SIDE, _KMAX_THRESHOLD = 64, 1e-12


def fpfs(blends: Blends) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FPFS ellipticity and its shear response, pixel frame.

    Returns:
        (N, 2) ellipticity, of no physical size: to be divided by a mean response; (N, 2) ∂e1/∂γ1 and ∂e2/∂γ2 of each
        galaxy; NaN where the stamp holds no finite numbers.
    """
    from anacal.fpfs import THRESHOLD_REF_MAG_ZERO, FpfsConfig, FpfsTask, process_image

    images = blends.labelled
    valid = np.flatnonzero(np.isfinite(images).all(axis=(1, 2)))
    ellipticity, response = np.full((len(images), 2), np.nan), np.full((len(images), 2), np.nan)
    if not len(valid):
        return ellipticity, response
    variance, scale = float(blends.sky[blends.label]), blends.scale
    psf = _psf(blends.psfs[blends.label], scale)
    task = FpfsTask(npix=_SIDE, pixel_scale=scale, sigma_shapelets=SIGMA, psf_array=psf, kmax_thres=_KMAX_THRESHOLD)
    task.prepare_covariance(variance=variance)
    sheet, centres = _sheet(images[valid])
    # Different noise for every batch, and the same noise when a batch is measured again.
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(images[valid]).tobytes()))
    noise, _ = _sheet(rng.normal(0, np.sqrt(variance), images[valid].shape))
    found = process_image(
        fpfs_config=FpfsConfig(
            npix=_SIDE, kmax_thres=_KMAX_THRESHOLD, sigma_shapelets1=SIGMA, c0=C_IN_SIGMA * float(task.std_m00)
        ),
        pixel_scale=scale,
        noise_variance=variance,
        mag_zero=THRESHOLD_REF_MAG_ZERO,
        gal_array=sheet,
        psf_array=psf,
        noise_array=noise,
        detection=centres,
    )
    ellipticity[valid] = np.stack([found["fpfs1_e1"], found["fpfs1_e2"]], axis=1)
    response[valid] = np.stack([found["fpfs1_de1_dg1"], found["fpfs1_de2_dg2"]], axis=1)
    return ellipticity, response


def _psf(psf: galsim.GSObject, scale: float) -> NDArray[np.float64]:
    """Centred on pixel (side / 2, side / 2), as AnaCal requires; with the pixel."""
    drawn = psf.shift(0.5 * scale, 0.5 * scale).drawImage(nx=_SIDE, ny=_SIDE, scale=scale).array
    values: NDArray[np.float64] = drawn.astype(np.float64)
    return values


def _sheet(images: np.ndarray) -> tuple[NDArray[np.float32], NDArray]:
    """Stamps (N, y, x) below one another in cells of AnaCal's stamp with empty borders; (y, x) of their centres."""
    n, ny, nx = images.shape
    cell = max(_SIDE, ny, nx)
    sheet = np.zeros((n, cell, cell), dtype=np.float32)
    top, left = (cell - ny) // 2, (cell - nx) // 2
    sheet[:, top : top + ny, left : left + nx] = images
    centres = np.zeros(n, dtype=[("y", "f8"), ("x", "f8")])
    centres["y"] = np.arange(n) * cell + top + (ny - 1) / 2
    centres["x"] = left + (nx - 1) / 2
    return sheet.reshape(n * cell, cell), centres


def measure(blends: Blends) -> Measured:
    """g = e / ⟨R⟩ with the batch's mean response, both components' mean; no e, fluxes or images."""
    result = Measured.nothing(blends, images=False)
    ellipticity, response = fpfs(blends)
    if np.isfinite(response).any():
        result.g[:] = ellipticity / np.nanmean(response)
    return result


ANACAL = Peer(
    name="anacal",
    title="AnaCal",
    words=f"AnaCal's FPFS (σ = {SIGMA} arcsec, renoised) at the centre, label band, by mean response; given the PSF",
    module="anacal",
    given_positions=False,
    measure=measure,
)
