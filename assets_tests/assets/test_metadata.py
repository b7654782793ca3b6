"""What the UI shows of an outcome: five significant digits, counts as they are."""

from __future__ import annotations

import math

import dagster as dg

from deblend_assets.assets.declare import check_result, metadata_of
from deblend_assets.steps.outcome import Check, Outcome

NUMBERS = {"slope": -1.2908634442104905, "scenes": 1_234_567, "empty": math.nan}


def test_numbers_of_assets_and_checks_have_five_digits() -> None:
    result = check_result(Check("slopes", True, "fine", NUMBERS), dg.AssetKey(["shapes", "shape_evaluation"]))
    shown = {name: entry.value for name, entry in result.metadata.items()}
    of_asset = metadata_of(Outcome(numbers=NUMBERS))
    for found in (shown, of_asset):
        assert (found["slope"], found["scenes"]) == (-1.2909, 1_234_567)
        assert math.isnan(found["empty"])
