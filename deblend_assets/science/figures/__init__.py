"""One function a figure; each returns a `matplotlib.figure.Figure`, which `to_png` turns into bytes."""

from __future__ import annotations

from deblend_assets.science.figures.accuracy import bin_label, binned_accuracy, flux_error
from deblend_assets.science.figures.distributions import ellipticity_distributions, similarity
from deblend_assets.science.figures.images import dynamic_range, raw_and_normalized, reconstructions
from deblend_assets.science.figures.shapes import ellipses, ellipticity_scatter
from deblend_assets.science.figures.style import to_png
from deblend_assets.science.figures.training import loss_curves

__all__ = [
    "bin_label",
    "binned_accuracy",
    "dynamic_range",
    "ellipses",
    "ellipticity_distributions",
    "ellipticity_scatter",
    "flux_error",
    "loss_curves",
    "raw_and_normalized",
    "reconstructions",
    "similarity",
    "to_png",
]
