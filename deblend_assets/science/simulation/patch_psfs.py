"""The PSFs through which the sources of a field are seen: constant within each of its equal patches."""

from __future__ import annotations

from collections.abc import Mapping

import galsim
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.skies.psf_shape import PSFShape, measure_psf
from deblend_assets.science.skies.sky import Sky


class PatchPSFs:
    """The PSFs at the centre of each patch. Their images and shapes are made once, at their first use.

    Sources off the image are seen through the PSFs of the nearest patch.

    Args:
        sky: bands, PSFs, pixel scale, shape.
        patches: a side.
    """

    def __init__(self, sky: Sky, patches: int) -> None:
        self.sky, self.patches = sky, patches
        self._psf_images: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._psf_shapes: dict[tuple[int, int], PSFShape] = {}

    def patch(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.int64]:
        """Number of the patch of positions [pixel], row by row from (0, 0); shaped like x and y."""
        column, row = (
            np.clip(((np.asarray(values) + 0.5) * self.patches / length).astype(np.int64), 0, self.patches - 1)
            for values, length in ((x, self.sky.shape[1]), (y, self.sky.shape[0]))
        )
        return np.asarray(row * self.patches + column)

    def centre(self, number: int) -> tuple[float, float]:
        """Position x, y of a patch's centre [pixel]."""
        row, column = divmod(number, self.patches)
        x, y = (
            (place + 0.5) * length / self.patches - 0.5
            for place, length in ((column, self.sky.shape[1]), (row, self.sky.shape[0]))
        )
        return x, y

    def psfs(self, x: float, y: float) -> list[galsim.GSObject]:
        """The PSF of every band through which a source at a position [pixel] is seen."""
        return self.psfs_of(int(self.patch(x, y)))

    def psfs_of(self, number: int) -> list[galsim.GSObject]:
        """The PSF of every band in a patch."""
        return self.sky.psfs(*self.centre(number))

    def psf_images(self, x: float, y: float, side: int) -> NDArray[np.float32]:
        """`psfs`, pixel included, on `side` × `side` pixels, centred on the middle one; (band, y, x) float32."""
        key = (int(self.patch(x, y)), side)
        if key not in self._psf_images:
            rendered = [
                psf.drawImage(nx=side, ny=side, scale=self.sky.pixel_scale).array for psf in self.psfs_of(key[0])
            ]
            self._psf_images[key] = np.stack(rendered).astype(np.float32)
        return self._psf_images[key]

    def psf_shape(self, number: int, band: int) -> PSFShape:
        """Size, shape and centre of the PSF of a band in a patch.

        Args:
            number: of the patch.
            band: its number.
        """
        if (number, band) not in self._psf_shapes:
            self._psf_shapes[number, band] = measure_psf(self.psfs_of(number)[band])
        return self._psf_shapes[number, band]


class KnownPSFs(PatchPSFs):
    """PSFs whose images and shapes were made before; there is no profile to make others from.

    Args:
        sky, patches: see `PatchPSFs`.
        images: (patch, band, y, x).
        shapes: of every patch and band, by their numbers.
    """

    def __init__(
        self, sky: Sky, patches: int, images: NDArray[np.float32], shapes: Mapping[tuple[int, int], PSFShape]
    ) -> None:
        super().__init__(sky, patches)
        self._side = images.shape[-1]
        self._psf_images = {(number, self._side): image for number, image in enumerate(images)}
        self._psf_shapes = dict(shapes)

    def psf_images(self, x: float, y: float, side: int) -> NDArray[np.float32]:
        """See `PatchPSFs`; MismatchError for another side than that of the known images."""
        if side != self._side:
            raise MismatchError(
                f"the field has PSFs of {self._side} pixels, not {side}",
                where="KnownPSFs",
                remedy="make the field with the present [stamps] psf_side",
            )
        return super().psf_images(x, y, side)
