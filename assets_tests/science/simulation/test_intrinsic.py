"""Truth of a galaxy before any PSF: covariance, cases known in closed form, images."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest
from scipy import optimize, special

from assets_tests.science.simulation.galaxy_samples import random_galaxies
from deblend_assets.science.simulation.galaxies import DISC, KNOTS, Galaxies, Morphology, concatenate, ellipse_matrices
from deblend_assets.science.simulation.intrinsic import ShapesOnDemand, intrinsic_shapes
from deblend_assets.science.stamps.conventions import add_shear

ANALYTIC = (Morphology.SERSIC, Morphology.ALIGNED, Morphology.MISALIGNED, Morphology.KNOTTED)


@pytest.mark.parametrize("kind", ANALYTIC)
@pytest.mark.parametrize("shear", [0.05 - 0.03j, -0.3 + 0.2j])
def test_g_of_a_sheared_galaxy_is_the_shear_of_its_g(kind: Morphology, shear: complex) -> None:
    galaxies = random_galaxies(kind, 24)
    before, after = intrinsic_shapes(galaxies), intrinsic_shapes(galaxies.sheared(shear))
    assert np.abs(after.g - add_shear(before.g, shear)).max() < 1e-6
    told = before.sheared(shear)
    np.testing.assert_allclose(told.g, after.g, atol=1e-6)
    np.testing.assert_allclose(told.hlr, after.hlr, rtol=1e-5)
    np.testing.assert_allclose(told.concentration, after.concentration, rtol=1e-5)
    np.testing.assert_allclose(told.centroid, after.centroid, atol=1e-5)
    assert np.abs(after.g - before.g).min() > 0.005


@pytest.mark.parametrize("kind", ANALYTIC)
def test_a_turn_turns_g_twice_and_the_centroid_once_and_a_larger_galaxy_is_larger(kind: Morphology) -> None:
    galaxies = random_galaxies(kind, 8)
    before, after = intrinsic_shapes(galaxies), intrinsic_shapes(galaxies.turned(0.4).magnified(1.5))
    np.testing.assert_allclose(after.g, before.g * np.exp(0.8j), atol=1e-6)
    np.testing.assert_allclose(after.g, before.turned(0.4).g, atol=1e-6)
    np.testing.assert_allclose(after.centroid, 1.5 * before.centroid * np.exp(0.4j), atol=1e-5)
    np.testing.assert_allclose(after.hlr, 1.5 * before.hlr, rtol=1e-5)
    np.testing.assert_allclose(after.concentration, before.concentration, rtol=1e-5)


def test_one_profile_has_its_own_shape_and_size() -> None:
    galaxies = random_galaxies(Morphology.SERSIC, 5)
    galaxies = replace(galaxies, n=np.array([[0.5, 4.0], [1.0, 4.0], [4.0, 4.0], [2.0, 4.0], [6.0, 4.0]]))
    wanted = np.array([0.3, -0.5j, 0.1 + 0.1j, 0.0, 0.8])
    radii = np.array([0.1, 0.3, 1.0, 2.0, 0.5])
    ellipses = galaxies.ellipses.copy()
    ellipses[:, DISC] = ellipse_matrices(radii, wanted)
    shapes = intrinsic_shapes(replace(galaxies, ellipses=ellipses))
    np.testing.assert_allclose(shapes.g, wanted, atol=1e-12)
    np.testing.assert_allclose(shapes.hlr, radii)
    # Of a Gaussian r80 / r20 = sqrt(ln 5 / ln 1.25); of an exponential 2.994 / 0.824 scale lengths.
    assert shapes.concentration[0] == pytest.approx(2.5 * np.log10(np.log(5) / np.log(1.25)))
    assert shapes.concentration[1] == pytest.approx(5 * np.log10(2.99431 / 0.824388), abs=1e-4)
    assert shapes.concentration[2] == pytest.approx(5.28, abs=0.02)


def gaussians(covariances: list[np.ndarray], shares: list[float]) -> tuple[complex, float]:
    """g and half-light radius of concentric Gaussians, in closed form but for one radius and two roots."""

    def light_outside(radius: float, covariance: np.ndarray) -> float:
        angle = (np.arange(4000) + 0.5) * 2 * np.pi / 4000
        u = np.stack([np.cos(angle), np.sin(angle)])
        along = np.einsum("ia,ij,ja->a", u, np.linalg.inv(covariance), u)
        # ∫ exp(-r² u·C⁻¹u / 2) r dr beyond the radius, over the angle.
        return float(np.mean(np.exp(-0.5 * radius**2 * along) / along / np.sqrt(np.linalg.det(covariance))))

    def placed(g: complex) -> list[np.ndarray]:
        inverse = np.array([[1 - g.real, -g.imag], [-g.imag, 1 + g.real]]) / np.sqrt(1 - abs(g) ** 2)
        return [inverse @ c @ inverse.T for c in covariances]

    def half_light(parts: list[np.ndarray]) -> float:
        def missing(radius: float) -> float:
            return sum(s * light_outside(radius, c) for s, c in zip(shares, parts, strict=True)) - 0.5

        return float(optimize.brentq(missing, 1e-3, 20.0, xtol=1e-12))

    def residual(components: np.ndarray) -> list[float]:
        parts = placed(complex(*components))
        weight = np.eye(2) * 2 * np.log(2) / half_light(parts) ** 2
        moment = np.zeros((2, 2))
        for s, c in zip(shares, parts, strict=True):
            product = np.linalg.inv(np.linalg.inv(c) + weight)
            moment += s * np.sqrt(np.linalg.det(product) / np.linalg.det(c)) * product
        return [moment[0, 0] - moment[1, 1], moment[0, 1]]

    g = complex(*optimize.root(residual, [0.0, 0.0], tol=1e-12).x)
    return g, half_light(placed(g))


def test_two_gaussians_are_as_in_closed_form() -> None:
    """Both profiles have n = 1/2, whose weighted moments are known."""
    galaxies = random_galaxies(Morphology.MISALIGNED, 6, seed=5)
    galaxies = replace(galaxies, n=np.full((6, 2), 0.5))
    found = intrinsic_shapes(galaxies)
    for k in range(6):
        light = galaxies.flux[k, 2, :2]
        covariances = [
            np.array([[xx, xy], [xy, yy]]) / (2 * np.log(2))  # the half-light ellipse of a Gaussian
            for xx, xy, yy in galaxies.ellipses[k]
        ]
        g, hlr = gaussians(covariances, list(light / light.sum()))
        assert abs(found.g[k] - g) < 2e-5
        assert found.hlr[k] == pytest.approx(hlr, rel=2e-5)


def test_thin_ellipses_that_cross_have_a_shape_too() -> None:
    """Found in a field of training: its steps to the solution shrink by an eighth each."""
    galaxies = random_galaxies(Morphology.MISALIGNED, 2, seed=5)
    crossed = [[0.0200235, 0.0106145, 0.0057212], [0.0236509, -0.0034044, 0.00061023]]
    flux = galaxies.flux.copy()
    flux[..., :2], flux[..., 2:] = [0.37187567, 0.62812433], 0.0
    galaxies = replace(galaxies, ellipses=np.array([crossed] * 2), n=np.array([[1.0, 4.0]] * 2), flux=flux)
    first, other = intrinsic_shapes(galaxies), intrinsic_shapes(galaxies.sheared(0.3 - 0.1j))
    assert np.abs(other.g - add_shear(first.g, 0.3 - 0.1j)).max() < 2e-5


def test_images_of_galsim_profiles_have_the_same_fixed_point() -> None:
    """Moments of the pixels of GalSim's images, under the weight that was found: round in the weight's own frame."""
    galaxies = random_galaxies(Morphology.KNOTTED, 3, seed=2)
    galaxies = replace(galaxies, n=np.tile([0.8, 1.5], (3, 1)))  # no cusp that pixels could not resolve
    shapes = intrinsic_shapes(galaxies)
    for k in range(3):
        light = galaxies.flux[k, 2] / galaxies.flux[k, 2].sum()
        parts = []
        for c in (0, 1):
            root = np.linalg.cholesky(matrix(galaxies, k, c))
            # GalSim's `transform` keeps the surface brightness.
            profile = galsim.Sersic(galaxies.n[k, c], half_light_radius=1.0, flux=light[c] / np.linalg.det(root))
            parts.append(profile.transform(*root.ravel()))
        scale = 0.02
        image = galsim.Add(parts).drawImage(nx=801, ny=801, scale=scale, method="no_pixel").array
        y, x = (np.mgrid[:801, :801] - 400) * scale
        points = galaxies.knots[k, : galaxies.knot_count[k]]
        x, y = np.append(x.ravel(), points[:, 0]), np.append(y.ravel(), points[:, 1])
        light = np.append(image.ravel(), np.full(len(points), light[2] / len(points)))
        z = x + 1j * y - shapes.centroid[k]
        z = (z - shapes.g[k] * z.conj()) / np.sqrt(1 - abs(shapes.g[k]) ** 2)
        inside = light[np.abs(z) < shapes.hlr[k]].sum()
        # The light rises by that of one knot at its distance.
        assert inside == pytest.approx(
            0.5, abs=galaxies.flux[k, 2, KNOTS] / galaxies.flux[k, 2].sum() / len(points) + 1e-3
        )
        weighted = light * np.exp(-np.log(2) * np.abs(z) ** 2 / shapes.hlr[k] ** 2)
        assert abs((weighted * z**2).sum() / (weighted * np.abs(z) ** 2).sum()) < 2e-3
        assert abs((weighted * z).sum() / weighted.sum()) < 2e-3 * shapes.hlr[k]


def matrix(galaxies: Galaxies, k: int, component: int) -> np.ndarray:
    xx, xy, yy = galaxies.ellipses[k, component]
    return np.array([[xx, xy], [xy, yy]])


def test_a_cusp_does_not_rule_g() -> None:
    """A round bulge of a tenth of the light in a flat disc: adaptive moments may follow it, this weight does not."""
    galaxies = random_galaxies(Morphology.ALIGNED, 1)
    flux = np.zeros((1, 6, 3))
    flux[:, :, :2] = [0.9, 0.1]
    ellipses = ellipse_matrices(np.array([[0.5, 0.1]]), np.array([[0.5, 0.0]]))
    shape = intrinsic_shapes(replace(galaxies, flux=flux, ellipses=ellipses))
    assert 0.4 < shape.g[0].real < 0.5


def test_truth_does_not_depend_on_the_others_and_real_images_have_none() -> None:
    parts = [random_galaxies(kind, 3) for kind in ANALYTIC]
    real = random_galaxies(Morphology.SERSIC, 2)
    real = replace(real, morphology=np.full(2, Morphology.REAL, np.int8), image=np.arange(2))
    together = intrinsic_shapes(concatenate([*parts, real]))
    alone = [intrinsic_shapes(part) for part in parts]
    for name in ("g", "hlr", "concentration", "centroid"):
        wanted = np.concatenate([getattr(shapes, name) for shapes in alone])
        assert np.array_equal(getattr(together, name)[:-2], wanted), f"{name}: the same bits"
    for values in (together.g, together.hlr, together.concentration, together.centroid):
        assert np.isnan(values[-2:]).all()
        assert np.isfinite(values[:-2]).all()


def test_on_demand_it_is_the_truth_of_the_rows_that_are_asked_for() -> None:
    galaxies = concatenate([random_galaxies(kind, 40) for kind in ANALYTIC])
    whole, demanded = intrinsic_shapes(galaxies), ShapesOnDemand(galaxies)
    rows = np.array([150, 3, 3, 77])
    for name in ("g", "hlr", "concentration", "centroid"):
        assert np.array_equal(getattr(demanded[rows], name), getattr(whole, name)[rows])
    assert np.array_equal(demanded.hlr, whole.hlr)
    assert len(demanded[:0]) == 0


def test_all_of_it_is_the_light_of_r() -> None:
    """A galaxy whose bulge has light in every band but r is its disc."""
    galaxies = random_galaxies(Morphology.MISALIGNED, 2)
    flux = galaxies.flux.copy()
    flux[:, 2, 1] = 0.0
    shapes = intrinsic_shapes(replace(galaxies, flux=flux))
    q = np.abs(shapes.g)
    areas = np.sqrt(np.linalg.det([matrix(galaxies, k, DISC) for k in range(2)]))
    np.testing.assert_allclose(shapes.hlr**2, areas, rtol=1e-10)
    assert (q > 0).all()
    np.testing.assert_allclose(shapes.concentration, shapes.concentration[0])
    assert special.gammainc(2.0, 2.99431) == pytest.approx(0.8, abs=1e-5), "the radius quoted above"
