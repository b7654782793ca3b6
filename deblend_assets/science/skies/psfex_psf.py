"""The PSF of a PSFEx file (Bertin 2011): images that are summed with powers of the position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError
from deblend_assets.science.skies.image_psf import before_pixel, star_profile

_LANCZOS = 3  # as in `galsim.des.DES_PSFEx`


@dataclass(frozen=True, eq=False)
class PSFExPSF:
    """A PSFEx model.

    Its origin is the centroid of its adaptive moments at each place, as of a star that a detection is centred on.

    Attributes:
        basis: images, (term, y, x); terms x^i y^j of the scaled position with i + j ≤ degree, i fastest.
        degree: of the polynomial.
        zero, scale: the scaled position is (position - zero) / scale, of 1-based positions, (x, y) each.
        step: side of the basis' pixels in pixels of the image.
        pixel_scale: of the image [arcsec].
        where: the file, for messages.
    """

    basis: NDArray[np.float64]
    degree: int
    zero: tuple[float, float]
    scale: tuple[float, float]
    step: float
    pixel_scale: float
    where: str

    @classmethod
    def from_table(cls, hdu: Any, pixel_scale: float, where: str) -> PSFExPSF:
        """From the table of a file, whose keys are in its header, or in columns as the Legacy Surveys keep them.

        Raises:
            CorruptDataError: a model of several chips, or one that varies with anything but the position.
        """
        columns = {name.lower(): name for name in hdu.columns.names}
        if len(hdu.data) != 1:
            raise CorruptDataError(
                f"holds PSFEx models of {len(hdu.data)} chips",
                where=where,
                remedy="give a file with the one chip of the image",
            )

        def key(name: str, default: Any = None) -> Any:
            if name in hdu.header:
                return hdu.header[name]
            return hdu.data[columns[name.lower()]][0] if default is None or name.lower() in columns else default

        basis = np.asarray(hdu.data[columns["psf_mask"]][0], dtype=np.float64)
        basis = basis.reshape(-1, *basis.shape[-2:])
        if key("POLNAXIS", 2) == 0:
            return cls(basis[:1], 0, (0.0, 0.0), (1.0, 1.0), float(key("PSF_SAMP")), pixel_scale, where)
        axes = range(1, int(key("POLNAXIS", 2)) + 1)
        names = [str(key(f"POLNAME{axis}")).strip() for axis in axes]
        degree = int(key("POLDEG1"))
        on_axis = [name.startswith(axis) and name.endswith("IMAGE") for name, axis in zip(names, "XY", strict=False)]
        if len(names) != 2 or not all(on_axis) or key("POLNGRP", 1) != 1:
            raise CorruptDataError(
                f"is a PSFEx model that varies with {', '.join(names)}",
                where=where,
                remedy="run PSFEx with PSFVAR_KEYS X_IMAGE,Y_IMAGE and PSFVAR_GROUPS 1,1",
            )
        if len(basis) != (degree + 1) * (degree + 2) // 2:
            raise CorruptDataError(
                f"has {len(basis)} images for a polynomial of degree {degree}",
                where=where,
                remedy="give the file as PSFEx wrote it",
            )
        (x_zero, y_zero), (x_scale, y_scale) = (
            (float(key(f"{name}1")), float(key(f"{name}2"))) for name in ("POLZERO", "POLSCAL")
        )
        step = float(key("PSF_SAMP"))
        return cls(basis, degree, (x_zero, y_zero), (x_scale, y_scale), step, pixel_scale, where)

    def image(self, x: float, y: float) -> NDArray[np.float64]:
        """The model's image at a position, (y, x). PSFEx counts pixels from 1."""
        across, up = ((v + 1.0 - z) / s for v, z, s in zip((x, y), self.zero, self.scale, strict=True))
        powers = [across**i * up**j for j in range(self.degree + 1) for i in range(self.degree + 1 - j)]
        return np.tensordot(np.array(powers), self.basis, axes=1)

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`."""
        profile = star_profile(self.image(x, y), self.step * self.pixel_scale, lanczos=_LANCZOS, where=self.where)
        return before_pixel(profile, self.pixel_scale)
