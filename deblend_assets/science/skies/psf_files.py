"""The PSF of a real image: from PSFEx, from Piff, or from an image of it.

All three describe stars as they appear on pixels. The pixel is divided out (`before_pixel`), so that a PSF from a file
is used like any other: convolved with a pixel it is again what the file holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, DeblendError, SettingsError
from deblend_assets.science.skies.psf import PSF

_PSFEX_KEYS = (
    *("POLNAME1", "POLNAME2", "POLZERO1", "POLZERO2", "POLSCAL1", "POLSCAL2", "POLNGRP", "POLGRP1", "POLGRP2"),
    *("POLNAXIS", "POLDEG1", "PSFNAXIS", "PSFAXIS1", "PSFAXIS2", "PSFAXIS3", "PSF_SAMP"),
)
_PIXEL_END = 0.43  # see `before_pixel`


def read_psf(path: Path | str, pixel_scale: float, *, plane: int = 0) -> PSF:
    """The PSF that a FITS file holds: a PSFEx model, a Piff model, or an image.

    Args:
        path: the file.
        pixel_scale: of the image that the PSF belongs to [arcsec]; an image of a PSF has the same pixels.
        plane: of an image file with several PSFs, as one a band: index in a cube, or over the image extensions.

    Raises:
        CorruptDataError: not FITS, truncated, none of the three, or a model of a kind that is not supported.
        SettingsError: no positive pixel scale.
    """
    from astropy.io import fits

    where = str(path)
    if not 0 < pixel_scale < np.inf:
        raise SettingsError(f"pixel_scale is {pixel_scale}", where=where, remedy="give that of the image in arcsec")
    try:
        with fits.open(path, memmap=False) as file:
            tables = {hdu.name.lower(): hdu for hdu in file if isinstance(hdu, fits.BinTableHDU)}
            images = [hdu.data for hdu in file if hdu.is_image and hdu.data is not None]
            for hdu in tables.values():
                if "psf_mask" in [name.lower() for name in hdu.columns.names]:
                    return PSFExPSF(_psfex(hdu, where), pixel_scale)
            root = next((name.removesuffix("_interp") for name in tables if name.endswith("_interp")), None)
            if root is not None:
                return PiffPSF.from_tables(
                    {name.removeprefix(f"{root}_"): hdu.data for name, hdu in tables.items()}, pixel_scale, where
                )
    except DeblendError:
        raise
    # A truncated or damaged file: whatever Astropy and GalSim raise in reading it.
    except (OSError, LookupError, TypeError, ValueError, AttributeError, AssertionError, fits.VerifyError) as error:
        raise CorruptDataError(
            f"cannot be read as a PSF ({error})", where=where, remedy="give a FITS file of PSFEx, Piff or an image"
        ) from error
    planes = [plane for image in images for plane in (image if image.ndim == 3 else [image])]
    if not 0 <= plane < len(planes):
        raise CorruptDataError(
            f"holds {len(planes)} images of a PSF, plane {plane} is not among them",
            where=where,
            remedy="give a PSFEx or Piff model, or an image, and the index of its plane",
        )
    return ImagePSF(planes[plane], pixel_scale, where=where)


def before_pixel(effective: galsim.GSObject, pixel_scale: float) -> galsim.GSObject:
    """A PSF as it appears on pixels, with the pixel divided out in Fourier space.

    It has no wave numbers beyond 1.48 π / `pixel_scale`, which is outside the pixels' Nyquist square. There an
    interpolated image has traces of its repetitions, near 2π / `pixel_scale`, where the pixel's transform is 0: their
    quotient is a pattern of the pixels' period that changes the measured FWHM by 15 %.

    Args:
        effective: the PSF convolved with a pixel [arcsec].
        pixel_scale: side of that pixel [arcsec].
    """
    # GalSim's transform of a pixel ends where its envelope 2/(k scale) is below this threshold, and that of its inverse
    # with it. The setting is of the pixel alone: it does not propagate.
    pixel = galsim.Pixel(pixel_scale, gsparams=galsim.GSParams(maxk_threshold=_PIXEL_END))
    return galsim.Convolve(effective, galsim.Deconvolve(pixel, propagate_gsparams=False), propagate_gsparams=False)


class ImagePSF:
    """An image of a star, the same over the field.

    Args:
        image: (y, x), of any flux; the PSF's origin is the image's centre, (side - 1) / 2.
        pixel_scale: of its pixels [arcsec].
        where: its name for messages.

    Raises:
        SettingsError: not two-dimensional, not finite, without light, or with its peak near the edge.
    """

    def __init__(self, image: NDArray, pixel_scale: float, *, where: str = "PSF image") -> None:
        values = np.ascontiguousarray(image, dtype=np.float64)
        problem = None
        if values.ndim != 2 or min(values.shape) < 8:
            problem = f"has shape {values.shape}"
        elif not np.isfinite(values).all():
            problem = "has values that are not finite"
        elif values.sum() <= 0:
            problem = "has no light"
        else:
            peak = np.unravel_index(int(values.argmax()), values.shape)
            offsets = [abs(at - (side - 1) / 2) / side for at, side in zip(peak, values.shape, strict=True)]
            problem = "does not have its peak near its centre" if max(offsets) > 0.25 else None
        if problem:
            raise SettingsError(problem, where=where, remedy="give a (y, x) image of one star, centred")
        profile = galsim.InterpolatedImage(
            galsim.Image(values, scale=pixel_scale), x_interpolant=galsim.Lanczos(7), flux=1.0
        )
        self._profile = before_pixel(profile, pixel_scale)

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`; the same everywhere."""
        return self._profile


