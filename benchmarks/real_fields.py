"""Fields of real images, as a user would give them. The images are not shipped: see docs/real_images.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from deblend_assets.api import Field, Observation, read_field
from deblend_assets.science.images.field import Field as ImageField
from deblend_assets.stores.field_files import field_file_of_arguments

HSC_PIXEL, HSC_ZERO_POINT = 0.168, 27.0
# Bits of HSC's masks that lose a pixel: BAD, SAT, CR, SUSPECT, NO_DATA, as `deblend_assets measure` takes them.
_HSC_LOST = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 7 | 1 << 8
_DECALS = "59.1067_-30.4848"
# Test case, band, and what names the exposure: all whose pixels are 0.15 to 0.3 arcsec and whose PSF is there.
_EXPOSURES = {
    "testcase3 g": ("testcase3", "g", "150329_083505"),
    "testcase3 r": ("testcase3", "r", "180518_044138"),
    "testcase3 z": ("testcase3", "z", "140818_232043"),
    "testcase4 z": ("testcase4", "z", "170316_062107"),
    "testcase6 g": ("testcase6", "g", "181214_050844"),
    "testcase6 r": ("testcase6", "r", "181215_051332"),
    "testcase6 z": ("testcase6", "z", "181215_045000"),
    "testcase7 z": ("testcase7", "z", "150110_053718"),
    "testcase8 r": ("testcase8", "r", "171113_060340"),
    "testcase9 g": ("testcase9", "g", "141029_043225"),
    "testcase9 r": ("testcase9", "r", "141029_043420"),
    "testcase9 z": ("testcase9", "z", "131122_030338"),
    "testcase12 r": ("testcase12", "r", "170916_045042"),
    "mzlsbass2 z": ("mzlsbass2", "z", "160319_075112"),
}


@dataclass(frozen=True)
class RealField:
    """A field and what is known of it from others.

    Attributes:
        field: images with PSFs, and with noise maps and masks where they have some.
        peaks: x, y [pixel] of the sources that come with the data, (N, 2); empty without.
        stars: x, y [pixel] and G magnitude of the stars of Gaia on the image, (N, 3); empty without.
    """

    field: ImageField
    peaks: NDArray[np.float64] = dataclass_field(default_factory=lambda: np.empty((0, 2)))
    stars: NDArray[np.float64] = dataclass_field(default_factory=lambda: np.empty((0, 3)))


def hsc(folder: Path, name: str) -> RealField:
    """A coadd of HSC, g r i z y, from the arrays of scarlet's examples, with the peaks of HSC's pipeline or of SEP.

    Args:
        folder: of the real images.
        name: hsc_cosmos_35, hsc_cosmos (no variance) or testdata_3_0.
    """
    data = np.load(folder / "hsc_scarlet" / f"{name}.npz", allow_pickle=True)
    variance = data.get("variance")
    bands: dict[str, Any] = {}
    for k, band in enumerate("grizy"):
        with np.errstate(divide="ignore"):
            weight = None if variance is None else np.where(variance[k] > 0, 1 / variance[k], 0)
        bands[band] = Observation(
            data["images"][k],
            weight,
            bmask=data["mask"][k] if "mask" in data else None,
            lost=_HSC_LOST,
            psf=data["psfs"][k],
            wcs=HSC_PIXEL,
            zero_point=HSC_ZERO_POINT,
            where=f"{name}, {band}",
        )
    peaks = data["centers"][:, ::-1] if "centers" in data else np.stack([data["catalog"][c] for c in "xy"], axis=1)
    return RealField(Field(bands, name), np.asarray(peaks, np.float64))


def hsc_pair(folder: Path, which: str = "") -> RealField:
    """One of the two blends that HST has seen too, in HSC's i, from its FITS cube; the noise is measured.

    Every band of these files was divided by a number of its own, so that all have the same sum: there are no colors.

    Args:
        folder: of the real images.
        which: "" or "1".
    """
    path = folder / "hsc_hst_pair"
    settings = field_file_of_arguments(
        {"i": f"{path}/Cut_HSC{which}.fits[0][2]"},
        psfs={"i": {"path": f"{path}/PSF_HSC.fits", "plane": 2}},
        zero_points={"i": HSC_ZERO_POINT},
        name=f"hsc_hst_pair{which}",
    )
    return RealField(read_field(settings))


def decals(folder: Path) -> RealField:
    """A coadd of the Legacy Surveys (DR9, DECam), g r z."""
    name, psf = (folder / "decals_dr9_cutout" / f"{kind}_{_DECALS}.fits" for kind in ("cutout", "copsf"))
    bands = dict(zip("grz", (1, 3, 5), strict=True))
    settings = field_file_of_arguments(
        {band: f"{name}[{n}]" for band, n in bands.items()},
        weights={band: f"{name}[{n + 1}]" for band, n in bands.items()},
        psfs=dict.fromkeys(bands, str(psf)),
        zero_points=dict.fromkeys(bands, 22.5),
        name="decals",
    )
    return RealField(read_field(settings))


def exposure(folder: Path, name: str) -> RealField:
    """One exposure of DECam or Mosaic3, in its band: counts with the sky in, weights, codes of bad pixels, PSFEx.

    Args:
        folder: of the real images.
        name: of `REAL_FIELDS`.
    """
    case, band, stem = _EXPOSURES[name]
    below = folder / "decam_testcases" / case
    image = next(path for path in sorted((below / "images").rglob(f"*{stem}_ooi_*.fits")))
    inverse, codes = (image.with_name(image.name.replace("_ooi_", part)) for part in ("_oow_", "_ood_"))
    models = sorted(path for path in (below / "calib").rglob("*psfex*.fits") if stem in str(path))
    settings = field_file_of_arguments(
        {band: str(image)},
        weights={band: str(inverse)},
        bmasks={band: str(codes)},
        psfs={band: str(models[0])} if models else {},
        zero_points={} if _says_zero_point(image) else {band: _zero_point(below, stem)},
        name=name.replace(" ", "_"),
        background="subtract",
    )
    field = read_field(settings)
    return RealField(field, stars=_gaia(below, field))


def _says_zero_point(image: Path) -> bool:
    with fits.open(image) as opened:
        return any("MAGZERO" in part.header for part in opened)


def _zero_point(below: Path, stem: str) -> float:
    """Of the Legacy Surveys' table of exposures [AB mag of a count]; 30 where a test case comes without the table."""
    path = below / "survey-ccds-1.fits.gz"
    if not path.exists():
        return 30.0
    ccd = next(row for row in Table.read(path) if stem in str(row["image_filename"]))
    return float(ccd["ccdzpt"] + 2.5 * np.log10(ccd["exptime"]))


