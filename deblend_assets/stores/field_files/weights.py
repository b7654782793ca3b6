"""Noise maps as they lie in files: rounded by compression, or masks under the name of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.observation import MapKind, Plane
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.stores.field_files.planes import FitsImage, FitsPlane, KnownPlane, QuantisedPlane, Window

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


class NoiseMap(NamedTuple):
    """An image with its noise map.

    Attributes:
        image: the pixels; NaN where a mask under the name of weights is 0.
        weight: the map; None where the noise has to be measured.
    """

    image: Plane
    weight: Plane | None


def with_noise_map(image: FitsImage, noise_map: FitsImage, kind: MapKind, log: Callable[[str], None]) -> NoiseMap:
    """An image with its noise map, which is refused, or used otherwise, where it is none.

    A map that has one value, or one and 0, and disagrees with the pixels' noise by more than 20 % is a mask: the noise
    is measured. In a map that the file's compression rounds, values below one step (ZSCALE) are 0: zeros come back as
    up to half a step of either sign.

    Args:
        image: the image.
        noise_map: its map.
        kind: inverse variance, variance or standard deviation.
        log: receives a line for either.

    Raises:
        MismatchError: the map is the image itself, has another shape, or is a map of another kind: its σ is wrong by
            more than a factor of two, and right within 20 % as another kind.
    """
    _require_map(image.plane, noise_map.plane)
    plane: FitsPlane | QuantisedPlane = noise_map.plane
    found = quantisation(noise_map.plane)
    if found is not None:
        plane = QuantisedPlane(noise_map.plane, *found)
        largest = f"{found[1].max():.4g}"
        log(f"values below one step of the file's compression, up to {largest}, are lost [{noise_map.where}]")
    constant = _constant(plane)
    if constant is None:
        _require_kind(image.plane, plane, kind, noise_map.where)
        return NoiseMap(image.plane, plane)
    stated = constant ** _POWER[kind]
    low, high = _noise(image.plane, plane)
    if not low > 0 or low * (1 - _SAME_NOISE) <= stated <= high * (1 + _SAME_NOISE):
        return NoiseMap(image.plane, plane)
    others = [name for name, power in _POWER.items() if abs(constant / high ** (1 / power) - 1) < _SAME_NOISE]
    hint = f"; it would agree as {others[0]} = …" if others else ""
    log(
        f"{kind} is 0 or {constant:g}, for a noise of {stated:.3g}, but the pixels' noise is {high:.3g}: it is "
        f"taken as a mask, and the noise is measured{hint} [{noise_map.where}]"
    )
    return NoiseMap(KnownPlane(image.plane, plane), None)


def _require_kind(image: Plane, plane: Plane, kind: MapKind, where: str) -> None:
    """MismatchError where a map of several values is one of another kind, such as a variance given as weight."""
    values = np.concatenate([np.asarray(plane[window], np.float64).ravel() for window in _windows(plane.shape)])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return
    typical = float(np.median(values))
    stated = typical ** _POWER[kind]
    low, high = _noise(image, plane)
    if not low > 0 or low / _FACTOR <= stated <= high * _FACTOR:
        return
    for other, power in _POWER.items():
        if abs(typical**power / high - 1) < _SAME_NOISE:
            raise MismatchError(
                f"is no {kind}: σ would be {stated:.3g} and is {high:.3g}; as {other} it would be {typical**power:.3g}",
                where=where,
                remedy=f"give it as {other}, or leave it out: the noise is measured then",
            )


def _require_map(image: FitsPlane, plane: FitsPlane) -> None:
    if (image.path, image.hdu, image.leading) == (plane.path, plane.hdu, plane.leading):
        raise MismatchError("is the image itself", where=plane.where, remedy="name the noise map, as PATH[EXT]")
    if image.shape != plane.shape:
        shapes = (" × ".join(map(str, shape[::-1])) for shape in (plane.shape, image.shape))
        raise MismatchError(
            f"has {next(shapes)} pixels, its image {next(shapes)}",
            where=plane.where,
            remedy="give a map of the image's own pixels",
        )


def quantisation(plane: FitsPlane) -> tuple[tuple[int, int], NDArray[np.float32]] | None:
    """Sides of the tiles (y, x) and the step of each, where the file's compression rounds the values; else None."""
    with fits.open(plane.path, memmap=False, disable_image_compression=True) as hdus:
        table = hdus[plane.hdu]
        header = table.header
        if not header.get("ZIMAGE") or header["ZBITPIX"] > 0 or header["ZNAXIS"] != 2:
            return None
        if "ZSCALE" in (table.columns.names or []):
            steps = np.asarray(table.data["ZSCALE"], np.float32)
        else:
            steps = np.full(len(table.data), header.get("ZSCALE", 0.0), np.float32)
        tile = int(header.get("ZTILE2", 1)), int(header.get("ZTILE1", header["ZNAXIS1"]))
    steps = np.where(np.isfinite(steps) & (steps > 0), steps, np.float32(0))
    if not steps.any():
        return None
    rows, columns = (-(-side // part) for side, part in zip(plane.shape, tile, strict=True))
    return tile, steps.reshape(rows, columns)


def _constant(plane: Plane) -> float | None:
    """The one positive value of a map, as far as its windows show; None where there are several, or none."""
    values = np.concatenate([np.asarray(plane[window], np.float64).ravel() for window in _windows(plane.shape)])
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive) or np.ptp(positive) > 1e-6 * positive.max():
        return None
    return float(positive[0])


def _noise(image: Plane, known: Plane) -> tuple[float, float]:
    """Bounds on σ of the pixels where a map is positive; NaN where there are too few.

    From second differences along rows, which correlation of the noise makes smaller, and from the pixels themselves,
    which sources make larger; medians over blocks.
    """
    found = []
    for window in _windows(image.shape):
        pixels = np.array(image[window], np.float64)
        pixels[~(np.asarray(known[window]) > 0)] = np.nan
        for y in range(0, pixels.shape[0], _BLOCK):
            for x in range(0, pixels.shape[1], _BLOCK):
                block = pixels[y : y + _BLOCK, x : x + _BLOCK]
                differences = (block[:, :-2] - 2 * block[:, 1:-1] + block[:, 2:]) / 6**0.5
                if np.isfinite(differences).sum() >= _FEWEST:
                    found.append([robust_sigma(part[np.isfinite(part)]) for part in (differences, block)])
    low, high = np.median(found, axis=0) if found else (float("nan"),) * 2
    return float(low), float(high)


def _windows(shape: tuple[int, ...]) -> list[Window]:
    """Windows spread over an image; all of it where it is small."""
    sides = []
    for side in shape:
        number = min(_ALONG, -(-side // _SIDE))
        starts = np.linspace(0, max(side - _SIDE, 0), number).round().astype(int)
        sides.append([slice(int(start), min(int(start) + _SIDE, side)) for start in starts])
    return [(rows, columns) for rows in sides[0] for columns in sides[1]]
