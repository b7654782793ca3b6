"""The texts of the evaluation's report: sections, captions, how to read it, and its limits."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES = "Examples"
SIMILARITY = "Images: similarity"
SHAPES = "Shapes: distortion e and shear-type g"
BINS = "Shapes by S/N and blendedness"
MISSING = "Missing bands"
FLUX = "Fluxes"
TRAINING = "Training and normalisation"
OTHER = "Further figures"
SECTIONS = (EXAMPLES, SIMILARITY, SHAPES, BINS, MISSING, FLUX, TRAINING, OTHER)

# Name of a figure given to `deblender.evaluation_report`: section, caption.
FIGURES: Mapping[str, tuple[str, str]] = {
    "reconstructions": (
        EXAMPLES,
        "Held-out scenes in the label band: the blend that goes in, the isolated truth, the reconstruction after "
        "stage 2 and their difference (the report's Fig. 11). The first three share an asinh scale in each row.",
    ),
    "ellipses": (
        EXAMPLES,
        "Distortion of the truth (red, solid) and of the regressor (yellow, dashed) over the reconstruction (the "
        "report's Fig. 12). x to the right, y up; a whisker lies along the major axis and is as long as e is large.",
    ),
    "similarity": (
        SIMILARITY,
        "Similarity of the reconstructed blends to the isolated truth with the network of stage 1 (t1) and of stage 2 "
        "(t2), with our means and the report's (its Fig. 13), which are of its own scenes.",
    ),
    "ellipticity_scatter": (
        SHAPES,
        "Estimated against true distortion with least-squares lines, and contours of both components' errors (the "
        "report's Fig. 15).",
    ),
    "ellipticity_distributions": (
        SHAPES,
        "Distributions of both components (the report's Fig. 16). One narrower than the truth's is shrunk toward zero.",
    ),
    "binned_accuracy": (BINS, "RMS error and slope by S/N and by blendedness. Not in the report."),
    "flux_error": (
        FLUX,
        "Flux of the reconstruction over that of the isolated truth, less 1, by band. The report names wrong "
        "magnitude levels (section 4.1) and gives no number.",
    ),
    "loss_stage1": (TRAINING, "Stage 1, the VAE on noisy isolated galaxies (the report's Fig. 22a)."),
    "loss_stage2": (TRAINING, "Stage 2, the deblender behind the frozen decoder (the report's Fig. 22b)."),
    "loss_stage3": (TRAINING, "Stage 3, the regressor behind the frozen encoder (the report's Fig. 23)."),
    "dynamic_range": (TRAINING, "Pixel values by band before and after Eq. 9 (the report's Fig. 7)."),
    "raw_and_normalized": (TRAINING, "A stamp before and after Eq. 9 (the report's Fig. 20)."),
}

# Rows of the headline table: name in `evaluation.flat_numbers`, meaning.
HEADLINE: Mapping[str, str] = {
    "ssim_blend": "SSIM of the blend itself",
    "ssim_stage1_blended": "SSIM, stage 1 on blends (t1)",
    "ssim_stage2": "SSIM, stage 2 on blends (t2)",
    "cosine_blend": "cosine similarity of the blend itself",
    "cosine_stage1_blended": "cosine similarity, stage 1 on blends (t1)",
    "cosine_stage2": "cosine similarity, stage 2 on blends (t2)",
    "label_scatter": "label scatter per component of e",
    "regressor_rms": "regressor: RMS Δe per component",
    "regressor_rms_over_scatter": "regressor: RMS Δe / label scatter",
    "regressor_slope_e1": "regressor: slope, e1",
    "regressor_slope_e2": "regressor: slope, e2",
    "regressor_slope_e": "regressor: slope, |e|",
    "shear_rms": "regressor: RMS Δg per component, intrinsic shear-type",
    "shear_slope_g1": "regressor: slope, intrinsic g1",
    "shear_slope_g2": "regressor: slope, intrinsic g2",
    "reconstruction_rms": "moments of the reconstruction: RMS Δe per component",
    "reconstruction_slope_e1": "moments of the reconstruction: slope, e1",
    "reconstruction_slope_e2": "moments of the reconstruction: slope, e2",
}

READING = (
    "The input is a scene of one target and a few fainter neighbours; the output is the target alone and its "
    "ellipticity, from two estimators: the regressor, from the latent mean, and second moments of the reconstructed "
    "image. Both are compared with the moments of the isolated, noiseless target.",
    "There are two ellipticities: the distortion e = (a² − b²)/(a² + b²) (Eq. 12), as observed: convolved "
    "with the PSF and cut off by the stamp; and, where a table says so, the shear-type g = (a − b)/(a + b) of the "
    "galaxy before the PSF (adaptive moments of its profile). A slope of 1 says nothing about the calibration of a "
    "shear: that takes sheared scenes.",
    "The slope is that of the least-squares line of estimate on truth. An estimate that minimises its "
    "squared error shrinks toward the mean with its own error, so a slope below 1 (shrunk toward zero, round) "
    "and a scatter ratio below 1 are expected. RMS / label scatter measures the information in the estimate: a "
    "constant estimate has 1. |e| is a modulus: noise raises it and lowers its slope.",
    "Similarities saturate, since most galaxies are small, round and alike: rank methods by shape and flux.",
)

LIMITS = (
    "The report's values and ours are of different scenes: its galaxies are CatSim's, without a split by galaxy. "
    "Compare RMS in units of the label scatter, and do not rely on the last digit of a value read off a figure.",
    "The report's code computes SSIM in its first band (u) only. Ours is the mean over all bands; the table by band "
    "gives each one.",
    "Error bars are a bootstrap over scenes: they include the scatter between samples of scenes, not between "
    "trainings. They are too small where targets are far fewer than scenes.",
    "A failure is a shape that is not a finite number. RMS and slope leave failures out; the tables give their count.",
)
