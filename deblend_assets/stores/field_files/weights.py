"""Noise maps as they lie in files: rounded by compression, or masks under the name of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.noise_maps import wrong_map
from deblend_assets.science.images.observation import MapKind, Plane
from deblend_assets.stores.field_files.planes import FitsImage, FitsPlane, KnownPlane, QuantisedPlane


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
    wrong = wrong_map(image.plane, plane, kind)
    if wrong is None:
        return NoiseMap(image.plane, plane)
    if not wrong.constant:
        raise MismatchError(
            f"is no {kind}: σ would be {wrong.stated:.3g} and is {wrong.noise:.3g}, as would be of {wrong.agrees_as}",
            where=noise_map.where,
            remedy=f"give it as {wrong.agrees_as}, or leave it out: the noise is measured then",
        )
    hint = f"; it would agree as {wrong.agrees_as} = …" if wrong.agrees_as else ""
    log(
        f"{kind} is 0 or {wrong.value:g}, for a noise of {wrong.stated:.3g}, but the pixels' noise is "
        f"{wrong.noise:.3g}: it is taken as a mask, and the noise is measured{hint} [{noise_map.where}]"
    )
    return NoiseMap(KnownPlane(image.plane, plane), None)


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
