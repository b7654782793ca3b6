"""Which rows of a tile's catalogue are not to be trusted, and what of the tile can be compared without a truth.

The PSF that the model was given is that of the survey's description, and the noise that of the weight maps: neither is
measured on the tile. Each comparison has a limit; beyond it the verdict is "unlike", with a line that says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deblend_assets.science.measuring.trust import REASONS
from deblend_assets.science.statistics.accuracy import Evaluation, number

# Undamaged galaxies of simulated DES skies are flagged in some 6 % (docs/trust.md).
MOST_FLAGGED = 0.1
# Of the width: the PSF's part of a shape goes with its area, and 10 % in width are 20 % in area.
PSF_LIMIT = 0.1
LIKE, UNLIKE, UNKNOWN = "like", "unlike", "unknown"


def evaluate_trust(
    shapes: pd.DataFrame, psf_fwhm: Mapping[str, float], noise: Mapping[str, float], noise_limit: float
) -> Evaluation:
    """Flags of a tile's rows, and the comparisons of its PSF and noise.

    Args:
        shapes: the catalogue: `flags` and `psf_fwhm_{band}`.
        psf_fwhm: measured by others on the tile, by band [arcsec].
        noise: scatter of the pixels over that of the weights, by band.
        noise_limit: of its deviation from 1.

    Returns:
        `flagged`, `share`; `reasons`: number and share by the flag's name; `comparisons`: `quantity`, `given`,
        `measured`, `ratio` (measured over given), `limit`, `verdict`; `warnings`: a line for each limit exceeded.
    """
    flags = shapes["flags"].to_numpy()
    flagged = int((flags != 0).sum())
    share = flagged / max(len(flags), 1)
    reasons = {}
    for flag in REASONS:
        n = int((flags & int(flag) != 0).sum())
        reasons[str(flag.name)] = {"n": n, "share": n / max(len(flags), 1)}
    comparisons = []
    for band, measured in psf_fwhm.items():
        given = shapes[f"psf_fwhm_{band}"].dropna()
        comparisons.append(
            _compared(f"PSF FWHM, {band} [arcsec]", given.median() if len(given) else np.nan, measured, PSF_LIMIT)
        )
    comparisons += [_compared(f"noise over the weights', {b}", 1.0, ratio, noise_limit) for b, ratio in noise.items()]
    warnings = [
        f"{found['quantity']}: {found['measured']:.3g} against {found['given']:.3g} (limit ±{found['limit']:.0%})"
        for found in comparisons
        if found["verdict"] == UNLIKE
    ]
    if share > MOST_FLAGGED:
        warnings.insert(0, f"{share:.0%} of the rows are flagged (limit {MOST_FLAGGED:.0%})")
    return {
        "rows": len(flags),
        "flagged": flagged,
        "share": share,
        "reasons": reasons,
        "comparisons": comparisons,
        "warnings": warnings,
    }


def _compared(quantity: str, given: float, measured: float, limit: float) -> Evaluation:
    ratio = measured / given
    verdict = UNKNOWN if not np.isfinite(ratio) else LIKE if abs(ratio - 1) <= limit else UNLIKE
    return {
        "quantity": quantity,
        "given": number(given),
        "measured": number(measured),
        "ratio": number(ratio),
        "limit": limit,
        "verdict": verdict,
    }
