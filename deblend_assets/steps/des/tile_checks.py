"""Checks of an evaluated tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.steps.outcome import Check

# Limits on the differences of a simulated tile's catalogue from its truth.
MOST_OFFSET_ARCSEC, MOST_FLUX_ERROR = 0.1, 0.01


def tile_checks(evaluation: Evaluation, trust: Evaluation) -> list[Check]:
    """Checks of a tile's evaluation; on a simulated tile also those against the truth.

    Args:
        evaluation: of `evaluate_tile`.
        trust: of `evaluate_trust`.
    """
    results = [
        Check(
            "trusted",
            not trust["warnings"],
            "; ".join(trust["warnings"]) or f"{trust['flagged']} of {trust['rows']} rows are flagged",
            {"flagged": trust["flagged"], "share": trust["share"]},
            warn=True,
        ),
        signs_check(evaluation),
    ]
    if evaluation["truth"] is not None:
        results += _against_truth(evaluation["truth"])
    return results


def signs_check(evaluation: Evaluation) -> Check:
    """Whether both components of our g have the signs of im3shape's.

    Args:
        evaluation: with `im3shape`, `orientation` and `matched`.
    """
    return Check(
        "signs",
        evaluation["orientation"] == "right",
        _signs(evaluation["orientation"], evaluation["im3shape"]["shear"], "component1", "component2"),
        {"galaxies": evaluation["matched"]},
        warn=evaluation["orientation"] == "undecided",
    )


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
    trusted = truth["trusted"]
    hold, found = trusted["errors_hold"], trusted["pulls"]
    pulls = ", ".join(
        f"{kind}: RMS pull {format_measure(part['pull'])}, within one error {format_measure(part['within'])}"
        for kind, part in found.items()
    )
    numbers = {f"{name}_{kind}": found[kind][name]["value"] for kind in hold for name in ("pull", "within")}
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
            "errors_hold",
            all(hold.values()),
            f"{trusted['n']} rows without a flag: {pulls}",
            {name: value for name, value in numbers.items() if value is not None},
            warn=None in hold.values(),
        ),
    ]
