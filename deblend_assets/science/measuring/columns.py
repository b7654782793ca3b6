"""The shape catalogue: what each column holds, in which unit and frame, and the quantities that only it has.

Ellipticities are in the sky frame, +x to the east and +y to the north: of a north-up, east-left image component 1 is
that of the pixel frame and component 2 its negative. Descriptions are plain ASCII, as FITS headers must be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deblend_assets.science.shapes.heads import probability_columns
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS

# The survey's identity of a galaxy, by which its tables are joined.
ID = "coadd_objects_id"
# Bits of the column `flags`.
MISSING_BAND = 1
UNLIKE_TRAINING = 2
BAD_SHAPE = 4
NEGATIVE_FLUX = 8
FLAGS: Mapping[int, str] = {
    MISSING_BAND: "a band has no image, the networks saw zeros and a mask",
    UNLIKE_TRAINING: "aperture flux outside the 1-99 % range of the training scenes",
    BAD_SHAPE: "g is not finite or |g| >= 1",
    NEGATIVE_FLUX: "flux of the label band is not above 0",
}
# The AB magnitude of 1 nJy: 48.60 of Oke & Gunn (1983, 1983ApJ...266..713O) in erg/s/cm^2/Hz.
NANOJANSKY_ZERO_POINT = 31.4
# Optical bands as the UCD1+ vocabulary divides the spectrum; it has no words for DES's own.
_UCD_BANDS = {"u": "em.opt.U", "g": "em.opt.B", "r": "em.opt.R", "i": "em.opt.I", "z": "em.opt.I", "y": "em.opt.I"}


@dataclass(frozen=True)
class CatalogColumn:
    """What a column is.

    Attributes:
        unit: as FITS and the VO write it; "" where it has none.
        ucd: UCD1+.
        meaning: convention and source, in ASCII.
    """

    unit: str
    ucd: str
    meaning: str


def shape_columns(bands: Sequence[str], label_band: str) -> dict[str, CatalogColumn]:
    """The columns of the shape catalogue in order, one row a galaxy.

    Args:
        bands: of the model, in order.
        label_band: the band of the observed ellipticities.
    """
    g = "intrinsic shear-type (a-b)/(a+b), PSF removed, before division by the response, sky frame (+x east, +y north)"
    e = f"observed distortion (a^2-b^2)/(a^2+b^2), band {label_band}, with PSF, sky frame"
    moments = f"distortion of the deblended image, band {label_band}, unweighted moments, with PSF, sky frame"
    columns = {
        ID: CatalogColumn("", "meta.id;meta.main", "the survey's id of the galaxy"),
        "tile": CatalogColumn("", "meta.id;obs.field", "name of the tile"),
        "ra": CatalogColumn("deg", "pos.eq.ra;meta.main", "right ascension, ICRS, im3shape's shift applied"),
        "dec": CatalogColumn("deg", "pos.eq.dec;meta.main", "declination, ICRS, im3shape's shift applied"),
    }
    for letter, words in (("g", g), ("e", e)):
        for k in (1, 2):
            name = f"{letter}{k}"
            columns[name] = CatalogColumn("", "src.ellipticity", f"component {k}: {words}; posterior mean")
            columns[f"{name}_err"] = CatalogColumn(
                "", "stat.error;src.ellipticity", f"posterior standard deviation of {name}"
            )
            columns[f"{name}_free"] = CatalogColumn(
                "", "src.ellipticity", f"{name} without the population's pull to round; NaN where shape_flags say"
            )
            columns[f"{name}_free_err"] = CatalogColumn(
                "", "stat.error;src.ellipticity", f"standard error of {name}_free"
            )
    for k in (1, 2):
        columns[f"response_g{k}"] = CatalogColumn(
            "",
            "stat.value;src.ellipticity",
            f"d g{k} / d shear {k} from the sheared image; for sums over many galaxies alone: "
            f"shear = sum(w g{k}) / sum(w response_g{k})",
        )
    columns["ln_size"] = CatalogColumn(
        "", "phys.angSize;src", "ln of the circularised half-light radius before PSF [arcsec], posterior mean"
    )
    columns["ln_size_err"] = CatalogColumn("", "stat.error;phys.angSize;src", "posterior standard deviation of ln_size")
    for k in (1, 2):
        columns[f"e{k}_moments"] = CatalogColumn("", "src.ellipticity", f"component {k}: {moments}")
    for band in bands:
        spectrum = _UCD_BANDS[band.lower()]
        columns[f"flux_{band}"] = CatalogColumn(
            "nJy", f"phot.flux.density;{spectrum}", f"flux of the deblended image in the stamp, band {band}, AB"
        )
        columns[f"flux_err_{band}"] = CatalogColumn(
            "nJy",
            f"stat.error;phot.flux.density;{spectrum}",
            f"standard error of flux_{band} from the stamp's pixel noise alone",
        )
    return columns | {
        "blendedness": CatalogColumn(
            "",
            "stat.value",
            f"1 - sum(own^2)/sum(own*observed), band {label_band}, own: the deblended image; 0 alone, may be < 0",
        ),
        **{
            name: CatalogColumn("", "stat.probability", meaning)
            for name, meaning in probability_columns(label_band).items()
        },
        f"snr_{label_band}": CatalogColumn(
            "", "stat.snr", f"matched-filter S/N of the deblended image, band {label_band}: sqrt(sum(own^2))/noise"
        ),
        "bands_present": CatalogColumn("", "instr.bandpass", "bands with an image, in order"),
        "flags": CatalogColumn("", "meta.code.qual", _bits(FLAGS)),
        "shape_flags": CatalogColumn(
            "",
            "meta.code.qual",
            _bits(SHAPE_FLAGS),
        ),
        "model_version": CatalogColumn("", "meta.version;meta.modelled", "fingerprint of the networks"),
        "simulated": CatalogColumn("", "meta.code;meta.modelled", "true: a simulated tile, not the sky"),
    }


def _bits(flags: Mapping[int, str]) -> str:
    return "bits, 0 is good: " + "; ".join(f"{bit} {words}" for bit, words in flags.items())


def units_and_meanings(columns: Mapping[str, CatalogColumn]) -> dict[str, tuple[str, str]]:
    """The same columns as `stores.tables.to_parquet` takes them."""
    return {name: (column.unit, column.meaning) for name, column in columns.items()}


def nanojansky(flux: np.ndarray, zero_point: float) -> np.ndarray:
    """Fluxes in nJy.

    Args:
        flux: any shape, in a unit of which one is worth `zero_point`.
        zero_point: AB magnitude of one unit: of an electron, or of a count.
    """
    return flux * 10 ** (0.4 * (NANOJANSKY_ZERO_POINT - zero_point))


def estimated_blendedness(own: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """1 - Σ own² / Σ own·observed (Bosch et al. 2018, 1705.06766), with the deblended image in the truth's place.

    Args:
        own, observed: (N, y, x) in one unit: the deblended image and the stamp.

    Returns:
        (N,): 0 for a galaxy alone, below 0 where noise or the network takes more than there is; NaN where the stamp
        holds no light under the galaxy.
    """
    overlap = np.einsum("nyx,nyx->n", own, observed, dtype=np.float64)
    squares = np.einsum("nyx,nyx->n", own, own, dtype=np.float64)
    return np.asarray(1.0 - squares / np.where(overlap > 0, overlap, np.nan))


def matched_snr(own: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Matched-filter S/N (N,) of deblended images (N, y, x) over their pixel noise (N,), in one unit."""
    return np.asarray(np.sqrt(np.einsum("nyx,nyx->n", own, own, dtype=np.float64)) / noise)


def flag_bits(
    present: np.ndarray, unlike: np.ndarray, g1: np.ndarray, g2: np.ndarray, label_flux: np.ndarray
) -> np.ndarray:
    """The column `flags`, (N,) int32.

    Args:
        present: (N, band), whether a band has an image.
        unlike: (N,), whether the galaxy is outside what was learnt.
        g1, g2: (N,), intrinsic shape; NaN is a failure.
        label_flux: (N,), of the label band; NaN counts as not above 0.
    """
    bits = np.zeros(len(present), dtype=np.int32)
    # Written so that NaN falls on the bad side.
    bad_shape, bad_flux = ~(np.hypot(g1, g2) < 1), ~(label_flux > 0)
    for bit, condition in (
        (MISSING_BAND, ~present.all(axis=1)),
        (UNLIKE_TRAINING, unlike),
        (BAD_SHAPE, bad_shape),
        (NEGATIVE_FLUX, bad_flux),
    ):
        bits[condition] |= bit
    return bits
