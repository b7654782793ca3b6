"""The methods that measure fields of known shear: each gives its catalogues of an image, cuts marked, nothing left out.

Columns: `x`, `y` on the unsheared image [pixel], `g1`, `g2` (NaN: failed), `chosen` (passes the method's recommended
cuts), `snr`, `size` (galaxy before the PSF over the PSF that the method measured behind), `magnitude`,
`masked_fraction`; of a method with an analytic response `weight`, `r11`, `r22`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.field_shear.names import OURS
from deblend_assets.science.metadetection.catalogs import KINDS, metadetect
from deblend_assets.science.metadetection.kernels import gaussian_sigma
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.metadetection.sums import snr_weight, unmasked
from deblend_assets.science.peers.fields import anacal, sep_hsm
from deblend_assets.science.peers.fields.summed import usable_bands, with_bands
from deblend_assets.science.stamps.cutting import ObservedImage

Catalogs = Mapping[str, pd.DataFrame]
# Bands of the sum that SEP + HSM measures: those whose shapes metadetection takes in DES Y6.
SHAPE_BANDS = ("r", "i", "z")
_REFERENCE = ("r", "i", "g", "z", "y", "u")


@dataclass(frozen=True)
class Given:
    """What a method is given of one image.

    Attributes:
        image: of a field, with the PSF of the condition.
        noise: white, of unit variance, for what is added, (band, y, x).
        patches: along an axis, within which the PSF is constant.
        least_snr: of a chosen row.
        kinds: of the catalogues that are wanted of metadetection.
    """

    image: ObservedImage
    noise: NDArray[np.float32]
    patches: int
    least_snr: float
    kinds: Sequence[str] = KINDS


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: in the tables.
        module: that it needs.
        measure: its catalogues of one image, by the names of `sums.CATALOGS`.
    """

    name: str
    module: str
    measure: Callable[[Given], Catalogs]


def reference_band(names: Sequence[str]) -> int:
    """Number of the band nearest to r that an image has."""
    return list(names).index(next(name for name in _REFERENCE if name in names))


def ours(network: NetworkEstimate) -> Method:
    """Our posterior mean under metadetection."""

    def measure(given: Given) -> Catalogs:
        found = metadetect(given.image, network, noise=given.noise, kinds=given.kinds)
        band = given.image.bands[reference_band(given.image.bands)]
        return {kind: _ours(table, band) for kind, table in found.items()}

    return Method(OURS, "torch", measure)


def _ours(table: pd.DataFrame, band: str) -> pd.DataFrame:
    # Behind the round Gaussian of metadetection, whose half-light radius is half of its FWHM.
    size = table["half_light_radius"] / (table[f"psf_fwhm_{band}"] / 2)
    return pd.DataFrame(
        {
            **{name: table[name].to_numpy(float) for name in ("x", "y", "g1", "g2", "snr")},
            "size": size.to_numpy(float),
            "magnitude": table[f"mag_{band}"].to_numpy(float),
            "masked_fraction": table["mfrac"].to_numpy(float),
            "chosen": unmasked(table),
            "weight": snr_weight(table),
        }
    )


def _sep_hsm(given: Given) -> Catalogs:
    image = with_bands(given.image, usable_bands(given.image, SHAPE_BANDS))
    # One Gaussian for all of them, so that their sum has one PSF.
    sigma = np.full(len(image.bands), gaussian_sigma(_psfs(image)).max())
    noise = given.noise[[given.image.bands.index(name) for name in image.bands]]
    found = metadetect(image, sep_hsm.estimate, noise=noise, kinds=given.kinds, sigma=sigma)
    return {
        kind: table.assign(
            masked_fraction=table["mfrac"],
            chosen=table["good"] & (table["flags"] == 0) & (table["snr"] >= given.least_snr),
        ).drop(columns=["mfrac", "good", "flags", "x_sheared", "y_sheared"])
        for kind, table in found.items()
    }


def _psfs(image: ObservedImage) -> NDArray[np.float32]:
    """PSFs at places all over an image, (place, band, y, x)."""
    height, width = image.pixels.shape[1:]
    at = np.linspace(0, 1, 7)
    return np.stack([image.psf(x * (width - 1), y * (height - 1)) for y in at for x in at])


def _anacal(given: Given) -> Catalogs:
    table = anacal.measure(given.image, given.patches, given.least_snr, given.noise)
    # Bins of what it measured would need the response of their edges.
    return {"noshear": table.assign(chosen=True).drop(columns=["snr", "magnitude"])}


SEP_HSM = Method("sep_hsm", "sep", _sep_hsm)
ANACAL = Method("anacal", "anacal", _anacal)
PEERS = (SEP_HSM, ANACAL)
