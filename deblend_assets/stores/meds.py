"""Coadd stamps of MEDS files (Multi-Epoch Data Structures, Jarvis et al. 2016): the first cutout of each object.

One file a band. Cutouts of all objects follow each other in one long row of pixels; `object_data` says where each
begins and its side, which differ. Rows of an image are y here, columns x; MEDS counts both from 0, u is west, v north.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError, first_line
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.stores.field_files.mask_names import DES_NAMES, meaning

_JACOBIAN = (("dudcol", "dudrow"), ("dvdcol", "dvdrow"))
_NEEDED = ("id", "ra", "dec", "box_size", "ncutout", "file_id", "start_row", "cutout_row", "cutout_col")
# Largest difference of positions and of Jacobians between bands of one coadd [pixel], [arcsec / pixel].
_APART, _TURNED = 0.02, 1e-4


class MedsBand:
    """The coadd stamps of one band.

    Attributes:
        where: the file.
        objects: one row an object: id, ra, dec [deg], box_size, ncutout, start_row, cutout_row, cutout_col [pixel],
            zero_point [mag(AB) of one unit], psf_box_size, psf_start_row where there are PSFs, and the Jacobian
            [arcsec / pixel].

    Raises:
        CorruptDataError: the file cannot be read.
        MismatchError: it is no MEDS file, or has no weights or PSFs.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            self._hdus = fits.open(path)
            names = {hdu.name.lower() for hdu in self._hdus}
        except (OSError, ValueError, TypeError) as error:
            raise CorruptDataError(
                f"is not a FITS file ({first_line(error)})", where=self.where, remedy="name a MEDS file"
            ) from error
        for name in ("object_data", "image_info", "image_cutouts", "weight_cutouts", "psf"):
            if name not in names:
                raise MismatchError(
                    f"has no extension {name}",
                    where=self.where,
                    remedy="give MEDS files with weights and PSFs, or measure the coadd (docs/measuring_images.md)",
                )
        self._masked = "bmask_cutouts" in names
        self.objects = self._objects()

    def _objects(self) -> pd.DataFrame:
        table, info = self._hdus["object_data"].data, self._hdus["image_info"].data
        columns = {name.lower(): name for name in table.names}
        wanted = (*_NEEDED, *(name for pair in _JACOBIAN for name in pair), "psf_box_size", "psf_start_row")
        if missing := [name for name in wanted if name not in columns]:
            raise MismatchError(
                f"object_data has no column {', '.join(missing)}", where=self.where, remedy="name a MEDS file"
            )
        # Of a column with a number for each cutout that of the first, the coadd.
        first = {name: np.asarray(table[columns[name]]).reshape(len(table), -1)[:, :1].ravel() for name in wanted}
        objects = pd.DataFrame({name: values.astype(values.dtype.newbyteorder("=")) for name, values in first.items()})
        image = np.clip(objects["file_id"].to_numpy(), 0, len(info) - 1)
        # Cutouts are the image times `scale`.
        with np.errstate(divide="ignore", invalid="ignore"):
            zero_point = np.asarray(info["magzp"], float) + 2.5 * np.log10(np.asarray(info["scale"], float))
        if not np.isfinite(zero_point[image]).all():
            raise MismatchError("image_info has no zero point", where=self.where, remedy="fill magzp and scale")
        return objects.assign(zero_point=zero_point[image])

    def cutout(self, extension: str, start: int, side: int) -> NDArray[Any]:
        """Pixels of a cutout, (side, side), as they are stored; CorruptDataError where the file ends before it does."""
        hdu = self._hdus[extension]
        if start < 0 or start + side**2 > hdu.shape[0]:
            raise CorruptDataError(
                f"{extension} has {hdu.shape[0]} pixels, a cutout of {side} × {side} begins at {start}",
                where=self.where,
                remedy="copy the file again",
            )
        return np.asarray(hdu.section[start : start + side**2]).reshape(side, side)

    def read(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
        """Image, inverse variance and `MaskBit` of an object's coadd stamp, each (side, side)."""
        of = self.objects.iloc[row]
        start, side = int(of["start_row"]), int(of["box_size"])
        image = self.cutout("image_cutouts", start, side).astype(np.float32)
        weight = self.cutout("weight_cutouts", start, side).astype(np.float32)
        mask = np.zeros((side, side), dtype=np.uint16)
        if self._masked:
            bits = self.cutout("bmask_cutouts", start, side).astype(np.int64)
            for name in DES_NAMES.lost or ():
                mask[(bits >> DES_NAMES.bits[name]) & 1 > 0] |= np.uint16(meaning(name))
        lost = ~np.isfinite(image) | ~np.isfinite(weight) | (weight <= 0)
        mask[lost & (mask == 0)] = int(MaskBit.NO_DATA)
        return image, np.where(mask == 0, weight, np.float32(0)), mask

    def psf(self, row: int) -> NDArray[np.float64]:
        """Image of the PSF at an object's coadd stamp, pixel included, of any side and offset."""
        of = self.objects.iloc[row]
        return self.cutout("psf", int(of["psf_start_row"]), int(of["psf_box_size"])).astype(np.float64)


class MedsStamps:
    """The coadd stamps of one file a band, the same objects in each.

    Attributes:
        bands: in lower case, from blue to red.
        files: by band.
        rows: of the objects that have a coadd stamp in every band, in the order of the first file.
        left_out: number of the others.

    Raises:
        MismatchError: an unknown band, files of other objects or of another coadd.
        CorruptDataError: as `MedsBand`.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        unknown = [band for band in paths if band.lower() not in CATSIM_BANDS]
        if unknown:
            raise MismatchError(
                f"bands {', '.join(unknown)}", where="--meds", remedy=f"name bands among {', '.join(CATSIM_BANDS)}"
            )
        by_band = {band.lower(): path for band, path in paths.items()}
        self.bands = tuple(band for band in CATSIM_BANDS if band in by_band)
        self.files = {band: MedsBand(by_band[band]) for band in self.bands}
        there = np.all([file.objects["ncutout"].to_numpy() > 0 for file in self._same_objects()], axis=0)
        self.rows = np.flatnonzero(there)
        self.left_out = int((~there).sum())
        if not len(self.rows):
            raise MissingDataError(
                "no object has a coadd stamp in every band", where=self.first.where, remedy="give other files"
            )
        self._require_one_coadd()

    @property
    def first(self) -> MedsBand:
        """Of the bluest band."""
        return self.files[self.bands[0]]

    def _same_objects(self) -> Sequence[MedsBand]:
        for file in self.files.values():
            if not np.array_equal(file.objects["id"], self.first.objects["id"]):
                raise MismatchError(
                    f"has other objects than {self.first.where}", where=file.where, remedy="give files of one tile"
                )
        return list(self.files.values())

    def _require_one_coadd(self) -> None:
        jacobian = [name for pair in _JACOBIAN for name in pair]
        for file in self.files.values():
            mine, other = (of.objects.iloc[self.rows] for of in (self.first, file))
            # Boxes may differ; within a pixel the position may not.
            shift = (mine[["cutout_row", "cutout_col"]] - other[["cutout_row", "cutout_col"]]).to_numpy()
            apart = np.abs(shift - shift.round()).max()
            turned = np.abs((mine[jacobian] - other[jacobian]).to_numpy()).max()
            if apart > _APART or turned > _TURNED:
                raise MismatchError(
                    f"is not on the grid of {self.first.where}: first cutouts up to {apart:.2f} pixel apart",
                    where=file.where,
                    remedy="give files of one tile whose first cutouts are of the coadd",
                )

    def jacobian(self) -> NDArray[np.float64]:
        """d(u, v)/d(x, y) at each target, (N, 2, 2) [arcsec / pixel]; u west, v north."""
        objects = self.first.objects.iloc[self.rows]
        return np.stack([objects[list(pair)].to_numpy(np.float64) for pair in _JACOBIAN], axis=1)
