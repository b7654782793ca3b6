"""Shapes in the sky frame: against GalSim, the second moments, finite differences and the symmetries of a WCS."""

from __future__ import annotations

from collections.abc import Callable

import galsim
import numpy as np
import pytest

from deblend_assets.science.stamps.conventions import distortion_from_shear
from deblend_assets.science.stamps.sky_frame import (
    Floats,
    distortion_covariance_on_sky,
    distortion_on_sky,
    response_on_sky,
    shear_covariance_on_sky,
    shear_on_sky,
)

N = 200
RNG = np.random.default_rng(4)
G = RNG.uniform(-0.6, 0.6, (N, 2))
E = np.stack(distortion_from_shear(*G.T), axis=1)


def covariances() -> Floats:
    roots = RNG.normal(0, 0.1, (N, 2, 2))
    return np.asarray(roots @ roots.swapaxes(1, 2))


def rotation(degrees: float) -> Floats:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def all_of(matrix: Floats) -> Floats:
    return np.broadcast_to(0.263 * matrix, (N, 2, 2))


def any_wcs() -> Floats:
    """Rotated, sheared, half of them mirrored."""
    jacobians = RNG.normal(0, 0.2, (N, 2, 2)) + 0.3 * np.eye(2)
    jacobians[::2, :, 0] *= -1
    assert (np.linalg.det(jacobians) > 0).any()
    assert (np.linalg.det(jacobians) < 0).any()
    return jacobians[np.abs(np.linalg.det(jacobians)) > 0.01]


ON_SKY: list[Callable[[Floats, Floats], Floats]] = [shear_on_sky, distortion_on_sky]
BOTH = pytest.mark.parametrize(
    ("on_sky", "covariance_on_sky", "shapes"),
    [
        (shear_on_sky, shear_covariance_on_sky, G),
        (distortion_on_sky, distortion_covariance_on_sky, E),
    ],
    ids="ge",
)


@pytest.mark.parametrize("on_sky", ON_SKY)
@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.eye(2), G),
        (rotation(90), -G),
        (rotation(180), G),
        # A turn by 45 degrees puts what was along x along y = x.
        (rotation(45), np.stack([-G[:, 1], G[:, 0]], axis=1)),
        (np.diag([-1.0, 1.0]), G * (1, -1)),
        (np.diag([1.0, -1.0]), G * (1, -1)),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), G * (-1, 1)),
    ],
    ids=["north up, west right", "90", "180", "45", "mirrored in x", "mirrored in y", "axes swapped"],
)
def test_turns_and_parity(on_sky: Callable[[Floats, Floats], Floats], matrix: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(on_sky(G, all_of(matrix)), expected, atol=1e-12)


def test_the_shear_of_a_wcs_composes_as_galsim_s() -> None:
    shear = galsim.Shear(g1=0.07, g2=-0.12)
    found = shear_on_sky(G, all_of(rotation(0) @ shear.getMatrix()))
    for pair, (g1, g2) in zip(found, G, strict=True):
        both = shear + galsim.Shear(g1=g1, g2=g2)
        np.testing.assert_allclose(pair, (both.g1, both.g2), atol=1e-12)


def test_any_wcs_gives_the_shape_of_the_second_moments() -> None:
    jacobians = any_wcs()
    g, e = G[: len(jacobians)], E[: len(jacobians)]
    drawn = np.array([[1 + g[:, 0], g[:, 1]], [g[:, 1], 1 - g[:, 0]]]).transpose(2, 0, 1)
    matrices = jacobians @ drawn
    moments = matrices @ matrices.swapaxes(1, 2)
    trace = moments[:, 0, 0] + moments[:, 1, 1]
    expected = np.stack([moments[:, 0, 0] - moments[:, 1, 1], 2 * moments[:, 0, 1]], axis=1) / trace[:, None]
    np.testing.assert_allclose(distortion_on_sky(e, jacobians), expected, atol=1e-12)
    found = np.stack(distortion_from_shear(*shear_on_sky(g, jacobians).T), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_mean_beyond_one_is_not_folded_back() -> None:
    """A posterior's mean may be no shape; a turn keeps its modulus."""
    g = np.array([[1.2, 0.3]])
    assert np.hypot(*shear_on_sky(g, rotation(30)[None])[0]) == pytest.approx(np.hypot(*g[0]))


@BOTH
def test_covariances_are_those_of_finite_differences(
    on_sky: Callable[..., Floats], covariance_on_sky: Callable[..., Floats], shapes: Floats
) -> None:
    jacobians, step = any_wcs(), 1e-6
    some, covariance = 0.5 * shapes[: len(jacobians)], covariances()[: len(jacobians)]
    slopes = np.stack(
        [
            (on_sky(some + step * unit, jacobians) - on_sky(some - step * unit, jacobians)) / (2 * step)
            for unit in np.eye(2)
        ],
        axis=2,
    )
    expected = slopes @ covariance @ slopes.swapaxes(1, 2)
    found = covariance_on_sky(some, covariance, jacobians)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


@BOTH
def test_a_turned_covariance_keeps_its_size(
    on_sky: Callable[..., Floats], covariance_on_sky: Callable[..., Floats], shapes: Floats
) -> None:
    covariance = covariances()
    found = covariance_on_sky(shapes, covariance, all_of(rotation(33) @ np.diag([-1, 1])))
    np.testing.assert_allclose(np.linalg.det(found), np.linalg.det(covariance))
    np.testing.assert_allclose(np.trace(found, axis1=1, axis2=2), np.trace(covariance, axis1=1, axis2=2))
    swapped = covariance_on_sky(shapes, covariance, all_of(rotation(45)))
    np.testing.assert_allclose(swapped[:, 0, 0], covariance[:, 1, 1])
    np.testing.assert_allclose(swapped[:, 0, 1], -covariance[:, 0, 1])


@pytest.mark.parametrize("matrix", [rotation(20), rotation(-70) @ np.diag([-1.0, 1.0]), np.diag([1.0, -1.0])])
def test_a_response_turns_with_estimate_and_shear(matrix: Floats) -> None:
    """An estimate that answers by R to a pixel frame's shear: seen on the sky, both are turned."""
    response, shear = RNG.normal(0.8, 0.3, (N, 2, 2)), RNG.normal(0, 1e-3, (N, 2))
    jacobian = all_of(matrix)
    answer = (response @ shear[:, :, None])[:, :, 0]
    seen = response_on_sky(response, jacobian) @ shear_on_sky(shear, jacobian)[:, :, None]
    np.testing.assert_allclose(seen[:, :, 0], shear_on_sky(answer, jacobian), atol=1e-15)


def test_a_response_of_one_is_one_in_every_frame() -> None:
    jacobians = any_wcs()
    ones = np.broadcast_to(np.eye(2), (len(jacobians), 2, 2))
    np.testing.assert_allclose(response_on_sky(ones, jacobians), ones, atol=1e-12)
