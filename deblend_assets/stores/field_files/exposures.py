"""Files that hold an image with its mask and its noise: LSST's and HSC's exposures, DES's coadds."""

from __future__ import annotations

from typing import NamedTuple

from deblend_assets.stores.field_files.field_file import BandFile
from deblend_assets.stores.field_files.files import opened
from deblend_assets.stores.field_files.images import hdu_names
from deblend_assets.stores.field_files.names import image_name

# Where the PSF of an exposure of LSST's stack lies, and how it is written where that stack is installed.
_ARCHIVE = "ARCHIVE_INDEX"
_WRITE_PSF = (
    "its PSF lies in an archive that only LSST's stack reads, and is measured from the stars instead; to write it: "
    'fits.writeto("psf.fits", exposure.psf.computeKernelImage(exposure.psf.getAveragePosition()).array), '
    'then psf = "psf.fits"'
)


class _Layout(NamedTuple):
    image: str
    bmask: str
    kind: str
    noise_map: str


_LAYOUTS = (_Layout("IMAGE", "MASK", "variance", "VARIANCE"), _Layout("SCI", "MSK", "weight", "WGT"))


def with_companions(files: BandFile) -> tuple[BandFile, str | None]:
    """A band's files, with the mask and noise map that lie in the image's own file.

    They are taken where the image is named without an extension; what the user names is kept.

    Returns:
        The files, and a line about the PSF where only LSST's stack can read it and none is given.

    Raises:
        CorruptDataError: the file cannot be read.
        MissingDataError: there is none.
    """
    name = image_name(files.image)
    name.require_file()
    with opened(name.path) as hdus:
        names = hdu_names(hdus)
    found = {}
    if name.extension is None:
        for layout in _LAYOUTS:
            if layout.image in names and layout.noise_map in names:
                if files.noise_map is None:
                    found[layout.kind] = f"{name.path}[{layout.noise_map}]"
                if files.bmask is None and layout.bmask in names:
                    found["bmask"] = f"{name.path}[{layout.bmask}]"
                break
    said = f"{_WRITE_PSF} [{files.image}]" if _ARCHIVE in names and files.psf is None else None
    return files.model_copy(update=found), said
