"""A stored look is the look: a new attribute of it fails here until it is stored too."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import galsim
import numpy as np

from deblend_assets.science.images.background import SkyLevel
from deblend_assets.science.images.field import BandNoise, Box, Field
from deblend_assets.science.images.field_checks.report import Check, FieldReport
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.measuring.field_look import Look
from deblend_assets.science.skies.psf import ConstantPSF
from deblend_assets.steps.fields.look_record import look_from, record_of


def plain(value: Any) -> Any:
    """Comparable: arrays as lists, NaN as text."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def test_a_look_is_read_as_it_was_stored() -> None:
    psf = ConstantPSF(galsim.Gaussian(fwhm=0.8))
    observation = Observation(np.zeros((30, 40), np.float32), 27.0, galsim.PixelScale(0.2), psf=psf)
    field = Field({"r": observation, "i": observation})
    noise = {
        "r": BandNoise(np.array([[0.1, 1 / 3, 0.1]]), math.nan),
        "i": BandNoise(np.ones((1, 1)), 0.1 + 0.2),
    }
    checks = (
        Check.of("psf_size", "r", 0.1, 0.01, "20 stars"),
        Check.untestable("counts", "i", "no galaxy"),
    )
    look = Look(
        noise=noise,
        psfs={"r": psf, "i": psf},
        fwhm=(4.1, 3.9),
        side=49,
        box=Box(0, 0, 40, 30),
        report=FieldReport(checks),
        sky={"r": SkyLevel(0.5, 0.1), "i": SkyLevel(math.nan, math.nan)},
    )
    stored = json.loads(json.dumps(record_of(look), allow_nan=False))
    assert plain(look_from(stored, field)) == plain(look)
