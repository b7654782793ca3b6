"""Distortion and shear: against GalSim, and the group laws they must obey."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.science.stamps.conventions import (
    add_shear,
    distortion_from_shear,
    g_response,
    position_angle,
    shear_from_distortion,
)

GRID = [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.5), (0.05, -0.7)]


@pytest.mark.parametrize(("g1", "g2"), GRID)
def test_conversions_agree_with_galsim(g1: float, g2: float) -> None:
    shear = galsim.Shear(g1=g1, g2=g2)
    e1, e2 = distortion_from_shear(np.array(g1), np.array(g2))
    assert (float(e1), float(e2)) == pytest.approx((shear.e1, shear.e2), abs=1e-14)
    back = shear_from_distortion(np.array(shear.e1), np.array(shear.e2))
    assert tuple(map(float, back)) == pytest.approx((g1, g2), abs=1e-14)


def test_axis_ratio_belongs_to_shear_and_its_square_to_distortion() -> None:
    a, b = 2.0, 1.0
    assert shear_from_distortion(np.array((a**2 - b**2) / (a**2 + b**2)), np.array(0.0))[0] == pytest.approx(
        (a - b) / (a + b)
    )


@pytest.mark.parametrize("angle", [-80.0, -30.0, 0.0, 45.0, 85.0])
def test_position_angle_keeps_the_quadrant(angle: float) -> None:
    e = 0.4 * np.exp(2j * np.radians(angle))
    assert np.degrees(position_angle(e.real, e.imag)) == pytest.approx(angle)


@pytest.mark.parametrize(("g1", "g2"), GRID)
def test_adding_a_shear_is_galsims_addition(g1: float, g2: float) -> None:
    shear = galsim.Shear(g1=0.02, g2=-0.01)
    sheared = shear + galsim.Shear(g1=g1, g2=g2)
    ours = add_shear(np.array(complex(g1, g2)), complex(0.02, -0.01))
    assert abs(ours) == pytest.approx(sheared.g, abs=1e-12)
    assert ours == pytest.approx(complex(sheared.g1, sheared.g2), abs=1e-12)


def test_the_response_of_g_is_that_of_add_shear() -> None:
    step = 1e-6
    for g in (0.3 - 0.4j, -0.55 + 0.2j, 0j):
        columns = [
            complex(add_shear(np.array(g), h * step) - add_shear(np.array(g), -h * step)) / (2 * step)
            for h in (1.0 + 0j, 1j)
        ]
        assert g_response(g) == pytest.approx(np.array([[c.real for c in columns], [c.imag for c in columns]]))
