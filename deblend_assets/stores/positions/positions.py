"""Positions of a table, and which of them lie on a field; all rows and columns are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.projection import Floats, sky_to_field

PIXELS = "x and y [pixel, from 0], or X_IMAGE and Y_IMAGE"
"""Columns that a message asks for."""

# What right ascension and declination may be that were taken for degrees: factors that bring them there.
_MISTAKEN = {
    "radians (give the column's unit)": (np.degrees(1.0), np.degrees(1.0)),
    "a right ascension in hours (give the column's unit)": (15.0, 1.0),
}


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions from a table, and the table's other columns.

    Attributes:
        places: `ra`, `dec` (ICRS [deg]) or `x`, `y` [pixel, from 0], (N,) float64 each, NaN where missing.
        others: the other columns, (N rows): booleans, integers, floats (NaN where missing) and text ("" where missing);
            nullable integers and booleans where some are missing. Names, order and values are the table's; `id` is
            in lower case.
        units: of the other columns that have one, as the table writes it.
        left_out: columns that are not in `others`, and why.
        read_from: names of the columns of the positions.
        where: name of the table in messages.
    """

    places: Mapping[str, Floats]
    others: pd.DataFrame
    units: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    read_from: tuple[str, str] = ("x", "y")
    where: str = "positions"

    def __len__(self) -> int:
        return len(self.others)

    @property
    def on_sky(self) -> bool:
        """Whether the positions are on the sky."""
        return "ra" in self.places

    def on_field(self, target: Field) -> tuple[Floats, Floats]:
        """Positions x, y on a field, (N,) each [pixel, from 0]; NaN where undefined.

        Raises:
            MismatchError: positions on the sky, on a field without celestial coordinates.
        """
        if not self.on_sky:
            return self.places["x"].copy(), self.places["y"].copy()
        if not target.wcs.isCelestial():
            raise MismatchError(
                f"has {' and '.join(self.read_from)}, and the images have no celestial coordinates",
                where=self.where,
                remedy=f"give {PIXELS}",
            )
        return sky_to_field(target, self.places["ra"], self.places["dec"])

    def covered(self, target: Field, log: Callable[[str], None]) -> NDArray[np.bool_]:
        """Which positions lie on a pixel of a field, (N,); says how many do not.

        Raises:
            MismatchError: none does; the message says what else the numbers may be.
        """
        x, y = self.on_field(target)
        shape = target.shape
        inside = _inside(x, y, shape)
        missing = int((~np.isfinite(np.stack(list(self.places.values()))).all(axis=0)).sum())
        off = len(self) - int(inside.sum()) - missing
        image = f"the image ({shape[1]:,} × {shape[0]:,} pixels)"
        if not inside.any():
            extent = ", ".join(f"{name} {_extent(values)}" for name, values in self.places.items())
            raise MismatchError(
                f"none of {len(self):,} positions lies on {image}: {extent}",
                where=self.where,
                remedy=self._remedy(target),
            )
        if off or missing:
            without = f", {missing:,} rows have no position" if missing else ""
            log(
                f"{off:,} of {len(self):,} positions are off {image}{without}: "
                f"their rows are kept and not measured [{self.where}]"
            )
        return inside

    def placed(self, target: Field, log: Callable[[str], None]) -> pd.DataFrame:
        """x, y on a field [pixel, from 0], NaN where undefined, and the other columns, with their units in `attrs`.

        Other columns of the names x and y become `given_x` and `given_y`. Says how many positions are off the image
        and which columns are left out.

        Raises:
            MismatchError: see `covered` and `on_field`.
        """
        self.covered(target, log)
        if self.left_out:
            names = ", ".join(f"{name} ({why})" for name, why in self.left_out.items())
            log(f"columns that do not have one value a row are left out: {names} [{self.where}]")
        x, y = self.on_field(target)
        others = self.others.rename(columns=_beside_pixels)
        table = pd.concat([pd.DataFrame({"x": x, "y": y}), others], axis=1)
        table.attrs["units"] = {_beside_pixels(name): unit for name, unit in self.units.items()}
        return table

    def _remedy(self, target: Field) -> str:
        if not self.on_sky:
            return "give the positions on these images"
        ra, dec = self.places["ra"], self.places["dec"]
        for name, (of_ra, of_dec) in _MISTAKEN.items():
            moved = Positions({"ra": ra * of_ra, "dec": dec * of_dec}, self.others)
            if count := int(_inside(*moved.on_field(target), target.shape).sum()):
                return f"as {name}, {count:,} would"
        return "give the positions of this part of the sky, ICRS in degrees"


def _beside_pixels(name: str) -> str:
    return f"given_{name}" if name in ("x", "y") else name


def _inside(x: Floats, y: Floats, shape: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = shape
    return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)


def _extent(values: Floats) -> str:
    known = values[np.isfinite(values)]
    return f"{known.min():.6g} to {known.max():.6g}" if known.size else "without a value"
