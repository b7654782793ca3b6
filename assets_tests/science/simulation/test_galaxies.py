"""The table of galaxies: transformations, units, and what it refuses."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from assets_tests.science.simulation.galaxy_samples import random_galaxies
from deblend_assets.errors import CatalogError, SettingsError
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS
from deblend_assets.science.simulation.galaxies import (
    Galaxies,
    Morphology,
    concatenate,
    ellipse_matrices,
    ellipse_shapes,
    nanojansky,
    shear_matrix,
)
from deblend_assets.science.simulation.population import generate_population


def test_ellipses_and_their_shapes_are_inverse() -> None:
    rng = np.random.default_rng(0)
    g = 0.9 * np.sqrt(rng.random(50)) * np.exp(2j * np.pi * rng.random(50))
    radius, shape = ellipse_shapes(ellipse_matrices(np.linspace(0.1, 3, 50), g))
    np.testing.assert_allclose(radius, np.linspace(0.1, 3, 50))
    np.testing.assert_allclose(shape, g)


def test_a_shear_is_galsims_and_its_inverse_undoes_it() -> None:
    np.testing.assert_allclose(shear_matrix(0.3 - 0.2j), galsim.Shear(g1=0.3, g2=-0.2).getMatrix())
    galaxies = random_galaxies(Morphology.KNOTTED, 10)
    back = galaxies.sheared(0.3 - 0.2j).sheared(-0.3 + 0.2j)
    for name in ("ellipses", "knots", "jacobian"):
        np.testing.assert_allclose(getattr(back, name), getattr(galaxies, name), atol=1e-12)
    each = np.linspace(-0.3, 0.3, 10) * 1j
    np.testing.assert_allclose(galaxies.sheared(each)[3:4].ellipses, galaxies[3:4].sheared(each[3]).ellipses)


def test_a_quarter_turn_swaps_the_axes_and_moves_the_knots() -> None:
    galaxies = random_galaxies(Morphology.KNOTTED, 6)
    turned = galaxies.turned(np.pi / 2)
    np.testing.assert_allclose(turned.ellipses, galaxies.ellipses[..., [2, 1, 0]] * [1, -1, 1], atol=1e-12)
    np.testing.assert_allclose(turned.knots[..., 1], galaxies.knots[..., 0], atol=1e-12)
    np.testing.assert_allclose(turned.knots[..., 0], -galaxies.knots[..., 1], atol=1e-12)
    np.testing.assert_allclose(turned.flux, galaxies.flux)


def test_transformations_follow_one_another() -> None:
    galaxies = random_galaxies(Morphology.MISALIGNED, 6)
    step = galaxies.turned(0.3).sheared(0.1j).magnified(1.1)
    matrix = 1.1 * shear_matrix(0.1j) @ np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    np.testing.assert_allclose(step.ellipses, galaxies.transformed(matrix).ellipses)
    np.testing.assert_allclose(step.jacobian[2], matrix)


def test_the_reports_galaxies_keep_their_light_and_shapes() -> None:
    population = generate_population(300, 4)
    catalog = {name: population[name].to_numpy() for name in CATSIM_COLUMNS}
    galaxies = Galaxies.of_catsim(catalog)
    magnitudes = np.stack([catalog[f"{band}_ab"] for band in "ugrizy"], axis=1)
    np.testing.assert_allclose(galaxies.magnitudes(), magnitudes)
    lit = catalog["fluxnorm_disk"] > 0
    radius, shape = ellipse_shapes(galaxies.ellipses[:, 0])
    np.testing.assert_allclose(radius[lit], np.sqrt(catalog["a_d"] * catalog["b_d"])[lit])
    angle = np.degrees(0.5 * np.angle(shape[lit]))
    assert np.abs((angle - catalog["pa_disk"][lit] + 90) % 180 - 90).max() < 1e-6
    bulges = galaxies.flux[:, 2, 1] / galaxies.flux[:, 2].sum(axis=1)
    total = catalog["fluxnorm_bulge"] + catalog["fluxnorm_disk"]
    np.testing.assert_allclose(bulges, catalog["fluxnorm_bulge"] / total)


def test_flux_is_in_the_units_of_the_image() -> None:
    galaxies = random_galaxies(Morphology.ALIGNED, 3)
    assert nanojansky(31.4) == pytest.approx(1.0)
    assert nanojansky(23.9) == pytest.approx(1000.0), "1 microjansky"
    flux = galaxies.flux_in(("r", "Y"), (31.4, 26.4))
    np.testing.assert_allclose(flux[:, 0], galaxies.flux[:, 2])
    np.testing.assert_allclose(flux[:, 1], galaxies.flux[:, 5] / 100)
    with pytest.raises(SettingsError, match="choose of u, g, r"):
        galaxies.flux_in(("r", "H"), (30.0, 30.0))


def test_tables_join_and_split() -> None:
    parts = [random_galaxies(kind, 4, seed=kind) for kind in (Morphology.SERSIC, Morphology.KNOTTED)]
    both = concatenate(parts)
    assert len(both) == 8
    np.testing.assert_array_equal(both[both.morphology == Morphology.KNOTTED].knots, parts[1].knots)
    np.testing.assert_array_equal(both[:4].ellipses, parts[0].ellipses)
    assert both[np.array([5, 5])].id.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("flux", -1.0, "a flux that is negative"),
        ("flux", np.nan, "a flux that is negative or not finite"),
        ("n", 0.2, "Sérsic index"),
        ("hlr", 0.0, "half-light radius"),
        ("hlr", np.nan, "half-light radius"),
        ("shape", 1.0, "ellipticity"),
    ],
)
def test_what_cannot_be_rendered_is_refused(name: str, value: float, message: str) -> None:
    given = {
        "flux": np.ones((3, 6, 3)) * [1, 1, 0],
        "n": np.ones((3, 2)),
        "hlr": np.ones((3, 2)),
        "shape": np.zeros((3, 2), complex),
    }
    Galaxies.build([7, 8, 9], Morphology.COSMOS, np.zeros(3), **given)
    given[name][1] = value
    with pytest.raises(CatalogError, match=f"{message}.*1 of 3 galaxies, first in galaxy 8"):
        Galaxies.build([7, 8, 9], Morphology.COSMOS, np.zeros(3), **given)


def test_knots_go_with_light() -> None:
    given = {"n": np.ones((1, 2)), "hlr": np.ones((1, 2)), "shape": np.zeros((1, 2), complex)}
    with pytest.raises(CatalogError, match="knots without light"):
        Galaxies.build([7], Morphology.KNOTTED, np.zeros(1), flux=np.ones((1, 6, 3)), **given)
    with pytest.raises(ValueError, match=r"Galaxies\.knots has shape"):
        Galaxies.build([7], Morphology.KNOTTED, np.zeros(1), np.zeros((1, 6, 3)), **given, knots=np.ones((2, 1, 2)))