def _gaia(below: Path, field: ImageField) -> NDArray[np.float64]:
    """x, y and G of the stars of Gaia on an image, (N, 3)."""
    found = []
    for path in sorted((below / "gaia").glob("chunk-*.fits")):
        rows = np.asarray(fits.getdata(path))
        if len(rows):
            x, y = field.wcs.radecToxy(rows["ra"].astype(float), rows["dec"].astype(float), units="degrees")
            found.append(np.stack([x - 1, y - 1, rows["phot_g_mean_mag"]], axis=1).astype(np.float64))
    stars = np.concatenate([np.empty((0, 3)), *found])
    height, width = field.shape
    inside = (stars[:, 0] > -0.5) & (stars[:, 0] < width - 0.5) & (stars[:, 1] > -0.5) & (stars[:, 1] < height - 0.5)
    return stars[inside]


REAL_FIELDS: Mapping[str, Callable[[Path], RealField]] = {
    **{name: partial(hsc, name=name) for name in ("hsc_cosmos_35", "hsc_cosmos", "testdata_3_0")},
    "hsc_hst_pair": partial(hsc_pair, which=""),
    "hsc_hst_pair1": partial(hsc_pair, which="1"),
    "decals": decals,
    **{name: partial(exposure, name=name) for name in _EXPOSURES},
}
"""By name: how a field is read from the folder of the real images."""
