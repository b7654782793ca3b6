"""The texts of a tile's report: sections, captions, how to read it, and its limits."""

from __future__ import annotations

from collections.abc import Mapping

CATALOG = "The catalogue"
EXAMPLES = "Examples"
LIKE_WITH_LIKE = "Shapes against im3shape"
BINS = "Shapes by S/N, blendedness and bands"
SHEAR = "Mean shear"
TRUTH = "Against the truth"
TRUST = "Which rows can be trusted?"
OTHER = "Further figures"
SECTIONS = (EXAMPLES, LIKE_WITH_LIKE, BINS, SHEAR, TRUTH, TRUST, CATALOG, OTHER)

# Name of a figure given to `tile.tile_report`: section, caption.
FIGURES: Mapping[str, tuple[str, str]] = {
    "ellipses": (
        EXAMPLES,
        "Cutouts with the ellipse of im3shape (red, solid) and ours (yellow, dashed), both of shear-type g (the "
        "report's Fig. 6). North is up and east to the left; ellipses of equal area, b/a = (1 − g)/(1 + g).",
    ),
    "shapes_against_im3shape": (
        LIKE_WITH_LIKE,
        "Upper row: our intrinsic g against im3shape's, the same quantity. Lower row: our observed distortion e on "
        "im3shape's shear-type e, two different quantities, as the report compared them (its Fig. 17).",
    ),
    "shape_distributions": (
        LIKE_WITH_LIKE,
        "Distributions of both components (the report's Fig. 18). A distribution narrower than im3shape's is shrunk "
        "toward zero (round), but im3shape's own errors widen its distribution.",
    ),
    "binned_slopes": (BINS, "Slopes of our g on im3shape's by S/N and by blendedness of the scene."),
    "truth_slopes": (
        TRUTH,
        "Slope of estimate on truth, of all rows and of those without a flag, and RMS of the error over the expected "
        "one.",
    ),
    "positions": (TRUTH, "Position in the catalogue minus true position. Circle: 0.1 arcsec."),
    "trust": (
        TRUST,
        "Left: share of the rows with each flag. Right: what is measured on the tile over what the model was given, "
        "with the limits.",
    ),
    "dynamic_range": (
        TRUST,
        "Pixel values band by band (the report's Fig. 7): in the archive's counts, and as the network takes them, in "
        "units of the sky's noise.",
    ),
    "catalog_distributions": (CATALOG, "im3shape's galaxies after all cuts (the report's Fig. 5)."),
    "attrition": (CATALOG, "Galaxies left after each cut."),
}

SIMULATED_NOTICE = (
    "This is a simulated tile: this package rendered it with a known truth and serves it from its own archive. "
    "Nothing on this page was measured on the sky. Its im3shape table is the truth with noise added, not a fit."
)

READING = (
    "Ours are the network's shapes of galaxies on the survey's coadds; im3shape's are a fit to other, single exposures "
    "of the same galaxies. Our g and im3shape's e are both shear-type, (a − b)/(a + b), of the galaxy "
    "without its PSF: the same quantity. Our e is the observed distortion "
    "(a² − b²)/(a² + b²), with the PSF. A perfect e would have a slope near 0.4 on im3shape's; the "
    "report made this comparison.",
    "All ellipticities are in the sky frame of our catalogue, +x to the west and +y to the north. On an image with "
    "north up and east to the left it is that of the pixels. im3shape's table has +x to the east: its second component "
    "has changed its sign here.",
    "im3shape is itself noisy, which lowers the ordinary least-squares slope of ours on it. The errors-in-"
    "variables slope corrects for the errors that im3shape's weights imply (Akritas & Bershady 1996). It stays below "
    "1, because an estimate that minimises the squared error shrinks toward zero (round) with its own error.",
    "The mean shear of im3shape is Σw(e − c)/Σw(1 + m), with its corrections applied to the ensemble. Ours is a "
    "plain mean without calibration: it does not measure a shear.",
)

LIMITS = (
    "Errors are a bootstrap over galaxies. They include neither the scatter between trainings nor what the galaxies "
    "of one tile have in common. They are too small where a simulated tile shows few distinct galaxies.",
    "The PSF that the model is given is that of the survey's description, round and the same everywhere. Errors of "
    "fluxes hold the sky's noise and not the galaxy's own photons.",
    "im3shape's weights have a lower limit on the errors: where it makes the errors too large, the "
    "errors-in-variables slope is an upper bound.",
    "im3shape's shapes of blended galaxies may be wrong: agreement there does not prove accuracy.",
    "snr_w depends on a galaxy's shape as well as on its light, so the cut on it selects slightly by shape.",
    "The blendedness is that of the scene: it leaves out neighbours that were not detected.",
    "A failure is a shape that is not a finite number. Slopes and RMS leave failures out; the tables give their count.",
)


def tile_label(tile: str, simulated: bool) -> str:
    """The name of a tile in every title; a simulated tile is always named as such."""
    return f"simulated tile {tile}" if simulated else f"tile {tile}"
