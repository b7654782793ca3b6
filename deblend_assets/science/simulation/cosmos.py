"""COSMOS galaxies: GalSim's catalogue of parametric fits, and images of real ones.

The files are GalSim's (`galsim_download_cosmos`), which a user points to; nothing of them is shipped. The fits have one
magnitude, F814W, which is taken for i, and a redshift: colours are those of a spectral type drawn at that magnitude and
redshift, earlier for more concentrated galaxies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation import relations, seds, sersic
from deblend_assets.science.simulation.catalog import read_table
from deblend_assets.science.simulation.galaxies import BULGE, DISC, Galaxies, Morphology, nanojansky
from deblend_assets.science.simulation.morphologies import (
    RED_AND_CONCENTRATED,
    normal_scores_at,
    red_bulge_shares,
)
from deblend_assets.science.stamps.conventions import CATSIM_BANDS

if TYPE_CHECKING:
    import galsim

FIT_COLUMNS: Mapping[str, int] = {
    "IDENT": 1,
    "mag_auto": 1,
    "zphot": 1,
    "sersicfit": 8,
    "bulgefit": 16,
    "use_bulgefit": 1,
    "viable_sersic": 1,
    "hlr": 3,
    "flux": 4,
}
"""Columns of real_galaxy_catalog_25.2_fits.fits that are read, and the numbers in a cell of each."""
_IMAGE_COLUMNS = ("IDENT", "HSC_g", "HSC_r", "HSC_i", "HSC_z", "HSC_y", "ZPHOT")
# Of `sersicfit`, and of each half of `bulgefit` (disc, then bulge): index, axis ratio, position angle [rad].
_N, _Q, _ANGLE = 2, 3, 7
# GalSim's `exclusion_level="marginal"`: a large galaxy of high index is a failed fit.
_TOO_STEEP, _TOO_LARGE = 5.0, 1.0


def read_cosmos_fits(path: Path, seed: int) -> Galaxies:
    """COSMOS galaxies as GalSim's `COSMOSCatalog` makes them from fits, with fluxes in six bands.

    A galaxy is a disc and a bulge where two profiles fit better (`use_bulgefit`), else one profile, its index held
    within 0.3 to 6. Left out are galaxies that have no viable fit, a size, flux or magnitude that is not positive and
    finite, or an index above 5 with a half-light radius above 1 arcsec.

    Args:
        path: real_galaxy_catalog_25.2_fits.fits, or another table with `FIT_COLUMNS`.
        seed: of the spectral types.

    Returns:
        The galaxies that are left, in the file's order.

    Raises:
        CatalogError: the file cannot be read, lacks a column, or no galaxy is left.
    """
    raw = read_table(path, list(FIT_COLUMNS), "leave it out")
    for name, width in FIT_COLUMNS.items():
        if raw[name].shape[1:] != ((width,) if width > 1 else ()):
            raise CatalogError(
                f"{name} holds {raw[name].shape[1:]} numbers a cell, not {width}",
                where=str(path),
                remedy="use a catalogue of GalSim's form (real_galaxy_catalog_25.2_fits.fits)",
            )
    table = {name: values.astype(np.int64 if name == "IDENT" else np.float64) for name, values in raw.items()}
    two = table["use_bulgefit"] > 0
    single, disc, bulge = table["sersicfit"], table["bulgefit"][:, :8], table["bulgefit"][:, 8:]
    # Columns of hlr and flux: the single profile, the bulge, the disc.
    radius = np.where(two[:, None], table["hlr"][:, [2, 1]], table["hlr"][:, [0, 0]])
    light = np.where(two[:, None], table["flux"][:, [2, 1]], table["flux"][:, [0, 0]])
    q = np.where(two[:, None], np.stack([disc[:, _Q], bulge[:, _Q]], 1), single[:, [_Q]])
    angle = np.where(two[:, None], np.stack([disc[:, _ANGLE], bulge[:, _ANGLE]], 1), single[:, [_ANGLE]])
    index = np.where(two, 1.0, np.clip(single[:, _N], sersic.N_MIN, 6.0))
    positive = (radius > 0) & (light > 0) & (q > 0) & (q <= 1) & np.isfinite(radius * light * angle)
    usable = (positive.all(axis=1)) & np.isfinite(table["mag_auto"]) & (table["zphot"] >= 0)
    usable &= two | (table["viable_sersic"] > 0)
    usable &= (single[:, _N] < _TOO_STEEP) | (table["hlr"][:, 0] < _TOO_LARGE)
    if not usable.any():
        raise CatalogError("no galaxy has a usable fit", where=str(path), remedy="use GalSim's catalogue of fits")
    rows = np.flatnonzero(usable)
    two, radius, light, q, angle, index = (np.asarray(values[rows]) for values in (two, radius, light, q, angle, index))
    i_mag = np.asarray(table["mag_auto"][rows], np.float64)
    redshift = np.asarray(np.minimum(table["zphot"][rows], seds.Z_MAX), np.float64)
    magnitudes = _magnitudes(i_mag, redshift, single[rows, _N], np.random.default_rng(seed))
    total = nanojansky(magnitudes)
    flux = np.zeros((*total.shape, 3))
    fraction = np.where(two, light[:, 1] / light.sum(axis=1), 0.0)
    flux[:, :, BULGE] = total * red_bulge_shares(fraction, redshift, magnitudes)
    flux[:, :, DISC] = total - flux[:, :, BULGE]
    return Galaxies.build(
        table["IDENT"][rows],
        Morphology.COSMOS,
        redshift,
        flux,
        np.stack([index, np.full(len(rows), 4.0)], axis=1),
        radius,
        (1 - q) / (1 + q) * np.exp(2j * angle),
    )


def _magnitudes(
    i_mag: NDArray[np.float64], redshift: NDArray[np.float64], index: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """AB magnitudes in six bands, (N, 6), of spectral types that go with the index."""
    steep = normal_scores_at(index, i_mag)
    blue = -RED_AND_CONCENTRATED * steep + np.sqrt(1 - RED_AND_CONCENTRATED**2) * rng.standard_normal(len(i_mag))
    kind = relations.types_at(special.ndtr(blue), rng.random(len(i_mag)), i_mag, redshift)
    return np.asarray(np.minimum(i_mag[:, None] + seds.colours(redshift, kind), 40.0))


@dataclass(frozen=True)
class RealImages:
    """Images of COSMOS galaxies with their PSFs: GalSim's `RealGalaxyCatalog`, and photometry beside it.

    Attributes:
        path: the catalogue of images, such as real_galaxy_catalog_26_extension_example.fits, in the folder of its
            images; beside it the same name with `_fits` before `.fits`, of columns IDENT, ZPHOT, HSC_g to HSC_y (AB).
    """

    path: Path

    @cached_property
    def catalog(self) -> galsim.RealGalaxyCatalog:
        """GalSim's view of the files; CatalogError where it refuses them."""
        import galsim

        if not self.path.is_file():
            raise CatalogError("there is no such catalogue file", where=str(self.path), remedy="correct the path")
        try:
            return galsim.RealGalaxyCatalog(self.path.name, dir=str(self.path.parent))
        except (OSError, KeyError, ValueError, galsim.GalSimError) as error:
            raise CatalogError(
                f"GalSim cannot read it ({type(error).__name__}: {error})",
                where=str(self.path),
                remedy="use a catalogue of GalSim's form, with its images in the same folder",
            ) from error

    def galaxies(self) -> Galaxies:
        """Every galaxy that has magnitudes in g to y; that in u is drawn out from g - r: u - g = g - r.

        Raises:
            CatalogError: files that cannot be read, or do not belong together.
        """
        photometry = self.path.with_name(self.path.name.removesuffix(".fits") + "_fits.fits")
        table = {name: np.asarray(values) for name, values in read_table(photometry, _IMAGE_COLUMNS, "add it").items()}
        if not np.array_equal(table["IDENT"], np.asarray(self.catalog.ident, np.int64)):
            raise CatalogError("lists other galaxies than the images", where=str(photometry), remedy="use one release")
        g_to_y = np.stack([table[f"HSC_{band}"].astype(np.float64) for band in CATSIM_BANDS[1:]], axis=1)
        rows = np.flatnonzero((np.isfinite(g_to_y) & (g_to_y > 10) & (g_to_y < 35)).all(axis=1))
        magnitudes = np.concatenate([2 * g_to_y[rows, :1] - g_to_y[rows, 1:2], g_to_y[rows]], axis=1)
        flux = np.zeros((len(rows), len(CATSIM_BANDS), 3))
        flux[:, :, DISC] = nanojansky(magnitudes)
        # The profile is the image's; these are not read.
        two = np.ones((len(rows), 2))
        return Galaxies.build(
            table["IDENT"].astype(np.int64)[rows],
            Morphology.REAL,
            np.maximum(table["ZPHOT"].astype(np.float64)[rows], 0.0),
            flux,
            two,
            two,
            np.zeros((len(rows), 2), np.complex128),
            image=rows,
        )

    def profile(self, image: int) -> galsim.GSObject:
        """A galaxy of unit flux with its HST PSF removed; to be seen through a wider PSF only."""
        import galsim

        return galsim.RealGalaxy(self.catalog, index=image, flux=1.0)
