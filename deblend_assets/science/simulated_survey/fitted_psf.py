"""The PSFs of a field's patches as one PSFEx model a band, as a survey gives them with its coadds."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.skies.psfex_psf import PSFExPSF

_LARGEST_DEGREE = 2


def fitted_psfs(psfs: PatchPSFs, side: int) -> list[PSFExPSF]:
    """A polynomial of the position through the PSFs of all patches, by least squares in every pixel; one a band.

    Args:
        psfs: of the field.
        side: of the images, odd [pixel].
    """
    sky, patches = psfs.sky, range(psfs.patches**2)
    centres = np.array([psfs.centre(number) for number in patches])
    images = np.stack([psfs.psf_images(x, y, side) for x, y in centres]).astype(np.float64)
    degree = min(psfs.patches - 1, _LARGEST_DEGREE)
    middle, half = np.array(sky.centre) + 1.0, np.array(sky.shape[::-1]) / 2  # PSFEx counts pixels from 1
    u, v = ((centres + 1.0 - middle) / half).T
    terms = np.stack([u**i * v**j for j in range(degree + 1) for i in range(degree + 1 - j)], axis=-1)
    found = []
    for band, name in enumerate(sky.names):
        basis, *_ = np.linalg.lstsq(terms, images[:, band].reshape(len(terms), -1), rcond=None)
        model = basis.reshape(-1, side, side)
        zero, scale = (float(middle[0]), float(middle[1])), (float(half[0]), float(half[1]))
        found.append(PSFExPSF(model, degree, zero, scale, 1.0, sky.pixel_scale, f"the PSF of {name}"))
    return found
