"""The frame of stamps: one check, which names the first difference with both values."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.settings import load_profile
from deblend_assets.stores.shipped import shipped, surveys

FRAME = StampFrame(("g", "r", "i"), (10.0, 20.0, 30.0), (28.0, 28.5, 28.2), 0.2, 45, "r")
ATTRIBUTES: dict[str, Any] = {"bands": ["g", "r", "i"], "unit": "electron", "pixel_scale_arcsec": 0.2}


def test_what_stamps_say_of_themselves_is_enough() -> None:
    FRAME.require(ATTRIBUTES, "here")
    FRAME.require({**ATTRIBUTES, "bands": ("g", "r", "i"), "shape": (3, 45, 45)}, "here")
    FRAME.require({**ATTRIBUTES, "zero_point_ab_mag_of_one_electron": [28.0, 28.5, 28.2], "survey": "LSST"}, "here")
    FRAME.require({**ATTRIBUTES, "pixel_scale_arcsec": np.float32(0.2 * (1 + 1e-6))}, "here")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bands", ["g", "i", "r"]),
        ("bands", "gri"),
        ("unit", "adu"),
        ("unit", None),
        ("pixel_scale_arcsec", 0.263),
        ("pixel_scale_arcsec", None),
        ("pixel_scale_arcsec", "0.2 arcsec"),
        ("pixel_scale_arcsec", "0.2"),
        ("zero_point_ab_mag_of_one_electron", [28.0, 28.5]),
        ("zero_point_ab_mag_of_one_electron", [28.0, 28.5, 28.3]),
        ("zero_point_ab_mag_of_one_electron", 28.0),
        ("shape", [3, 40, 40]),
        ("shape", [45, 45]),
    ],
)
def test_stamps_of_another_frame_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(MismatchError, match=rf"^{name} is .*, the model's .* \[here\]: "):
        FRAME.require({**ATTRIBUTES, name: value}, "here")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_missing_attribute_is_named(name: str) -> None:
    given = {key: value for key, value in ATTRIBUTES.items() if key != name}
    with pytest.raises(MismatchError, match=rf"^{name} is None, the model's .* \[here\]: "):
        FRAME.require(given, "here")


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("bands", ("g", "i", "r"), "bands"),
        ("bands", ("g", "r"), "bands"),
        ("sky_sigma", (10.0, 20.0, 31.0), "sky_sigma_electron"),
        ("zero_points", (28.0, 28.5, 28.3), "zero_point_ab_mag_of_one_electron"),
        ("pixel_scale", 0.263, "pixel_scale_arcsec"),
        ("pixels", 43, "stamp_pixels"),
        ("label_band", "i", "label_band"),
    ],
)
def test_another_frame_is_refused_by_name(field: str, value: Any, name: str) -> None:
    other = replace(FRAME, **{field: value})
    with pytest.raises(MismatchError, match=rf"^{name} is .*, the model's .* \[there\]: "):
        FRAME.require(other.attributes(), "there")
    FRAME.require(replace(FRAME, pixel_scale=0.2 * (1 + 1e-6)).attributes(), "there")


def test_a_card_gives_the_same_frame() -> None:
    assert StampFrame.from_card(json.loads(json.dumps(asdict(FRAME)))) == FRAME
    assert json.loads(json.dumps(FRAME.attributes())) == FRAME.attributes()


@pytest.mark.parametrize("survey", ["LSST"])
def test_the_frame_of_the_shipped_weights_is_their_survey_s(survey: str) -> None:
    assert "shapes" in surveys()[survey]
    frame = StampFrame.from_card(shipped(survey, "shapes").card["frame"])
    settings = load_profile("demo").simulation
    frame.require(load_survey(survey).frame(settings).attributes(), survey)
