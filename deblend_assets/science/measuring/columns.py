"""The registry of catalogue columns: name, unit, UCD, meaning and value of each.

It defines the catalogue of a user's stamps and that of a tile, the metadata of Parquet, the headers of FITS, and the
tables of docs/measuring.md and docs/shape_catalog.md (`python -m deblend_assets.steps.measuring.document` rewrites
these). Meanings are plain ASCII, as FITS headers require.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deblend_assets.science.measuring.measured import FLAGS, UNLIKE_TRAINING, Measured, band_names
from deblend_assets.science.shapes.classifier import probabilities
from deblend_assets.science.shapes.heads import probability_columns
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS
from deblend_assets.science.stamps.quantities import QUANTITIES

# "stamps": `deblend_assets measure`, pixel frame and electrons. "tile": `des/shape_catalog`, sky frame and nJy.
Catalog = Literal["stamps", "tile"]
# (N,) values of a column; the second argument is the component (0 or 1), the band's position, or 0.
Value = Callable[[Measured, int], np.ndarray]

# The survey's id of a galaxy, on which its tables are joined.
ID = "coadd_objects_id"
# Nearest optical bands of the UCD1+ vocabulary, which has none for the filters of LSST and DES.
_UCD_BANDS = {"u": "em.opt.U", "g": "em.opt.B", "r": "em.opt.R", "i": "em.opt.I", "z": "em.opt.I", "y": "em.opt.I"}
_G, _E, _SIZE, _FLUX = (QUANTITIES.index(name) for name in ("g1", "e1", "ln_size", "ln_flux"))


@dataclass(frozen=True)
class CatalogColumn:
    """A column of a catalogue.

    Attributes:
        unit: in the syntax of FITS and the VO; "" without one.
        ucd: UCD1+.
        meaning: convention and source, in ASCII.
        value: computes the column; None for identity, position and provenance, which are not measured.
    """

    unit: str
    ucd: str
    meaning: str
    value: Callable[[Measured], np.ndarray] | None = None


@dataclass(frozen=True)
class Entry:
    """An entry of the registry: one column, or one for each component or band.

    Name, unit, UCD and meaning are templates. `{k}` is 1 and 2, `{band}` each band of the model, `{label}` the label
    band, `{axes}` the catalogue's frame, `{flux_unit}` and `{flux_ucd}` its flux, `{spectrum}` and `{label_spectrum}`
    the UCD of the band's part of the spectrum.

    Attributes:
        name, unit, ucd, meaning, value: see `CatalogColumn`.
        only: the catalogue that has it; None: both.
    """

    name: str
    unit: str
    ucd: str
    meaning: str
    value: Value | None = None
    only: Catalog | None = None


def _mean(first: int) -> Value:
    return lambda m, k: m.measured(m.turned(m.posterior.mean[:, first : first + 2])[:, k])


def _single(quantity: int) -> Value:
    return lambda m, _: m.measured(m.posterior.mean[:, quantity])


def _error(first: int) -> Value:
    return lambda m, k: m.measured(m.posterior.errors[:, first + k])


def _likelihood(first: int) -> Value:
    return lambda m, k: np.where(
        m.likelihood.is_constrained(first + k),
        m.measured(m.turned(m.likelihood.mean[:, first : first + 2])[:, k]),
        np.nan,
    )


def _likelihood_error(first: int) -> Value:
    return lambda m, k: np.where(
        m.likelihood.is_constrained(first + k), m.measured(m.likelihood.errors[:, first + k]), np.nan
    )


def _probability(name: str) -> Value:
    return lambda m, _: m.measured(probabilities(m.posterior)[name])


def _response(m: Measured, k: int) -> np.ndarray:
    # The diagonal is the same in both frames: estimate and shear change sign together.
    assert m.survey is not None
    return m.survey.response[:, k, k]


def _shape(letter: str, first: int, what: str) -> tuple[Entry, ...]:
    ellipticity, error = "src.ellipticity", "stat.error;src.ellipticity"
    return (
        Entry(
            f"{letter}{{k}}",
            "",
            ellipticity,
            f"component {{k}}: {what}, {{axes}}; posterior mean, shrunk toward zero",
            _mean(first),
        ),
        Entry(f"{letter}{{k}}_err", "", error, f"posterior standard deviation of {letter}{{k}}", _error(first)),
        Entry(
            f"{letter}{{k}}_free",
            "",
            ellipticity,
            f"{letter}{{k}}, likelihood-only estimate (prior divided out); NaN where shape_flags mark it",
            _likelihood(first),
        ),
        Entry(f"{letter}{{k}}_free_err", "", error, f"standard error of {letter}{{k}}_free", _likelihood_error(first)),
    )


def _bits(flags: Mapping[int, str]) -> str:
    return "bits, 0 is good: " + "; ".join(f"{bit} {words}" for bit, words in flags.items())


def flags_of(catalog: Catalog) -> dict[int, str]:
    """Bits and meanings of the column `flags`; the catalogue "stamps" has no comparison with the training fluxes."""
    return {bit: words for bit, words in FLAGS.items() if catalog == "tile" or bit != UNLIKE_TRAINING}


# In the order of the catalogues.
REGISTRY: tuple[Entry, ...] = (
    Entry(
        "stamp",
        "",
        "meta.record",
        "position of the stamp in the array, in the folder's files in the order of their names, or in the table of "
        "positions; from 0",
        only="stamps",
    ),
    Entry("file", "", "meta.id;meta.file", "name of the stamp's file", only="stamps"),
    Entry("id", "", "meta.id;meta.main", "given in the table of positions; empty where it is missing", only="stamps"),
    Entry(ID, "", "meta.id;meta.main", "the survey's id of the galaxy", only="tile"),
    Entry("tile", "", "meta.id;obs.field", "name of the tile", only="tile"),
    Entry("ra", "deg", "pos.eq.ra;meta.main", "right ascension given, ICRS", only="stamps"),
    Entry("dec", "deg", "pos.eq.dec;meta.main", "declination given, ICRS", only="stamps"),
    Entry("ra", "deg", "pos.eq.ra;meta.main", "right ascension, ICRS, im3shape's shift applied", only="tile"),
    Entry("dec", "deg", "pos.eq.dec;meta.main", "declination, ICRS, im3shape's shift applied", only="tile"),
    Entry("x", "pixel", "pos.cartesian.x", "column given, from 0", only="stamps"),
    Entry("y", "pixel", "pos.cartesian.y", "row given, from 0", only="stamps"),
    *_shape("g", _G, "intrinsic shear-type (a-b)/(a+b), PSF removed, not calibrated for shear"),
    *_shape("e", _E, "observed distortion (a^2-b^2)/(a^2+b^2), band {label}, with PSF"),
    Entry(
        "response_g{k}",
        "",
        "stat.value;src.ellipticity",
        "d g{k} / d shear {k} from the sheared image; for sums over many galaxies alone: "
        "shear = sum(w g{k}) / sum(w response_g{k})",
        _response,
        only="tile",
    ),
    Entry(
        "ln_size",
        "",
        "phys.angSize;src",
        "ln of the circularised half-light radius before PSF [arcsec], posterior mean",
        _single(_SIZE),
    ),
    Entry("ln_size_err", "", "stat.error;phys.angSize;src", "posterior standard deviation of ln_size", _error(_SIZE)),
    Entry(
        "ln_flux",
        "",
        "phot.count;{label_spectrum}",
        "ln of the total flux, band {label} [electron], posterior mean",
        _single(_FLUX),
        only="stamps",
    ),
    Entry(
        "ln_flux_err",
        "",
        "stat.error;phot.count;{label_spectrum}",
        "posterior standard deviation of ln_flux",
        _error(_FLUX),
        only="stamps",
    ),
    Entry(
        "e{k}_moments",
        "",
        "src.ellipticity",
        "component {k}: distortion of the deblended stamp, band {label}, unweighted moments, with PSF, {axes}",
        lambda m, k: m.turned(np.stack([m.moments.e1, m.moments.e2], axis=1))[:, k],
    ),
    Entry(
        "flux_{band}",
        "{flux_unit}",
        "{flux_ucd};{spectrum}",
        "flux of the deblended stamp, band {band}; NaN where the band is absent",
        Measured.flux,
    ),
    Entry(
        "flux_err_{band}",
        "{flux_unit}",
        "stat.error;{flux_ucd};{spectrum}",
        "standard error of flux_{band} from the stamp's pixel noise alone",
        Measured.flux_error,
        only="tile",
    ),
    Entry(
        "blendedness",
        "",
        "stat.value",
        "1 - sum(own^2)/sum(own*observed), band {label}, own: the deblended stamp; 0 if isolated, may be < 0",
        lambda m, _: m.blendedness(),
    ),
    *(
        Entry(name, "", "stat.probability", meaning, _probability(name))
        for name, meaning in probability_columns("{label}").items()
    ),
    Entry(
        "snr_{label}",
        "",
        "stat.snr",
        "matched-filter S/N of the deblended stamp, band {label}: sqrt(sum(own^2))/noise",
        lambda m, _: m.snr(m.frame.label),
        only="tile",
    ),
    Entry(
        "bands_present",
        "",
        "instr.bandpass",
        "bands with an image, in order",
        lambda m, _: band_names(m.frame.bands, m.present),
    ),
    Entry("flags", "", "meta.code.qual", _bits(flags_of("stamps")), lambda m, _: m.flags(), only="stamps"),
    Entry("flags", "", "meta.code.qual", _bits(flags_of("tile")), lambda m, _: m.flags(), only="tile"),
    Entry("shape_flags", "", "meta.code.qual", _bits(SHAPE_FLAGS), lambda m, _: m.shape_flags()),
    Entry("model_version", "", "meta.version;meta.modelled", "fingerprint of the networks", only="tile"),
    Entry("simulated", "", "meta.code;meta.modelled", "true: a simulated tile, not the sky", only="tile"),
)


def catalog_columns(catalog: Catalog, bands: Sequence[str], label_band: str) -> dict[str, CatalogColumn]:
    """The columns of a catalogue, in order.

    Args:
        catalog: "stamps" or "tile".
        bands: bands of the model, in order.
        label_band: band of the observed distortion e and of the flux.
    """
    columns: dict[str, CatalogColumn] = {}
    for entry in entries(catalog):
        varied: list[dict[str, str]] = [{}]
        if "{k}" in entry.name:
            varied = [{"k": "1"}, {"k": "2"}]
        elif "{band}" in entry.name:
            varied = [{"band": band} for band in bands]
        for number, words in enumerate(varied):
            name, unit, ucd, meaning = described(entry, catalog, label_band, **words)
            columns[name] = CatalogColumn(unit, ucd, meaning, _bound(entry.value, number))
    return columns


def entries(catalog: Catalog) -> list[Entry]:
    """The registry's entries for a catalogue, in order."""
    return [entry for entry in REGISTRY if entry.only in (None, catalog)]


