"""What the methods are called, and what they are given."""

from __future__ import annotations

OURS = "ours"
TITLES = {OURS: "ours", "sep_hsm": "SEP + HSM", "anacal": "AnaCal"}
WORDS = {
    OURS: "posterior mean of the network for every sky under metadetection, all bands; no MASKED, SATURATED, EDGE, "
    "weighted by S/N",
    "sep_hsm": "SEP with metadetect's settings and REGAUSS under the same metadetection, sum of r, i, z; S/N ≥ 10 and "
    "HSC's cuts, resolution ≥ 0.3, shape error ≤ 0.4",
    "anacal": "FPFS with its own detection and masks, all bands, settings of xlens; S/N ≥ 10, "
    "|e| < 0.4, masked share < 0.035",
}
"""Settings and cuts."""
