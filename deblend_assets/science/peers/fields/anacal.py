"""AnaCal (Li et al. 2024, 2408.06337; 2506.16607): FPFS shapes with its own detection and masks, on all bands.

The settings are those of xlens, its pipeline for Rubin and HSC images: detection at 5 σ with the smooth weights
omega_f = 0.218 and omega_v = 0.011, shapelets as wide as the PSF's Gaussian, dilated by its ellipticity, noise doubled
with noise turned by 90° (2024MNRAS.536.3663L), masked share of the light below 0.035, S/N at least 10 and
|e| below 0.4. Shear is Σ w e / Σ d(w e)/dg: detection is inside w, and the response of the cuts is added.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft

from deblend_assets.science.peers.fields.summed import usable_bands, with_bands
from deblend_assets.science.simulation.galaxies import NANOJANSKY_ZERO_POINT
from deblend_assets.science.stamps.correlation import on_torus
from deblend_assets.science.stamps.cutting import ObservedImage

_SIDE = 64  # of a stamp and of the PSF's image [pixel]
BOUND, _OVERLAP = 35, 40  # of the image's and a cell's border [pixel]
_OMEGA_F, _OMEGA_V, _C0 = 0.218, 0.011, 30.0  # [nJy]
_MOST_DILATION = 1.1
_MOST_MASKED, _MOST_E = 0.035, 0.4
_STEP = 0.01  # of the shear that moves rows across the cuts
_PRIORS = {"T": 0.07, "x": 0.05, "e": 0.3}


def measure(image: ObservedImage, patches: int, least_snr: float, white_noise: NDArray[np.floating]) -> pd.DataFrame:
    """Detect and measure.

    Args:
        image: of a field.
        patches: along an axis, within which the PSF is constant.
        least_snr: of the Gaussian flux of a selected row.
        white_noise: of unit variance, of which the added noise is made, (band, y, x).

    Returns:
        One row a detection whose weight or response is not 0: `x`, `y` [pixel], `g1`, `g2` (FPFS ellipticity, of no
        physical size), `weight` (0 where a cut leaves the row out), `r11`, `r22` (d(weight e)/dg, that of the cuts
        included), `masked_fraction`, `snr`, `magnitude`.
    """
    import anacal

    used = with_bands(image, usable_bands(image, image.bands))
    unit = (10 ** (-0.4 * (used.zero_point - NANOJANSKY_ZERO_POINT)))[:, None, None]
    lost = np.asarray((used.inverse_variance <= 0).any(axis=0))
    variance = unit[:, 0, 0] ** 2 / np.array([np.median(band[band > 0]) for band in used.inverse_variance])
    pixels = np.ascontiguousarray(np.where(lost, 0, used.pixels * unit), dtype=np.float32)
    white = white_noise[[image.bands.index(name) for name in used.bands]]
    noise = np.where(lost, 0, _noise(white, used.noise_correlation, variance)).astype(np.float32)
    scale = float(np.sqrt(np.abs(np.linalg.det(used.jacobian(0.0, 0.0)))))
    prior = anacal.ngmix.modelPrior()
    for name, width in _PRIORS.items():
        getattr(prior, f"set_sigma_{name}")(anacal.math.qnumber(width))
    parts = []
    for cell in _cells(used, patches, scale):
        psf = np.asarray(cell.psf_array)
        task = anacal.task.Task(
            scale=scale,
            sigma_arcsec=_sigma(psf, scale, variance),
            snr_peak_min=5.0,
            omega_f=_OMEGA_F,
            omega_v=_OMEGA_V,
            fpfs_c0=_C0,
            mag_zero=NANOJANSKY_ZERO_POINT,
            prior=prior,
            stamp_size=_SIDE,
            image_bound=BOUND,
            num_epochs=0,
            force_center=True,
        )
        found = task.process_image(
            pixels,
            psf,
            variance=variance.tolist(),
            cell_list=[cell],
            noise_array=noise,
            mask_array=lost.astype(np.uint8),
            n_mask_base_max=_MOST_MASKED,
        )
        parts.append(_rows(found, scale, least_snr))
    return pd.concat(parts, ignore_index=True)


def _rows(found: np.ndarray, scale: float, least_snr: float) -> pd.DataFrame:
    """The table of a cell's catalogue."""
    e, w = np.stack([found["fpfs_e1"], found["fpfs_e2"]]), found["wsel"]
    unmasked = found["n_mask_base"] <= _MOST_MASKED

    def chosen(component: int, shear: float) -> NDArray[np.bool_]:
        """Which rows pass the cuts after a small shear."""

        def moved(name: str) -> NDArray[np.float64]:
            base, slope = name.removeprefix("fpfs_"), f"dg{component}"
            change = f"fpfs_d{base}_{slope}" if name != base else f"d{name}_{slope}"
            return np.asarray(found[name] + shear * found[change])

        snr = moved("flux_gauss2") / np.maximum(found["flux_gauss2_err"], 1e-30)
        shape = np.hypot(moved("fpfs_e1"), moved("fpfs_e2"))
        return np.asarray(unmasked & (snr >= least_snr) & (shape < _MOST_E))

    own = chosen(1, 0.0)
    table = pd.DataFrame(
        {
            "x": found["x1_det"] / scale,
            "y": found["x2_det"] / scale,
            "g1": e[0],
            "g2": e[1],
            "weight": w * own,
            "masked_fraction": found["n_mask_base"],
            "snr": found["flux_gauss2"] / np.maximum(found["flux_gauss2_err"], 1e-30),
        }
    )
    for k in (1, 2):
        inside = own * (found[f"dwsel_dg{k}"] * e[k - 1] + w * found[f"fpfs_de{k}_dg{k}"])
        across = chosen(k, _STEP).astype(float) - chosen(k, -_STEP)
        table[f"r{k}{k}"] = inside + w * e[k - 1] * across / (2 * _STEP)
    with np.errstate(invalid="ignore", divide="ignore"):
        table["magnitude"] = NANOJANSKY_ZERO_POINT - 2.5 * np.log10(found["flux_gauss2"])
    # A row that was not measured has zeros alone.
    finite = np.isfinite(table[["g1", "g2", "weight", "r11", "r22"]].to_numpy(float)).all(axis=1)
    return table[finite & (table[["weight", "r11", "r22"]] != 0).to_numpy().any(axis=1)]


