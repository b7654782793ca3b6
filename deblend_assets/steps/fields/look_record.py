"""The first look at a field as JSON, so that it is not repeated when its detections are measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from deblend_assets.science.images.background import SkyLevel
from deblend_assets.science.images.field import BandNoise, Box, Field
from deblend_assets.science.images.field_checks.report import Check, FieldReport
from deblend_assets.science.measuring.field_look import Look, look_at

_OF_CHECKS = ("name", "band", "value", "error", "threshold", "verdict", "reason")


def record_of(look: Look) -> dict[str, Any]:
    """All of a look but the PSFs, which are the field's."""
    return {
        "noise": {band: [noise.correlation.tolist(), _plain(noise.sigma)] for band, noise in look.noise.items()},
        "fwhm": list(look.fwhm),
        "side": look.side,
        "box": list(look.box),
        "checks": [[_plain(getattr(check, name)) for name in _OF_CHECKS] for check in look.report.checks],
        "sky": {band: [_plain(number) for number in level] for band, level in look.sky.items()},
    }


def look_from(record: Mapping[str, Any], field: Field) -> Look:
    """The look that a record is of.

    Args:
        record: of `record_of`.
        field: that was looked at. Where a PSF of it was measured from stars, it is looked at again.
    """
    psfs = {band: observation.psf for band, observation in field.bands.items() if observation.psf is not None}
    if len(psfs) < len(field.bands):
        return look_at(field)
    return Look(
        noise={band: BandNoise(np.array(lags), _number(sigma)) for band, (lags, sigma) in record["noise"].items()},
        psfs=psfs,
        fwhm=tuple(record["fwhm"]),
        side=record["side"],
        box=Box(*record["box"]),
        report=FieldReport(tuple(_check(row) for row in record["checks"])),
        sky={band: SkyLevel(*map(_number, level)) for band, level in record["sky"].items()},
    )


def _check(row: list[Any]) -> Check:
    found = dict(zip(_OF_CHECKS, row, strict=True))
    return Check(**{**found, "value": _number(found["value"]), "error": _number(found["error"])})


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
