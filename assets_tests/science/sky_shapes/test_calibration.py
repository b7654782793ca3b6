"""Calibrating the errors of the network for every sky: errors that are wrong in a known way become right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assets_tests.science.sky_shapes.samples import given_of_every_kind, skies
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.calibration import TERMS, SkyCalibration, row_terms, surroundings
from deblend_assets.science.sky_shapes.inputs import SCALARS, GivenStamps, turned
from deblend_assets.science.sky_shapes.network import BLEND, CHANCES, STAR
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.quantities import columns_of
from deblend_assets.science.stamps.symmetries import ORDER

R = CATSIM_BANDS.index("r")
FLUX = QUANTITIES.index("ln_flux")
LEVELS = (0.68, 0.95)
# Offset and slope of the true log-odds over the stated ones.
ODDS = {STAR: (0.5, 0.7), BLEND: (-0.8, 1.2)}


def posteriors(number: int, seed: int) -> GaussianPosterior:
    """Of no meaning, with correlations."""
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.normal(0, 0.1, (number, 9, 9)), -1) + np.eye(9) * rng.uniform(0.2, 0.6, (number, 1, 9))
    covariance = torch.from_numpy(lower @ lower.swapaxes(1, 2))
    odds = {name: torch.from_numpy(rng.normal(0, 2, (number, 1))) for name in CHANCES}
    return GaussianPosterior(
        torch.from_numpy(rng.normal(size=(number, 9))), covariance=covariance, log_odds=odds, blocks=BLOCKS
    )


def true_factors(given: GivenStamps, posterior: GaussianPosterior) -> np.ndarray:
    """What the errors have to be multiplied by, (N, blocks)."""
    fwhm = (given.scalars[:, R, 0] / SCALARS["ln_fwhm"]).double().numpy()
    flux = posterior.mean[:, FLUX].numpy()
    return np.exp(np.stack([0.1 + 0.05 * k + 0.1 * flux - 0.08 * k * fwhm / 5 for k in range(len(BLOCKS))], axis=1))


def sampled(
    given: GivenStamps, posterior: GaussianPosterior, seed: int, tail: float = 0.0
) -> tuple[torch.Tensor, np.ndarray]:
    """Truths whose errors are `true_factors` times the stated ones, three times as far out in a share of the rows."""
    rng = np.random.default_rng(seed)
    factors = np.repeat(true_factors(given, posterior), [len(block.names) for block in BLOCKS], axis=1)
    far = np.where(rng.random((len(factors), 1)) < tail, 3.0, 1.0)
    wide = posterior.stretched(torch.from_numpy(factors))
    off = (wide.cholesky @ torch.from_numpy(rng.normal(size=factors.shape) * far)[:, :, None])[:, :, 0]
    return posterior.mean + off, factors


def terms_of(given: GivenStamps, posterior: GaussianPosterior) -> torch.Tensor:
    return row_terms(CATSIM_BANDS, given, posterior)


def case(
    number: int, seed: int, tail: float = 0.0
) -> tuple[GivenStamps, GaussianPosterior, torch.Tensor, torch.Tensor]:
    given, posterior = skies(number // 20, 20, seed), posteriors(number, seed + 1)
    values, _ = sampled(given, posterior, seed + 2, tail)
    rng = np.random.default_rng(seed + 3)
    chances = {name: torch.sigmoid(a + b * posterior.log_odds[name][:, 0]).numpy() for name, (a, b) in ODDS.items()}
    true = np.stack([rng.random(number) < chances[name] for name in CHANCES], axis=1)
    return given, posterior, values, torch.from_numpy(true)


@pytest.mark.parametrize("tail", [0.0, 0.05])
def test_wrong_errors_become_right(tail: float) -> None:
    """Coverage on other rows, over all and in thirds; the calibration's own error is that of its ten coefficients."""
    calibration = SkyCalibration()
    given, posterior, values, true = case(6_000, 1, tail)
    values[true[:, 0]] = torch.nan
    calibration.fit(posterior, terms_of(given, posterior), values, true)
    given, posterior, values, _ = case(6_000, 11, tail)
    found = calibration(posterior, terms_of(given, posterior))
    before = ((values - posterior.mean) / posterior.errors).abs().numpy()
    pulls = ((values - found.mean) / found.errors).abs().numpy()
    flux = posterior.mean[:, FLUX].numpy()
    thirds = [np.arange(len(pulls)), *np.array_split(np.argsort(flux), 3)]
    for level in LEVELS:
        held = pulls < calibration.half_widths(level)
        for rows in thirds:
            error = np.sqrt(level * (1 - level)) * np.sqrt(1 / len(rows) + 10 / 4_000)
            assert np.abs(held[rows].mean(axis=0) - level).max() < 4 * error, (level, len(rows))
    assert (before < 0.9945).mean(axis=0).max() < 0.64  # they were wrong
    # A tail is found where there is one: an interval of 95 % is then wider than a Gaussian's.
    wide = calibration.half_widths(0.95) / (1.96 / 0.9945)
    assert (wide.min() > 1.02) if tail else (wide.max() < 1.03)


