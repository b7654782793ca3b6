"""The catalogue of the model for every sky: name, unit, UCD, meaning and value of each column.

Sky frame: +x west, +y north. What a survey adds, identity, position and provenance, stands around what is measured.
docs/shape_catalog.md has its table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deblend_assets.science.measuring.registry import CatalogColumn, Entry, columns_of
from deblend_assets.science.measuring.sky_rows import SkyRows
from deblend_assets.science.measuring.trust import REASONS

# The survey's id of a galaxy, on which its tables are joined.
ID = "coadd_objects_id"
_FRAME = "sky frame (+x west, +y north)"
_ELEMENTS = ((0, 0), (0, 1), (1, 1))
_LEARNT = "learnt from the template spectra of simulated galaxies: not for real ones"

Value = Callable[[SkyRows, int], np.ndarray]


def _response(kind: str) -> Value:
    return lambda rows, n: rows.response[kind][:, n // 2, n % 2]


def _shape(letter: str, what: str) -> tuple[Entry[SkyRows], ...]:
    """Estimates with and without the prior, and their covariances."""
    ellipticity, variance = "src.ellipticity", "stat.covariance;src.ellipticity"
    return (
        Entry(
            f"{letter}{{k}}",
            "",
            ellipticity,
            f"component {{k}}: {what}, {_FRAME}; posterior mean, shrunk toward zero",
            lambda rows, k: rows.shape(letter)[0][:, k],
        ),
        Entry(
            f"{letter}{{k}}_pixel",
            "",
            ellipticity,
            f"{letter}{{k}} in the pixel frame (x along a row, y along a column)",
            lambda rows, k: rows.pixel_shape(letter)[0][:, k],
        ),
        Entry(
            f"{letter}_cov_{{pair}}",
            "",
            variance,
            f"posterior covariance of {letter}, components {{pair}}",
            lambda rows, n: rows.shape(letter)[1][:, *_ELEMENTS[n]],
        ),
        Entry(
            f"{letter}_cov_{{pair}}_pixel",
            "",
            variance,
            f"posterior covariance of {letter}1_pixel and {letter}2_pixel, components {{pair}}",
            lambda rows, n: rows.pixel_shape(letter)[1][:, *_ELEMENTS[n]],
        ),
        Entry(
            f"{letter}{{k}}_likelihood",
            "",
            ellipticity,
            f"{letter}{{k}}, likelihood-only estimate (prior divided out); NaN where the pixels hold too little",
            lambda rows, k: rows.shape(letter, likelihood=True)[0][:, k],
        ),
        Entry(
            f"{letter}_likelihood_cov_{{pair}}",
            "",
            variance,
            f"covariance of the likelihood-only estimate of {letter}, components {{pair}}",
            lambda rows, n: rows.shape(letter, likelihood=True)[1][:, *_ELEMENTS[n]],
        ),
    )


_BITS = "; ".join(f"{int(flag)} {flag.name}" for flag in REASONS)

IDENTITY: tuple[Entry[SkyRows], ...] = (
    Entry(ID, "", "meta.id;meta.main", "the survey's id of the galaxy"),
    Entry("tile", "", "meta.id;obs.field", "name of the tile"),
    Entry("ra", "deg", "pos.eq.ra;meta.main", "right ascension, ICRS, im3shape's shift applied"),
    Entry("dec", "deg", "pos.eq.dec;meta.main", "declination, ICRS, im3shape's shift applied"),
)

MEASURED: tuple[Entry[SkyRows], ...] = (
    Entry(
        "snr",
        "",
        "stat.snr",
        "flux over its error of noise alone, all bands: root of the sum of squares of the positive ones",
        lambda rows, _: rows.trust.snr_total,
    ),
    Entry(
        "snr_{band}", "", "stat.snr;{spectrum}", "the same in band {band}, signed", lambda rows, b: rows.trust.snr[:, b]
    ),
    Entry(
        "flux_{band}",
        "nJy",
        "phot.flux.density;{spectrum}",
        "total flux, band {band}: all detections of the stamp solved together, linear, may be negative; NaN where the "
        "band is absent",
        lambda rows, b: rows.flux[:, b],
    ),
    Entry(
        "flux_{band}_err",
        "nJy",
        "stat.error;phot.flux.density;{spectrum}",
        "standard error of flux_{band}, of the sky's noise and of the profiles",
        lambda rows, b: rows.flux_err[:, b],
    ),
    Entry(
        "flux_cov_{bands}",
        "nJy2",
        "stat.covariance;phot.flux.density",
        "covariance of the fluxes in the two bands {bands}: what is wrong with a profile is wrong in all bands",
        lambda rows, n: rows.flux_covariance(n),
    ),
    Entry(
        "mag_{band}",
        "mag",
        "phot.mag;{spectrum}",
        "AB magnitude of flux_{band}; NaN where it is not positive",
        lambda rows, b: rows.magnitude(b)[0],
    ),
    Entry(
        "mag_{band}_err",
        "mag",
        "stat.error;phot.mag;{spectrum}",
        "standard error of mag_{band}, to first order",
        lambda rows, b: rows.magnitude(b)[1],
    ),
    *_shape("g", "intrinsic shear-type (a-b)/(a+b), PSF removed, not calibrated for shear"),
    *_shape("e", "observed distortion (a^2-b^2)/(a^2+b^2), adaptive moments, reference band, with PSF"),
    Entry(
        "half_light_radius",
        "arcsec",
        "phys.angSize;src",
        "circularised half-light radius before PSF: exp of the posterior mean of its ln",
        lambda rows, _: rows.half_light_radius[0],
    ),
    Entry(
        "half_light_radius_err",
        "arcsec",
        "stat.error;phys.angSize;src",
        "half_light_radius times the posterior standard deviation of its ln",
        lambda rows, _: rows.half_light_radius[1],
    ),
    Entry("star_probability", "", "stat.probability", "probability of a star", lambda rows, _: rows.scene.targets.star),
    Entry(
        "neighbor_probability",
        "",
        "stat.probability",
        "probability that another source of a tenth of the light or more has no detection of its own; it sees most "
        "equal pairs 1 FWHM apart or more, few that are closer or of unequal light; with S/N and "
        "concentration it sets the flag BLENDED",
        lambda rows, _: rows.scene.targets.blend,
    ),
    Entry(
        "blendedness",
        "",
        "stat.value",
        "share of the light under the galaxy's model that other detections have: 1 - sum(own^2)/sum(own*all), "
        "reference band; blind to a neighbor without a detection of its own: see neighbor_probability",
        lambda rows, _: rows.in_reference(rows.scene.fluxes.blendedness[:, 0]),
    ),
    Entry(
        "z",
        "",
        "src.redshift.phot",
        f"redshift of a galaxy, median of its posterior given the fluxes and errors of all bands; {_LEARNT}",
        lambda rows, _: rows.redshifts.z,
    ),
    Entry(
        "z_p16",
        "",
        "stat.percentile;src.redshift.phot",
        f"16th percentile of that posterior; {_LEARNT}",
        lambda rows, _: rows.redshifts.low,
    ),
    Entry(
        "z_p84",
        "",
        "stat.percentile;src.redshift.phot",
        f"84th percentile of that posterior; {_LEARNT}",
        lambda rows, _: rows.redshifts.high,
    ),
    Entry(
        "R{matrix}",
        "",
        "stat.value;src.ellipticity",
        "d g_i / d shear_j of ij = {matrix} from the stamp itself, of the posterior mean, on a share of the rows, "
        "else NaN; for means over many galaxies alone: shear = sum(w g) / sum(w R)",
        _response("shear"),
    ),
    Entry(
        "R{matrix}_psf",
        "",
        "stat.value;src.ellipticity",
        "the same by g of the PSF, of the image and as given: leakage",
        _response("psf"),
    ),
    Entry(
        "R{matrix}_psf_model",
        "",
        "stat.value;src.ellipticity",
        "the same by g of the PSF as given alone: an error of its model",
        _response("psf_model"),
    ),
    Entry(
        "psf_fwhm_{band}",
        "arcsec",
        "instr.obsty.seeing;{spectrum}",
        "FWHM of the PSF used, before the pixel, band {band}",
        lambda rows, b: rows.psf_fwhm[:, b],
    ),
    Entry(
        "psf_g1_{band}",
        "",
        "src.ellipticity;{spectrum}",
        f"g1 of the PSF used, shear-type, band {{band}}, {_FRAME}",
        lambda rows, b: rows.psf_g[:, b, 0],
    ),
    Entry(
        "psf_g2_{band}",
        "",
        "src.ellipticity;{spectrum}",
        "g2 of the same",
        lambda rows, b: rows.psf_g[:, b, 1],
    ),
    Entry(
        "chi2",
        "",
        "stat.fit.chi2",
        "reduced chi squared of the scene under the galaxy, the largest of the bands",
        lambda rows, _: rows.chi2,
    ),
    Entry(
        "centroid_offset",
        "arcsec",
        "pos.angDistance",
        "distance of the galaxy's light from the given position",
        lambda rows, _: rows.trust.offset * rows.stamps.pixel_scale,
    ),
    Entry(
        "masked_fraction",
        "",
        "stat.value",
        "share of the galaxy's light on lost pixels, mean of the bands present",
        lambda rows, _: rows.trust.masked,
    ),
    Entry(
        "training_distance",
        "",
        "stat.value",
        "distance from the training: the largest of size over the stamp's side, brightness, missing light in other "
        "bands and PSF or pixels, each over its limit; above 1 one of LARGE, BRIGHT, COLOR, PSF is set",
        lambda rows, _: rows.trust.training_distance,
    ),
    Entry("flags", "", "meta.code.qual", f"bits, 0 is good: {_BITS}", lambda rows, _: rows.trust.flags),
    Entry("bands_present", "", "instr.bandpass", "bands with an image, in order", lambda rows, _: rows.bands_present),
    Entry(
        "reference_band",
        "",
        "instr.bandpass",
        "band of e and blendedness: the present one nearest to r",
        lambda rows, _: rows.reference_band,
    ),
)

PROVENANCE: tuple[Entry[SkyRows], ...] = (
    Entry("model_version", "", "meta.version;meta.modelled", "fingerprint of the model"),
    Entry("simulated", "", "meta.code;meta.modelled", "true: a simulated tile, not the sky"),
)


def sky_columns(bands: Sequence[str]) -> dict[str, CatalogColumn[SkyRows]]:
    """What is measured of stamps of some bands, in order."""
    return columns_of(MEASURED, bands)


def tile_columns(bands: Sequence[str]) -> dict[str, CatalogColumn[SkyRows]]:
    """The columns of a tile's catalogue, in order."""
    return columns_of((*IDENTITY, *MEASURED, *PROVENANCE), bands)
