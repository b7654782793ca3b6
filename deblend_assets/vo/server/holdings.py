"""Files of the image service: every product of every tile and band by its name in URLs, and cutouts of them.

The names are a closed list made from the survey's record: a name in a URL is looked up and never becomes a path.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.des.tiles import signed_degrees
from deblend_assets.science.simulated_survey.sky import Product
from deblend_assets.stores.sky import SimulatedSky, SkyImage

T = TypeVar("T")


class Run(NamedTuple):
    """A processing run: its name, the type of its images, and its fraction of the whole exposure."""

    name: str
    proctype: str
    share: float


# The whole coadd, a shallower one and a single epoch: a client has to choose.
RUNS = (Run("r2624p02", "Stack", 1.0), Run("r2581p01", "Stack", 0.5), Run("r2457p01", "Resampled", 0.1))
# FITS extensions of DES's own files, as a cutout's `extn` names them, and the PSF of the whole image.
EXTENSIONS = {1: "image", 2: "dqmask", 3: "weight", 4: "psf"}


@dataclass(frozen=True)
class Holding:
    """One file of the archive, as it is listed."""

    reference: str
    tile: str
    band: str
    run: Run


class Holdings:
    """The images of a simulated survey.

    Args:
        sky: a finished survey.
    """

    def __init__(self, sky: SimulatedSky) -> None:
        self._sky = sky
        record = sky.record()
        self._identity = record["identity"]
        self.files: dict[str, Holding] = {}
        self._images: dict[tuple[str, str, str], SkyImage] = {}
        self._projections: dict[str, WCS] = {}
        for tile in record["tiles"]:
            for band in record["bands"]:
                for run in RUNS:
                    reference = f"{tile}_{run.name}_{band}.fits.fz"
                    self.files[reference] = Holding(reference, tile, band, run)
            self._projections[tile] = WCS(self.image(tile, record["bands"][0]).header)

    def image(self, tile: str, band: str, product: str = "image") -> SkyImage:
        """An image of the survey that was there at the beginning.

        Raises:
            MissingDataError, MismatchError: another run is writing the survey anew, or has.
        """
        key = (tile, band, product)
        if key not in self._images:
            opened: Product = "image" if product == "image" else "weight"
            self._images[key] = self._current(lambda: self._sky.image(tile, band, opened))
        return self._images[key]

    def _current(self, opened: Callable[[], T]) -> T:
        """What a file of the survey holds."""
        found = opened()
        # After opening: the marker goes before the first file is replaced.
        if self._sky.record()["identity"] != self._identity:
            raise MismatchError(
                "the simulated survey was made anew while it was served",
                where=str(self._sky.folder),
                remedy="run the same command again",
            )
        return found

    def box(self, tile: str, ra: float, dec: float, width: float, height: float) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) in 0-based pixels of a tile of a region `width` × `height` [deg] on the sky.

        Far from the tile, an empty box far outside.
        """
        wcs = self._projections[tile]
        away = signed_degrees(ra - float(wcs.wcs.crval[0]))
        near = abs(dec - wcs.wcs.crval[1]) < 15 and abs(away) * np.cos(np.radians(dec)) < 15
        x, y = wcs.wcs_world2pix(ra, dec, 0) if near else (-1e9, -1e9)  # the far hemisphere is not projected
        scale = float(wcs.wcs.cd[1, 1])
        half_x, half_y = 0.5 * width / scale, 0.5 * height / scale
        return float(x) - half_x, float(x) + half_x, float(y) - half_y, float(y) + half_y

    def cutout(
        self, holding: Holding, extension: int, region: tuple[float, float, float, float] | None
    ) -> bytes | None:
        """FITS of the pixels of a file within a region (RA, Dec, width, height [deg]), or of all of them.

        The region is clipped at the image's edges, as cutout services do: the answer may be smaller than requested.

        Returns:
            The FITS file, with the WCS of its pixels; None where no pixel of the region lies on the image. The PSF is
            that of the whole image, whatever the region.
        """
        product = EXTENSIONS[extension]
        if product == "psf":
            return self._current(lambda: self._sky.psf(holding.tile, holding.band))
        header, pixels = self.image(holding.tile, holding.band, product)
        y_size, x_size = pixels.shape
        x0, x1, y0, y1 = 0, x_size, 0, y_size
        if region is not None:
            left, right, bottom, top = self.box(holding.tile, *region)
            x0, x1 = max(0, round(left)), min(x_size, round(right) + 1)
            y0, y1 = max(0, round(bottom)), min(y_size, round(top) + 1)
        if x0 >= x1 or y0 >= y1:
            return None
        cut = np.array(pixels[y0:y1, x0:x1])
        hdu = fits.PrimaryHDU(self._as_observed(cut, holding, product, (x0, y0)))
        hdu.header.update({k: v for k, v in header.items() if k not in hdu.header})
        hdu.header["CRPIX1"] -= x0
        hdu.header["CRPIX2"] -= y0
        hdu.header["EXPTIME"] = header["EXPTIME"] * holding.run.share
        hdu.header["PRODTYPE"] = product
        stream = io.BytesIO()
        hdu.writeto(stream)
        return stream.getvalue()

    def _as_observed(self, cut: NDArray, holding: Holding, product: str, corner: tuple[int, int]) -> NDArray:
        """The pixels with the sky noise of the run's exposure; a mask is 1 where the weight is 0."""
        if product == "dqmask":
            return (cut == 0).astype(np.int16)
        share = np.float32(holding.run.share)
        if share == 1:
            return cut
        if product == "weight":
            return cut * share
        weight = float(self.image(holding.tile, holding.band, "weight").pixels.max())
        # The same request gets the same pixels.
        rng = np.random.default_rng([zlib.crc32(holding.reference.encode()), *corner])
        noise = rng.standard_normal(cut.shape, dtype=np.float32) * np.float32(((1 / share - 1) / weight) ** 0.5)
        return cut + noise
