"""Real images through detection and measurement, and what comes out against what is known: docs/real_images.md.

    python -m benchmarks.real_images --data FOLDER [--pages FOLDER]

Nothing in the project was chosen on these images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import sep
from numpy.typing import NDArray

from benchmarks.real_cosmos import cosmos_lines
from benchmarks.real_fields import REAL_FIELDS, RealField
from benchmarks.real_pair import blend_of, chi2_line, split_table
from deblend_assets.api import GOOD_FLUX, RowFlag, load_model
from deblend_assets.science.images.field import Box
from deblend_assets.science.images.field_maps import within_circles
from deblend_assets.science.measuring.field_look import image_of
from deblend_assets.science.measuring.field_stars import light_radius
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.statistics.format import MISSING, Table, format_number
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.steps.fields.catalog import FieldCatalog, catalog_of
from deblend_assets.steps.fields.quality import quality_page, reference_band, residual_of
from deblend_assets.steps.fields.summary import summary_lines

# A peak or a star is found where a row lies within this distance [FWHM of the reference band].
_NEAR = 1.0
# Of the apertures in which colors are compared [arcsec], how far the next detection is, and the least S/N.
_APERTURE, _ISOLATED, _LEAST_SNR = 2.0, 4.0, 20.0
STAR_SNR, LEAST_STARS = 50.0, 20
"""Of stars that are looked at for roundness, and their fewest."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredImage:
    """A real field and its catalogue."""

    real: RealField
    catalog: FieldCatalog

    @classmethod
    def of(cls, real: RealField, model: SkyModel) -> MeasuredImage:
        """Detect and measure as the command does."""
        return cls(real, catalog_of(real.field, model, "shipped", log=lambda line: None))

    @cached_property
    def band(self) -> str:
        """The reference band."""
        return reference_band(self.real.field)

    @property
    def fwhm(self) -> float:
        """In the reference band [pixel]."""
        return self.catalog.look.fwhm[self.real.field.names.index(self.band)]

    @cached_property
    def flags(self) -> NDArray[np.int64]:
        """`RowFlag` of the rows, (N,)."""
        return self.catalog.table["flags"].to_numpy(np.int64)

    @property
    def good(self) -> NDArray[np.bool_]:
        """Rows that are good for fluxes, whatever the PSF's width, (N,)."""
        return np.asarray((self.flags & int(GOOD_FLUX & ~RowFlag.PSF)) == 0)

    @cached_property
    def places(self) -> Floats:
        """x and y of the rows, (N, 2) [pixel]."""
        return self.catalog.table[["x", "y"]].to_numpy(np.float64)

    def nearest(self, places: Floats) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Whether a row lies at each place, and which: (K,) both."""
        distance = np.hypot(*(places[:, None, :2] - self.places).transpose(2, 0, 1))
        row = distance.argmin(axis=1) if len(places) else np.zeros(0, np.int64)
        return distance.min(axis=1, initial=np.inf) < _NEAR * self.fwhm, row

    @cached_property
    def residual(self) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """Image less model in the reference band, sky taken off [σ of a pixel]; where it is dark; where rows are good.

        Good: within the light of a row that is good for fluxes, and of no other.
        """
        field, look = self.real.field, self.catalog.look
        box = Box(0, 0, *field.shape[::-1])
        plane = residual_of(field, self.catalog, box)[2][field.names.index(self.band)]
        everything, x, y = self.catalog.detections, *self.places.T
        radius = light_radius(everything, look)
        dark = ~within_circles(box, *(everything[name].to_numpy(np.float64) for name in "xy"), radius)
        of_row = radius[[int(np.hypot(everything["x"] - a, everything["y"] - b).argmin()) for a, b in self.places]]
        good = self.good
        lit = within_circles(box, x[good], y[good], of_row[good])
        lit &= ~within_circles(box, x[~good], y[~good], of_row[~good])
        known = np.isfinite(plane)
        return plane - np.nanmedian(plane[dark]), dark & known, lit & known

    @property
    def noise(self) -> tuple[float, int]:
        """Robust scatter of the source-free pixels over the stated noise, and their number."""
        plane, dark, _ = self.residual
        return float(robust_sigma(plane[dark].astype(np.float64))), int(dark.sum())

    def chi2(self, lit: bool) -> tuple[float, int]:
        """Mean square of the residual over the variance of the source-free pixels, and the number of pixels.

        Args:
            lit: of the pixels of good rows instead of the source-free ones, of which those within 5 σ.
        """
        plane, dark, on_rows = self.residual
        values = plane[on_rows if lit else dark & (np.abs(plane) < 5 * self.noise[0])].astype(np.float64)
        return (float((values**2).mean()) / self.noise[0] ** 2 if len(values) else float("nan")), len(values)

    @cached_property
    def colors(self) -> Floats:
        """Of isolated rows: color of the catalogue, less that of apertures, and the error of both, (K, 2) [mag]."""
        field, table = self.real.field, self.catalog.table
        box = Box(0, 0, *field.shape[::-1])
        image = image_of(field, self.catalog.look, box)
        scale, dark = field.pixel_scale, self.residual[1]
        distance = np.hypot(*(self.places[:, None] - self.places).transpose(2, 0, 1))
        np.fill_diagonal(distance, np.inf)
        wanted = (distance.min(axis=1, initial=np.inf) * scale > _ISOLATED) & (table["snr"].to_numpy() > _LEAST_SNR)
        wanted &= (self.flags & ~int(RowFlag.STAR | RowFlag.PSF)) == 0
        x, y = self.places[wanted].T
        light, error = [], []
        for pixels, weight in zip(image.pixels, image.inverse_variance, strict=True):
            plane = np.ascontiguousarray(pixels - np.median(pixels[dark & (weight > 0)]), np.float64)
            sigma = np.sqrt(1 / np.where(weight > 0, weight, np.inf)).astype(np.float64)
            flux, err, _ = sep.sum_circle(plane, x, y, _APERTURE / scale, err=sigma, mask=weight <= 0)
            light.append(flux)
            error.append(err)
        found = []
        bands = field.names
        for k, (blue, red) in enumerate(pairwise(bands)):
            zero = field.bands[blue].zero_point - field.bands[red].zero_point
            with np.errstate(invalid="ignore", divide="ignore"):
                aperture = zero - 2.5 * np.log10(light[k] / light[k + 1])
                parts = [error[j] / light[j] for j in (k, k + 1)]
            total = table[f"mag_{blue}"].to_numpy(np.float64) - table[f"mag_{red}"].to_numpy(np.float64)
            errors = [*(1.0857 * part for part in parts)]
            errors += [table[f"mag_{band}_err"].to_numpy(np.float64)[wanted] for band in (blue, red)]
            pair = np.stack([total[wanted] - aperture, np.sqrt(np.sum(np.square(errors), axis=0))], axis=1)
            found.append(pair[np.isfinite(pair).all(axis=1) & (parts[0] < 0.1) & (parts[1] < 0.1)])
        return np.concatenate(found) if found else np.empty((0, 2))

    @property
    def stars(self) -> pd.DataFrame:
        """Rows with the flag STAR alone and S/N above `STAR_SNR` in the reference band."""
        table = self.catalog.table
        return table[(self.flags == int(RowFlag.STAR)) & (table[f"snr_{self.band}"].to_numpy() > STAR_SNR)]


def images_table(images: dict[str, MeasuredImage]) -> Table:
    """What is found of each field."""
    rows = []
    for name, image in images.items():
        found, _ = image.nearest(image.real.peaks)
        at_star, row = image.nearest(image.real.stars)
        marked = (image.flags[row[at_star]] & int(RowFlag.STAR | RowFlag.SATURATED)) > 0
        (noise, dark), (chi2_dark, _), (chi2, lit) = image.noise, image.chi2(lit=False), image.chi2(lit=True)
        rows.append(
            (
                name.replace("_", " "),
                ", ".join(str(int(kept.sum())) for kept in (image.flags >= 0, image.flags == 0, image.good)),
                f"{int(found.sum())} of {len(found)}" if len(found) else MISSING,
                f"{int(at_star.sum())} of {len(at_star)}, {int(marked.sum())}" if len(at_star) else MISSING,
                image.band,
                f"{format_number(noise, 3)} ({dark:,})",
                format_number(chi2_dark, 3),
                f"{format_number(chi2, 3)} ({lit:,})" if lit else MISSING,
            )
        )
    columns = (
        "field",
        "rows; flags = 0; good for fluxes but for the PSF",
        "peaks found",
        "sources of Gaia found; of these STAR or SATURATED",
        "band",
        "noise over stated (pixels)",
        "χ² source-free",
        "χ² on good rows (pixels)",
    )
    return Table(columns, rows)


def color_line(images: Sequence[MeasuredImage]) -> str:
    """Colors of all fields together."""
    both = np.concatenate([image.colors for image in images])
    if not len(both):
        return "Colors: no isolated galaxy"
    off, pull = both[:, 0], both[:, 0] / both[:, 1]
    return (
        f"Colors of {len(both)} pairs of neighbouring bands of isolated galaxies less those in apertures of radius "
        f'{_APERTURE:g}": median {np.median(off):+.3f} mag, robust σ {robust_sigma(off):.3f}, '
        f"of the pulls {robust_sigma(pull):.2f}"
    )


def star_line(images: Sequence[MeasuredImage]) -> str:
    """Roundness of the stars of the field that has the most."""
    number = max(len(image.stars) for image in images)
    if number < LEAST_STARS:
        return f"Stars of S/N > {STAR_SNR:g}: at most {number} in a field, {LEAST_STARS} are needed: not judged"
    means = [np.hypot(*image.stars[["e1", "e2"]].mean()) / 2 for image in images if len(image.stars) >= LEAST_STARS]
    return f"Stars of S/N > {STAR_SNR:g}: abs(g) of their mean at most {max(means):.3f}"


def main() -> None:
    """Measure every field and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--pages", type=Path, help="folder for the quality pages")
    parser.add_argument("--fields", nargs="+", choices=list(REAL_FIELDS), default=list(REAL_FIELDS))
    arguments = parser.parse_args()
    model, images = load_model(), {}
    for name in arguments.fields:
        images[name] = image = MeasuredImage.of(REAL_FIELDS[name](arguments.data), model)
        if arguments.pages is not None:
            arguments.pages.mkdir(parents=True, exist_ok=True)
            page = quality_page(image.real.field, image.catalog, summary_lines(image.real.field, image.catalog))
            (arguments.pages / f"{name.replace(' ', '_')}.html").write_bytes(page.html)
    print(images_table(images).markdown())
    print(color_line(list(images.values())), star_line(list(images.values())), sep="\n\n")
    name = "hsc_hst_pair"
    pairs = {key.removeprefix(name): image.catalog for key, image in images.items() if key.startswith(name)}
    blends = [blend_of(catalog, arguments.data, which) for which, catalog in pairs.items()]
    print(split_table(blends).markdown(), chi2_line(blends), sep="\n\n")
    print(*cosmos_lines(arguments.data, model), sep="\n")


if __name__ == "__main__":
    main()
