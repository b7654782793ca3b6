"""Stamps with everything that a measurement needs: pixels, weights, masks, PSFs, noise, positions, scales, local WCS.

Axes: (stamp, band, y, x). Positions count from 0 at the centre of a stamp's first pixel, x with the column. A pixel
that is lost, and one outside of the image, has inverse variance 0 and value 0: nothing can depend on what it held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.mask_bits import MaskBit


class Part(NamedTuple):
    """One array of `ObservedStamps`.

    Attributes:
        axes: names; "xy" is a pair x, y; "uv" a pair of sky coordinates, "radec" one of right ascension, declination.
        dtype: of numpy.
        unit: "" for a pure number.
        meaning: one line.
    """

    axes: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str


_IMAGE = ("stamp", "band", "y", "x")
PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "pixels": Part(_IMAGE, "float32", "image unit", "image, sky subtracted; 0 where the inverse variance is 0"),
        "inverse_variance": Part(_IMAGE, "float32", "1 / image unit^2", "0 where a pixel is lost or outside"),
        "mask": Part(_IMAGE, "uint16", "", "MaskBit of each pixel; outside of the image NO_DATA"),
        "psf": Part(
            ("stamp", "band", "psf_y", "psf_x"),
            "float32",
            "",
            "PSF at the target, pixel included, of the stamp's pixel scale, its centre on the middle pixel",
        ),
        "noise_correlation": Part(
            ("stamp", "band", "lag_y", "lag_x"),
            "float32",
            "",
            "correlation of the noise between pixels; 1 in the middle",
        ),
        "position": Part(("stamp", "xy"), "float64", "pixel", "x, y of the target on the stamp"),
        "others": Part(
            ("stamp", "other", "xy"), "float64", "pixel", "x, y of the other detections, the nearest first; then NaN"
        ),
        "others_count": Part(("stamp",), "int32", "", "number of other detections on the stamp"),
        "corner": Part(("stamp", "xy"), "int32", "pixel", "x, y of the stamp's first pixel on the image it is from"),
        "pixel_scale": Part(("stamp",), "float64", "arcsec / pixel", "square root of a pixel's area"),
        "zero_point": Part(("stamp", "band"), "float64", "mag", "AB magnitude of one image unit"),
        "jacobian": Part(
            ("stamp", "uv", "xy"), "float64", "arcsec / pixel", "d(u, v)/d(x, y) at the target; u west, v north"
        ),
        "sky_position": Part(("stamp", "radec"), "float64", "deg", "ICRS ra, dec of the target; NaN without a WCS"),
    }
)
_PAIRS = {"xy": 2, "uv": 2, "radec": 2}
# Relative, of the pixel scale against the Jacobian.
_SCALE_TOLERANCE = 1e-3
_ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class ObservedStamps:
    """N stamps of one side and one set of bands; arrays as `PARTS` describes them.

    An absent band of a stamp has no pixel of weight (`present`). Pixels without weight are set to 0 when the stamps
    are made.

    Attributes:
        bands: names, in the order of the band axis.

    Raises:
        MismatchError: arrays that do not fit together, or hold what cannot be.
    """

    bands: tuple[str, ...]
    pixels: NDArray[np.float32]
    inverse_variance: NDArray[np.float32]
    mask: NDArray[np.uint16]
    psf: NDArray[np.float32]
    noise_correlation: NDArray[np.float32]
    position: NDArray[np.float64]
    others: NDArray[np.float64]
    others_count: NDArray[np.int32]
    corner: NDArray[np.int32]
    pixel_scale: NDArray[np.float64]
    zero_point: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    sky_position: NDArray[np.float64]

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {"band": len(self.bands), **_PAIRS}
        for name, part in PARTS.items():
            values = np.asarray(getattr(self, name)).astype(part.dtype, copy=False)
            object.__setattr__(self, name, values)
            known = [sizes.get(axis, -1) for axis in part.axes]
            if values.ndim != len(part.axes) or any(a not in (-1, b) for a, b in zip(known, values.shape, strict=True)):
                wanted = ", ".join(
                    f"{axis} {size}" if size >= 0 else axis for axis, size in zip(part.axes, known, strict=True)
                )
                _refuse(f"{name} has shape {values.shape}, not ({wanted})", "give arrays as PARTS describes them")
            sizes.update(zip(part.axes, values.shape, strict=True))
        if sizes["y"] != sizes["x"]:
            _refuse(f"stamps of {sizes['y']} x {sizes['x']} pixels", "give square stamps")
        for axes in (("psf_y", "psf_x"), ("lag_y", "lag_x")):
            first, second = (sizes[axis] for axis in axes)
            if first != second or first % 2 == 0:
                _refuse(f"{axes[0]} × {axes[1]} is {first} × {second}", "give squares of an odd side")
        self._check_values()

    def _check_values(self) -> None:
        weight = self.inverse_variance
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            _refuse("inverse_variance is negative or not finite somewhere", "set lost pixels to 0")
        wrong = int((~np.isfinite(self.pixels) & (weight > 0)).sum())
        if wrong:
            _refuse(f"{wrong} pixels with a weight are not finite", "set their inverse variance to 0")
        if (weight == 0).any():
            object.__setattr__(self, "pixels", np.where(weight > 0, self.pixels, np.float32(0)))
        middle = self.noise_correlation.shape[-1] // 2
        present = self.present
        if (np.abs(self.noise_correlation[..., middle, middle] - 1) > _ROUNDING)[present].any():
            _refuse("noise_correlation is not 1 in the middle", "give the autocorrelation of the noise")
        if not np.isfinite(self.psf[present]).all() or (self.psf[present].sum(axis=(-2, -1)) <= 0).any():
            _refuse("psf is not finite or has no light", "give the PSF of every band that has a weight")
        for name in ("position", "pixel_scale", "jacobian"):
            if not np.isfinite(getattr(self, name)).all():
                _refuse(f"{name} is not finite somewhere", "leave out what has no position")
        if not np.isfinite(self.zero_point[present]).all():
            _refuse("zero_point is not finite in a band that has a weight", "give AB magnitudes")
        area = np.abs(np.linalg.det(self.jacobian))
        if not np.allclose(np.sqrt(area), self.pixel_scale, rtol=_SCALE_TOLERANCE):
            _refuse("pixel_scale is not that of the jacobian", "give √|det jacobian|")
        there = np.isfinite(self.others).all(axis=-1)
        if (there != (np.arange(self.others.shape[1]) < self.others_count[:, None])).any():
            _refuse("others_count does not count the positions in others", "put NaN behind the last position")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def side(self) -> int:
        """Side of a stamp [pixel]."""
        return int(self.pixels.shape[-1])

    @property
    def present(self) -> NDArray[np.bool_]:
        """Bands in which a stamp has a pixel of weight, (N, band)."""
        return np.asarray((self.inverse_variance > 0).any(axis=(-2, -1)))

    @property
    def squared_distance(self) -> NDArray[np.float64]:
        """Of each pixel from the target, (N, y, x) [pixel²]."""
        x, y = (np.arange(self.side) - self.position[:, k, None] for k in (0, 1))
        return np.asarray(y[:, :, None] ** 2 + x[:, None, :] ** 2)

    def nearest_other(self, place: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Distance of the nearest other detection on each stamp, (N,) [pixel]; infinite without one.

        Args:
            place: x, y that it is counted from, (N, 2) [pixel]; default: the target's position.
        """
        start = self.position if place is None else place
        apart = np.hypot(*np.moveaxis(self.others - start[:, None], -1, 0))
        return np.asarray(np.nan_to_num(apart, nan=np.inf).min(axis=1, initial=np.inf))

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, in the order of `PARTS`."""
        return {name: getattr(self, name) for name in PARTS}

    def rows(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_]) -> ObservedStamps:
        """Some of the stamps."""
        return self._unchecked({name: values[chosen] for name, values in self.arrays().items()})

    def around_others(self, stamp: NDArray[np.integer], place: NDArray[np.integer]) -> ObservedStamps:
        """The stamps of which other detections are the targets; the target takes their place among the others.

        Args:
            stamp: rows, (K,).
            place: of the detection in `others`, (K,).
        """
        arrays = {name: values[stamp] for name, values in self.arrays().items()}
        rows = np.arange(len(arrays["others"]))
        position = arrays["others"][rows, place]
        arrays["others"][rows, place] = arrays["position"]
        return self._unchecked(arrays | {"position": position})

    def _unchecked(self, arrays: Mapping[str, np.ndarray]) -> ObservedStamps:
        """With other arrays, of what has been checked."""
        found = copy(self)
        for name, values in arrays.items():
            object.__setattr__(found, name, values)
        return found

    def in_bands(self, bands: Sequence[str]) -> ObservedStamps:
        """The same among other bands: those that the stamps do not have are absent from all of them.

        An absent band has no weight and no PSF, white noise, and the zero point NaN.

        Args:
            bands: names, those of the stamps among them.

        Raises:
            MismatchError: a band of the stamps is missing.
        """
        if not set(self.bands) <= set(bands):
            _refuse(f"stamps of the bands {' '.join(self.bands)}, wanted {' '.join(bands)}", "name all of their bands")
        if tuple(bands) == self.bands:
            return self
        at = [list(bands).index(band) for band in self.bands]
        middle = self.noise_correlation.shape[-1] // 2
        filled = {}
        for name, part in PARTS.items():
            values = getattr(self, name)
            if "band" in part.axes:
                nothing = {"zero_point": np.nan, "mask": int(MaskBit.NO_DATA)}.get(name, 0)
                wide = np.full((len(self), len(bands), *values.shape[2:]), nothing, dtype=values.dtype)
                if name == "noise_correlation":
                    wide[:, :, middle, middle] = 1
                wide[:, at] = values
                values = wide
            filled[name] = values
        return ObservedStamps(tuple(bands), **filled)

    def with_nearest(self, others: int) -> ObservedStamps:
        """The same with at most so many other detections on each stamp, the nearest ones."""
        count = np.minimum(self.others_count, others)
        kept = self.others[:, :others]
        return self._unchecked({"others": kept, "others_count": count})

    def with_room(self, others: int) -> ObservedStamps:
        """The same with room for so many other detections; MismatchError where there are more."""
        most = int(self.others_count.max(initial=0))
        if most > others:
            _refuse(f"a stamp has {most} other detections, there is room for {others}", "make room for more")
        padded = np.full((len(self), others, 2), np.nan)
        kept = min(others, self.others.shape[1])
        padded[:, :kept] = self.others[:, :kept]
        return self._unchecked({"others": padded})

    def moved(self, shift: NDArray[np.float64]) -> ObservedStamps:
        """The same with the targets elsewhere by finite x, y, (N, 2) [pixel]."""
        return self._unchecked({"position": self.position + shift})


def joined(parts: Sequence[ObservedStamps]) -> ObservedStamps:
    """All stamps one after the other, with room for the most other detections of any.

    Args:
        parts: at least one; of the same bands, sides, PSF and correlation sizes, but for parts without a stamp.

    Raises:
        MismatchError: they differ.
    """
    if not parts or any(part.bands != parts[0].bands for part in parts):
        _refuse(f"{len(parts)} parts of bands {sorted({p.bands for p in parts})}", "join stamps of the same bands")
    # Stamps of no target have PSFs of no size.
    parts = [part for part in parts if len(part)] or parts[:1]
    room = max(int(part.others_count.max(initial=0)) for part in parts)
    padded = [part.with_room(room).arrays() for part in parts]
    for name in PARTS:
        shapes = {arrays[name].shape[1:] for arrays in padded}
        if len(shapes) > 1:
            _refuse(f"{name} has shapes {sorted(shapes)}", "join stamps of the same sizes")
    return ObservedStamps(
        parts[0].bands, **{name: np.concatenate([arrays[name] for arrays in padded]) for name in PARTS}
    )


def of_report(
    images: NDArray[np.float32], frame: StampFrame, psf: NDArray[np.float32], position: NDArray[np.float64]
) -> ObservedStamps:
    """The report's stamps: white noise of the sky alone, nothing lost, no other detection, square pixels, no WCS.

    Args:
        images: (N, band, y, x) [electron], of the frame's bands and side.
        frame: noise, zero points and pixel scale.
        psf: (band, psf_y, psf_x), pixel included.
        position: x, y of the targets, (N, 2) [pixel].
    """
    number, bands = len(images), len(frame.bands)
    if images.shape[1:] != frame.shape:
        _refuse(f"images {images.shape}, the frame's {frame.shape}", "give stamps of the frame")
    weight = np.asarray(frame.sky_sigma, dtype=np.float32) ** -2
    return ObservedStamps(
        bands=frame.bands,
        pixels=images,
        inverse_variance=np.broadcast_to(weight[:, None, None], images.shape),
        mask=np.zeros(images.shape, dtype=np.uint16),
        psf=np.broadcast_to(psf, (number, *psf.shape)),
        noise_correlation=np.ones((number, bands, 1, 1), dtype=np.float32),
        position=position,
        others=np.full((number, 0, 2), np.nan),
        others_count=np.zeros(number, dtype=np.int32),
        corner=np.zeros((number, 2), dtype=np.int32),
        pixel_scale=np.full(number, frame.pixel_scale),
        zero_point=np.broadcast_to(frame.zero_points, (number, bands)),
        jacobian=np.broadcast_to(frame.pixel_scale * np.eye(2), (number, 2, 2)),
        sky_position=np.full((number, 2), np.nan),
    )


def _refuse(what: str, remedy: str) -> None:
    raise MismatchError(what, where="ObservedStamps", remedy=remedy)


def sky_sigma(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """Noise of a pixel [image unit], by the median weight of those that have one: (N, band, P, P) to (N, band).

    NaN where none has.
    """
    flat = weight.reshape(*weight.shape[:2], weight.shape[2] * weight.shape[3])
    highest = flat.max(axis=2)
    middle = np.where(highest > 0, highest, np.nan).astype(np.float64)
    lowest = np.where(flat > 0, flat, np.inf).min(axis=2)
    # Most skies have one weight in all pixels, and medians are slow.
    for n, band in np.argwhere(lowest < highest):
        middle[n, band] = np.median(flat[n, band][flat[n, band] > 0])
    return np.asarray(1 / np.sqrt(middle))
