"""What all figures share: colours that colour-blind readers tell apart, a canvas, and PNG bytes."""

from __future__ import annotations

import io

from matplotlib.figure import Figure
from PIL import Image

# Okabe & Ito (2008).
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

ESTIMATOR_COLOURS = {"regressor": BLUE, "reconstruction": ORANGE}
ESTIMATOR_LABELS = {"regressor": "regressor", "reconstruction": "moments of the reconstruction"}
BAND_COLOURS = (PURPLE, BLUE, GREEN, ORANGE, VERMILION, BLACK, SKY, YELLOW)
TRUTH_COLOUR = BLACK
_LARGE = 150_000  # [byte]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure [inch], laid out by itself; it belongs to no window system."""
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure, dpi: int = 90) -> bytes:
    """The figure as PNG without transparency; above 150 kB in a palette of 256 colours, a third of the size.

    An event log holds these bytes as base64, so they are kept small. The same figure gives the same bytes: no date
    and no version is written into them.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    with Image.open(drawn) as opened:
        image = opened.convert("RGB")
    compressed = _png(image)
    return compressed if len(compressed) <= _LARGE else _png(image.quantize(256, dither=Image.Dither.NONE))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="png", optimize=True)
    return stream.getvalue()