def _cells(image: ObservedImage, patches: int, scale: float) -> list[Any]:
    """One cell a patch of the PSF, with a border around it."""
    import anacal

    height, width = image.pixels.shape[1:]
    columns, rows = (np.round(np.linspace(0, side, patches + 1)).astype(int).tolist() for side in (width, height))
    cells: list[Any] = []
    for y0, y1 in pairwise(rows):
        for x0, x1 in pairwise(columns):
            low, high = (x0 - _OVERLAP, y0 - _OVERLAP), (x1 + _OVERLAP, y1 + _OVERLAP)
            # Its sides are even: the middle of the other half is then a pixel.
            high = tuple(top + (top - bottom) % 2 for bottom, top in zip(low, high, strict=True))
            middle = [(bottom + top) // 2 for bottom, top in zip(low, high, strict=True)]
            cell = anacal.geometry.cell(*middle, *low, *high, x0, y0, x1, y1, scale, len(cells))
            # Its middle pixel is number side // 2 of an even side.
            psf = image.psf((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2).astype(np.float64)
            cell.psf_array = _padded(psf)
            cells.append(cell)
    return cells


def _padded(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """PSF images of an odd side on stamps whose middle is pixel side // 2, (band, side, side)."""
    stamps = np.zeros((len(psf), _SIDE, _SIDE))
    reach = min(psf.shape[-1] // 2, _SIDE // 2 - 1)
    own, middle = psf.shape[-1] // 2, _SIDE // 2
    there, here = slice(middle - reach, middle + reach + 1), slice(own - reach, own + reach + 1)
    stamps[:, there, there] = psf[:, here, here]
    return stamps


def _sigma(psf: NDArray[np.float64], scale: float, variance: NDArray[np.float64]) -> float:
    """Width of the shapelets, sqrt(T d / 2), of the Gaussian fits to the PSFs, weighted as the bands [arcsec]."""
    import anacal

    fits = [anacal.ngmix.fit_psf_gauss(np.ascontiguousarray(band), scale) for band in psf]
    values = np.array([(fit.e1, fit.e2, fit.T) for fit in fits])
    e1, e2, size = np.average(values, axis=0, weights=1 / variance)
    return float(np.sqrt(size * anacal.ngmix.ellip_dilation(e1, e2, _MOST_DILATION) / 2))


def _noise(
    white: NDArray[np.floating], correlations: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pure noise as that of the image, its correlation turned by 90°: AnaCal turns the PSF of this image."""
    shape = white.shape[1:]
    # Lags that the image was not given may leave the power of the others negative.
    power = [fft.rfft2(on_torus(np.rot90(correlation), shape)).real for correlation in correlations]
    # A torus, whose ends AnaCal does not measure.
    noise = fft.irfft2(fft.rfft2(white.astype(np.float64)) * np.sqrt(np.maximum(power, 0.0)), s=shape)
    return np.asarray(noise * np.sqrt(variance)[:, None, None])
