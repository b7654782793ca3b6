"""The frame of stamps: bands, noise, zero points, pixel scale, size and label band."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deblend_assets.errors import MismatchError

# Attributes that stamps must have; others are compared only if present.
_REQUIRED = ("bands", "unit", "pixel_scale_arcsec")
# Relative: a header has fewer digits than the survey's description.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class StampFrame:
    """Frame of the stamps that a model measures.

    Attributes:
        bands: in order.
        sky_sigma: noise of a sky pixel by band [electron]; unit of the shape network's input.
        zero_points: AB magnitude of one electron, by band.
        pixel_scale: [arcsec / pixel].
        pixels: side of a stamp.
        label_band: band of the observed distortion e and of the flux.
    """

    bands: tuple[str, ...]
    sky_sigma: tuple[float, ...]
    zero_points: tuple[float, ...]
    pixel_scale: float
    pixels: int
    label_band: str

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> StampFrame:
        """Create from the fields in a checkpoint's card (`dataclasses.asdict` as JSON)."""
        return cls(
            bands=tuple(card["bands"]),
            sky_sigma=tuple(card["sky_sigma"]),
            zero_points=tuple(card["zero_points"]),
            pixel_scale=card["pixel_scale"],
            pixels=card["pixels"],
            label_band=card["label_band"],
        )

    @property
    def label(self) -> int:
        """Position of the label band on the image axis."""
        return self.bands.index(self.label_band)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(band, y, x) of a stamp."""
        return len(self.bands), self.pixels, self.pixels

    def attributes(self) -> dict[str, Any]:
        """The frame as attributes of an array or of a catalogue's card, ready for JSON."""
        return {
            "bands": list(self.bands),
            "stamp_pixels": self.pixels,
            "unit": "electron",
            "pixel_scale_arcsec": self.pixel_scale,
            "zero_point_ab_mag_of_one_electron": list(self.zero_points),
            "sky_sigma_electron": list(self.sky_sigma),
            "label_band": self.label_band,
        }

    def require(self, given: Mapping[str, Any], where: str) -> None:
        """Raise MismatchError for stamps of another frame.

        Args:
            given: attributes of the stamps, named as in `attributes`. Required: `bands`, `unit`, `pixel_scale_arcsec`.
                Optional: the others, and `shape` (band, y, x). Unknown names are ignored.
            where: name of the stamps for the message.

        Raises:
            MismatchError: the first difference, with both values.
        """
        for name, mine in (self.attributes() | {"shape": list(self.shape)}).items():
            theirs = given.get(name)
            if (name in given or name in _REQUIRED) and not _same(theirs, mine):
                raise MismatchError(
                    f"{name} is {theirs!r}, the model's {mine!r}",
                    where=where,
                    remedy="convert the stamps to the model's frame (docs/measuring.md), or use their survey's model",
                )


def _same(given: Any, wanted: Any) -> bool:
    if _is_numeric(wanted):
        if isinstance(given, str):
            return False
        try:
            numbers = np.asarray(given, dtype=float)
        except (TypeError, ValueError):
            return False
        same_shape = numbers.shape == np.shape(wanted)
        return bool(same_shape and np.allclose(numbers, np.asarray(wanted, float), rtol=_TOLERANCE, atol=0))
    return bool((list(given) if isinstance(given, tuple) else given) == wanted)


def _is_numeric(value: Any) -> bool:
    return np.issubdtype(np.asarray(value).dtype, np.number)
