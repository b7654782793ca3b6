"""The plane that touches the sky in the middle of a field."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from assets_tests.science.field_samples import tan_wcs
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.images.projection import sky_errors, sky_plane


@pytest.mark.parametrize("turned", [0.0, 30.0, 180.0])
def test_the_plane_has_u_to_the_west_and_v_to_the_north(turned: float) -> None:
    shape = (300, 320)
    wcs = tan_wcs(shape, turned)
    field = Field({"r": Observation(np.zeros(shape, np.float32), 30.0, wcs)})
    x, y = np.array([0.0, 250.0, 10.0]), np.array([0.0, 200.0, 290.0])
    u, v = sky_plane(field, x, y)
    centre = galsim.CelestialCoord(150 * galsim.degrees, 2 * galsim.degrees)
    for k in range(3):
        there = wcs.toWorld(galsim.PositionD(x[k] + 1, y[k] + 1))
        expected = [angle / galsim.arcsec for angle in centre.project(there)]
        np.testing.assert_allclose([u[k], v[k]], expected, atol=1e-4)


def test_without_coordinates_the_plane_is_that_of_the_wcs() -> None:
    field = Field({"r": Observation(np.zeros((11, 21), np.float32), 30.0, galsim.JacobianWCS(0, 0.3, -0.2, 0))})
    u, v = sky_plane(field, np.array([10.0, 11.0]), np.array([5.0, 5.0]))
    np.testing.assert_allclose([u, v], [[0, 0], [0, -0.2]], atol=1e-12)


@pytest.mark.parametrize(("turned", "expected"), [(0.0, [0.1, 0.02]), (90.0, [0.02, 0.1]), (30.0, [0.08718, 0.05292])])
def test_errors_on_the_sky_are_arcsec_along_ra_and_dec(turned: float, expected: list[float]) -> None:
    """0.5 and 0.1 pixel of 0.2 arcsec, at declination 60, where ra itself changes twice as fast, across ra = 0."""
    shape = (300, 320)
    wcs = tan_wcs(shape, turned, centre=(0.0, 60.0))
    field = Field({"r": Observation(np.zeros(shape, np.float32), 30.0, wcs)})
    x, y = np.array([159.5, 161.0, 158.0]), np.array([149.5, 150.0, 148.0])
    found = sky_errors(field, x, y, np.full(3, 0.5), np.full(3, 0.1))
    np.testing.assert_allclose(found, np.repeat(expected, 3).reshape(2, 3), rtol=1e-3)
    plain = Field({"r": Observation(np.zeros(shape, np.float32), 30.0, galsim.PixelScale(0.2))})
    assert np.isnan(sky_errors(plain, x, y, np.full(3, 0.5), np.full(3, 0.1))).all()
