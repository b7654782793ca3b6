"""The words of a tile's report: sections, captions, how to read it and what it cannot tell."""

from __future__ import annotations

from collections.abc import Mapping

CATALOG = "The catalogue"
EXAMPLES = "Examples"
LIKE_WITH_LIKE = "Shapes against im3shape"
BINS = "Shapes by S/N, blendedness and bands"
SHEAR = "Mean shear"
TRUTH = "Against the truth"
LIKENESS = "Is the tile like what was learnt?"
OTHER = "Further figures"
SECTIONS = (EXAMPLES, LIKE_WITH_LIKE, BINS, SHEAR, TRUTH, LIKENESS, CATALOG, OTHER)

# Name of a figure given to `report.tile_report`: section, caption.
FIGURES: Mapping[str, tuple[str, str]] = {
    "ellipses": (
        EXAMPLES,
        "Cutouts with the ellipse of im3shape (red, solid) and ours (yellow, dashed), both of shear-type g (the "
        "report's Fig. 6). North is up and east to the left; ellipses of equal area, b/a = (1 − g)/(1 + g).",
    ),
    "shapes_against_im3shape": (
        LIKE_WITH_LIKE,
        "Upper row: our intrinsic g against im3shape's, like with like. Lower row: our observed distortion e against "
        "the same, unlike with unlike, as the report compared (its Fig. 17).",
    ),
    "shape_distributions": (
        LIKE_WITH_LIKE,
        "Distributions of both components (the report's Fig. 18). Narrower than im3shape's means drawn toward round, "
        "but im3shape's own errors widen its distribution.",
    ),
    "binned_slopes": (BINS, "Slopes of our g on im3shape's by S/N and by blendedness of the deblended image."),
    "truth_slopes": (
        TRUTH,
        "Slope of estimate on truth on the tile and on simulated test blends with the tile's S/N cut. That both agree "
        "is the test of the chain between images and catalogue.",
    ),
    "positions": (TRUTH, "Catalogue less true positions. The circle holds offsets below 0.1 arcsec."),
    "likeness": (
        LIKENESS,
        "Left: noise and PSF width over the training's, with the limits beyond which the tile is called unlike. Right: "
        "fluxes of the tile and of the training targets.",
    ),
    "dynamic_range": (
        LIKENESS,
        "Pixel values band by band of tile and training, in electrons of the survey's whole exposure and after Eq. 9 "
        "with the training's ⟨max⟩ (the report's Fig. 7, which used each data set's own maxima).",
    ),
    "catalog_distributions": (CATALOG, "im3shape's galaxies after all cuts (the report's Fig. 5)."),
    "attrition": (CATALOG, "Galaxies left after each cut."),
}

SIMULATED_NOTICE = (
    "This is a simulated tile: drawn by this package with a known truth, and served by its own archive. Nothing "
    "on this page was measured on the sky. Its im3shape table is the truth with noise added, not a fit to images."
)

READING = (
    "Ours are the deblender's shapes of galaxies on the survey's images; im3shape's are a fit to other, single "
    "exposures of the same galaxies. Our g and im3shape's e are both shear-type, (a − b)/(a + b), of the galaxy "
    "without its PSF: they are compared like with like. Our e is the observed distortion (a² − b²)/(a² + b²), PSF"
    " included; held against im3shape it would show a slope near 0.4 were it perfect, and that is the comparison "
    "which the report made.",
    "All ellipticities are in the sky frame, +x to the east and +y to the north. On an image with north up and "
    "east to the left, the first component is that of the pixels and the second has the opposite sign.",
    "im3shape is itself noisy, which lowers the ordinary least-squares slope of ours on it. The errors-in-"
    "variables slope takes that out with the errors that im3shape's weights imply (Akritas & Bershady 1996). "
    "Below 1 it says what is left: an estimate that minimises its squared error must shrink toward round where it"
    " is unsure.",
    "The mean shear of im3shape is Σw(e − c)/Σw(1 + m), with its corrections applied to the ensemble. Ours is a "
    "plain mean, not calibrated: it is no measurement of a shear.",
)

LIMITS = (
    "Errors are a bootstrap over galaxies; they hold neither the chance of another training nor what the galaxies"
    " of one tile share. Where a simulated tile and test blends draw on few different galaxies, they are too "
    "small.",
    "im3shape's weights cap its errors from below: where that makes them too large, the errors-in-variables slope"
    " is an upper bound.",
    "im3shape's blended galaxies are not known to be right: agreement there is no accuracy.",
    "snr_w depends on a galaxy's shape as well as on its light, so that the cut on it selects by shape a little.",
    "The blendedness is estimated from the deblended image, so that what the network missed it does not count.",
    "A failure is a shape that is not a number; slopes and RMS leave it out and its count stands beside them.",
)


def tile_label(tile: str, simulated: bool) -> str:
    """How a tile is called in every title, so that no simulated one passes for the sky."""
    return f"simulated tile {tile}" if simulated else f"tile {tile}"
