"""The columns that TXPipe's source selection reads of a metadetection catalogue, from one of the five."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

GROUPS: Mapping[str, str] = MappingProxyType({"noshear": "00", "1p": "1p", "1m": "1m", "2p": "2p", "2m": "2m"})
"""Its group of each catalogue; newer versions of TXPipe name the first one `LINK`."""
LINK = "ns"

COLUMNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "id": ("", "number of the row in its catalogue"),
        "ra": ("deg", "right ascension without the shear, ICRS"),
        "dec": ("deg", "declination without the shear, ICRS"),
        "g1": ("", "shear-type g, posterior mean, sky frame (+x west, +y north)"),
        "g2": ("", "second component of g1"),
        "T": ("arcsec**2", "2 sigma**2 of the Gaussian of the same half-light radius, before the PSF"),
        "s2n": ("", "S/N of the measurement, all bands"),
        "weight": ("", "1"),
        "flags": ("", "0 is good for shapes"),
        "mfrac": ("", "share of lost pixels, unsheared sky"),
        "object_mask_fraction": ("", "the same"),
        "psf_g1": ("", "of the reconvolved PSF, which is round"),
        "psf_g2": ("", "of the reconvolved PSF, which is round"),
        "psf_T_mean": ("arcsec**2", "2 sigma**2 of the reconvolved PSF, mean of the bands"),
        "mcal_psf_T_mean": ("arcsec**2", "the same, as older versions name it"),
        "mag_{band}": ("mag", "AB magnitude"),
        "mag_err_{band}": ("mag", "its standard error"),
    }
)
"""Unit and meaning of each column; {band} once a band."""
_HALF_LIGHT = float(np.sqrt(2 * np.log(2)))


def txpipe_columns(table: pd.DataFrame, bands: Sequence[str]) -> dict[str, NDArray[Any]]:
    """`COLUMNS` of a catalogue.

    Args:
        table: one of the five of a field.
        bands: of the field.
    """

    def column(name: str) -> NDArray[np.float64]:
        return table[name].to_numpy(np.float64)

    fwhm = np.stack([column(f"psf_fwhm_{band}") for band in bands])
    psf_size = 2 * np.mean((fwhm / FWHM_OVER_SIGMA) ** 2, axis=0)
    zero = np.zeros(len(table))
    found: dict[str, NDArray[Any]] = {
        "id": table["id"].to_numpy(np.int64),
        "T": 2 * (column("half_light_radius") / _HALF_LIGHT) ** 2,
        "s2n": column("snr"),
        "weight": np.ones(len(table)),
        "flags": table["flags"].to_numpy(np.int32),
        "object_mask_fraction": column("mfrac"),
        **{name: zero for name in ("psf_g1", "psf_g2")},
        **{name: psf_size for name in ("psf_T_mean", "mcal_psf_T_mean")},
        **{name: column(name) for name in ("ra", "dec", "g1", "g2", "mfrac")},
    }
    for band in bands:
        found[f"mag_{band}"], found[f"mag_err_{band}"] = column(f"mag_{band}"), column(f"mag_{band}_err")
    names = [n.format(band=band) for n in COLUMNS for band in (bands if "{band}" in n else bands[:1])]
    return {name: found[name] for name in names}
