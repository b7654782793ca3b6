"""A field of known truth as a user's would be: FITS files, a field.toml, and the truth beside them.

<folder>/<name>.toml                 written last
<folder>/<name>/<band>.fits          extensions SCI, WGT (inverse variance) and MSK, with WCS and zero point
<folder>/<name>/psf_<band>.fits      the PSF, pixel included
<folder>/<name>/truth.parquet        one row a source
<folder>/<name>/simulated.json       what it is made from
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.stores.files import read_json, safe_name, to_json, write_atomic
from deblend_assets.stores.tables import Columns, to_parquet

# Where the field lies [deg].
_RA, _DEC = 150.0, 2.0
# The bits of a simulated mask (`MaskBit`), from the lowest, as LSST's stack would name them.
_BITS = ("BAD", "SAT", "BLEED", "CR", "STREAK", "GAP", "EMPTY")
_NOTE = "Truth of a simulated field, in pixels from 0; x is west, y north."


class SimulatedField:
    """One simulated field in a folder of field files.

    Args:
        folder: where its field.toml lies.
        name: of the field.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.toml, self.folder = folder / f"{safe_name(name)}.toml", folder / safe_name(name)

    @property
    def truth(self) -> Path:
        """One row a source, also outside of the image."""
        return self.folder / "truth.parquet"

    @property
    def identity(self) -> str | None:
        """What the files that lie there are made from; none where they are not all there."""
        try:
            record = read_json(self.folder / "simulated.json")
            whole = all((self.folder / name).is_file() for name in record["files"]) and self.toml.is_file()
            return str(record["identity"]) if whole else None
        except (MissingDataError, CorruptDataError, KeyError):
            return None

    def write(self, image: ObservedImage, truth: pd.DataFrame, columns: Columns, identity: str) -> None:
        """Write all files, the field.toml last.

        Args:
            image: x is west, y north; of the PSF the one in the middle is written.
            truth: one row a source.
            columns: units and meanings of `truth`.
            identity: of all that they are made from.

        Raises:
            StorageError: disk full or folder not writable.
        """
        files = self._files(image) | {self.truth.name: to_parquet(truth, columns, _NOTE)}
        for name, data in files.items():
            write_atomic(self.folder / name, data)
        write_atomic(self.folder / "simulated.json", to_json({"identity": identity, "files": sorted(files)}))
        write_atomic(self.toml, _toml(self.folder.name, image.bands).encode())

    def _files(self, image: ObservedImage) -> dict[str, bytes]:
        height, width = image.pixels.shape[1:]
        header = _header(height, width, image.jacobian(0, 0))
        psfs = image.psf((width - 1) / 2, (height - 1) / 2)
        files = {}
        for k, band in enumerate(image.bands):
            science = fits.Header({**header, "FILTER": band, "MAGZERO": float(image.zero_point[k])})
            mask = fits.Header({f"HIERARCH MP_{name}": number for number, name in enumerate(_BITS)})
            files[f"{band}.fits"] = _fits(
                fits.ImageHDU(image.pixels[k], science, name="SCI"),
                fits.ImageHDU(image.inverse_variance[k], science, name="WGT"),
                fits.ImageHDU(image.mask[k].astype(np.int32), mask, name="MSK"),
            )
            files[f"psf_{band}.fits"] = _fits(fits.ImageHDU(psfs[k], name="PSF"))
        return files


def _header(height: int, width: int, jacobian: NDArray[np.float64]) -> Mapping[str, Any]:
    middle = galsim.PositionD((width + 1) / 2, (height + 1) / 2)
    affine = galsim.AffineTransform(*np.asarray(jacobian).ravel(), origin=middle)
    wcs = galsim.TanWCS(affine, galsim.CelestialCoord(_RA * galsim.degrees, _DEC * galsim.degrees))
    header = fits.Header()
    wcs.writeToFitsHeader(header, galsim.BoundsI(1, width, 1, height))
    return dict(header)


def _fits(*images: fits.ImageHDU) -> bytes:
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(stream)
    return stream.getvalue()


def _toml(name: str, bands: tuple[str, ...]) -> str:
    lost = ", ".join(f'"{name}"' for name in _BITS)
    lines = ["# A field of known truth, made by the asset fields/simulated_field.", 'background = "subtract"', ""]
    for band in bands:
        files = {key: f"{name}/{band}.fits[{extension}]" for key, extension in _EXTENSIONS.items()}
        lines += [f"[bands.{band}]", *(f'{key} = "{path}"' for key, path in files.items())]
        lines += [f'psf = "{name}/psf_{band}.fits"', f"lost = [{lost}]", ""]
    return "\n".join(lines)


_EXTENSIONS = {"image": "SCI", "weight": "WGT", "bmask": "MSK"}
