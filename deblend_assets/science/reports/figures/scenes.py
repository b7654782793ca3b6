"""The three datasets side by side (section 3.1.2 of the report)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure

from deblend_assets.science.reports.figures.style import new_figure


def scenes(stamps: Mapping[str, np.ndarray], *, band: str, index: int, pixel_scale: float) -> Figure:
    """One row a dataset, one column a scene, one asinh scale for all, linear within three times the sky's noise.

    Args:
        stamps: dataset name to (N, band, y, x) [electron].
        band, index: name and position of the band shown.
        pixel_scale: [arcsec/pixel].
    """
    number = len(next(iter(stamps.values())))
    figure = new_figure(1.75 * number + 1.0, 1.8 * len(stamps) + 0.4)
    axes = figure.subplots(len(stamps), number, squeeze=False, sharex=True, sharey=True)
    shown = {name: images[:, index] for name, images in stamps.items()}
    everything = np.concatenate([images.ravel() for images in shown.values()])
    noisy = shown.get("noisy", everything)
    noise = 1.4826 * float(np.median(np.abs(noisy - np.median(noisy)))) or 1.0
    scale = AsinhNorm(3 * noise, vmin=-3 * noise, vmax=float(everything.max()))
    reach = 0.5 * pixel_scale * next(iter(shown.values())).shape[-1]
    for row, (name, images) in zip(axes, shown.items(), strict=True):
        row[0].set_ylabel(f"{name}\ny [arcsec]", fontsize=9)
        for axis, image in zip(row, images, strict=True):
            drawn = axis.imshow(
                image, origin="lower", norm=scale, cmap="viridis", extent=(-reach, reach, -reach, reach)
            )
    for axis in axes[-1]:
        axis.set_xlabel("x [arcsec]", fontsize=9)
    figure.colorbar(drawn, ax=axes.ravel().tolist(), label="electron / pixel", pad=0.01)
    figure.suptitle(f"Band {band}", fontsize=11)
    return figure
