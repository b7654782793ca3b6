"""Checks of an evaluated tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deblend_assets.science.des.likeness import Likeness
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.steps.outcome import Check

# Limits on the differences of a simulated tile's catalogue from its truth.
MOST_OFFSET_ARCSEC, MOST_FLUX_ERROR = 0.1, 0.01


def tile_checks(evaluation: Evaluation, likeness: Likeness) -> list[Check]:
    """Checks of a tile's evaluation; on a simulated tile also those against the truth."""
    results = [
        Check(
            "like_training",
            not likeness.warnings,
            "; ".join(likeness.warnings) or "no limit exceeded",
            {"unlike": len(likeness.warnings)},
            warn=True,
        ),
        Check(
            "signs",
            evaluation["orientation"] == "right",
            _signs(evaluation["orientation"], evaluation["im3shape"]["shear"], "component1", "component2"),
            {"galaxies": evaluation["matched"]},
            warn=evaluation["orientation"] == "undecided",
        ),
    ]
    if evaluation["truth"] is not None:
        results += _against_truth(evaluation["truth"])
    return results


def _signs(orientation: str, found: Mapping[str, Any], *components: str) -> str:
    """Text of the orientation, with the slopes of both components of g."""
    slopes = ", ".join(f"g{k} {format_measure(found[name]['slope'])}" for k, name in enumerate(components, start=1))
    return f"{orientation}: slopes {slopes}"


def _against_truth(truth: Evaluation) -> list[Check]:
    offset = truth["position"]["median_total"]["value"]
    ratios = {band: found["ratio"] for band, found in truth["cutout_flux"].items()}
    # The lower 2-sigma limit of each deviation from 1.
    off = {
        band: abs(r["value"] - 1) - 2 * r["error"] for band, r in ratios.items() if None not in (r["value"], r["error"])
    }
    agreement = {name: found for name, found in truth["test_blends"].items() if isinstance(found, dict)}
    undecided = any(found["agrees"] is None for found in agreement.values())
    sigmas = {f"sigmas_{name}": found["sigmas"] for name, found in agreement.items() if found["sigmas"] is not None}
    return [
        Check(
            "positions",
            offset is not None and offset < MOST_OFFSET_ARCSEC,
            f"median {offset:.3f} arcsec" if offset is not None else "too few galaxies",
            {"median_arcsec": offset} if offset is not None else {},
            warn=offset is None,
        ),
        Check(
            "flux_calibration",
            bool(off) and max(off.values()) < MOST_FLUX_ERROR,
            ", ".join(f"{b} {format_measure(r)}" for b, r in ratios.items() if b in off) or "too few",
            {f"ratio_{band}": ratios[band]["value"] for band in off},
            warn=not off,
        ),
        Check(
            "true_signs",
            truth["orientation"] == "right",
            _signs(truth["orientation"], truth["shapes"]["g"], "g1", "g2"),
            {},
            warn=truth["orientation"] == "undecided",
        ),
        Check(
            "agrees_with_test_blends",
            all(found["agrees"] for found in agreement.values()) and not undecided,
            "difference of the slopes over its error, tile minus test blends",
            sigmas,
            warn=True,
        ),
    ]
