"""Which rows of a tile are flagged, and how its PSF and noise compare with those that were given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from assets_tests.science.tile_tables import tile_tables
from deblend_assets.science.evaluation.tile_trust import LIKE, UNKNOWN, UNLIKE, evaluate_trust
from deblend_assets.science.measuring.trust import RowFlag

NOISE = {"g": 1.0, "r": 1.01, "i": 0.97, "z": 1.1, "Y": 1.0}


def test_flags_are_counted_by_reason() -> None:
    found = evaluate_trust(tile_tables(200).shapes, {"r": 0.96}, NOISE, 0.2)
    assert (found["rows"], found["flagged"], found["share"]) == (200, 10, 0.05)
    assert found["reasons"]["BAD_FIT"] == found["reasons"]["SKY"] == {"n": 10, "share": 0.05}
    assert all(part["n"] == 0 for name, part in found["reasons"].items() if name not in ("BAD_FIT", "SKY"))
    assert set(found["reasons"]) == {flag.name for flag in RowFlag}
    assert found["warnings"] == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_many_flags_are_a_warning() -> None:
    shapes = tile_tables(200).shapes
    shapes.loc[:20, "flags"] = int(RowFlag.EDGE)
    assert evaluate_trust(shapes, {}, {}, 0.2)["warnings"] == ["15% of the rows are flagged (limit 10%)"]


@pytest.mark.parametrize(("fwhm", "verdict"), [(1.05, LIKE), (0.87, LIKE), (1.06, UNLIKE), (0.86, UNLIKE)])
def test_the_psf_s_width_is_within_a_tenth_of_the_measured_one(fwhm: float, verdict: str) -> None:
    found = evaluate_trust(tile_tables(50).shapes, {"r": fwhm}, {}, 0.2)
    (row,) = found["comparisons"]
    assert (row["verdict"], row["given"], row["ratio"]) == (verdict, 0.96, pytest.approx(fwhm / 0.96))
    assert len(found["warnings"]) == (verdict == UNLIKE)


@pytest.mark.parametrize(("ratio", "verdict"), [(1.19, LIKE), (0.81, LIKE), (1.21, UNLIKE), (0.79, UNLIKE)])
def test_the_noise_is_that_of_the_weights_within_the_limit(ratio: float, verdict: str) -> None:
    found = evaluate_trust(tile_tables(50).shapes, {}, NOISE | {"i": ratio}, 0.2)
    verdicts = {row["quantity"][-1]: row["verdict"] for row in found["comparisons"]}
    assert verdicts == dict.fromkeys(NOISE, LIKE) | {"i": verdict}
    assert len(found["warnings"]) == (verdict == UNLIKE)


def test_what_is_not_known_is_no_warning() -> None:
    shapes = tile_tables(50).shapes
    found = evaluate_trust(shapes.assign(psf_fwhm_r=np.nan), {"r": 0.9}, {"g": np.nan}, 0.2)
    assert [row["verdict"] for row in found["comparisons"]] == [UNKNOWN, UNKNOWN]
    assert found["warnings"] == []
    assert evaluate_trust(shapes[:0], {"r": 0.9}, {}, 0.2)["share"] == 0
