"""The PSF of a Piff file: a grid of pixels interpolated over one chip, as in DES."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError
from deblend_assets.science.skies.image_psf import before_pixel, star_profile


@dataclass(frozen=True, eq=False)
class PiffPSF:
    """A Piff model of one chip: a grid of pixels (PixelGrid) interpolated by polynomials (BasisPolynomial), as in DES.

    Read from the file's tables. Piff itself unpickles the WCS, which runs whatever code the file names, and needs the
    package that made it; here the stars' positions give the WCS.

    Attributes:
        coefficients: of each grid point, (y, x, term).
        order: of the polynomial; terms u^i v^j with i + j ≤ order, j fastest.
        grid_scale: of the grid [arcsec].
        lanczos: order of the interpolant.
        wcs: coefficients of u and v [arcsec] in terms of (x, y) - centre of 1-based positions, (term, 2).
        centre: (x, y).
        pixel_scale: of the image [arcsec].
        where: the file, for messages.
    """

    coefficients: NDArray[np.float64]
    order: int
    grid_scale: float
    lanczos: int
    wcs: NDArray[np.float64]
    centre: tuple[float, float]
    pixel_scale: float
    where: str

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], pixel_scale: float, where: str) -> PiffPSF:
        """From a Piff file's tables by their names, without that of the PSF: interp, interp_solution, model, stars."""
        model, interp, stars = tables["model"], tables["interp"], tables["stars"]
        kinds = (str(model["type"][0]).strip(), str(interp["type"][0]).strip())
        if kinds != ("PixelGrid", "BasisPolynomial"):
            raise CorruptDataError(
                f"is a Piff model of kind {' + '.join(kinds)}; PixelGrid + BasisPolynomial is supported",
                where=where,
                remedy="render its image at the field's centre with Piff and give that",
            )
        if len(np.unique(stars["chipnum"] if "chipnum" in stars.names else [0])) != 1:
            raise CorruptDataError("is a Piff model of several chips", where=where, remedy="give that of one chip")
        size, order = int(model["size"][0]), int(np.max(interp["order"][0]))
        solution = np.asarray(tables["interp_solution"]["q"][0], dtype=np.float64)
        terms = (order + 1) * (order + 2) // 2
        if solution.shape != (size * size, terms):
            raise CorruptDataError(
                f"has a solution of shape {solution.shape}, not {(size * size, terms)}",
                where=where,
                remedy="give a model interpolated in position alone",
            )
        found = re.match(r"galsim\.Lanczos\((\d+)", str(model["interp"][0])) if "interp" in model.names else None
        x, y = (np.asarray(stars[axis], dtype=np.float64) for axis in "xy")
        centre = (float(x.mean()), float(y.mean()))
        sky = np.stack([stars["u"], stars["v"]], axis=1).astype(np.float64)
        fit = np.linalg.lstsq(_position_terms(x - centre[0], y - centre[1]), sky, rcond=None)[0]
        return cls(
            coefficients=solution.reshape(size, size, terms),
            order=order,
            grid_scale=float(model["scale"][0]),
            lanczos=int(found[1]) if found else 7,
            wcs=np.asarray(fit, dtype=np.float64),
            centre=centre,
            pixel_scale=pixel_scale,
            where=where,
        )

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`. Piff counts pixels from 1."""
        dx, dy = x + 1.0 - self.centre[0], y + 1.0 - self.centre[1]
        u, v = (_position_terms(np.array([dx]), np.array([dy])) @ self.wcs)[0]
        powers = [u**i * v**j for i in range(self.order + 1) for j in range(self.order + 1 - i)]
        grid = self.coefficients @ np.array(powers)
        profile = star_profile(grid, self.grid_scale, lanczos=self.lanczos, where=self.where)
        slopes = np.array([[0, 1, 0, 2 * dx, dy, 0], [0, 0, 1, 0, dx, 2 * dy]]) @ self.wcs  # d(u, v)/dx, d(u, v)/dy
        local = galsim.JacobianWCS(slopes[0, 0], slopes[1, 0], slopes[0, 1], slopes[1, 1])
        in_pixels = local.profileToImage(profile).withFlux(1.0)
        return before_pixel(in_pixels.dilate(self.pixel_scale), self.pixel_scale)


def _position_terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """1, x, y, x², xy, y²; (N, 6)."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
