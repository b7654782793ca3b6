"""Small FITS files for the tests of `stores/field_files`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

# A tangential projection with north up and east left, 0.2 arcsec a pixel.
TAN = {
    **{"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": -5.0, "CRPIX1": 30.5, "CRPIX2": 25.5},
    **{"CD1_1": -0.2 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.2 / 3600},
}
SHAPE = (50, 60)


def header(**cards: Any) -> fits.Header:
    """A header with a WCS, `TAN`, and these cards."""
    return fits.Header({**TAN, **{key.upper(): value for key, value in cards.items()}}.items())


def noise(sigma: float = 1.0, seed: int = 1, shape: tuple[int, int] = SHAPE) -> NDArray[np.float32]:
    """White noise."""
    return np.random.default_rng(seed).normal(0, sigma, shape).astype(np.float32)


def write_image(path: Path, values: NDArray, **cards: Any) -> str:
    """Write an image as a primary HDU, and return its name."""
    fits.PrimaryHDU(values, header(**cards)).writeto(path, overwrite=True)
    return str(path)


def write_toml(path: Path, text: str) -> Path:
    """Write a field.toml."""
    path.write_text(text, encoding="utf-8")
    return path
