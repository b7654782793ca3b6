"""What a survey's networks measure on stamps of their frame: name, unit, UCD, meaning and value of each column.

Pixel frame, electrons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deblend_assets.science.measuring.measured import FLAGS, Measured, band_names
from deblend_assets.science.measuring.registry import CatalogColumn, Entry, columns_of, spectrum
from deblend_assets.science.shapes.classifier import probabilities
from deblend_assets.science.shapes.heads import probability_columns
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS
from deblend_assets.science.stamps.quantities import QUANTITIES

# (N,) values of a column; the second argument is the component (0 or 1), the band's position, or 0.
Value = Callable[[Measured, int], np.ndarray]

_G, _E, _SIZE, _FLUX = (QUANTITIES.index(name) for name in ("g1", "e1", "ln_size", "ln_flux"))
_AXES = "pixel frame (x with the column, y with the row)"


def _mean(first: int) -> Value:
    return lambda m, k: m.measured(m.posterior.mean[:, first + k])


def _single(quantity: int) -> Value:
    return lambda m, _: m.measured(m.posterior.mean[:, quantity])


def _error(first: int) -> Value:
    return lambda m, k: m.measured(m.posterior.errors[:, first + k])


def _likelihood(first: int) -> Value:
    return lambda m, k: np.where(
        m.likelihood.is_constrained(first + k),
        m.measured(m.likelihood.mean[:, first + k]),
        np.nan,
    )


def _likelihood_error(first: int) -> Value:
    return lambda m, k: np.where(
        m.likelihood.is_constrained(first + k), m.measured(m.likelihood.errors[:, first + k]), np.nan
    )


def _probability(name: str) -> Value:
    return lambda m, _: m.measured(probabilities(m.posterior)[name])


def _shape(letter: str, first: int, what: str) -> tuple[Entry[Measured], ...]:
    ellipticity, error = "src.ellipticity", "stat.error;src.ellipticity"
    return (
        Entry(
            f"{letter}{{k}}",
            "",
            ellipticity,
            f"component {{k}}: {what}, {{axes}}; posterior mean, shrunk toward zero",
            _mean(first),
        ),
        Entry(f"{letter}{{k}}_err", "", error, f"posterior standard deviation of {letter}{{k}}", _error(first)),
        Entry(
            f"{letter}{{k}}_free",
            "",
            ellipticity,
            f"{letter}{{k}}, likelihood-only estimate (prior divided out); NaN where shape_flags mark it",
            _likelihood(first),
        ),
        Entry(f"{letter}{{k}}_free_err", "", error, f"standard error of {letter}{{k}}_free", _likelihood_error(first)),
    )


def _bits(flags: Mapping[int, str]) -> str:
    return "bits, 0 is good: " + "; ".join(f"{bit} {words}" for bit, words in flags.items())


# In the order of the catalogue.
REGISTRY: tuple[Entry[Measured], ...] = (
    *_shape("g", _G, "intrinsic shear-type (a-b)/(a+b), PSF removed, not calibrated for shear"),
    *_shape("e", _E, "observed distortion (a^2-b^2)/(a^2+b^2), band {label}, with PSF"),
    Entry(
        "ln_size",
        "",
        "phys.angSize;src",
        "ln of the circularised half-light radius before PSF [arcsec], posterior mean",
        _single(_SIZE),
    ),
    Entry("ln_size_err", "", "stat.error;phys.angSize;src", "posterior standard deviation of ln_size", _error(_SIZE)),
    Entry(
        "ln_flux",
        "",
        "phot.count;{label_spectrum}",
        "ln of the total flux, band {label} [electron], posterior mean",
        _single(_FLUX),
    ),
    Entry(
        "ln_flux_err",
        "",
        "stat.error;phot.count;{label_spectrum}",
        "posterior standard deviation of ln_flux",
        _error(_FLUX),
    ),
    Entry(
        "e{k}_moments",
        "",
        "src.ellipticity",
        "component {k}: distortion of the deblended stamp, band {label}, unweighted moments, with PSF, {axes}",
        lambda m, k: (m.moments.e1, m.moments.e2)[k],
    ),
    Entry(
        "flux_{band}",
        "electron",
        "phot.count;{spectrum}",
        "flux of the deblended stamp, band {band}; NaN where the band is absent",
        Measured.flux,
    ),
    Entry(
        "blendedness",
        "",
        "stat.value",
        "1 - sum(own^2)/sum(own*observed), band {label}, own: the deblended stamp; 0 if isolated, may be < 0",
        lambda m, _: m.blendedness(),
    ),
    *(
        Entry(name, "", "stat.probability", meaning, _probability(name))
        for name, meaning in probability_columns("{label}").items()
    ),
    Entry(
        "bands_present",
        "",
        "instr.bandpass",
        "bands with an image, in order",
        lambda m, _: band_names(m.frame.bands, m.present),
    ),
    Entry("flags", "", "meta.code.qual", _bits(FLAGS), lambda m, _: m.flags()),
    Entry("shape_flags", "", "meta.code.qual", _bits(SHAPE_FLAGS), lambda m, _: m.shape_flags()),
)


def catalog_columns(bands: Sequence[str], label_band: str) -> dict[str, CatalogColumn[Measured]]:
    """The columns of the catalogue, in order.

    Args:
        bands: bands of the model, in order.
        label_band: band of the observed distortion e and of the flux.
    """
    return columns_of(REGISTRY, bands, **words_of(label_band))


def words_of(label_band: str) -> dict[str, str]:
    """Words of the registry's own templates."""
    return {"label": label_band, "label_spectrum": spectrum(label_band), "axes": _AXES}
