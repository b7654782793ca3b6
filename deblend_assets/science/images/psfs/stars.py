"""The PSF of a band from the stars of its image, where none is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.science.images.field_checks.sources import BandSources
from deblend_assets.science.images.field_checks.stars import STAR_SNR, size_error
from deblend_assets.science.images.psfs.candidates import SIDE, Candidates, Window, against, find_candidates
from deblend_assets.science.images.psfs.cluster import Cluster, star_cluster
from deblend_assets.science.images.psfs.profile_fit import SmoothPSF, smooth_psf
from deblend_assets.science.images.psfs.stacking import StarStamps, stack_stars
from deblend_assets.science.images.psfs.variation import StarVariation, VaryingStarPSF, fit_variation
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

LEAST_STARS = 10
"""Fewest stars of S/N ≥ 50 that make a PSF."""
# A guess of the FWHM to begin with [arcsec, pixel].
_GUESS, _GUESS_PIXELS = 0.8, (2.5, 5.0)
# Steps in which the guess comes to the locus of the stars, and how near [ln size].
_STEPS, _NEAR = 6, 0.02
# Rounds of choosing stars and averaging them.
_ROUNDS = 2

Floats = NDArray[np.float64]


class PSFFromStars(NamedTuple):
    """A PSF and the stars that it was measured from.

    Attributes:
        psf: see `PSF`.
        stars: one row a bright detection: x, y [pixel of the image], snr, fwhm [arcsec; of a star of the same size by
            adaptive moments, before the pixel], isolated, kept (bool).
        degree: of its variation over the image; 0: constant.
    """

    psf: VaryingStarPSF
    stars: pd.DataFrame
    degree: int


def psf_from_stars(windows: Iterable[Window], pixel_scale: float, where: str) -> PSFFromStars:
    """The PSF of a band, measured from its isolated stars of S/N ≥ 50.

    Stars are the bright detections that all have one size and one shape (`star_cluster`), first against a Moffat
    profile that comes to have their size, then against the PSF itself. Their mean image (`stack_stars`) is smoothed and
    has the wings of an atmosphere (`smooth_psf`). Size and shape vary over the image as polynomials of first or second
    degree where there are enough stars, and they need it (`fit_variation`).

    Args:
        windows: pixels of the band, read one at a time; a source in two of them counts twice.
        pixel_scale: [arcsec].
        where: name of the band's image, for messages.

    Raises:
        MissingDataError: fewer than `LEAST_STARS` stars, or none that stand out from the galaxies.
    """
    fwhm = float(np.clip(_GUESS / pixel_scale, *_GUESS_PIXELS))
    candidates = find_candidates(windows, fwhm)
    image, cluster = _at_locus(candidates, fwhm)
    chosen = _require(cluster, where)
    variation = StarVariation(0, (0.0, 0.0), (1.0, 1.0), np.zeros((1, 3)))
    for _ in range(_ROUNDS):
        smooth = _average(candidates, chosen, image)
        image = smooth.drawn(SIDE)
        sources, factor = against(candidates, image), _pixel_factor(image)
        there = _without(sources, variation.at(candidates.x, candidates.y) / factor)
        chosen = _require(star_cluster(there, np.zeros(3)), where)
        changes = factor * np.stack([sources.ln_size, sources.shape.real, sources.shape.imag], axis=1)[chosen]
        errors = size_error(sources.snr[chosen])
        variation = fit_variation(candidates.x[chosen], candidates.y[chosen], changes, errors)
    fwhm = float(measure_psf_images(image[None]).fwhm[0]) * pixel_scale
    stars = pd.DataFrame(
        {
            "x": candidates.x,
            "y": candidates.y,
            "snr": candidates.snr,
            "fwhm": fwhm * np.exp(factor * sources.ln_size),
            "isolated": sources.isolated,
            "kept": np.isin(np.arange(len(candidates.snr)), chosen),
        }
    )
    return PSFFromStars(VaryingStarPSF(smooth.profile(pixel_scale), variation), stars, variation.degree)


def _at_locus(candidates: Candidates, fwhm: float) -> tuple[Floats, Cluster]:
    """A Moffat profile of the FWHM of the stars, (SIDE, SIDE), and the stars."""
    near = None
    for _ in range(_STEPS):
        image = _moffat(fwhm)
        cluster = star_cluster(against(candidates, image), near)
        if not len(cluster.members):
            break
        step = float(cluster.centre[0])
        fwhm *= float(np.exp(step))
        near = cluster.centre * [0.0, 1.0, 1.0]
        if abs(step) < _NEAR:
            break
    return image, cluster


def _moffat(fwhm: float) -> Floats:
    image = galsim.Moffat(beta=3.0, fwhm=fwhm).drawImage(nx=SIDE, ny=SIDE, scale=1.0, dtype=float).array
    return np.asarray(image / image.sum())


def _average(candidates: Candidates, chosen: NDArray[np.int64], start: Floats) -> SmoothPSF:
    fwhm = float(measure_psf_images(start[None]).fwhm[0])
    x, y = candidates.offset[chosen].T
    stamps = StarStamps(
        candidates.light[chosen].astype(np.float64),
        candidates.variance[chosen].astype(np.float64),
        *(x, y, candidates.snr[chosen]),
    )
    stack = stack_stars(stamps, start, fwhm)
    return smooth_psf(stack.image, stack.error, fwhm)


def _pixel_factor(image: Floats) -> float:
    """Change of ln size or g of a PSF before the pixel over that of its image: the pixel's variance does not change."""
    sigma = float(measure_psf_images(image[None]).fwhm[0]) / FWHM_OVER_SIGMA
    return 1 + 1 / 12 / sigma**2


def _without(sources: BandSources, changes: Floats) -> BandSources:
    """Sources against the PSF at their places, which differs by changes of ln size, g1 and g2, (N, 3)."""
    return replace(
        sources, ln_size=sources.ln_size - changes[:, 0], shape=sources.shape - changes[:, 1] - 1j * changes[:, 2]
    )


def _require(cluster: Cluster, where: str) -> NDArray[np.int64]:
    """The stars; MissingDataError where there are too few, or what is there may be galaxies."""
    number = len(cluster.members)
    if number < LEAST_STARS or not cluster.stands_out:
        few = number < LEAST_STARS
        raise MissingDataError(
            f"{number} isolated stars of S/N {STAR_SNR:.0f} or more, {LEAST_STARS} are needed to measure the PSF"
            if few
            else "its bright sources are galaxies of all sizes: no stars stand out to measure the PSF from",
            where=where,
            remedy="give psf = a file, or {fwhm = …} in arcsec",
        )
    return cluster.members
