"""Moments against shapes whose moments are known."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.science.stamps.moments import half_light_radius, image_moments, intrinsic_shear


def gaussian(
    g1: float, g2: float, sigma: float = 2.0, pixels: int = 61, dx: float = 0.0, dy: float = 0.0
) -> np.ndarray:
    profile = galsim.Gaussian(sigma=sigma, flux=1000.0).shear(g1=g1, g2=g2).shift(dx, dy)
    return profile.drawImage(nx=pixels, ny=pixels, scale=1.0, method="no_pixel").array.astype(float)


@pytest.mark.parametrize(("g1", "g2"), [(0.0, 0.0), (0.2, 0.0), (-0.1, 0.15), (0.0, -0.3)])
def test_elliptical_gaussian_has_its_analytic_moments(g1: float, g2: float) -> None:
    shear = galsim.Shear(g1=g1, g2=g2)
    moments = image_moments(gaussian(g1, g2, dx=0.3, dy=-0.2))
    assert (moments.e1, moments.e2) == pytest.approx((shear.e1, shear.e2), abs=2e-5)
    assert (moments.x, moments.y) == pytest.approx((0.3, -0.2), abs=1e-5)
    a, b = moments.axes
    # A shear keeps the area: a b = sigma^2, and a/b = (1 + g)/(1 - g).
    assert a * b == pytest.approx(4.0, rel=1e-4)
    assert a / b == pytest.approx((1 + shear.g) / (1 - shear.g), rel=1e-4)


def test_rotation_by_90_degrees_changes_both_signs_and_a_flip_the_second() -> None:
    image = gaussian(0.15, -0.2)
    plain, turned, flipped = (image_moments(i) for i in (image, np.rot90(image), image[:, ::-1]))
    assert (turned.e1, turned.e2) == pytest.approx((-plain.e1, -plain.e2), abs=1e-12)
    assert (flipped.e1, flipped.e2) == pytest.approx((plain.e1, -plain.e2), abs=1e-12)


def test_no_light_has_no_shape() -> None:
    moments = image_moments(np.stack([np.zeros((9, 9)), -gaussian(0, 0, 1.0, 9), gaussian(0, 0, 1.0, 9)]))
    assert np.isnan(moments.e1[:2]).all()
    assert np.isfinite(moments.e1[2])


def test_single_components_have_the_shear_of_their_axes() -> None:
    g = intrinsic_shear(
        np.array([0.6, 0.0]), np.array([0.3, 0.0]), np.array([0.0, 0.5]), np.array([0.0, 0.4]), np.array([0.0, 1.0])
    )
    assert g == pytest.approx([0.3 / 0.9, 0.1 / 0.9])


@pytest.mark.parametrize(
    ("a_d", "b_d", "a_b", "b_b", "fraction"),
    [(0.5, 0.25, 0.4, 0.36, 0.1), (0.6, 0.5, 0.5, 0.3, 0.25), (0.3, 0.12, 0.8, 0.7, 0.2)],
)
def test_two_components_agree_with_hsm_on_a_fine_grid(
    a_d: float, b_d: float, a_b: float, b_b: float, fraction: float
) -> None:
    """GalSim's adaptive moments of the drawn profile; the grid blurs the bulge's cusp, hence the tolerance."""
    disc = galsim.Exponential(half_light_radius=(a_d * b_d) ** 0.5, flux=1 - fraction)
    bulge = galsim.DeVaucouleurs(half_light_radius=(a_b * b_b) ** 0.5, flux=fraction)
    x_axis = 0 * galsim.degrees
    profile = disc.shear(q=b_d / a_d, beta=x_axis) + bulge.shear(q=b_b / a_b, beta=x_axis)
    image = profile.drawImage(nx=1201, ny=1201, scale=0.005, method="sb")
    measured = galsim.hsm.FindAdaptiveMom(image).observed_shape
    ours = intrinsic_shear(*(np.array([v]) for v in (a_d, b_d, a_b, b_b, fraction)))
    assert ours[0] == pytest.approx(measured.g1, abs=3e-3)


def test_identical_axes_give_their_shear_whatever_the_mixture() -> None:
    """Two components with similar isophotes: any weight has the one ellipticity."""
    fractions = np.linspace(0.05, 0.6, 8)
    g = intrinsic_shear(*(np.full(8, v) for v in (0.6, 0.36, 0.5, 0.3)), bulge_fraction=fractions)
    assert g == pytest.approx(np.full(8, 0.25), abs=2e-6)


def test_adaptive_moments_transform_as_a_shear() -> None:
    """Shear along the major axis stretches both components alike: g must follow the composition law."""
    before = intrinsic_shear(*(np.array([v]) for v in (0.5, 0.3, 0.4, 0.38, 0.3)))[0]
    stretch = ((1 + 0.05) / (1 - 0.05)) ** 0.5
    a_d, b_d, a_b, b_b = 0.5 * stretch, 0.3 / stretch, 0.4 * stretch, 0.38 / stretch
    after = intrinsic_shear(*(np.array([v]) for v in (a_d, b_d, a_b, b_b, 0.3)))[0]
    assert after == pytest.approx((before + 0.05) / (1 + 0.05 * before), abs=1e-5)


def test_half_light_radius_of_one_component_is_its_own() -> None:
    radii, nothing = np.array([0.1, 0.4, 2.0]), np.zeros(3)
    np.testing.assert_allclose(half_light_radius(radii, nothing, np.zeros(3)), radii, rtol=1e-12)
    np.testing.assert_allclose(half_light_radius(nothing, radii, np.ones(3)), radii, rtol=1e-12)
    np.testing.assert_allclose(half_light_radius(radii, radii, np.full(3, 0.3)), radii, rtol=1e-12)


def test_half_of_galsims_light_lies_within_the_half_light_radius_of_a_mixture() -> None:
    disc, bulge, share = 0.5, 0.2, 0.4
    (radius,) = half_light_radius(np.array([disc]), np.array([bulge]), np.array([share]))
    galaxy = (1 - share) * galsim.Exponential(half_light_radius=disc) + share * galsim.DeVaucouleurs(
        half_light_radius=bulge
    )
    r = np.geomspace(1e-7, radius, 4000)
    light = [2 * np.pi * x * galaxy.xValue(x, 0.0) for x in r]
    assert np.trapezoid(light, r) == pytest.approx(0.5, abs=1e-3)
