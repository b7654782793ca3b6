"""A field in colour, with the ellipses of its catalogue over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.images.field_maps import FieldMaps, shrunk_window
from deblend_assets.science.measuring.ellipses import observed_ellipses
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.reports.figures.fields import ShownField, colour_image, shown_bands
from deblend_assets.science.reports.figures.style import MARKS, new_figure
from deblend_assets.science.statistics.metrics import robust_sigma

GOOD, STARS, FLAGGED, DETECTED, _ = MARKS
# Of an arrow to the north or east, in shares of the image's side.
_ARROW, _CORNER = 0.07, 0.09
# Clippings of the pixels that sky and noise are measured on, and where they clip [σ].
_STEPS, _CLIP = 6, 2.5


class Ground(NamedTuple):
    """Level of the sky and noise of a pixel of an image [image unit]."""

    sky: float
    sigma: float


def field_figure(
    field: Field,
    table: pd.DataFrame,
    box: Box | None = None,
    detections: pd.DataFrame | None = None,
    framed: Box | None = None,
    maps: FieldMaps | None = None,
) -> Figure:
    """A field in colour with the rows of its catalogue: ellipses, boxes for stars, crosses for rows with a flag.

    Args:
        field: with the images.
        table: its catalogue, a table of pandas.
        box: the part that is shown; default: all of it.
        detections: x, y of everything that was detected; dots.
        framed: a part that is framed.
        maps: of the whole field, whose images are shown instead of read.
    """
    height, width = field.shape
    box = Box(0, 0, width, height) if box is None else box
    bands = shown_bands(field.names)
    if maps is None:
        factor, images, known = shrunk_window(field, box, bands)
    else:
        rows = [field.names.index(band) for band in bands]
        factor, images, known = maps.factor, maps.images[rows], maps.known[rows]
    figure = new_figure(7.8, 7.15 * (box.y1 - box.y0) / (box.x1 - box.x0) + 0.95)
    axis = figure.subplots()
    show_colour(axis, field, bands, images, known, box)
    _mark(axis, field, table, detections, box)
    if framed is not None:
        corner, sides = (framed.x0 - 0.5, framed.y0 - 0.5), (framed.x1 - framed.x0, framed.y1 - framed.y0)
        axis.add_patch(Rectangle(corner, *sides, fill=False, color="white", linewidth=1.2))
    _compass(axis, field, box)
    handles = [
        Line2D([], [], color=GOOD, marker="o", markerfacecolor="none", linestyle="", label="good for shapes"),
        Line2D([], [], color=STARS, marker="s", markerfacecolor="none", linestyle="", label="star"),
        Line2D([], [], color=FLAGGED, marker="x", linestyle="", label="other flags"),
    ]
    if detections is not None:
        handles.append(Line2D([], [], color=DETECTED, marker=".", linestyle="", label="detection"))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=4, facecolor="0.25", labelcolor="white")
    legend.get_frame().set_alpha(1.0)
    inside = _inside(table, box)
    shrunk = f", {factor} × {factor} pixels in one" if factor > 1 else ""
    axis.set_title(
        f"{field.name}: {', '.join(bands)} as red, green, blue; {int(inside.sum()):,} rows{shrunk}", fontsize=10
    )
    return figure


def show_colour(
    axis: Axes,
    field: Field,
    bands: Sequence[str],
    images: NDArray[np.float32],
    known: NDArray[np.float32],
    box: Box,
    grounds: Sequence[Ground] | None = None,
) -> list[Ground]:
    """An image in colour on an axis in pixels of the field; the sky and noise by which it is stretched.

    Args:
        axis: to show it on.
        field: with zero points and pixel scale.
        bands: of the images: red, green and blue.
        images: (band, y, x) [image unit].
        known: 0 where nothing is known, (band, y, x).
        box: the window of the images.
        grounds: of each band; default: those of the images.
    """
    if grounds is None:
        grounds = [_ground(image[there > 0]) for image, there in zip(images, known, strict=True)]
    sky, sigma = (np.array(part, np.float32)[:, None, None] for part in zip(*grounds, strict=True))
    weight = np.where(known > 0, sigma**-2, 0.0).astype(np.float32)
    zero_points = np.array([field.bands[band].zero_point for band in bands])
    shown = ShownField(field.name, bands, images - sky, weight, zero_points, field.pixel_scale)
    extent = (box.x0 - 0.5, box.x1 - 0.5, box.y0 - 0.5, box.y1 - 0.5)
    axis.imshow(colour_image(shown), origin="lower", extent=extent, interpolation="antialiased")
    axis.set(xlabel="x [pixel]", ylabel="y [pixel]")
    return list(grounds)


def _ground(values: NDArray[np.float32]) -> Ground:
    """Of an image with sources: median and noise of what is not brighter than the noise allows."""
    if not len(values):
        return Ground(0.0, 1.0)
    kept = values.astype(np.float64)
    for _ in range(_STEPS):
        middle = float(np.median(kept))
        below = middle - kept[kept <= middle]
        sigma = float(robust_sigma(np.concatenate([below, -below])))
        kept = kept[kept <= middle + _CLIP * sigma]
    return Ground(middle, sigma or 1.0)


def _inside(table: pd.DataFrame, box: Box) -> NDArray[np.bool_]:
    x, y = table["x"].to_numpy(np.float64), table["y"].to_numpy(np.float64)
    return np.asarray((x > box.x0 - 1) & (x < box.x1) & (y > box.y0 - 1) & (y < box.y1))


def _mark(axis: Axes, field: Field, table: pd.DataFrame, detections: pd.DataFrame | None, box: Box) -> None:
    rows = table[_inside(table, box)]
    # Marks stay visible on a large image.
    least = (box.x1 - box.x0) / 160
    line = 1.0 if box.x1 - box.x0 < 1000 else 0.6
    if detections is not None:
        found = detections[_inside(detections, box)]
        axis.plot(found["x"], found["y"], ".", color=DETECTED, markersize=1.5, zorder=3)
    flags = rows["flags"].to_numpy()
    kinds = {GOOD: flags == 0, STARS: flags == int(RowFlag.STAR)}
    kinds[FLAGGED] = ~(kinds[GOOD] | kinds[STARS])
    good = rows[kinds[GOOD]]
    a, b, angle = observed_ellipses(field, good)
    axis.add_collection(
        EllipseCollection(
            2 * np.maximum(np.nan_to_num(a), least),
            2 * np.maximum(np.nan_to_num(b), 0.5 * least),
            np.nan_to_num(angle),
            units="xy",
            offsets=good[["x", "y"]].to_numpy(np.float64),
            offset_transform=axis.transData,
            facecolors="none",
            edgecolors=GOOD,
            linewidths=line,
            path_effects=[withStroke(linewidth=1.8 * line, foreground="black")],
        )
    )
    for colour, marker in ((STARS, "s"), (FLAGGED, "x")):
        axis.plot(
            rows["x"][kinds[colour]],
            rows["y"][kinds[colour]],
            marker,
            color=colour,
            markerfacecolor="none",
            markersize=6 if line == 1.0 else 3,
            markeredgewidth=line,
            path_effects=[withStroke(linewidth=1.8 * line, foreground="black")],
        )
    axis.set_xlim(box.x0 - 0.5, box.x1 - 0.5)
    axis.set_ylim(box.y0 - 0.5, box.y1 - 0.5)


def _compass(axis: Axes, field: Field, box: Box) -> None:
    """Arrows to the north and to the east, of a field with celestial coordinates."""
    if not field.wcs.isCelestial():
        return
    middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    to_pixels = np.linalg.inv(field.jacobian(*middle))
    side = min(box.x1 - box.x0, box.y1 - box.y0)
    start = np.array([box.x1 - 1.4 * _CORNER * side, box.y1 - 1.4 * _CORNER * side])
    for letter, direction in (("N", (0.0, 1.0)), ("E", (-1.0, 0.0))):
        along = to_pixels @ np.array(direction)
        along *= _ARROW * side / np.hypot(*along)
        (x0, y0), (x1, y1), (x2, y2) = (tuple(start + share * along) for share in (0.0, 1.0, 1.3))
        arrow = {"arrowstyle": "->", "color": "white", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
        axis.text(x2, y2, letter, color="white", ha="center", va="center", fontsize=9)