def described(entry: Entry, catalog: Catalog, label_band: str, k: str = "", band: str = "") -> tuple[str, ...]:
    """Name, unit, UCD and meaning of an entry with its templates filled."""
    words = {
        "k": k,
        "band": band,
        "label": label_band,
        "spectrum": _spectrum(band),
        "label_spectrum": _spectrum(label_band),
        "axes": {
            "stamps": "pixel frame (x with the column, y with the row)",
            "tile": "sky frame (+x east, +y north)",
        }[catalog],
        "flux_unit": {"stamps": "electron", "tile": "nJy"}[catalog],
        "flux_ucd": {"stamps": "phot.count", "tile": "phot.flux.density"}[catalog],
    }
    return tuple(text.format(**words) for text in (entry.name, entry.unit, entry.ucd, entry.meaning))


def _spectrum(band: str) -> str:
    return _UCD_BANDS.get(band.lower(), "em.opt")


def _bound(value: Value | None, number: int) -> Callable[[Measured], np.ndarray] | None:
    return None if value is None else lambda measured: value(measured, number)


def parquet_columns(columns: Mapping[str, CatalogColumn]) -> dict[str, tuple[str, str, str]]:
    """Unit, meaning and UCD of every column, for `stores.tables.to_parquet`."""
    return {name: (column.unit, column.meaning, column.ucd) for name, column in columns.items()}
