"""The calibrated model: own units, the prior divided out, stamps of any bands, and the coverage of its intervals."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from assets_tests.science.sky_shapes.samples import observed, turned_in_the_sky
from assets_tests.science.sky_shapes.test_network import DENSE, WIDTHS, population, scramble
from deblend_assets.errors import MismatchError
from deblend_assets.science.sky_shapes.calibration import TERMS, SkyCalibration, row_terms
from deblend_assets.science.sky_shapes.centring import shifts_to_light
from deblend_assets.science.sky_shapes.coverage import ALL, NAMES, coverage, held, known_groups
from deblend_assets.science.sky_shapes.inputs import given
from deblend_assets.science.sky_shapes.model import SkyMeasurement, SkyModel, multiplies_bfloat16, network_posteriors
from deblend_assets.science.sky_shapes.network import BLEND, STAR, SkyShapeNetwork, oriented
from deblend_assets.science.sky_shapes.population import SkyPopulation
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES, units_of
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.observed import ObservedStamps

SIZE, FLUX, DX, DY = (QUANTITIES.index(name) for name in ("ln_size", "ln_flux", "dx", "dy"))


def uncalibrated_model() -> SkyModel:
    """A network with weights of no meaning; prior and calibration as they are at first."""
    network = SkyShapeNetwork(WIDTHS, DENSE)
    scramble(network, 1)
    network.spread.weight.data.mul_(0.1)
    network.spread.bias.data.sub_(1.0)
    return SkyModel(network, SkyPopulation(CATSIM_BANDS), SkyCalibration(), population(2), 1)


def calibrated_model() -> SkyModel:
    """Weights of no meaning, every one of which matters."""
    found = uncalibrated_model()
    generator = torch.Generator().manual_seed(3)
    for buffer in (found.prior.mean, found.prior.log_variance, found.calibration.factors):
        buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
    # Wide beside the posteriors: most rows have an estimate without it.
    found.prior.log_variance[:, 0] += 2.0
    found.calibration.tails.copy_(torch.tensor([[0.05], [2.5]]))
    found.calibration.chances.copy_(torch.tensor([[0.3, 1.5], [-0.4, 0.8]]))
    return found


@pytest.fixture(scope="module")
def model() -> SkyModel:
    return calibrated_model()


@pytest.fixture(scope="module")
def stamps() -> ObservedStamps:
    found = observed(7)
    # Where their light is: what is measured elsewhere is brought there.
    return replace(found, position=found.position + shifts_to_light(found, units_of(found).fwhm))


@pytest.fixture(scope="module")
def measured(model: SkyModel, stamps: ObservedStamps) -> SkyMeasurement:
    return model.measure(stamps, exact=True)


def test_own_units_are_those_of_the_stamp(model: SkyModel, stamps: ObservedStamps, measured: SkyMeasurement) -> None:
    part = given(stamps)
    with torch.no_grad():
        raw = oriented(model.network, part, 1).double()
    calibrated = model.calibration(raw, row_terms(CATSIM_BANDS, part, raw))
    quantities, units = calibrated.in_own_units(model.population), units_of(stamps)
    mean, errors = (values.numpy() for values in (quantities.mean, quantities.errors))
    found, found_errors = measured.posterior.mean.numpy(), measured.posterior.errors.numpy()
    np.testing.assert_allclose(found[:, :4], mean[:, :4])
    np.testing.assert_allclose(np.exp(found[:, SIZE]), np.exp(mean[:, SIZE]) * units.fwhm * stamps.pixel_scale)
    np.testing.assert_allclose(np.exp(found[:, FLUX]), np.exp(mean[:, FLUX]) * units.flux)
    np.testing.assert_allclose(found[:, [DX, DY]], mean[:, [DX, DY]] * units.fwhm[:, None])
    np.testing.assert_allclose(found_errors[:, :7], errors[:, :7])
    np.testing.assert_allclose(found_errors[:, [DX, DY]], errors[:, [DX, DY]] * units.fwhm[:, None])
    for chance, odds in (
        (measured.star, 0.3 + 1.5 * raw.log_odds[STAR][:, 0]),
        (measured.blend, -0.4 + 0.8 * raw.log_odds[BLEND][:, 0]),
    ):
        np.testing.assert_allclose(chance, 1 / (1 + np.exp(-odds.numpy())))
    np.testing.assert_array_equal(measured.reference, units.reference)


def test_the_prior_of_each_sky_is_divided_out(
    model: SkyModel, stamps: ObservedStamps, measured: SkyMeasurement
) -> None:
    part = given(stamps)
    posterior = model.posterior(part, exact=True)
    expected = posterior.likelihood_only(model.prior(part, posterior.mean)).in_own_units(model.population)
    np.testing.assert_allclose(measured.likelihood.mean[:, :4], expected.mean[:, :4])
    assert measured.likelihood.flags is not None
    assert expected.flags is not None
    np.testing.assert_array_equal(measured.likelihood.flags, expected.flags)
    kept = measured.likelihood.is_constrained(0)
    assert kept.any()
    # The likelihood is wider than the posterior.
    assert (measured.likelihood.errors[kept, 0] > measured.posterior.errors[kept, 0]).all()


@pytest.mark.parametrize("element", [1, 5])
def test_a_turned_sky_has_the_turned_answer(model: SkyModel, stamps: ObservedStamps, element: int) -> None:
    found, before = model.measure(turned_in_the_sky(stamps, element), 8), model.measure(stamps, 8)
    elements = torch.full((len(stamps),), element)
    expected = before.posterior.turned(elements)
    torch.testing.assert_close(found.posterior.mean, expected.mean, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(found.star, before.star, rtol=1e-3)


def test_bands_that_are_not_there_are_absent(model: SkyModel, stamps: ObservedStamps) -> None:
    arrays = stamps.arrays()
    some = (CATSIM_BANDS.index("r"), CATSIM_BANDS.index("i"))
    names = [name for name, values in arrays.items() if values.ndim > 1 and values.shape[1] == len(CATSIM_BANDS)]
    two = ObservedStamps(("r", "i"), **(arrays | {name: arrays[name][:, some] for name in names}))
    found = model.measure(two)
    absent = [k for k in range(len(CATSIM_BANDS)) if k not in some]
    weight = stamps.inverse_variance.copy()
    weight[:, absent] = 0
    expected = model.measure(replace(stamps, inverse_variance=weight))
    torch.testing.assert_close(found.posterior.mean, expected.posterior.mean)
    assert (found.reference == 0).all()  # r, of their own two
    with pytest.raises(MismatchError):
        model.measure(replace(two, bands=("r", "w")))


def test_a_stamp_without_weight_has_no_number(model: SkyModel, stamps: ObservedStamps) -> None:
    weight = stamps.inverse_variance.copy()
    weight[3] = 0
    found = model.measure(replace(stamps, inverse_variance=weight))
    for values in (found.posterior.mean, found.posterior.errors, found.likelihood.mean):
        assert values[3].isnan().all()
        assert values[[0, 1, 2, 4]].isfinite().all()
    assert np.isnan(found.star[3])
    assert np.isnan(found.blend[3])


def test_it_is_its_checkpoint(model: SkyModel, stamps: ObservedStamps, measured: SkyMeasurement) -> None:
    card = {
        "bands": list(CATSIM_BANDS),
        "network": {"widths": list(WIDTHS), "dense": DENSE},
        "population": asdict(model.population),
        "orientations": 1,
    }
    again = SkyModel.from_checkpoint(model.state_dict(), card).measure(stamps, exact=True)
    assert torch.equal(again.posterior.mean, measured.posterior.mean)
    assert torch.equal(again.likelihood.mean, measured.likelihood.mean)
    np.testing.assert_array_equal(again.star, measured.star)


def test_rounding_moves_means_as_bfloat16_does(model: SkyModel, stamps: ObservedStamps) -> None:
    exact, rounded = (network_posteriors(model.network, given(stamps), 1, exact=exact).mean for exact in (True, False))
    moved = (rounded - exact).square().mean(dim=0).sqrt()
    # Seven convolutions round inputs, weights and outputs, by 2^-9 each and at random.
    most = np.sqrt(3 * 7) * 2**-9 * exact.square().mean(dim=0).sqrt().max()
    assert (moved < most).all()
    assert bool((moved > 0).any()) == multiplies_bfloat16()


def test_coverage_counts_components_of_galaxies_in_groups() -> None:
    """Truths a known number of errors away; two rows are no galaxies."""
    calibration, n = SkyCalibration(), 600
    rng = np.random.default_rng(1)
    posterior = SkyPopulation(CATSIM_BANDS)(given(observed(6)), torch.zeros(6, 9)).rows(np.ones(6, dtype=bool))
    posterior = type(posterior).joined([posterior] * (n // 6))
    pulls = rng.normal(size=(n, 9))
    pulls[:, 0], pulls[:, 1] = 0.5, 1.5
    values = posterior.mean + posterior.errors * torch.from_numpy(pulls)
    values[:2] = torch.nan
    within = held(calibration, posterior, values)
    assert within.shape == (2, n, len(BLOCKS))
    assert np.isnan(within[:, :2]).all()
    terms = torch.zeros(n, len(TERMS)).double()
    terms[:, TERMS.index("ln_flux")] = torch.linspace(-1, 1, n)
    terms[: n // 2, TERMS.index("neighbours")] = 1
    found = coverage(within, known_groups(terms))
    assert found[ALL]["n"] == n - 2
    assert found["a detection beside"]["n"] == n // 2 - 2
    assert "masked" not in found
    assert found["estimated flux, low third"]["n"] == n // 3 - 2
    shares = {level: found[ALL][level] for level in ("68%", "95%")}
    assert shares["68%"][NAMES[0]] == 0.5
    assert shares["95%"][NAMES[0]] == 1.0
    for level, of in shares.items():
        nominal = float(level.rstrip("%")) / 100
        error = np.sqrt(nominal * (1 - nominal) / (n - 2))
        assert of["ln_flux"] == pytest.approx(nominal, abs=4 * error)
