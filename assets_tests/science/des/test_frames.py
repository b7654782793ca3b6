"""Zero points: arithmetic exactly."""

from __future__ import annotations

import pytest

from deblend_assets.science.des.frames import electrons_per_count


def test_zero_points_are_exact() -> None:
    assert electrons_per_count(30.0, 30.0) == 1.0
    assert electrons_per_count(30.0, 27.5) == pytest.approx(0.1, rel=1e-14)
    assert electrons_per_count(25.0, 30.0) == pytest.approx(100.0, rel=1e-14)