class PSFExPSF:
    """A PSFEx model (Bertin 2011), through `galsim.des.DES_PSFEx`.

    Args:
        model: GalSim's model, without a WCS: in pixels of the image.
        pixel_scale: of the image [arcsec].
    """

    def __init__(self, model: Any, pixel_scale: float) -> None:
        self._model, self._scale = model, pixel_scale

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`. PSFEx counts pixels from 1."""
        profile = self._model.getPSF(galsim.PositionD(x + 1.0, y + 1.0))
        return before_pixel(profile.dilate(self._scale).withFlux(1.0), self._scale)


def _psfex(hdu: Any, where: str) -> Any:
    """GalSim's PSFEx model of a table whose keys are in the header, or in columns as the Legacy Surveys keep them."""
    from galsim.des import DES_PSFEx

    columns = {name.lower(): name for name in hdu.columns.names}
    if len(hdu.data) != 1:
        raise CorruptDataError(
            f"holds PSFEx models of {len(hdu.data)} chips",
            where=where,
            remedy="give a file with the one chip of the image",
        )
    sides = hdu.data[columns["psf_mask"]][0].shape
    defaults = {"POLNAXIS": 2, "PSFNAXIS": 3, "PSFAXIS1": sides[-1], "PSFAXIS2": sides[-2], "PSFAXIS3": sides[0]}
    for key in _PSFEX_KEYS:
        if key not in hdu.header:
            if key.lower() in columns:
                value = hdu.data[columns[key.lower()]][0]
                hdu.header[key] = value.strip() if isinstance(value, str) else value.item()
            else:
                hdu.header[key] = defaults[key]
    model = DES_PSFEx(hdu)
    model.file_name = where  # instead of the open file, which no process can hand to another
    return model


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
    """

    coefficients: NDArray[np.float64]
    order: int
    grid_scale: float
    lanczos: int
    wcs: NDArray[np.float64]
    centre: tuple[float, float]
    pixel_scale: float

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
        )

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`. Piff counts pixels from 1."""
        dx, dy = x + 1.0 - self.centre[0], y + 1.0 - self.centre[1]
        u, v = (_position_terms(np.array([dx]), np.array([dy])) @ self.wcs)[0]
        powers = [u**i * v**j for i in range(self.order + 1) for j in range(self.order + 1 - i)]
        image = galsim.Image(self.coefficients @ np.array(powers), scale=self.grid_scale)
        profile = galsim.InterpolatedImage(
            image, x_interpolant=galsim.Lanczos(self.lanczos), use_true_center=False, flux=1.0
        )
        slopes = np.array([[0, 1, 0, 2 * dx, dy, 0], [0, 0, 1, 0, dx, 2 * dy]]) @ self.wcs  # d(u, v)/dx, d(u, v)/dy
        local = galsim.JacobianWCS(slopes[0, 0], slopes[1, 0], slopes[0, 1], slopes[1, 1])
        in_pixels = local.profileToImage(profile).withFlux(1.0)
        return before_pixel(in_pixels.dilate(self.pixel_scale), self.pixel_scale)


def _position_terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """1, x, y, x², xy, y²; (N, 6)."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
