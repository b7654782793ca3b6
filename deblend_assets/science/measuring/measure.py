"""From stamps in electrons to deblended stamps, shapes and fluxes: what is applied wherever a trained model measures.

The tiles, `deblend_assets measure` and the exported model deblend with `Deblender`, which the held-out evaluation
evaluates, and take shapes from `ShapePosterior`, which has an evaluation of its own. The frame is the pixel frame:
x with the column, y with the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.science.deblender.network import BATCH, Deblender, deblend
from deblend_assets.science.measuring.columns import (
    BAD_SHAPE,
    FLAGS,
    MISSING_BAND,
    NEGATIVE_FLUX,
    estimated_blendedness,
    flag_bits,
)
from deblend_assets.science.networks import DISTORTION, SHEAR
from deblend_assets.science.shapes.classifier import probabilities
from deblend_assets.science.shapes.heads import probability_columns
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.stamps.quantities import QUANTITIES

# A bit of the column `flags` beside those of `shape_columns`.
NOT_FINITE = 16
MEASURED_FLAGS = {
    **{bit: FLAGS[bit] for bit in (MISSING_BAND, BAD_SHAPE, NEGATIVE_FLUX)},
    NOT_FINITE: "a pixel of a band that is there is not a number, or no band is there: nothing is measured",
}


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        network: deblends, on the device it computes on.
        shapes: measures, on the same device and in the same frame.
        version: fingerprint of both, and so of everything before them.
    """

    network: Deblender
    shapes: ShapePosterior
    version: str

    def __post_init__(self) -> None:
        bands, pixels = self.network.normalization.bands, int(self.network.deblender.decoder.pixels)  # type: ignore[arg-type]
        deblends = self.frame.attributes() | {"bands": list(bands), "shape": [len(bands), pixels, pixels]}
        self.frame.require(deblends, "deblender")

    @property
    def frame(self) -> StampFrame:
        """Of the stamps that it measures."""
        return self.shapes.frame


def measured_columns(bands: Sequence[str], label_band: str) -> dict[str, tuple[str, str]]:
    """Unit and meaning of every column of `measure`, in order.

    Args:
        bands: of the model, in order.
        label_band: the band of the observed ellipticities.
    """
    frame = "pixel frame: x with the column, y with the row"
    columns: dict[str, tuple[str, str]] = {}
    for names, words in (
        (SHEAR, "intrinsic shear-type (a-b)/(a+b), PSF removed, not calibrated"),
        (DISTORTION, f"observed distortion (a^2-b^2)/(a^2+b^2), band {label_band}, with PSF"),
    ):
        for k, name in enumerate(names, start=1):
            columns[name] = ("", f"component {k}: {words}, {frame}; posterior mean, drawn to round")
            columns[f"{name}_err"] = ("", f"posterior standard deviation of {name}")
        for name in names:
            columns[f"{name}_free"] = (
                "",
                f"{name} without the population's pull to round; NaN where shape_flags say so",
            )
            columns[f"{name}_free_err"] = ("", f"standard error of {name}_free")
    columns["ln_size"] = ("", "ln of the circularised half-light radius before PSF [arcsec], posterior mean")
    columns["ln_size_err"] = ("", "posterior standard deviation of ln_size")
    columns["ln_flux"] = ("", f"ln of the total flux, band {label_band} [electron], posterior mean")
    columns["ln_flux_err"] = ("", "posterior standard deviation of ln_flux")
    for k, name in enumerate(DISTORTION, start=1):
        columns[f"{name}_moments"] = (
            "",
            f"component {k}: distortion of the deblended stamp, band {label_band}, unweighted moments, {frame}",
        )
    for band in bands:
        columns[f"flux_{band}"] = ("electron", f"sum of the deblended stamp, band {band}; NaN where it is absent")
    bits = "; ".join(f"{bit} {words}" for bit, words in MEASURED_FLAGS.items())
    return columns | {
        "blendedness": (
            "",
            f"1 - sum(own^2)/sum(own*observed), band {label_band}, own: the deblended stamp; 0 alone, may be < 0",
        ),
        **{name: ("", meaning) for name, meaning in probability_columns(label_band).items()},
        "bands_present": ("", "bands with an image, in order"),
        "flags": ("", f"bits, 0 is good: {bits}"),
        "shape_flags": ("", "bits, 0 is good: " + "; ".join(f"{bit} {words}" for bit, words in SHAPE_FLAGS.items())),
    }


