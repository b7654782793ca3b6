"""Pieces of real coadds among as many of ours, for a stranger to sort; and the key.

python -m benchmarks.sorting_sheet --data HSC --real FOLDER --figure sheet.png --key key.csv

Ours are seen through the PSFs of the real image, with its bands, pixel scale, zero point and level of noise, and the
noise correlation of the kernel that it was resampled with. Photon noise is that of the survey's sky. No artefacts.

Images that were published because of what is in them are no sample of the sky. Ours have a galaxy of the same magnitude
at the place of each bright source of theirs. All else about it is the catalogue's, and so are the sources fainter than
`Data.placed`. Every piece, real or ours, is turned and mirrored at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.field_pictures import catalog
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.reports.figures.fields import ShownField, colour_image
from deblend_assets.science.reports.figures.style import new_figure
from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.galaxies import Galaxies, concatenate
from deblend_assets.science.simulation.sources import SkyCatalog, sample_sources
from deblend_assets.science.skies.image_psf import ImagePSF
from deblend_assets.science.skies.limits import fwhm_limits
from deblend_assets.science.skies.named import sample_sky, survey_pixel_scale
from deblend_assets.science.skies.noise import resampled
from deblend_assets.science.skies.psf import PSF, ConstantPSF
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.settings import FieldSettings, FieldSkySettings

Floats = NDArray[np.float64]

# Sky is where the image behind a Gaussian of so many pixels is fainter than so many σ of a pixel, and so many pixels
# away from what is brighter; unless that leaves fewer pixels than these.
SMOOTHED, FAINT, GROWN, FEWEST = 1.5, 0.5, 4, 100
ALIKE = 10  # galaxies of the nearest magnitudes, of which one takes the place of a real one
_I = CATSIM_BANDS.index("i")


@dataclass(frozen=True)
class Data:
    """A set of real coadds.

    Attributes:
        survey: whose sky's brightness it has.
        bands: of the images.
        zero_point: AB magnitude of one image unit.
        pixel_scale: [arcsec].
        side: of the pieces [pixel].
        placed: magnitude to which our galaxies have the places and magnitudes of the real sources, theirs in the third
            band, ours in i; None: ours are a random field.
    """

    survey: str
    bands: str
    zero_point: float
    pixel_scale: float
    side: int
    placed: float | None


# HSC's images hold two pieces of 64 x 64 pixels, and eight of 46 x 46. The pair of COSMOS blends beside them is left
# out: its bands are not on one flux scale.
DATA = {
    "DECam": Data("DES", "grz", 22.5, 0.262, 64, None),
    "HSC": Data("HSC", "grizy", 27.0, 0.168, 46, 25.0),
}
HSC_FILES = ("testdata_3_0", "hsc_cosmos_35", "hsc_cosmos")


@dataclass(frozen=True)
class Coadd:
    """A real image: (band, y, x) [image unit], and its PSFs with their pixel, (band, y, x)."""

    images: Floats
    psfs: Floats

    def sigma(self) -> Floats:
        """Standard deviation of a pixel without sources, (band,) [image unit]."""
        return np.array([image[sky_pixels(image)].std() for image in self.images])


def coadds(name: str, folder: Path) -> Iterator[Coadd]:
    """The real images of `DATA[name]` below a folder."""
    if name == "HSC":
        for file in HSC_FILES:
            with np.load(folder / f"hsc_scarlet/{file}.npz") as data:
                yield Coadd(data["images"].astype(np.float64), data["psfs"].astype(np.float64))
        return
    place = "59.1067_-30.4848.fits"
    with fits.open(folder / f"decals_dr9_cutout/cutout_{place}") as file:
        planes = [hdu.data.astype(np.float64) for hdu in file if hdu.data is not None]
    with fits.open(folder / f"decals_dr9_cutout/copsf_{place}") as file:
        psfs = [hdu.data.astype(np.float64) for hdu in file if hdu.data is not None]
    yield Coadd(np.stack(planes[::2]), np.concatenate([np.atleast_3d(p.T).T for p in psfs]))


def sky_pixels(image: Floats) -> NDArray[np.bool_]:
    """Which pixels of an image hold no source that is seen, (y, x)."""
    level = 1.4826 * np.median(np.abs(np.diff(image))) / np.sqrt(2)
    bright = ndimage.gaussian_filter(image, SMOOTHED) > FAINT * level
    sky = ~ndimage.binary_dilation(bright, iterations=GROWN)
    if sky.sum() < FEWEST:  # bright galaxies all over a small image
        sky = ~bright
    return np.asarray(sky & (np.abs(image - np.median(image[sky])) < 4 * level))


def sky_like(data: Data, coadd: Coadd, shape: tuple[int, int], rng: np.random.Generator) -> Sky:
    """A sky of a real image's PSFs and noise; PSFs sharper than the project's limit are widened to it.

    Args:
        data: of the image.
        coadd: the image.
        shape: of the sky's, (y, x).
        rng: of the survey's sky brightness.
    """
    named = FieldSkySettings(name=data.survey, correlated=0.0, psf_varies=False, residual=False)
    survey = sample_sky(named, shape, rng)
    lanczos = resampled("lanczos3")
    pixels = (data.pixel_scale / survey_pixel_scale(data.survey)) ** 2
    bands = {}
    for name, psf, sigma in zip(data.bands, coadd.psfs, coadd.sigma(), strict=True):
        brightness = survey[name].sigma ** 2 * pixels * 10 ** (-0.4 * (survey[name].zero_point - data.zero_point))
        gain = brightness / (sigma**2 * lanczos.area)
        bands[name] = SkyBand(_allowed(psf, data.pixel_scale), sigma, data.zero_point, gain, lanczos)
    return Sky(data.survey, data.pixel_scale, shape, bands)


def _allowed(psf: Floats, pixel_scale: float) -> PSF:
    profile = ImagePSF(psf, pixel_scale).at(0.0, 0.0)
    sharper = 1.001 * fwhm_limits(pixel_scale).low / measure_psf(profile).fwhm
    return ConstantPSF(profile.dilate(sharper) if sharper > 1 else profile)


def bright_sources(data: Data, coadd: Coadd, limit: float) -> pd.DataFrame:
    """x, y [pixel] and magnitude in the third band of the sources that are brighter than a limit in it."""
    sigma = coadd.sigma()
    fwhm = [measure_psf(ImagePSF(psf, data.pixel_scale).at(0.0, 0.0)).fwhm / data.pixel_scale for psf in coadd.psfs]
    weight = np.broadcast_to(sigma[:, None, None] ** -2, coadd.images.shape)
    found = detect(coadd.images.astype(np.float32), weight.astype(np.float32), fwhm, tuple(data.bands))
    flux = ndimage.sum_labels(coadd.images[2], found.segments, np.arange(len(found.table)) + 1)
    table = found.table[["x", "y"]].assign(magnitude=data.zero_point - 2.5 * np.log10(np.maximum(flux, sigma[2])))
    return table[table["magnitude"] < limit].reset_index(drop=True)


def ours_like(
    data: Data, coadd: Coadd, galaxies: SkyCatalog, bright: SkyCatalog, rng: np.random.Generator
) -> tuple[Sky, NDArray[np.float32]]:
    """A simulated image like a real one: its sky, and (band, y, x) [image unit].

    Args:
        data: of the image.
        coadd: the image.
        galaxies: of the random field.
        bright: that take the places of bright ones.
        rng: random numbers.
    """
    sky = sky_like(data, coadd, (coadd.images.shape[1], coadd.images.shape[2]), rng)
    sources = sample_sources(galaxies, sky, FieldSettings(psf_cells=1), rng)
    bodies, x, y = sources.bodies, sources.x, sources.y
    if data.placed is not None:
        real = bright_sources(data, coadd, data.placed)
        fainter = np.flatnonzero(bodies.magnitudes()[:, _I] >= data.placed)
        bodies = concatenate([*(_stand_in(bright, m, rng) for m in real["magnitude"]), bodies[fainter]])
        x, y = np.concatenate([real["x"], x[fainter]]), np.concatenate([real["y"], y[fainter]])
    light = FieldRenderer(sky, patches=1).light(bodies, x, y)
    return sky, sky.expose(light, rng)


def _stand_in(bright: SkyCatalog, magnitude: float, rng: np.random.Generator) -> Galaxies:
    """One galaxy of nearly a magnitude, scaled to it and turned."""
    off = np.abs(bright.galaxies.magnitudes()[:, _I] - magnitude)
    row = rng.choice(np.argsort(off)[:ALIKE])
    galaxy = bright.galaxies[np.array([row])].turned(np.array([rng.uniform(0, 2 * np.pi)]))
    return replace(galaxy, flux=galaxy.flux * 10 ** (-0.4 * (magnitude - galaxy.magnitudes()[0, _I])))


def pieces(data: Data, sigma: Floats, images: NDArray[np.floating]) -> list[ShownField]:
    """Square pieces of an image, side by side about its middle, all at one stretch."""
    counts = [length // data.side for length in images.shape[1:]]
    low = [(length - n * data.side) // 2 for length, n in zip(images.shape[1:], counts, strict=True)]
    found = []
    for row, column in np.ndindex(*counts):
        y, x = low[0] + row * data.side, low[1] + column * data.side
        piece = images[:, y : y + data.side, x : x + data.side].astype(np.float32)
        weight = np.broadcast_to(sigma[:, None, None] ** -2, piece.shape).astype(np.float32)
        zero_points = np.full(len(data.bands), data.zero_point)
        found.append(ShownField("", tuple(data.bands), piece, weight, zero_points, data.pixel_scale))
    return found


def sheet(shown: Sequence[ShownField], columns: int = 5) -> Figure:
    """Numbered pictures, from 1, in reading order."""
    rows = -(-len(shown) // columns)
    figure = new_figure(2.2 * columns, 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for number, (axis, piece) in enumerate(zip(axes, shown, strict=False), start=1):
        axis.imshow(colour_image(piece), origin="lower", interpolation="nearest")
        axis.set_title(str(number))
    return figure


def true_colour_png(figure: Figure) -> bytes:
    """A figure as PNG with every color that it has: in a palette bright sources would be patches of one color."""
    png = BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def shuffled(
    real: Sequence[ShownField], ours: Sequence[ShownField], most: int, rng: np.random.Generator
) -> tuple[list[ShownField], list[bool]]:
    """At most so many of each, as many of one as of the other, turned, in random order; and whether each is real."""
    count = min(most, len(real), len(ours))
    chosen = [(part[n], part is real) for part in (real, ours) for n in rng.permutation(len(part))[:count]]
    mixed = [chosen[n] for n in rng.permutation(len(chosen))]
    return [_turned(piece, rng) for piece, _ in mixed], [is_real for _, is_real in mixed]


def _turned(piece: ShownField, rng: np.random.Generator) -> ShownField:
    """By a random multiple of 90°, and mirrored or not."""
    images = np.rot90(piece.images, int(rng.integers(4)), axes=(1, 2))
    return replace(piece, images=images[..., ::-1] if rng.integers(2) else images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, required=True)
    parser.add_argument("--real", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--figure", type=Path, required=True, help="PNG to write")
    parser.add_argument("--key", type=Path, required=True, help="CSV to write: number, real")
    parser.add_argument("--most", type=int, default=10, help="pieces of each")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data, rng = DATA[arguments.data], np.random.default_rng(arguments.seed)
    galaxies, bright = catalog(), catalog(faintest=25.0)
    real, ours = [], []
    for coadd in coadds(arguments.data, arguments.real):
        sigma = coadd.sigma()
        real += pieces(data, sigma, coadd.images)
        sky, images = ours_like(data, coadd, galaxies, bright, rng)
        ours += pieces(data, sky.column("sigma"), images)
    shown, key = shuffled(real, ours, arguments.most, rng)
    arguments.figure.write_bytes(true_colour_png(sheet(shown)))
    pd.DataFrame({"number": np.arange(len(key)) + 1, "real": key}).to_csv(arguments.key, index=False)
    print(f"{len(key)} pieces of {data.side} x {data.side} pixels, {sum(key)} of them real")


if __name__ == "__main__":
    main()
