"""Scales of an archive's images: which pixel scales are the same, and counts in electrons, by their zero points."""

from __future__ import annotations

# Relative. Scales within it are treated as equal: the change of a galaxy's size is below its measurement error.
SAME_SCALE = 0.005


def electrons_per_count(zero_point: float, model_zero_point: float) -> float:
    """Electrons of the survey's whole exposure per count.

    Args:
        zero_point: AB magnitude of one count.
        model_zero_point: AB magnitude of one electron, `SurveyModel.zero_point` of the band.
    """
    return float(10 ** (0.4 * (model_zero_point - zero_point)))
