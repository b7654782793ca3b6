"""Groups of the targets of a world in which every method is judged.

Each family splits the galaxies for which its property is known into parts that do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.statistics.accuracy import values
from deblend_assets.science.statistics.metrics import Floats, thirds

Masks = dict[str, NDArray[np.bool_]]

ALL, ONE_SOURCE = "all", "one source over a tenth of the light"
# In the names of `all_groups`.
SINGLE = f"sources: {ONE_SOURCE}"
# A source farther away is no neighbour [arcsec].
NEIGHBOUR = 4.0
_SEPARATIONS, _SEPARATION_NAMES = (1.2, 2.5), ("< 1.2 FWHM", "1.2 to 2.5 FWHM", "> 2.5 FWHM")
_DMAGS, _DMAG_NAMES = (-1.0, 1.0), ("brighter by > 1 mag", "within 1 mag", "fainter by > 1 mag")
# Masked shares: the far wings of a profile always reach a lost pixel; above the second one much of it is lost.
_UNMASKED, _MASKED = 1e-3, 0.05


def families(truth: pd.DataFrame) -> dict[str, Masks]:
    """Masks (N,) by family and part.

    Args:
        truth: of galaxies; columns of `Targets.truth`.
    """
    snr, shear = values(truth, "snr"), np.hypot(values(truth, "psf_g1"), values(truth, "psf_g2"))
    by_thirds = {
        "S/N": snr,
        "PSF FWHM": values(truth, "fwhm_arcsec"),
        "PSF |g|": shear,
        "depth": values(truth, "depth"),
        "crowding": values(truth, "density"),
    }
    blend, unrecognized = (truth[name].to_numpy(dtype=bool) for name in ("blend", "unrecognized"))
    masked, correlated = values(truth, "masked_fraction"), truth["correlated"].to_numpy(dtype=bool)
    found = {name: {f"{third} third": mask for third, mask in thirds(of)} for name, of in by_thirds.items()}
    return found | {
        "sources": {ONE_SOURCE: ~blend, "recognised blend": blend & ~unrecognized, "unrecognised blend": unrecognized},
        "masked share": {
            "0": masked < _UNMASKED,
            f"0 to {_MASKED:.0%}": (masked >= _UNMASKED) & (masked <= _MASKED),
            f"> {_MASKED:.0%}": masked > _MASKED,
        },
        "nearest detection": _separated(values(truth, "separation_fwhm")),
        "Δmag of the nearest source": _by_dmag(truth),
        "noise": {"white": ~correlated, "correlated": correlated},
    }


def pair_grid(truth: pd.DataFrame) -> Masks:
    """Three bins of the distance of the nearest source, in FWHM, by three of its Δmag; beyond `NEIGHBOUR` in none."""
    distance = np.where(_has_neighbour(truth), true_separation(truth), np.inf)
    apart = {name: mask for name, mask in _separated(distance).items() if name in _SEPARATION_NAMES}
    return {f"{near}, {dmag}": a & b for near, a in apart.items() for dmag, b in dmag_classes(truth).items()}


def all_groups(truth: pd.DataFrame, *, pairs: bool) -> Masks:
    """All galaxies, the parts of all families as "family: part", and for pairs the grid; parts without rows left out.

    Args:
        truth: of galaxies.
        pairs: whether the world is one of pairs.
    """
    groups = {ALL: np.ones(len(truth), dtype=bool)}
    for family, parts in families(truth).items():
        groups |= {f"{family}: {part}": mask for part, mask in parts.items()}
    if pairs:
        groups |= {f"pair: {part}": mask for part, mask in pair_grid(truth).items()}
    return {name: mask for name, mask in groups.items() if mask.any()}


def true_separation(truth: pd.DataFrame) -> Floats:
    """Distance of the nearest source in FWHM of the PSF, (N,)."""
    return values(truth, "nearest_arcsec") / values(truth, "fwhm_arcsec")


def dmag_classes(truth: pd.DataFrame) -> Masks:
    """Masks of the three bins of the nearest source's Δmag, that source within `NEIGHBOUR`."""
    return {name: mask for name, mask in _by_dmag(truth).items() if name in _DMAG_NAMES}


def _has_neighbour(truth: pd.DataFrame) -> NDArray[np.bool_]:
    return values(truth, "nearest_arcsec") <= NEIGHBOUR


def _by_dmag(truth: pd.DataFrame) -> Masks:
    beside = _has_neighbour(truth)
    binned = _binned(values(truth, "nearest_dmag"), _DMAGS, _DMAG_NAMES)
    return {name: mask & beside for name, mask in binned.items()} | {f'none within {NEIGHBOUR:g}"': ~beside}


def _separated(fwhm: Floats) -> Masks:
    return _binned(np.where(np.isfinite(fwhm), fwhm, np.nan), _SEPARATIONS, _SEPARATION_NAMES) | {
        "none": ~np.isfinite(fwhm)
    }


def _binned(numbers: Floats, edges: Sequence[float], names: Sequence[str]) -> Masks:
    bins, known = np.digitize(numbers, edges), np.isfinite(numbers)
    return {name: (bins == k) & known for k, name in enumerate(names)}


def family_of(group: str) -> str:
    """The family in the name of a group."""
    return group.partition(": ")[0]
