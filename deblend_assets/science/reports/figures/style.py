"""What all figures share: colours that colour-blind readers can distinguish, a canvas, legends, and PNG bytes."""

from __future__ import annotations

import io
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image, ImageColor

# Okabe & Ito (2008).
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

ESTIMATOR_COLOURS = {"regressor": BLUE, "reconstruction": ORANGE}
ESTIMATOR_SHORT = {"regressor": "regressor", "reconstruction": "moments"}
ESTIMATOR_LABELS = {"regressor": "regressor", "reconstruction": "moments of the reconstruction"}
BAND_COLOURS = (PURPLE, BLUE, GREEN, ORANGE, VERMILION, BLACK, SKY, YELLOW)
TRUTH_COLOUR = BLACK
_LARGE = 150_000  # [byte]
# Of marks over images in colour. A palette always has them: its colours are those of the many pixels of the image.
MARKS = ("#7CFC00", "#00E5FF", "#FF3B30", "#FFFFFF", "#000000")
_RENDERED: WeakKeyDictionary[Figure, dict[tuple[int, bool], bytes]] = WeakKeyDictionary()


class PageFigure(Figure):
    """A figure of a page, which a notebook shows too."""

    def _repr_png_(self) -> bytes:
        return to_png(self, dither=True)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure [inch] with constrained layout; it belongs to no window system, and notebooks show it.

    At 90 dots an inch, figures of at most 8.4 inches are shown at their own size on a page of 760 pixels.
    """
    return PageFigure(figsize=(width, height), layout="constrained")


def legend_above(axis: Axes, columns: int = 1) -> None:
    """The legend of one panel above it, off the points; for panels whose labels hold numbers of their own."""
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, fontsize=9, frameon=False)


def legend_below(figure: Figure, columns: int | None = None, title: str | None = None) -> None:
    """One legend below all panels, off the points: each label of the panels once.

    Args:
        figure: its panels have labelled artists.
        columns: of the legend; one for each label where not given.
        title: above the labels.
    """
    found: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=columns or len(found),
            fontsize=9,
            title=title,
            title_fontsize=9,
        )


def plain_log_ticks(axis: Axes, which: str = "both") -> None:
    """Ticks of logarithmic axes at 1, 2 and 5 times the powers of ten, as plain numbers.

    Args:
        axis: of logarithmic scales.
        which: "x", "y" or "both".
    """
    for name, side in (("x", axis.xaxis), ("y", axis.yaxis)):
        if which in (name, "both"):
            side.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            side.set_major_formatter(StrMethodFormatter("{x:g}"))
            side.set_minor_formatter(NullFormatter())


def say(axis: Axes, text: str) -> None:
    """A sentence in the place of what a panel cannot show, such as that there are too few stars; the panel is emptied.

    Args:
        axis: the panel.
        text: what is missing, and how much of it is needed.
    """
    axis.clear()
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=10, color="0.3", wrap=True)


def only_words(text: str) -> Figure:
    """A low figure with a sentence alone, in the place of one that cannot be made; see `say`."""
    figure = new_figure(8.4, 0.8)
    say(figure.subplots(), text)
    return figure


def to_png(figure: Figure, dpi: int = 90, dither: bool = False) -> bytes:
    """The figure as PNG without transparency; above 150 kB in a palette of 256 colours, a third of the size.

    An event log holds these bytes as base64, so they are kept small. The same figure gives the same bytes: no date
    and no version is written into them. A page and the event log both hold a figure: it is rendered once, and is not
    to be changed after that.

    Args:
        figure: to be rendered.
        dpi: dots an inch.
        dither: whether the palette's colours are mixed, as images in true colour need it.
    """
    known = _RENDERED.setdefault(figure, {})
    if (dpi, dither) not in known:
        known[dpi, dither] = _rendered(figure, dpi, dither)
    return known[dpi, dither]


def _rendered(figure: Figure, dpi: int, dither: bool) -> bytes:
    # `savefig` would draw it twice, first for the layout alone.
    canvas, usual = FigureCanvasAgg(figure), figure.dpi
    figure.set_dpi(dpi)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    figure.set_dpi(usual)
    compressed = _png(image)
    if len(compressed) <= _LARGE:
        return compressed
    few = 256 - len(MARKS)
    colours = (image.quantize(few, dither=Image.Dither.NONE).getpalette() or [])[: 3 * few]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours + [part for mark in MARKS for part in ImageColor.getrgb(mark)])
    return _png(image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="png", optimize=True)
    return stream.getvalue()
