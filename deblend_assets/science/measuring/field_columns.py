"""The columns of a field's catalogue, in order: identity and position, what is measured, what is said of each band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deblend_assets.science.detection.detect import DETECTION_COLUMNS
from deblend_assets.science.measuring.field_rows import BAND_REASONS
from deblend_assets.science.measuring.registry import CatalogColumn, Entry, columns_of
from deblend_assets.science.measuring.sky_columns import MEASURED
from deblend_assets.science.stamps.mask_bits import MaskBit

_BITS = "; ".join(f"{int(flag)} {flag.name}" for flag in BAND_REASONS)
_LOST = ", ".join(f"{int(bit)} {bit.name}" for bit in MaskBit)
_ERROR = "least standard error of {}, of an isolated source; NaN where the position was given"

FIELD_IDENTITY: tuple[Entry[Any], ...] = (
    Entry("id", "", "meta.id;meta.main", "number of the row, from 1, or the id that was given"),
    Entry("ra", "deg", "pos.eq.ra;meta.main", "right ascension of the detection, ICRS; NaN without a celestial WCS"),
    Entry("dec", "deg", "pos.eq.dec;meta.main", "declination of the detection, ICRS; NaN without a celestial WCS"),
    Entry(
        "ra_err",
        "arcsec",
        "stat.error;pos.eq.ra",
        "error of ra times cos(dec), from x_err and y_err; NaN where they or ra are",
    ),
    Entry(
        "dec_err", "arcsec", "stat.error;pos.eq.dec", "error of dec, from x_err and y_err; NaN where they or dec are"
    ),
    Entry("x", "pixel", "pos.cartesian.x;instr.det", "position along a row, from 0 at the centre of the first pixel"),
    Entry(
        "y", "pixel", "pos.cartesian.y;instr.det", "position along a column, from 0 at the centre of the first pixel"
    ),
    Entry("x_err", "pixel", "stat.error;pos.cartesian.x", _ERROR.format("x")),
    Entry("y_err", "pixel", "stat.error;pos.cartesian.y", _ERROR.format("y")),
    Entry("detection_snr", "", "stat.snr", "of a matched filter over all bands; NaN where the position was given"),
)
FIELD_ENDS: tuple[Entry[Any], ...] = (
    Entry("flags_{band}", "", "meta.code.qual;{spectrum}", f"of band {{band}} alone, bits, 0 is good: {_BITS}"),
    Entry(
        "mask_bits",
        "",
        "meta.code",
        "bits of the given masks at the pixel nearest to the position, of all bands, for information; of a mask of "
        f"codes 2^code; of ready stamps why that pixel is lost: {_LOST}",
    ),
    Entry("model_version", "", "meta.version;meta.modelled", "fingerprint of the model"),
)


# Of galaxies that were injected: what they are, and whether they came back; what was measured of them follows.
INJECTED: tuple[Entry[Any], ...] = (
    Entry("true_x", "pixel", "", "position along a row, from 0 at the centre of the first pixel"),
    Entry("true_y", "pixel", "", "position along a column, from 0 at the centre of the first pixel"),
    Entry("true_g{k}", "", "", "component {k} of the injected shape, shear-type, sky frame (+x west, +y north)"),
    Entry("true_g{k}_pixel", "", "", "the same in the pixel frame"),
    Entry("true_half_light_radius", "arcsec", "", "circularised, before the PSF"),
    Entry("true_n", "", "", "index of the Sersic profile"),
    Entry("true_mag_{band}", "mag", "", "AB magnitude, band {band}"),
    Entry("found", "", "", "whether a detection is nearer than one FWHM; else the measured columns are NaN"),
    Entry("on_source", "", "", "whether a source of more than a quarter of its S/N was there before"),
)


def field_columns(bands: Sequence[str]) -> dict[str, CatalogColumn[Any]]:
    """The columns of the catalogue of a field with some bands, in order."""
    return columns_of((*FIELD_IDENTITY, *MEASURED, *FIELD_ENDS), bands)


def detection_columns(bands: Sequence[str]) -> dict[str, CatalogColumn[Any]]:
    """The columns of what is detected in a field."""
    return columns_of([Entry(name, unit, "", meaning) for name, (unit, meaning) in DETECTION_COLUMNS.items()], bands)


def injection_columns(bands: Sequence[str]) -> dict[str, CatalogColumn[Any]]:
    """The columns of injected galaxies and of what was measured of them."""
    return columns_of((*INJECTED, *MEASURED, *FIELD_ENDS), bands)
