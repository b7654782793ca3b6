"""Small images of exact sources for the tests of metadetection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.metadetection.operator import ShearOperator
from deblend_assets.science.stamps.cutting import ObservedImage

SIDE, SCALE = 112, 0.2
SQUARE = SCALE * np.eye(2)
PSF = galsim.Moffat(beta=4.0, fwhm=0.8).shear(g1=0.05, g2=-0.03)
GALAXIES = (
    (18.3, -14.6, galsim.Exponential(half_light_radius=0.5, flux=1e3).shear(g1=0.2, g2=-0.1)),
    (-22.2, 9.0, galsim.Sersic(n=2.0, half_light_radius=0.6, flux=1e3).shear(g1=-0.1, g2=0.3)),
)
"""x and y from the middle [pixel], and the galaxy."""


def drawn(
    galaxies: Sequence[tuple[float, float, galsim.GSObject]],
    psf: galsim.GSObject,
    jacobian: NDArray[np.float64] = SQUARE,
    *,
    method: str = "auto",
    matrix: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Galaxies behind a PSF, (y, x), their places from the middle multiplied by a matrix."""
    image = galsim.ImageD(SIDE, SIDE, wcs=galsim.JacobianWCS(*jacobian.ravel()))
    for x, y, galaxy in galaxies:
        place = np.array([x, y]) if matrix is None else matrix @ np.array([x, y])
        source = galsim.Convolve(galaxy, psf)
        source.drawImage(image, center=image.true_center + galsim.PositionD(*place), add_to_image=True, method=method)
    return np.asarray(image.array)


def psf_stamp(psf: galsim.GSObject = PSF, jacobian: NDArray[np.float64] = SQUARE, side: int = 65) -> NDArray:
    wcs = galsim.JacobianWCS(*jacobian.ravel())
    stamp = psf.drawImage(nx=side, ny=side, wcs=wcs, dtype=float).array
    return np.asarray(stamp / stamp.sum())


def observed(
    pixels: NDArray,
    psf: NDArray | Callable[[float, float], NDArray],
    jacobian: NDArray[np.float64] = SQUARE,
    sigma: float = 1.0,
    correlation: NDArray | None = None,
    lost: NDArray | None = None,
    mask: int = 0,
) -> ObservedImage:
    """Pixels of some bands, (band, y, x), all with one PSF, noise and mask."""
    weight = np.full(pixels.shape, sigma**-2, np.float32)
    bits = np.zeros(pixels.shape, np.uint16)
    if lost is not None:
        weight[:, lost], bits[:, lost] = 0, mask
    number = len(pixels)
    stamp = psf if callable(psf) else (lambda x, y: np.stack([psf] * number))
    white = np.ones((1, 1)) if correlation is None else correlation
    return ObservedImage(
        bands=("r", "i")[:number],
        pixels=pixels.astype(np.float32),
        inverse_variance=weight,
        mask=bits,
        psf=stamp,
        noise_correlation=np.stack([white] * number),
        zero_point=np.full(number, 30.0),
        jacobian=lambda x, y: jacobian,
    )


def noiseless(image: ObservedImage, **options: object) -> ShearOperator:
    """An operator that adds no noise: its noise is a millionth of a unit."""
    quiet = ObservedImage(
        **(image.__dict__ | {"inverse_variance": (image.inverse_variance > 0).astype(np.float32) * np.float32(1e12)})
    )
    return ShearOperator(quiet, **options)