def test_the_factors_are_found_and_shared_by_a_pair() -> None:
    calibration = SkyCalibration()
    given, posterior, values, true = case(8_000, 21)
    calibration.fit(posterior, terms_of(given, posterior), values, true)
    _, factors = sampled(given, posterior, 0)
    ratio = (calibration(posterior, terms_of(given, posterior)).errors / posterior.errors).numpy()
    for columns in columns_of(BLOCKS):
        np.testing.assert_allclose(ratio[:, columns], ratio[:, [columns.start]].repeat(columns.stop - columns.start, 1))
    # Ten coefficients of a logarithm, half a unit of variance each.
    assert np.sqrt(np.square(np.log(ratio / factors)).mean(axis=0)).max() < 2.5 * np.sqrt(10 / (2 * 8_000))


def test_correlations_and_symmetry_are_kept() -> None:
    calibration = SkyCalibration()
    calibration.factors.copy_(0.1 * torch.randn(calibration.factors.shape, generator=torch.Generator().manual_seed(1)))
    calibration.tails.copy_(torch.tensor([[0.1], [3.0]]))
    given = given_of_every_kind()
    posterior = posteriors(len(given.images), 3)
    found = calibration(posterior, terms_of(given, posterior))

    def correlations(of: GaussianPosterior) -> torch.Tensor:
        return of.covariance / (of.errors[:, :, None] * of.errors[:, None, :])

    torch.testing.assert_close(correlations(found), correlations(posterior))
    terms = terms_of(given, posterior)
    # Lost pixels and neighbours are seen.
    assert all(float(terms[:, TERMS.index(name)].max()) > 1e-3 for name in ("neighbours", "masked"))
    for element in range(ORDER):
        elements = torch.full((len(given.images),), element)
        other, sky = posterior.turned(elements), turned(given, elements)
        again = calibration(other, terms_of(sky, other))
        # Maps are summed in another order, and a pixel on the circle's edge may fall on either side of it.
        torch.testing.assert_close(again.covariance, found.turned(elements).covariance, rtol=2e-3, atol=1e-6)


def test_at_first_it_changes_nothing() -> None:
    given, posterior = skies(2, 5, 1), posteriors(10, 2)
    found = SkyCalibration()(posterior, terms_of(given, posterior))
    torch.testing.assert_close(found.covariance, posterior.covariance)
    for name in CHANCES:
        assert torch.equal(found.log_odds[name], posterior.log_odds[name])
    np.testing.assert_allclose(SkyCalibration().half_widths(0.95), 1.959964, rtol=1e-5)


def test_log_odds_of_stars_and_blends_are_calibrated() -> None:
    calibration = SkyCalibration()
    given, posterior, values, true = case(6_000, 31)
    calibration.fit(posterior, terms_of(given, posterior), values, true)
    for (offset, slope), name in zip(calibration.chances.tolist(), CHANCES, strict=True):
        # Of a logistic fit to 6,000 rows with log-odds of scatter 2: 0.03 each.
        assert (offset, slope) == pytest.approx(ODDS[name], abs=0.12)
    found = calibration(posterior, terms_of(given, posterior)).log_odds
    for number, name in enumerate(CHANCES):
        a, b = calibration.chances[number].tolist()
        torch.testing.assert_close(found[name], a + b * posterior.log_odds[name])
    without = SkyCalibration()
    without.fit(posterior, terms_of(given, posterior), values, torch.zeros_like(true))
    assert without.chances.isfinite().all()


def test_neighbours_are_counted_and_lost_pixels_weighed() -> None:
    """One neighbour 1.5 FWHM away counts as one, one 5 FWHM away not at all; half of the pixels of all bands lost."""
    side, fwhm = 45, 3.5
    given = skies(1, 3, 5, side)
    given.scalars[:] = 0  # ln(FWHM / 3.5 pixels)
    given.vectors[:] = 0
    y, x = np.mgrid[:side, :side] - side // 2
    for row, distance in ((1, 1.5), (2, 5.0)):
        blob = np.exp(
            -0.5 * ((x - distance * fwhm * 0.6) ** 2 + (y - distance * fwhm * 0.8) ** 2) / (fwhm / 2.3548) ** 2
        )
        given.neighbours[row, 0] = torch.from_numpy(blob).half()
    given.seen[2, :, :, : side // 2] = False
    found = surroundings(CATSIM_BANDS, given)
    # 2 sigma of the neighbour lie within the circle, and the circle is made of pixels.
    np.testing.assert_allclose(found.neighbours.numpy(), [0.0, 1.0, 0.0], atol=0.04)
    # The column of the centre is seen: half of its weight is missing from one half.
    column = 1 / (np.sqrt(2 * np.pi) * fwhm)
    np.testing.assert_allclose(found.masked.numpy(), [0.0, 0.0, 0.5 * (1 - column)], atol=1e-3)
