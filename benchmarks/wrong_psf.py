"""What a PSF given with the wrong ellipticity does to the mean shape of a field, and what the rows' responses foretell.

Under metadetection the light of a field ends behind the true PSF over the given one times the new Gaussian, and is
measured as if it lay behind that Gaussian. Where x is by how much g1 of the Gaussian exceeds that of what the light
lies behind, the mean shape changes by x times the mean of `R11_psf_model` less `R11_psf`. That holds for rows that are
selected with either PSF, with the same weights ("same rows"): which rows are detected and selected, and their weights,
change too. Fields as in `benchmarks.metadetection`.

python -m benchmarks.wrong_psf --fields 8
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.metadetection import counted, ours
from benchmarks.shear_twins import catalog, inner, known_field, simple_sky, twins
from deblend_assets.science.field_shear.fields import Condition
from deblend_assets.science.metadetection.catalogs import MASK_FLAGS, metadetect
from deblend_assets.science.metadetection.kernels import gaussian_covariance, gaussian_sigma, shear_filter, transform
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.measuring.model import load_sky_model

_LEAST_SNR, _GRID = 7.0, 128
# A row is another's where their positions are no farther apart [pixel].
_SAME = 1.0
_RESPONSES = ("R11_psf_model", "R11_psf")


def wrongly_given(image: ObservedImage, true: PatchPSFs, condition: Condition) -> ObservedImage:
    """The same pixels with the PSF of a condition.

    Args:
        image: of a field with one PSF.
        true: of that field.
        condition: which PSF is given.
    """
    wrong = condition.psfs(true).psf_images(*true.sky.centre, image.psf(0, 0).shape[-1])
    return replace(image, psf=lambda x, y: wrong)


def shape_behind(true: NDArray[np.float32], given: NDArray[np.float32]) -> float:
    """g1 of what light lies behind under metadetection, mean of the bands.

    Args:
        true, given: PSFs, (band, y, x).
    """
    found = []
    for light, believed, sigma in zip(true, given, gaussian_sigma(given[None]), strict=True):
        made = shear_filter(believed, gaussian_covariance(float(sigma), np.eye(2)), np.eye(2), (_GRID, _GRID))
        image = np.fft.fftshift(np.fft.ifft2(made * transform(light, (_GRID, _GRID))).real)
        found.append(galsim.hsm.FindAdaptiveMom(galsim.Image(image)).observed_shape.g1)
    return float(np.mean(found))


def selected(image: ObservedImage, noise: NDArray[np.float32], estimate: NetworkEstimate, border: int) -> pd.DataFrame:
    """Rows that count, without an artificial shear: `g1`, `weight`, and `_RESPONSES` where there are some."""
    table = metadetect(image, estimate, noise=noise, kinds=("noshear",))["noshear"]
    inside = inner(table, image.pixels.shape[1], border, 0j)
    rows = counted(table, inside, ours(_LEAST_SNR, int(MASK_FLAGS), "unmasked"))
    return rows.assign(**{name: table.loc[rows.index, name] for name in ("x", "y", *_RESPONSES)})


def change_of_same_rows(exact: pd.DataFrame, under: pd.DataFrame) -> float:
    """Change of the mean g1 of the rows of both tables, with the weights of the first."""
    apart, at = cKDTree(under[["x", "y"]]).query(exact[["x", "y"]], distance_upper_bound=_SAME)
    there = np.isfinite(apart)
    change = under["g1"].to_numpy()[at[there]] - exact["g1"].to_numpy()[there]
    return float(np.average(change, weights=exact["weight"].to_numpy()[there]))


def mean(rows: pd.DataFrame, name: str) -> float:
    """Weighted, of the rows that have it."""
    known = rows[np.isfinite(rows[name].to_numpy(float))]
    return float(np.average(known[name], weights=known["weight"]))


def main() -> None:
    """Print what changes, what is foretold, and their difference."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--fields", type=int, default=8)
    arguments.add_argument("--side", type=int, default=256, help="[pixel]")
    arguments.add_argument("--border", type=int, default=15, help="left out [pixel]")
    arguments.add_argument("--share", type=float, default=0.5, help="of the rows, with responses")
    arguments.add_argument("--e1", type=float, default=0.01)
    asked = arguments.parse_args()
    galaxies, sky, model = catalog(), simple_sky("riz"), load_sky_model(None)
    with_responses = NetworkEstimate(model, MeasurementSettings(), _LEAST_SNR, responses=asked.share)
    without = replace(with_responses, responses=0.0)
    found = []
    condition = Condition("e", "", e1=asked.e1)
    for number in range(asked.fields):
        true = known_field(galaxies, number, asked.side, sky)[0].psfs
        for twin in twins(galaxies, number, asked.side, sky, False):
            image, noise = twin.given.image, twin.given.noise
            wrong = wrongly_given(image, true, condition)
            exact = selected(image, noise, with_responses, asked.border)
            under = selected(wrong, noise, without, asked.border)
            x = -shape_behind(image.psf(0, 0), wrong.psf(0, 0))
            of_model, of_psf = (mean(exact, name) for name in _RESPONSES)
            foretold = x * (of_model - of_psf)
            same = change_of_same_rows(exact, under)
            found.append((number, len(exact), mean(under, "g1") - mean(exact, "g1"), same, foretold, x))
        table = pd.DataFrame(found, columns=["field", "rows", "all", "same rows", "foretold", "x"])
        table = table.assign(**{"same rows less foretold": table["same rows"] - table["foretold"]})
        fields = table.drop(columns="rows").groupby("field").mean()
        if len(fields) > 1:
            errors = fields.std(ddof=1) / np.sqrt(len(fields))
            parts = [f"{name} {fields[name].mean():+.5f} ± {errors[name]:.5f}" for name in fields]
            print(f"{len(fields)} fields, {table['rows'].sum()} rows: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
