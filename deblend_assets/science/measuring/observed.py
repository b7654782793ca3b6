"""The networks of one survey's frame on observed stamps: what of them fits the frame is measured.

These networks are given nothing but pixels: PSF, noise, mask and the other detections of a stamp have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.measuring.measure import Model, measure
from deblend_assets.science.measuring.measured import MISSING_BAND, matched_snr
from deblend_assets.science.stamps.estimates import Estimates, Floats
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.observed import ObservedStamps

POSTERIOR, LIKELIHOOD = "network", "network_likelihood"
# Title and description, for pages and figures.
WORDS = {
    POSTERIOR: (
        "shipped networks",
        "posterior mean of the shipped networks of LSST, on stamps of their pixel scale; given pixels alone",
    ),
    LIKELIHOOD: (
        "shipped networks, likelihood only",
        "the same with the prior divided out; galaxies whose pixels hold too little information count as failures",
    ),
}
# Relative difference between the pixel scales of stamp and frame that is none.
_SCALE_TOLERANCE = 1e-3


def measure_observed(models: Sequence[Model], stamps: ObservedStamps) -> dict[str, pd.DataFrame]:
    """Two tables of estimates (`ESTIMATE_COLUMNS`), one row a stamp: POSTERIOR and LIKELIHOOD.

    A stamp is measured by the first model of its pixel scale that has one of its bands: the pixels of the frame's side
    around the target, brought to the frame's zero points, lost pixels 0. Bands that the model does not take are left
    out. Where no model fits there is no number.

    Fluxes of POSTERIOR: in the label band exp(ln flux) of the posterior, in the others the sum of the deblended image,
    with the error of the pixel noise alone. Those of LIKELIHOOD are not given. e is given where the stamp has the label
    band, whose e it is. Flagged: any bit of `flags` but the one of a missing band.

    Args:
        models: the shipped ones.
        stamps: at least as large as the frames.
    """
    found = {name: Estimates.nothing(len(stamps), stamps.bands) for name in (POSTERIOR, LIKELIHOOD)}
    free = np.ones(len(stamps), dtype=bool)
    for model in models:
        rows = np.flatnonzero(free & fits(model.frame, stamps))
        free[rows] = False
        if len(rows):
            _fill(found, rows, model, stamps.rows(rows))
    return {name: estimates.table() for name, estimates in found.items()}


def fits(frame: StampFrame, stamps: ObservedStamps) -> NDArray[np.bool_]:
    """Which stamps can be brought to a frame: pixel scale, room for its side, one of its bands; (N,)."""
    _, places = _shared(frame, stamps)
    scale = np.isclose(stamps.pixel_scale, frame.pixel_scale, rtol=_SCALE_TOLERANCE, atol=0)
    first = _first(frame, stamps)
    room = ((first >= 0) & (first + frame.pixels <= stamps.side)).all(axis=1)
    return np.asarray(scale & room & stamps.present[:, places].any(axis=1))


def electrons_of(frame: StampFrame, stamps: ObservedStamps) -> tuple[NDArray[np.float32], NDArray[np.bool_], Floats]:
    """Stamps in a frame that they fit.

    Returns:
        (N, band, y, x) [electron] in the frame's bands and side, 0 where lost or absent; (N, band), which bands are
        present; (N, band), image units of the stamp that are one electron of the frame, 1 where absent.
    """
    mine, theirs = _shared(frame, stamps)
    shape = (len(stamps), len(frame.bands))
    present, unit = np.zeros(shape, dtype=bool), np.ones(shape)
    present[:, mine] = stamps.present[:, theirs]
    brighter = stamps.zero_point[:, theirs] - np.asarray(frame.zero_points)[mine]
    unit[:, mine] = np.where(present[:, mine], 10 ** (0.4 * np.nan_to_num(brighter)), 1.0)
    electrons = np.zeros((len(stamps), *frame.shape), dtype=np.float32)
    for n, (x, y) in enumerate(_first(frame, stamps)):
        electrons[n, mine] = stamps.pixels[n, theirs, y : y + frame.pixels, x : x + frame.pixels]
    return (electrons / unit[..., None, None]).astype(np.float32), present, unit


def _shared(frame: StampFrame, stamps: ObservedStamps) -> tuple[list[int], list[int]]:
    """Places of the common bands in the frame and in the stamps."""
    names = [band.lower() for band in stamps.bands]
    mine = [k for k, band in enumerate(frame.bands) if band.lower() in names]
    return mine, [names.index(frame.bands[k].lower()) for k in mine]


def _first(frame: StampFrame, stamps: ObservedStamps) -> NDArray[np.int64]:
    """x and y of the first pixel of the frame's stamp around the target's pixel, (N, 2)."""
    return np.floor(stamps.position - (frame.pixels - 1) / 2 + 0.5).astype(np.int64)


def _fill(found: Mapping[str, Estimates], rows: NDArray[np.integer], model: Model, stamps: ObservedStamps) -> None:
    frame = model.frame
    electrons, present, unit = electrons_of(frame, stamps)
    table, own = measure(model, electrons, present)
    labelled = present[:, frame.label]
    flagged = (table["flags"].to_numpy() & ~MISSING_BAND) != 0
    for name, suffix in ((POSTERIOR, ""), (LIKELIHOOD, "_free")):
        into = found[name]
        into.flag[rows] = flagged
        for k in (0, 1):
            into.g[rows, k], into.g_err[rows, k] = (table[f"g{k + 1}{suffix}{end}"] for end in ("", "_err"))
            for part, end in ((into.e, ""), (into.e_err, "_err")):
                part[rows, k] = np.where(labelled, table[f"e{k + 1}{suffix}{end}"], np.nan)

    mine, theirs = _shared(frame, stamps)
    posterior = found[POSTERIOR]
    for k, band in zip(mine, theirs, strict=True):
        noise = _noise(stamps.inverse_variance[:, band]) / unit[:, k]
        flux = table[f"flux_{frame.bands[k]}"].to_numpy()
        error = flux / matched_snr(own[:, k], noise)
        if k == frame.label:
            flux = np.exp(table["ln_flux"].to_numpy())
            error = flux * table["ln_flux_err"].to_numpy()
        posterior.flux[rows, band] = np.where(present[:, k], flux * unit[:, k], np.nan)
        posterior.flux_err[rows, band] = np.where(present[:, k], np.abs(error) * unit[:, k], np.nan)


def _noise(weight: NDArray[np.float32]) -> Floats:
    """Median standard deviation of the pixels that have a weight, (N, y, x) to (N,); NaN without one."""
    with np.errstate(all="ignore"):
        sigma = np.where(weight > 0, 1 / np.sqrt(weight), np.nan).reshape(len(weight), -1)
        return np.array([np.nanmedian(row) if np.isfinite(row).any() else np.nan for row in sigma])
