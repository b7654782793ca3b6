"""The targets of an observed field: a stamp of each detection, and one row of truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.detection.truth import TruthFlag
from deblend_assets.science.simulation.observed import reference_band
from deblend_assets.science.stamps.columns import per_band
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.cutting import cut, on_stamp
from deblend_assets.science.stamps.observed import ObservedStamps, joined
from deblend_assets.science.worlds.observed_fields import LitField, ObservedField
from deblend_assets.settings import StampSettings

# Fainter sources are neighbours of none.
NEIGHBOUR_SNR = 3.0
_OF_SOURCE = ("id", "morphology", "redshift", "g1", "g2", "hlr_arcsec", "concentration", "mag_i")
_ALONE = ("e1", "e2", "e_sigma", "blendedness")
_BESIDE = ("nearest_arcsec", "nearest_dmag", "brightest_arcsec", "brightest_dmag")
_FLAGS = {
    "star": TruthFlag.STAR,
    "spurious": TruthFlag.SPURIOUS,
    "shred": TruthFlag.SHRED,
    "blend": TruthFlag.BLEND,
    "unrecognized": TruthFlag.UNRECOGNIZED_BLEND,
}

TARGET_COLUMNS = {
    "field": ("", "number of its field"),
    "row": ("", "of the detection among those of its field"),
    "survey": ("", "distribution that the field's sky is from"),
    "pixel_scale": ("arcsec / pixel", "of the images"),
    "reference_band": ("", "the present band nearest to r in wavelength: that of e, PSF, depth and blendedness"),
    "fwhm_arcsec": ("arcsec", "FWHM of the PSF at the target, reference band"),
    "fwhm_pixel": ("pixel", "the same"),
    "psf_g1": ("", "shear-type ellipticity of that PSF, adaptive moments"),
    "psf_g2": ("", "the same"),
    "depth": ("mag", "AB magnitude of a star of S/N 5 at the field's centre, reference band"),
    "correlated": ("", "whether the noise is correlated between pixels"),
    "density": ("arcmin^-2", "detections of the field that are targets"),
    "x": ("pixel", "position of the detection on the field along a row, from 0 at the centre of the first pixel"),
    "y": ("pixel", "the same along a column"),
    "snr": ("", "matched-filter S/N of the detection over all bands"),
    "snr_{band}": ("", "the same in one band, signed; NaN in an absent band"),
    "position_err": ("pixel", "least standard error of x and of y"),
    "sigma": ("pixel", "Gaussian sigma, before the PSF, of the profile with the greatest S/N"),
    "masked_fraction": ("", "share of that profile's light on pixels without weight"),
    "pixels": ("", "pixels of the detection's segment"),
    "sep_flags": ("", "SEP's extraction flags"),
    "source": ("", "row of the target among the sources of its field; -1: spurious"),
    "star": ("", "whether the target is a star"),
    "spurious": ("", "whether there is less light than twice the noise"),
    "shred": ("", "whether another detection has the same target and more of its light"),
    "blend": ("", "whether a second source has over a tenth of the light within one FWHM"),
    "unrecognized": ("", "whether such a source is the target of no detection"),
    "light_share": ("", "the target's part of the light within one FWHM of the detection"),
    "id": ("", "of the galaxy in its catalogue; negative for a star, 0 without a target"),
    "morphology": ("", "`Morphology`; -1 without a target"),
    "redshift": ("", "0 for a star"),
    "g1": ("", "shear-type shape before the PSF, pixel frame; NaN for stars and real images"),
    "g2": ("", "the same"),
    "hlr_arcsec": ("arcsec", "half-light radius before the PSF; 0 for a star"),
    "concentration": ("", "5 log10(r80 / r20); NaN for a star"),
    "mag_i": ("mag", "AB magnitude in i"),
    "flux_{band}": ("image unit", "whole flux of the target; NaN in an absent band"),
    "true_x": ("pixel", "position of the target on the field along a row"),
    "true_y": ("pixel", "the same along a column"),
    "true_snr": ("", "S/N of a filter of the target's own light, over all bands and the pixels that the mask leaves"),
    "e1": ("", "distortion of the noiseless target behind its PSF, adaptive moments, reference band"),
    "e2": ("", "the same"),
    "e_sigma": ("pixel", "size of these moments: det(Q)^(1/4)"),
    "blendedness": ("", "1 - sum(own^2)/sum(own*all) in the reference band (Bosch et al. 2018, 1705.06766)"),
    "others_{band}": ("", "light of others under the target's profile over the target's own; NaN in an absent band"),
    "nearest_arcsec": ("arcsec", "distance of the nearest other source of true S/N 3 or more; infinite without"),
    "nearest_dmag": ("mag", "its magnitude less the target's, reference band"),
    "brightest_arcsec": ("arcsec", "distance of the brightest other source whose centre lies on the stamp"),
    "brightest_dmag": ("mag", "its magnitude less the target's, reference band"),
    "separation_fwhm": ("", "distance of the nearest other detection in FWHM; infinite without one on the stamp"),
}
"""Unit and meaning of the columns of `Targets.truth`; {band} once for each of u, g, r, i, z, y."""


def target_columns() -> dict[str, tuple[str, str]]:
    """`TARGET_COLUMNS` with one column a band."""
    return per_band(TARGET_COLUMNS, CATSIM_BANDS)


@dataclass(frozen=True, eq=False)
class Targets:
    """N targets.

    Attributes:
        stamps: in the bands u, g, r, i, z, y.
        truth: one row a stamp, `TARGET_COLUMNS`.
    """

    stamps: ObservedStamps
    truth: pd.DataFrame

    def __len__(self) -> int:
        return len(self.truth)

    def rows(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Targets:
        """Some of them."""
        return Targets(self.stamps.rows(chosen), self.truth.iloc[chosen].reset_index(drop=True))


def join_targets(parts: Sequence[Targets]) -> Targets:
    """The targets of several fields, one field after the other; at least one part."""
    return Targets(
        joined([part.stamps for part in parts]), pd.concat([part.truth for part in parts], ignore_index=True)
    )


def field_targets(
    observed: ObservedField[LitField],
    number: int,
    settings: StampSettings,
    least_snr: float,
    rows: Sequence[int] | None = None,
) -> Targets:
    """The detections of one field above an S/N.

    Args:
        observed: the field.
        number: of the field, for the table.
        settings: sizes of the stamps.
        least_snr: of a target.
        rows: only these of the detections; none: all.
    """
    table, sky = observed.detections.table, observed.field.sky
    bright = np.flatnonzero((table["snr"] >= least_snr).to_numpy())
    chosen = bright if rows is None else np.intersect1d(bright, rows)
    image = observed.field.observed_image(observed.seen, settings.psf_side, settings.lags)
    stamps = cut(image, table["x"].to_numpy(), table["y"].to_numpy(), settings.side, chosen)
    # A detection has weight in a band at least; its stamp may have lost the bands that made it.
    present = stamps.present
    reference = reference_band(sky.names, np.where(present.any(axis=1, keepdims=True), present, True))
    area = float(np.prod(sky.shape)) * sky.pixel_scale**2 / 3600
    truth = pd.DataFrame(
        {
            "field": number,
            "row": chosen,
            "survey": sky.name,
            "pixel_scale": sky.pixel_scale,
            "reference_band": np.array(sky.names, dtype=object)[reference],
            **_psf_columns(observed, chosen, reference),
            "correlated": not all(band.correlation.white for band in sky.bands.values()),
            "density": len(bright) / area,
            "position_err": table["x_err"].to_numpy()[chosen],
            **{name: table[name].to_numpy()[chosen] for name in _of_detection(sky.names)},
            **_of_truth(observed, chosen),
        }
    )
    blends = _blend_columns(observed, stamps, truth, reference)
    truth = pd.concat([truth, blends], axis=1).assign(separation_fwhm=stamps.nearest_other() / truth["fwhm_pixel"])
    columns = target_columns()
    absent = [name for name in columns if name not in truth]
    truth = pd.concat([truth, pd.DataFrame(np.nan, index=truth.index, columns=absent)], axis=1)
    return Targets(stamps.with_nearest(settings.others).in_bands(CATSIM_BANDS), truth[list(columns)])


def _of_detection(bands: Sequence[str]) -> list[str]:
    bandless = ["x", "y", "snr", "sigma", "masked_fraction", "pixels", "sep_flags"]
    return [*bandless, *(f"snr_{band}" for band in bands)]


def _psf_columns(observed: ObservedField[LitField], chosen: NDArray, reference: NDArray) -> dict[str, NDArray]:
    """FWHM and shape of the PSF at each target, and the field's depth, in the reference band."""
    field, table = observed.field, observed.detections.table
    sky = field.sky
    x, y = (table[name].to_numpy()[chosen] for name in "xy")
    patch = field.psfs.patch(x, y)
    shapes = [field.psfs.psf_shape(*key) for key in zip(patch.tolist(), reference.tolist(), strict=True)]
    depth = {band: sky.depth(sky.names[band]) for band in np.unique(reference)}
    fwhm = np.array([shape.fwhm for shape in shapes], dtype=np.float64)
    return {
        "fwhm_arcsec": fwhm,
        "fwhm_pixel": fwhm / sky.pixel_scale,
        "psf_g1": np.array([shape.g1 for shape in shapes], dtype=np.float64),
        "psf_g2": np.array([shape.g2 for shape in shapes], dtype=np.float64),
        "depth": np.array([depth[band] for band in reference], dtype=np.float64),
    }


