"""The figure of docs/skies.md: PSFs, noise and damage.

python -m benchmarks.skies --figure docs/images/skies.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import galsim
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

from deblend_assets.science.reports.figures.style import (
    BLACK,
    BLUE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    to_png,
)
from deblend_assets.science.skies.artefacts import sample_artefacts
from deblend_assets.science.skies.masks import MaskBit
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.skies.noise import WHITE, reconvolved, resampled
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.skies.saturation import saturate
from deblend_assets.science.skies.sky import Sky
from deblend_assets.settings import FieldSkySettings, MaskSettings

COLOURS = dict(zip(MaskBit, (BLUE, BLACK, ORANGE, VERMILION, PURPLE, "#999999", SKY), strict=True))
SIDE, SEED = 300, 274


def light_of(sky: Sky, rng: np.random.Generator) -> NDArray[np.float32]:
    """Exponential galaxies of magnitude 20 to 25, and one star of 15.5, in one band; (1, y, x)."""
    psf = sky["r"].psf.at(*sky.centre)
    image = galsim.ImageF(SIDE, SIDE, scale=sky.pixel_scale)
    for _ in range(90):
        flux = sky["r"].flux(25 - 5 * rng.random() ** 2)
        galaxy = galsim.Exponential(half_light_radius=rng.uniform(0.2, 0.9), flux=flux).shear(g1=rng.normal() * 0.2)
        profile = galsim.Convolve(galaxy, psf)
        profile.drawImage(image, add_to_image=True, center=galsim.PositionD(*rng.uniform(1, SIDE, 2)))
    (psf * sky["r"].flux(15.5)).drawImage(image, add_to_image=True, center=galsim.PositionD(215.3, 95.1))
    return image.array[None]


def show(axis: Axes, image: NDArray, title: str, *, stretch: float | None = None) -> None:
    """One image without ticks; `stretch` is the softening of an arcsinh."""
    values = image if stretch is None else np.arcsinh(image / stretch)
    low, high = np.percentile(values, [0.5, 99.7])
    axis.imshow(values, origin="lower", cmap="Greys_r" if stretch else "RdBu_r", vmin=low, vmax=high)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, required=True)
    arguments = parser.parse_args()
    figure = new_figure(8.4, 8.6)
    psfs, noises, field = figure.subfigures(3, 1, height_ratios=[2.3, 2.3, 3.1])
    rng = np.random.default_rng(12)

    for axis, name in zip(psfs.subplots(1, 4), ("LSST", "DES", "HSC", "wide"), strict=True):
        bands = ("r",)
        sky = sample_sky(FieldSkySettings(name=name, bands=bands, correlated=0.0), (SIDE, SIDE), rng)
        psf = sky["r"].psf.at(*sky.centre)
        shape = measure_psf(psf)
        image = psf.drawImage(nx=33, ny=33, scale=sky.pixel_scale).array
        show(axis, image / image.max(), f"{name}, r: {shape.fwhm:.2f}″, |g| = {abs(shape.g):.3f}", stretch=1e-3)
        levels = [0.01, 0.1, 0.5]
        axis.contour(image / image.max(), levels=levels, colors=[SKY, ORANGE, VERMILION], linewidths=1)
        axis.set_xlabel(f"33 pixels of {sky.pixel_scale:.2f}″", fontsize=8)
    psfs.suptitle("PSF on pixels: contours at 1, 10 and 50 % of the peak", fontsize=10)

    kinds = {
        "white": WHITE,
        "bilinear": resampled("bilinear"),
        "Lanczos 3": resampled("lanczos3"),
        "reconvolved, 0.7″ to 0.85″": reconvolved(galsim.Kolmogorov(fwhm=0.7), galsim.Gaussian(fwhm=0.85), 0.2),
    }
    for axis, (name, correlation) in zip(noises.subplots(1, 4), kinds.items(), strict=True):
        show(axis, correlation.sample((50, 50), rng), name)
        axis.set_xlabel(
            f"next pixel {correlation.lags(1)[1, 2]:.2f}, diagonal {correlation.lags(1)[2, 2]:.2f}", fontsize=8
        )
    noises.suptitle("Noise of unit variance a pixel, and its correlation", fontsize=10)

    settings = FieldSkySettings(name="DES", bands=("r",), correlated=0.0)
    sky = sample_sky(settings, (SIDE, SIDE), rng)
    masks = MaskSettings(cosmic_rays=6.0, trails=2.0, bad_columns=2.0, chip_gaps=1.0, missing=0.5, missed=0.4)
    light = light_of(sky, rng)
    damage = sample_artefacts(sky, masks, np.random.default_rng(SEED)) | saturate(sky, light, masks, rng)
    image = damage.apply(sky.expose(light, rng))[0]
    panels = field.subplots(1, 3)
    show(panels[0], image, "image", stretch=2 * sky["r"].sigma)
    classes = np.zeros((SIDE, SIDE), int)
    for number, bit in reversed(list(enumerate(MaskBit, start=1))):
        classes[damage.mask[0] & bit != 0] = number
    panels[1].imshow(
        classes, origin="lower", cmap=ListedColormap(["white", *COLOURS.values()]), vmin=0, vmax=len(COLOURS)
    )
    left = np.where(damage.left_in[0], damage.added[0] / sky["r"].sigma, 0.0)
    panels[2].imshow(np.clip(left, -10, 10), origin="lower", cmap="RdBu_r", vmin=-10, vmax=10)
    for axis, title in zip(panels[1:], ("mask, by its bits", "what the mask does not know, ±10 σ"), strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    handles = [
        panels[1].plot([], [], "s", color=c, label=b.name.lower().replace("_", " "))[0] for b, c in COLOURS.items()
    ]
    field.legend(handles=handles, loc="outside lower center", ncols=7, fontsize=8, frameon=False, handletextpad=0.1)
    field.suptitle(f"A field of {SIDE} × {SIDE} pixels with more damage than usual", fontsize=10)
    arguments.figure.write_bytes(to_png(figure))


if __name__ == "__main__":
    main()