def measure(model: Model, electrons: np.ndarray, batch: int = BATCH) -> tuple[pd.DataFrame, np.ndarray]:
    """One row a stamp, and the deblended stamps.

    A band whose every pixel is NaN is absent. A stamp with any other pixel that is not a number, or without a band,
    is flagged and measured as NaN.

    Args:
        model: in whose frame the stamps are.
        electrons: (N, band, y, x) float32 [electron].
        batch: stamps computed at a time.

    Returns:
        The columns of `measured_columns`; (N, band, y, x) float32 [electron], NaN where nothing is measured.
    """
    present = ~np.isnan(electrons).all(axis=(-2, -1))
    broken = (~np.isfinite(electrons).all(axis=(-2, -1)) & present).any(axis=1) | ~present.any(axis=1)
    label = model.frame.label
    seen = present & ~broken[:, None]
    images, _ = deblend(model.network, electrons, seen, batch)
    found = named_shapes(model.shapes, electrons, seen, batch)
    images[broken] = np.nan
    moments = image_moments(images[:, label])
    columns: dict[str, np.ndarray] = {}
    for name, numbers in found.items():
        columns[name] = np.where(broken, 0, numbers) if name == "shape_flags" else np.where(broken, np.nan, numbers)
    columns["e1_moments"], columns["e2_moments"] = moments.e1, moments.e2
    for k, band in enumerate(model.frame.bands):
        # What a network makes up for a band that nobody saw is no measurement.
        flux = images[:, k].sum(axis=(-2, -1), dtype=np.float64)
        columns[f"flux_{band}"] = np.where(present[:, k], flux, np.nan)
    columns["blendedness"] = estimated_blendedness(images[:, label], electrons[:, label])
    columns["bands_present"] = band_names(model.frame.bands, present)
    flags = flag_bits(
        present, np.zeros(len(present), bool), columns["g1"], columns["g2"], columns[f"flux_{model.frame.label_band}"]
    )
    columns["flags"] = flags | np.where(broken, NOT_FINITE, 0).astype(flags.dtype)
    return pd.DataFrame(columns)[list(measured_columns(model.frame.bands, model.frame.label_band))], images


def named_shapes(
    shapes: ShapePosterior, electrons: np.ndarray, present: np.ndarray, batch: int = BATCH
) -> dict[str, np.ndarray]:
    """The columns of `measured_columns` of a shape posterior, (N,) each; arguments as of `ShapePosterior.posterior`."""
    posterior = shapes.posterior(electrons, present, batch)
    found = posterior.in_own_units(shapes.population)
    likelihood = posterior.likelihood_only().in_own_units(shapes.population)
    assert likelihood.flags is not None
    columns: dict[str, np.ndarray] = {}
    for k, name in enumerate(QUANTITIES):
        columns[name] = found.mean[:, k].numpy()
        columns[f"{name}_err"] = found.errors[:, k].numpy()
        if name in (*SHEAR, *DISTORTION):
            kept = likelihood.is_constrained(k)
            columns[f"{name}_free"] = np.where(kept, likelihood.mean[:, k], np.nan)
            columns[f"{name}_free_err"] = np.where(kept, likelihood.errors[:, k], np.nan)
    return columns | {"shape_flags": likelihood.flags} | probabilities(posterior)


def band_names(bands: Sequence[str], present: np.ndarray) -> np.ndarray:
    """The column `bands_present`, (N,) text, of a mask (N, band)."""
    kinds, which = np.unique(present, axis=0, return_inverse=True)
    words = ["".join(b for b, there in zip(bands, row, strict=True) if there) for row in kinds]
    return np.array(words, dtype=object)[which.ravel()]
