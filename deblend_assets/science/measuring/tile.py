"""From stamps in the model's frame to shapes, fluxes and flags: the networks applied to a tile.

Everything is computed in the pixel frame and turned to the sky frame at the end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from deblend_assets.science.deblender.network import BATCH, deblend
from deblend_assets.science.des.likeness import aperture_flux, outside_training
from deblend_assets.science.des.orientation import pixel_to_sky
from deblend_assets.science.measuring.columns import estimated_blendedness, flag_bits, matched_snr, nanojansky
from deblend_assets.science.measuring.measure import Model, band_names, named_shapes
from deblend_assets.science.networks import DISTORTION, SHEAR
from deblend_assets.science.shapes.heads import COLUMNS
from deblend_assets.science.shear.response import ShearOperator, image_response
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.statistics.metrics import Floats


def measure(
    model: Model,
    training_flux: Floats,
    electrons: np.ndarray,
    present: np.ndarray,
    sigma: np.ndarray,
    operator: ShearOperator,
    progress: Callable[[int], None],
) -> pd.DataFrame:
    """One row a stamp: the columns of `shape_columns` but identity, position and provenance; sky frame.

    Args:
        model: the networks and their frame.
        training_flux: aperture fluxes of training scenes [electron, label band], for the flag.
        electrons, present: as `deblend` takes them, north up and east left.
        sigma: (N, band), noise of a pixel [electron].
        operator: shears the stamps, for the response to shear.
        progress: takes the number of stamps done.
    """
    tables = []
    for start in range(0, len(electrons), BATCH):
        rows = slice(start, start + BATCH)
        table = _measure(model, training_flux, electrons[rows], present[rows], sigma[rows])
        response = _response(model, electrons[rows], present[rows], sigma[rows], operator, start)
        # Turning to the sky frame changes the sign of estimate and shear alike.
        tables.append(table.assign(response_g1=response[:, 0, 0], response_g2=response[:, 1, 1]))
        progress(len(tables[-1]))
    return pd.concat(tables, ignore_index=True)


def _measure(
    model: Model, training_flux: Floats, electrons: np.ndarray, present: np.ndarray, sigma: np.ndarray
) -> pd.DataFrame:
    own, _ = deblend(model.network, electrons, present)
    found = named_shapes(model.shapes, electrons, present)
    label = model.frame.label
    moments = image_moments(own[:, label])
    columns: dict[str, np.ndarray] = {}
    for pair in (SHEAR, DISTORTION):
        for first, second in (pair, (f"{pair[0]}_free", f"{pair[1]}_free")):
            columns[first], columns[second] = pixel_to_sky(found[first], found[second])
            # An error has no sign to turn.
            columns[f"{first}_err"], columns[f"{second}_err"] = found[f"{first}_err"], found[f"{second}_err"]
    columns |= {name: found[name] for name in ("ln_size", "ln_size_err", "shape_flags", *COLUMNS)}
    columns["e1_moments"], columns["e2_moments"] = pixel_to_sky(moments.e1, moments.e2)
    for k, (band, zero_point) in enumerate(zip(model.frame.bands, model.frame.zero_points, strict=True)):
        # What a network makes up for a band that nobody saw is no measurement.
        flux = np.where(present[:, k], own[:, k].sum(axis=(-2, -1), dtype=np.float64), np.nan)
        snr = matched_snr(own[:, k], sigma[:, k])
        columns[f"flux_{band}"] = nanojansky(flux, zero_point)
        # Error of a flux fitted with the galaxy's own profile: sigma / sqrt(sum profile²).
        columns[f"flux_err_{band}"] = nanojansky(flux / np.where(snr > 0, snr, np.nan), zero_point)
        if k == label:
            columns[f"snr_{band}"] = snr
    columns["blendedness"] = estimated_blendedness(own[:, label], electrons[:, label])
    columns["bands_present"] = band_names(model.frame.bands, present)
    unlike = outside_training(aperture_flux(electrons[:, label], model.frame.pixel_scale), training_flux)
    columns["flags"] = flag_bits(
        present, unlike, columns["g1"], columns["g2"], columns[f"flux_{model.frame.label_band}"]
    )
    return pd.DataFrame(columns)


def _response(
    model: Model, electrons: np.ndarray, present: np.ndarray, sigma: np.ndarray, operator: ShearOperator, seed: int
) -> Floats:
    """d g_i / d shear_j of every stamp (N, 2, 2), see `shear.response`."""
    seen = np.where(present[..., None, None], electrons, 0.0).astype(np.float32)
    variance = np.where(present, sigma, 0.0) ** 2
    return image_response(
        lambda stamps: model.shapes.measure(stamps, present).mean[:, :2].numpy(), seen, variance, operator, seed
    )
