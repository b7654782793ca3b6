"""The nine quantities: true values in closed form, their symmetries, population and likelihood-only estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from assets_tests.science.worlds.samples import FWHM, HLR, SCALE, gaussian_field, targets_of
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.quantities import (
    BLOCKS,
    QUANTITIES,
    point_source_error,
    prior_of,
    turn,
    units_of,
    values_of,
)
from deblend_assets.science.stamps.symmetries import ORDER, inverse
from deblend_assets.science.worlds.targets import Targets


@pytest.fixture(scope="module")
def targets() -> Targets:
    """One Gaussian galaxy of sigma 0.4 arcsec and g = 0.2 exp(0.8i), 3,000 nJy in r and i of noise 1."""
    return targets_of(gaussian_field([31.7], [30.2], [3000.0], 0.4, 0.2 * np.exp(0.8j), 64))


def test_values_of_a_gaussian_are_the_closed_form(targets: Targets) -> None:
    found = dict(zip(QUANTITIES, values_of(targets.truth, targets.stamps)[0], strict=True))
    row = targets.truth.iloc[0]
    assert complex(found["g1"], found["g2"]) == pytest.approx(0.2 * np.exp(0.8j), abs=1e-6)
    assert (found["e1"], found["e2"]) == (row["e1"], row["e2"])
    assert found["ln_size"] == pytest.approx(np.log(HLR * 0.4 / FWHM), abs=3e-3)
    # Error of a point source: sigma of the noise times √(4π) sigma of the PSF.
    error = np.sqrt(4 * np.pi) * FWHM / SCALE / 2.354820
    assert found["ln_flux"] == pytest.approx(np.log(3000 / error), abs=3e-3)
    # Light within a radius: 1 - 2^-(r / HLR)².
    assert found["concentration"] == pytest.approx(2.5 * np.log10(np.log(0.2) / np.log(0.8)), abs=1e-3)
    assert found["dx"] == pytest.approx((31.7 - row["x"]) / (FWHM / SCALE), abs=1e-4)
    assert found["dy"] == pytest.approx((30.2 - row["y"]) / (FWHM / SCALE), abs=1e-4)


def test_units_scale_with_sky_and_camera(targets: Targets) -> None:
    """Flux and noise ten times as large, pixels of another scale: the same quantities."""
    stamps, truth = targets.stamps, targets.truth
    units = units_of(stamps)
    assert units.fwhm == pytest.approx(FWHM / SCALE, rel=3e-3)
    assert stamps.bands[int(units.reference[0])] == "r"
    assert units.flux == pytest.approx(point_source_error(1.0, units.fwhm), rel=1e-6)
    brighter = replace(stamps, pixels=10 * stamps.pixels, inverse_variance=stamps.inverse_variance / 100)
    before = values_of(truth, stamps)
    np.testing.assert_allclose(
        values_of(truth.assign(flux_r=10 * truth["flux_r"], flux_i=10 * truth["flux_i"]), brighter), before, rtol=1e-5
    )
    wider = replace(stamps, pixel_scale=2 * stamps.pixel_scale, jacobian=2 * stamps.jacobian)
    np.testing.assert_allclose(values_of(truth.assign(hlr_arcsec=2 * truth["hlr_arcsec"]), wider), before, rtol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"star": True},
        {"spurious": True},
        {"shred": True},
        {"g1": np.nan},
        {"hlr_arcsec": 0.0},
        {"flux_r": -5.0},
        {"reference_band": "i"},
        {"true_x": 1e3},
    ],
)
def test_what_is_no_galaxy_has_no_values(targets: Targets, change: dict[str, object]) -> None:
    assert np.isfinite(values_of(targets.truth, targets.stamps)).all()
    assert np.isnan(values_of(targets.truth.assign(**change), targets.stamps)).all()


def random_values(number: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.normal(size=(number, 9)) @ rng.normal(size=(9, 9)) + 1.0


def test_a_population_has_no_direction_and_a_turned_one_is_the_same() -> None:
    values = random_values()
    values[::7] = np.nan
    population = prior_of(values)
    covariance = np.asarray(population.covariance)
    at = {name: k for k, name in enumerate(QUANTITIES)}
    for name, mean in zip(QUANTITIES, population.mean, strict=True):
        assert (mean != 0) == (name in ("ln_size", "ln_flux", "concentration")), name
    assert covariance[at["dx"], at["dx"]] == covariance[at["dy"], at["dy"]] != 0
    assert covariance[at["dx"], at["dy"]] == covariance[at["dx"], at["g1"]] == covariance[at["dx"], at["ln_size"]] == 0
    assert covariance[at["concentration"], at["ln_size"]] != 0
    assert covariance[at["g1"], at["e1"]] == covariance[at["g2"], at["e2"]] != 0
    good = torch.from_numpy(values[np.isfinite(values).all(axis=1)])
    for element in range(ORDER):
        again = prior_of(turn(good, torch.full((len(good),), element)).numpy())
        np.testing.assert_allclose(again.covariance, covariance, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(again.mean, population.mean, rtol=1e-9)


def random_posterior(number: int) -> GaussianPosterior:
    generator = torch.Generator().manual_seed(1)
    lower = torch.tril(0.3 * torch.randn((number, 9, 9), generator=generator, dtype=torch.float64), -1)
    diagonal = 0.2 + torch.rand((number, 9), generator=generator, dtype=torch.float64)
    mean = torch.randn((number, 9), generator=generator, dtype=torch.float64)
    return GaussianPosterior(mean, cholesky=lower + torch.diag_embed(diagonal), blocks=BLOCKS)


def test_a_turned_posterior_gives_turned_values_the_same_density() -> None:
    posterior, elements = random_posterior(16), torch.arange(16) % ORDER
    values = torch.from_numpy(random_values(16))
    turned = posterior.turned(elements)
    torch.testing.assert_close(turned.log_prob(turn(values, elements)), posterior.log_prob(values))
    torch.testing.assert_close(turned.mean, turn(posterior.mean, elements))
    back = turned.turned(inverse(elements))
    assert torch.equal(back.mean, posterior.mean)
    assert torch.equal(back.covariance, posterior.covariance)


def test_the_prior_of_each_block_is_divided_out() -> None:
    """Independent errors: mean m and variance v of the posterior give m / (1 - v) and v / (1 - v)."""
    variance = np.array([[0.3] * 9, [0.9] * 9, [0.2] * 6 + [0.9] + [0.2, 0.2], [0.2] * 7 + [0.2, 0.9]])
    mean = np.random.default_rng(4).normal(size=variance.shape)
    posterior = GaussianPosterior(
        torch.from_numpy(mean), covariance=torch.diag_embed(torch.from_numpy(variance)), blocks=BLOCKS
    )
    found = posterior.likelihood_only()
    assert found.flags is not None
    assert found.flags.tolist() == [0, 63, 16, 32]
    well = variance < 0.5
    np.testing.assert_allclose(found.mean[well], (mean / (1 - variance))[well])
    np.testing.assert_allclose(found.errors.numpy()[well] ** 2, (variance / (1 - variance))[well])
    assert [found.is_constrained(k)[3] for k in range(9)] == [True] * 7 + [False] * 2
