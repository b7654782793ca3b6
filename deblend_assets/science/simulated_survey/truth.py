"""What is true of the sources on a simulated tile, from the light of each of them alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deblend_assets.science.simulation.fields import Field, Observation
from deblend_assets.science.worlds.observed_fields import noise_lags
from deblend_assets.science.worlds.sources_alone import RenderedAlone

# S/N in the label band above which a source is in the survey's catalogue, and over all bands in its truth.
DETECTED_SNR, KNOWN_SNR = 5.0, 2.0
# FWHM and half-light radius of a Gaussian over its sigma.
_FWHM_OVER_SIGMA, _HLR_OVER_SIGMA = 2.3548, 1.1774

Floats = NDArray[np.float64]


def tile_truth(
    field: Field, alone: RenderedAlone, seen: Observation, bands: tuple[str, ...], label: int, stamp: int
) -> pd.DataFrame:
    """One row for each source on the image that has a true S/N of at least `KNOWN_SNR`.

    Args:
        field: of the tile.
        alone: light of each of its sources.
        seen: its images.
        bands: as the survey names them.
        label: which of them e and blendedness are of.
        stamp: side of a cutout, odd [pixel].

    Returns:
        `x_pixel`, `y_pixel` from 0; `star`, `galaxy_id`, `redshift`, `hlr_arcsec`, `concentration`, `g1`, `g2` as
        `sources.TRUTH_COLUMNS`; `mag_{band}`, `flux_{band}`; `snr` and `snr_{band}` of the source alone; PSF
        of the label band: `psf_fwhm_arcsec`, `psf_g1`, `psf_g2`; `detected`: in the survey's catalogue. Of these also
        `e1`, `e2`, `blendedness`; `stamp_flux_{band}`: everything but noise within a cutout around it, NaN where that
        leaves the image. Pixel frame, fluxes in the units of the field's images.
    """
    sky, sources = field.sky, field.truth
    lags, (height, width) = noise_lags(sky), sky.shape
    x, y = sources["x"].to_numpy(), sources["y"].to_numpy()
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    snr = alone.snr(seen.inverse_variance, lags)
    rows = np.flatnonzero(inside & (snr >= KNOWN_SNR))
    table = sources.iloc[rows].reset_index(drop=True)
    table = table.rename(columns={"id": "galaxy_id", "x": "x_pixel", "y": "y_pixel"}).assign(snr=snr[rows])
    fluxes = table[[f"flux_{name}" for name in sky.names]].to_numpy()
    magnitudes = sky.column("zero_point") - 2.5 * np.log10(np.maximum(fluxes, 1e-30))
    table = table.drop(columns=[f"flux_{name}" for name in sky.names])
    of_bands = np.array([alone.band_snr(row, seen.inverse_variance, lags) for row in rows.tolist()])
    for b, band in enumerate(bands):
        table[f"flux_{band}"], table[f"mag_{band}"] = fluxes[:, b], magnitudes[:, b]
        table[f"snr_{band}"] = of_bands[:, b]
    patches = field.psfs.patch(table["x_pixel"], table["y_pixel"])
    psfs = [field.psfs.psf_shape(number, label) for number in range(field.psfs.patches**2)]
    detected = _detected(table, bands[label], float(np.median([psf.fwhm for psf in psfs])) / sky.pixel_scale)
    of_detected: dict[str, Floats] = {
        name: np.full(len(table), np.nan)
        for name in ("e1", "e2", "blendedness", *(f"stamp_flux_{band}" for band in bands))
    }
    clean = seen.damage.apply(alone.light + np.stack([band.residual.image(sky.shape) for band in sky.bands.values()]))
    for k in np.flatnonzero(detected):
        size = table["hlr_arcsec"][k] / _HLR_OVER_SIGMA
        guess = float(np.hypot(size, psfs[patches[k]].fwhm / _FWHM_OVER_SIGMA)) / sky.pixel_scale
        of_detected["e1"][k], of_detected["e2"][k], _ = alone.moments(int(rows[k]), label, guess)
        own, others = (sums[label] for sums in alone.overlap(int(rows[k])))
        of_detected["blendedness"][k] = 1 - own / (own + others)
        light = _stamp_light(clean, table["x_pixel"][k], table["y_pixel"][k], stamp)
        for b, band in enumerate(bands):
            of_detected[f"stamp_flux_{band}"][k] = light[b]
    return table.assign(
        detected=detected,
        psf_fwhm_arcsec=[psfs[number].fwhm for number in patches],
        psf_g1=[psfs[number].g.real for number in patches],
        psf_g2=[psfs[number].g.imag for number in patches],
        **of_detected,
    )


def _detected(table: pd.DataFrame, label: str, fwhm: float) -> NDArray[np.bool_]:
    """Sources that stand out of the noise in the label band, without a brighter one within a FWHM [pixel]; (N,)."""
    snr = table[f"snr_{label}"].to_numpy()
    found = snr > DETECTED_SNR
    tree = cKDTree(table[["x_pixel", "y_pixel"]].to_numpy())
    for first, second in tree.query_pairs(fwhm, output_type="ndarray"):
        found[first if snr[first] < snr[second] else second] = False
    return found


def _stamp_light(clean: NDArray[np.float32], x: float, y: float, stamp: int) -> Floats:
    """Sum of each band over a stamp around the pixel of a position, (band,); NaN where it leaves the image."""
    left, bottom = round(x) - stamp // 2, round(y) - stamp // 2
    box = clean[:, max(bottom, 0) : bottom + stamp, max(left, 0) : left + stamp]
    sums = box.sum(axis=(1, 2), dtype=np.float64)
    return sums if box.shape[1:] == (stamp, stamp) else np.full_like(sums, np.nan)
