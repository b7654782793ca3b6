"""Sections, captions and words of the quality page of a field."""

from __future__ import annotations

IMAGES = "What was detected and measured?"
MODEL = "Does the model describe the image?"
FLAGS = "Which rows are not good, and why?"
PHOTOMETRY = "Are fluxes and colors plausible?"
PSF = "Is the PSF that of the stars?"
SHEAR = "Is there a shear where there should be none?"
SKY = "Are sky and noise as stated?"
INJECTION = "Do galaxies of known truth come back?"
SECTIONS = (IMAGES, MODEL, INJECTION, FLAGS, PHOTOMETRY, PSF, SHEAR, SKY)

FIGURES: dict[str, tuple[str, str]] = {
    "field": (
        IMAGES,
        "The whole field in colour (asinh stretch of Lupton et al. 2004). Ellipses: rows with flags = 0, observed "
        "shape e, half axes of twice the half-light radius behind the PSF. The frame is the part that is shown "
        "next. Look for detections on halos, spikes and satellite trails, and for bright galaxies without an "
        "ellipse.",
    ),
    "part": (
        IMAGES,
        "A part with a typical number of rows; every dot is a detection. Look for one galaxy with several "
        "detections, and for one ellipse on several galaxies.",
    ),
    "residual": (
        MODEL,
        "The same part, its model image and their difference. Model: every row's own light, as the catalogue has "
        "it, added once; no sky. The median of the sky is taken off image and residual. Rings and cores in the "
        "residual are galaxies that are not described; blue holes are light that was counted twice.",
    ),
    "injection": (
        INJECTION,
        "Galaxies that were put into the images and measured as all others (`--inject`): share that is found, error of "
        "the flux, RMS of the errors over the stated ones, and g against the true one; of rows with flags = 0 that lie "
        "on no brighter source. The strongest check of this page.",
    ),
    "flags": (FLAGS, "Left: rows with each flag; a row may have several. Right: the same of each band alone."),
    "counts": (
        PHOTOMETRY,
        "Rows by magnitude. Line: counts of galaxies of COSMOS2020 (Weaver et al. 2022), in other bands than i with"
        " the median color of the simulated population. They lie apart by some 10 % from field to field of a "
        "degree, and by a factor of up to two in a field of some arcmin. Where the points fall below the line is "
        "the depth.",
    ),
    "colors": (
        PHOTOMETRY,
        "Colors of galaxies with flags = 0 and of stars, of S/N above 10 in all three bands. Line: main-sequence "
        "stars of [Fe/H] = −0.7 in the bands of Pan-STARRS1, without dust. Stars beside the line show a zero point "
        "that is wrong, or dust.",
    ),
    "sizes": (
        PSF,
        "Left: size by adaptive moments over that of the given PSF on the same pixels, isolated sources of S/N "
        "above 25 in one band. Stars make a narrow locus at 1, or at another value where the PSF is not theirs. "
        "Right: half-light radius of the catalogue.",
    ),
    "psf": (
        PSF,
        "Stars of the whole field less the given PSF at their places; the larger a point, the higher its S/N. "
        "Clipped, weighted means. A pattern over the field is a PSF model that does not follow the image. Stars "
        "that are 1 % larger than the given PSF are a multiplicative bias of shear of about −3 %.",
    ),
    "around_stars": (
        SHEAR,
        "Mean g of galaxies with flags = 0 around bright stars (by the flag STAR, or saturated). A tangential shear"
        " other than 0 is light of the stars or a wrong sky. Error bars: scatter of the pairs.",
    ),
    "mean_shear": (
        SHEAR,
        "Mean g of galaxies with flags = 0 in bins of equally many, by position and by the g of the PSF in the "
        "reference band. A slope on the PSF's g is leakage. Cosmic shear and clusters of a small field give means "
        "of some 0.01 by themselves. g is the posterior mean, shrunk toward zero: means are too small.",
    ),
    "sky": (
        SKY,
        "Median of the source-free pixels in blocks of the image as it was given, in units of a pixel's noise. "
        "Light of what is not detected is in it: some 0.02 in a deep image. Of a band whose sky was not taken off the "
        "map shows what it varies by.",
    ),
    "noise": (
        SKY,
        "Robust scatter of the same pixels over the stated noise; 1 where it is right, and for the median of a band"
        " whose noise was measured.",
    ),
    "correlation": (
        SKY,
        "Correlation of the noise between pixels, measured on source-free pixels and given to the network. The sum "
        "is the variance of the noise of a large area over that of white noise.",
    ),
}
"""Section and caption of each figure, in their order."""

LIMITS = (
    "g of the catalogue is not calibrated for shear, and no response of detection is in it.",
    "The page cannot see what is wrong in pixels and noise alike, such as a wrong gain or pixel scale, but for the "
    "counts and the colors of stars.",
    "A panel that says 'too few' is no sign that all is well.",
)