def _of_truth(observed: ObservedField[LitField], chosen: NDArray) -> dict[str, NDArray]:
    """What is true of the detections, and of the sources that are their targets."""
    truth, sources = observed.truth, observed.field.truth
    target = truth.target[chosen]
    real = target >= 0
    found: dict[str, NDArray] = {"source": target}
    found |= {name: truth.has(flag)[chosen] for name, flag in _FLAGS.items()}
    total = truth.total[chosen]
    found["light_share"] = np.where(real, truth.light[chosen] / np.where(total > 0, total, 1.0), np.nan)
    for name in (*_OF_SOURCE, *(f"flux_{band}" for band in observed.field.sky.names)):
        values = sources[name].to_numpy()[np.where(real, target, 0)]
        nothing = {"id": 0, "morphology": -1}.get(name, np.nan)
        found[name] = np.where(real, values, np.asarray(nothing, values.dtype))
    for name in "xy":
        found[f"true_{name}"] = np.where(real, sources[name].to_numpy()[target], np.nan)
    found["true_snr"] = np.where(real, observed.snr[target], np.nan)
    return found


def _blend_columns(
    observed: ObservedField[LitField], stamps: ObservedStamps, truth: pd.DataFrame, reference: NDArray
) -> pd.DataFrame:
    """e of each target alone, and what of others lies under and beside it; NaN for spurious detections."""
    field, sources, alone = observed.field, observed.field.truth, observed.alone
    flux = sources[[f"flux_{band}" for band in field.sky.names]].to_numpy()
    places, bright = sources[["x", "y"]].to_numpy(), observed.snr >= NEIGHBOUR_SNR
    names = [*_ALONE, *(f"others_{band}" for band in field.sky.names), *_BESIDE]
    found = np.full((len(truth), len(names)), np.nan)
    sizes, widths, scale = truth["sigma"].to_numpy(), truth["fwhm_pixel"].to_numpy(), field.sky.pixel_scale
    for k, (target, band) in enumerate(zip(truth["source"].to_numpy(), reference, strict=True)):
        if target < 0:
            continue
        moments = alone.moments(target, band, float(np.hypot(widths[k] / 2.355, sizes[k])))
        own, others = alone.overlap(target)
        with np.errstate(divide="ignore", invalid="ignore"):
            under = others / own
            dmag = -2.5 * np.log10(flux[:, band] / flux[target, band])
        distance = np.hypot(*(places - places[target]).T)
        beside = bright & (np.arange(len(sources)) != target)
        seen_beside = beside & on_stamp(places - stamps.corner[k], stamps.side)
        nearest, brightest = _first(distance, beside), _first(dmag, seen_beside)
        found[k] = [
            *moments,
            1 - 1 / (1 + under[band]),
            *under,
            *((np.inf, np.nan) if nearest is None else (distance[nearest] * scale, dmag[nearest])),
            *((np.nan, np.nan) if brightest is None else (distance[brightest] * scale, dmag[brightest])),
        ]
    return pd.DataFrame(found, index=truth.index, columns=names)


def _first(values: NDArray, of: NDArray[np.bool_]) -> int | None:
    """Index of the least of some of the values; None where there are none."""
    rows = np.flatnonzero(of)
    return int(rows[values[rows].argmin()]) if rows.size else None
