"""The PSFs that an archive has of its images, at positions on the sky."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from deblend_assets.errors import ArchiveError, CorruptDataError
from deblend_assets.science.des.cutouts import ImageRecord, source_of
from deblend_assets.science.skies.psfex_psf import PSFExPSF
from deblend_assets.stores.psfex_files import read_psfex
from deblend_assets.vo.client import ArchiveClient


class ArchivePSFs:
    """PSFs of an archive's images. Each file is fetched once.

    URLs differ by galaxy although the file does not, and answers are kept by URL: galaxies in the same order make the
    same requests.

    Args:
        client: of the archive.
        pixel_scale: of its images [arcsec].
        side: of the PSFs' images, odd [pixel].
    """

    def __init__(self, client: ArchiveClient, pixel_scale: float, side: int) -> None:
        self._client, self._pixel_scale, self._side = client, pixel_scale, side
        self._models: dict[tuple[str, str], tuple[PSFExPSF, WCS]] = {}

    def fetch(self, records: Iterable[ImageRecord]) -> None:
        """Fetch the PSFs of a galaxy's images, but for those whose file is there.

        Raises:
            ArchiveError: not answered, or with something that is not a PSFEx model.
        """
        for record in records:
            if (key := _key(record)) not in self._models:
                self._models[key] = self._client.fetch(record, partial(self._read, where=record.title))

    def image(self, record: ImageRecord, ra: float, dec: float) -> NDArray[np.float32]:
        """The PSF at a position, pixel included, centred on the middle pixel; (y, x).

        Args:
            record: of the PSF, fetched.
            ra, dec: J2000 [deg].
        """
        model, wcs = self._models[_key(record)]
        x, y = wcs.all_world2pix(ra, dec, 0)
        drawn = model.at(float(x), float(y)).drawImage(nx=self._side, ny=self._side, scale=self._pixel_scale)
        return np.asarray(drawn.array, dtype=np.float32)

    def _read(self, data: bytes, where: str) -> tuple[PSFExPSF, WCS]:
        try:
            return read_psfex(data, self._pixel_scale, where)
        except (ValueError, OSError, fits.VerifyError, CorruptDataError) as error:
            raise ArchiveError(
                f"cannot be read as a PSF ({error})", where=where, remedy="run the same command again later"
            ) from error


def _key(record: ImageRecord) -> tuple[str, str]:
    return record.band, source_of(record)
