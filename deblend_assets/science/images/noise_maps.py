"""Whether a noise map is one: against the noise of the pixels, before anything is detected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.observation import MapKind, Plane
from deblend_assets.science.statistics.metrics import robust_sigma

# Windows that a map is judged by: so many along an axis, of this side [pixel].
_ALONG, _SIDE = 4, 128
# The noise is measured on blocks of this side [pixel] with so many good pixels.
_BLOCK, _FEWEST = 64, 400
# Largest relative difference between a constant map's σ and the pixels'.
_SAME_NOISE = 0.2
# A map whose σ is wrong by this factor is looked at as a map of another kind.
_FACTOR = 2.0
# σ is the value of a map to this power.
_POWER: dict[MapKind, float] = {"weight": -0.5, "variance": 0.5, "rms": 1.0}

Window = tuple[slice, slice]


class WrongMap(NamedTuple):
    """A map that disagrees with the pixels.

    Attributes:
        constant: whether it has one value, or one and 0: then it is a mask, or of another kind.
        value: of the map where it is above 0, the median.
        stated, noise: σ that it states, and that of the pixels [image unit].
        agrees_as: the kind as which it would agree; None: as none.
    """

    constant: bool
    value: float
    stated: float
    noise: float
    agrees_as: MapKind | None


def wrong_map(image: Plane, noise_map: Plane, kind: MapKind) -> WrongMap | None:
    """What is wrong with a map; None where nothing shows it.

    A map of one value is wrong where its σ disagrees with the pixels' noise by more than 20 %. One of several, such as
    a variance given as weight, where its σ is wrong by more than a factor of two, and right within 20 % as another
    kind.

    Args:
        image, noise_map: (y, x).
        kind: inverse variance, variance or standard deviation.
    """
    positive = _positive(noise_map)
    low, high = _noise(image, noise_map) if len(positive) else (float("nan"),) * 2
    if not low > 0:
        return None
    constant = bool(np.ptp(positive) <= 1e-6 * positive.max())
    value = float(np.median(positive))
    stated, other = value ** _POWER[kind], _agrees(value, high)
    if constant:
        wrong = not low * (1 - _SAME_NOISE) <= stated <= high * (1 + _SAME_NOISE)
    else:
        wrong = other is not None and not low / _FACTOR <= stated <= high * _FACTOR
    return WrongMap(constant, value, stated, high, other) if wrong else None


def require_weight(image: Plane, weight: Plane, where: str) -> None:
    """MismatchError where inverse variances of arrays are none: a mask, a wrong number, a variance or an RMS.

    Args:
        image, weight: (y, x).
        where: name in messages.
    """
    wrong = wrong_map(image, weight, "weight")
    if wrong is None:
        return
    if wrong.constant:
        raise MismatchError(
            f"weight is 0 or {wrong.value:.4g}, for a noise of {wrong.stated:.3g}, but the pixels' noise is "
            f"{wrong.noise:.3g}",
            where=where,
            remedy=f"give 1 / noise**2, here about {wrong.noise**-2:.3g}; or no weight: the noise is measured then, "
            "and bmask says which pixels are lost",
        )
    inverse = "1 / weight" if wrong.agrees_as == "variance" else "1 / weight**2"
    raise MismatchError(
        f"weight is a map of {wrong.agrees_as}: for a noise of {wrong.noise:.3g} it is {wrong.value:.4g}",
        where=where,
        remedy=f"give {inverse} in its place, or no weight: the noise is measured then",
    )


def _positive(noise_map: Plane) -> NDArray[np.float64]:
    """Values of a map's windows that are finite and above 0."""
    values = np.concatenate([np.asarray(noise_map[window], np.float64).ravel() for window in _windows(noise_map.shape)])
    return values[np.isfinite(values) & (values > 0)]


def _agrees(value: float, noise: float) -> MapKind | None:
    """As which kind a map of a value would be right within 20 %."""
    return next((kind for kind, power in _POWER.items() if abs(value**power / noise - 1) < _SAME_NOISE), None)


def _noise(image: Plane, known: Plane) -> tuple[float, float]:
    """Bounds on σ of the pixels where a map is positive; NaN where there are too few.

    From second differences along rows, which correlation of the noise makes smaller, and from the pixels themselves,
    which sources make larger; medians over blocks.
    """
    found = []
    for window in _windows(image.shape):
        pixels = np.array(image[window], np.float64)
        pixels[~(np.asarray(known[window]) > 0)] = np.nan
        for block in _blocks(pixels):
            differences = (block[:, :-2] - 2 * block[:, 1:-1] + block[:, 2:]) / 6**0.5
            if np.isfinite(differences).sum() >= _FEWEST:
                found.append([robust_sigma(part[np.isfinite(part)]) for part in (differences, block)])
    low, high = np.median(found, axis=0) if found else (float("nan"),) * 2
    return float(low), float(high)


def _blocks(pixels: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for y in range(0, pixels.shape[0], _BLOCK):
        for x in range(0, pixels.shape[1], _BLOCK):
            yield pixels[y : y + _BLOCK, x : x + _BLOCK]


def _windows(shape: tuple[int, ...]) -> list[Window]:
    """Windows spread over an image; all of it where it is small."""
    sides = []
    for side in shape:
        number = min(_ALONG, -(-side // _SIDE))
        starts = np.linspace(0, max(side - _SIDE, 0), number).round().astype(int)
        sides.append([slice(int(start), min(int(start) + _SIDE, side)) for start in starts])
    return [(rows, columns) for rows in sides[0] for columns in sides[1]]
