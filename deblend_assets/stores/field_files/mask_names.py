"""Which survey made a mask, the names of its bits, and which of them lose a pixel by default."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.stores.field_files.planes import FitsImage

_AFW, _LEGACY = re.compile(r"MP_(\w+)"), re.compile(r"MBIT_(\d+)")
# DESDM's BADPIX_… (despyfits).
_DES = {
    **{"BPM": 0, "SATURATE": 1, "INTERP": 2, "BADAMP": 3, "CRAY": 4, "STAR": 5, "TRAIL": 6, "EDGEBLEED": 7},
    **{"SSXTALK": 8, "EDGE": 9, "STREAK": 10, "SUSPECT": 11, "FIXED": 12, "NEAREDGE": 13, "TAPEBUMP": 14},
}
# NOIRLab's Community Pipeline: bits until V3.5.0 of DECam's, codes since then and for the other cameras.
_NOIRLAB_BITS = {"BAD": 0, "SAT": 1, "INTERP": 2, "CR": 4, "BLEED": 6, "TRANSIENT": 7, "EDGE": 8, "EDGE2": 9}
_NOIRLAB_CODES = {
    **{"BAD": 1, "NO_DATA": 2, "SAT": 3, "BLEED": 4, "CR": 5, "LOW_WEIGHT": 6, "TRANSIENT": 7, "STREAK": 8},
}
# MASKBITS of the Legacy Surveys (DR8 and later; the header says it too).
_LEGACY_BITS = {
    **{"NPRIMARY": 0, "BRIGHT": 1, "SATUR_G": 2, "SATUR_R": 3, "SATUR_Z": 4, "ALLMASK_G": 5, "ALLMASK_R": 6},
    **{"ALLMASK_Z": 7, "WISEM1": 8, "WISEM2": 9, "BAILOUT": 10, "MEDIUM": 11, "GALAXY": 12, "CLUSTER": 13},
    **{"SATUR_I": 14, "ALLMASK_I": 15},
}
# What a name stands for; names that are not here are NO_DATA.
_MEANINGS = {
    **dict.fromkeys(("BAD", "BPM", "BADAMP", "INTRP", "INTERP", "SUSPECT", "FIXED"), MaskBit.BAD_COLUMN),
    **dict.fromkeys(("SAT", "SATURATE", "SATUR"), MaskBit.SATURATED),
    **dict.fromkeys(("BLEED", "TRAIL", "EDGEBLEED", "SSXTALK", "CROSSTALK"), MaskBit.BLEED),
    **dict.fromkeys(("CR", "CRAY"), MaskBit.COSMIC_RAY),
    **dict.fromkeys(("STREAK", "TRANSIENT"), MaskBit.TRAIL),
}
# What loses a pixel by default. Of afw not INTRP, EDGE, CLIPPED, SENSOR_EDGE and the like: on a coadd they say that a
# part of the exposures has no measurement there, and the pixel has one.
_AFW_LOST = ("BAD", "SAT", "CR", "NO_DATA", "SUSPECT", "UNMASKEDNAN")
_DES_LOST = ("BPM", "SATURATE", "INTERP", "BADAMP", "CRAY", "TRAIL", "EDGEBLEED", "SSXTALK", "EDGE", "STREAK")


@dataclass(frozen=True)
class MaskNames:
    """The bits of a mask.

    Attributes:
        survey: who names them.
        bits: numbers from 0, by name in capitals.
        lost: names of those that lose a pixel by default; None: every bit, since nothing says what they are.
        codes: whether a pixel holds one number, which counts as a bit here, instead of a sum of bits.
    """

    survey: str
    bits: dict[str, int] = field(default_factory=dict)
    lost: tuple[str, ...] | None = None
    codes: bool = False


DES_NAMES = MaskNames("DES", _DES, _DES_LOST)
"""Of DES's images, and of the MEDS files that are cut from them."""


def names_of(mask: FitsImage, band: str) -> MaskNames:
    """The names of a mask's bits, from its header.

    Args:
        mask: whose header is read.
        band: of the image; the Legacy Surveys have bits of single bands.
    """
    afw = {m[1].upper(): int(mask.header[key]) for key in mask.header if (m := _AFW.fullmatch(key))}
    if afw:
        return MaskNames("LSST's stack", afw, tuple(name for name in _AFW_LOST if name in afw))
    legacy = {str(mask.header[key]).strip(): int(m[1]) for key in mask.header if (m := _LEGACY.fullmatch(key))}
    if legacy or mask.header.get("EXTNAME") == "MASKBITS" or mask.get("IMTYPE") == "maskbits":
        bits = legacy or _LEGACY_BITS
        own = (f"SATUR_{band.upper()}", f"ALLMASK_{band.upper()}")
        return MaskNames("the Legacy Surveys", bits, tuple(name for name in own if name in bits))
    if (version := mask.get("PLVER")) is not None:
        if "DECAM" in str(mask.get("INSTRUME")).upper() and _version(version) < (3, 5):
            return MaskNames("NOIRLab's pipeline", _NOIRLAB_BITS, tuple(_NOIRLAB_BITS))
        return MaskNames("NOIRLab's pipeline", _NOIRLAB_CODES, tuple(_NOIRLAB_CODES), codes=True)
    if any(mask.get(key) is not None for key in ("DES_EXT", "DESFNAME", "TILENAME")):
        return DES_NAMES
    return MaskNames("an unknown survey")


def meaning(name: str) -> MaskBit:
    """What a bit's name stands for: NO_DATA where it is none of those that are known."""
    return _MEANINGS.get(re.sub(r"^(BADPIX_|MP_)|_[A-Z]$", "", name), MaskBit.NO_DATA)


def _version(text: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(text))[:2])
