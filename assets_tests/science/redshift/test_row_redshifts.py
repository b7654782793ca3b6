"""Redshifts of catalogues' rows: their inputs, absent bands, and a posterior that is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from assets_tests.science.savers import Memory
from deblend_assets.science.redshift.mixture import RedshiftScale
from deblend_assets.science.redshift.mock_rows import mock_rows
from deblend_assets.science.redshift.photometry import BANDS, INPUTS, Photometry, inputs_of
from deblend_assets.science.redshift.row_redshifts import RowObjective, RowRedshifts
from deblend_assets.science.training.feeding import Feed, Portion
from deblend_assets.science.training.loop import train
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import RedshiftRecipe, StageSettings

MEAN, SPREAD = 0.6, 0.2
# Flux of g and r a unit of ln(1 + z) [nJy], and their noise.
SLOPES, NOISE = np.array([400.0, -300.0]), np.array([60.0, 30.0])


def photometry(number: int = 50, seed: int = 1) -> Photometry:
    """Some bands absent, some fluxes negative."""
    rng = np.random.default_rng(seed)
    noise = np.exp(rng.normal(4, 1, (number, BANDS)))
    flux = noise * rng.normal(5, 10, noise.shape)
    absent = rng.random(noise.shape) < 0.3
    absent[:, 2] = False
    flux[absent] = np.nan
    columns = (flux, noise, rng.random(number) * 0.2, rng.random(number) * 0.5)
    return Photometry(*(torch.from_numpy(column).float() for column in columns))


def network(seed: int = 1) -> RowRedshifts:
    torch.manual_seed(seed)
    return RowRedshifts(RedshiftScale(MEAN, SPREAD), (64, 64), 3).eval()


def test_fluxes_and_errors_scaled_together_change_magnitude_and_depth_alone() -> None:
    rows = photometry()
    brighter = rows._replace(flux=7 * rows.flux, noise=7 * rows.noise)
    before, after = inputs_of(rows), inputs_of(brighter)
    assert before.shape == (50, INPUTS)
    moved = (after - before).abs() > 1e-4
    depth = range(2 * BANDS, 3 * BANDS)
    there = rows.present
    assert (moved[:, depth] == there).all()
    assert moved[:, 4 * BANDS].all()
    rest = [k for k in range(INPUTS) if k not in depth and k != 4 * BANDS]
    assert not moved[:, rest].any()
    torch.testing.assert_close((after - before)[:, 4 * BANDS], torch.full((50,), float(np.log(7) / 1.5)))


def test_an_absent_band_says_nothing_whatever_its_noise() -> None:
    rows = photometry()
    inputs = inputs_of(rows)
    for block in range(4):
        assert (inputs[:, block * BANDS : (block + 1) * BANDS][~rows.present] == 0).all()
    assert inputs.isfinite().all()
    other = rows._replace(noise=torch.where(rows.present, rows.noise, 1e6))
    assert torch.equal(inputs_of(other), inputs)
    assert torch.equal(inputs_of(rows.without(~rows.present)), inputs)
    # Of a flux without an error, too.
    unknown = rows._replace(noise=torch.where(rows.present, rows.noise, torch.nan))
    assert torch.equal(inputs_of(unknown), inputs)


def test_without_any_band_there_is_no_redshift_and_the_percentiles_are_ordered() -> None:
    rows = photometry()
    lost = torch.zeros(rows.flux.shape, dtype=torch.bool)
    lost[:5] = True
    found = network().estimates(rows.without(lost))
    for values in found:
        assert np.isnan(values[:5]).all()
        assert np.isfinite(values[5:]).all()
        assert (values[5:] >= 0).all()
    assert (found.low[5:] < found.z[5:]).all()
    assert (found.z[5:] < found.high[5:]).all()


def linear(number: int, seed: int) -> tuple[Photometry, Tensor]:
    """Fluxes that are linear in ln(1 + z), of which the posterior is Gaussian; a third without g. And ln(1 + z)."""
    rng = np.random.default_rng(seed)
    t = rng.normal(MEAN, SPREAD, number)
    flux = np.full((number, BANDS), np.nan)
    flux[:, 1:3] = SLOPES * t[:, None] + NOISE * rng.standard_normal((number, 2))
    flux[::3, 1] = np.nan
    noise = np.full((number, BANDS), np.nan)
    noise[:, 1:3] = NOISE
    nothing = np.zeros(number)
    columns = (torch.from_numpy(column).float() for column in (flux, noise, nothing, nothing))
    return Photometry(*columns), torch.from_numpy(t).float()[:, None]


def test_it_learns_a_posterior_that_is_known_exactly() -> None:
    rows, t = linear(20_000, 2)
    batch = (*rows, torch.zeros(len(t), dtype=torch.bool), t)
    feed = Feed(lambda _: batch, 1, 1, 500)
    recipe, stage = RedshiftRecipe(), StageSettings(epochs=4, learning_rate=5e-3)
    learnt = network()
    train(
        RowObjective(learnt, 0.0),
        feed,
        feed,
        samples=len(t),
        recipe=recipe,
        stage=stage,
        device=torch.device("cpu"),
        saver=Memory(),
        log=lambda line: None,
        name="test",
    )
    rows, _ = linear(900, 3)
    weight = torch.where(rows.present[:, 1:3], torch.from_numpy((SLOPES / NOISE) ** 2), 0.0)
    each = rows.flux[:, 1:3].nan_to_num() / torch.from_numpy(SLOPES)
    precision = weight.sum(dim=1) + SPREAD**-2
    mean, sigma = ((weight * each).sum(dim=1) + MEAN / SPREAD**2) / precision, precision**-0.5
    with torch.inference_mode():
        found = learnt(rows)
        off = (found.median().double() - mean) / sigma
        wide = found.sigma().double() / sigma
    assert sigma[0] > 1.1 * sigma[1]
    assert off.square().mean().sqrt() < 0.2
    for part in (slice(0, None, 3), slice(1, None, 3)):
        assert abs(float(off[part].mean())) < 0.12
        assert float(wide[part].median()) == pytest.approx(1.0, abs=0.1)


def test_noise_is_added_to_true_fluxes_alone_and_in_training_alone() -> None:
    seen: list[Photometry] = []

    class Spy(RowRedshifts):
        def forward(self, photometry: Photometry):  # type: ignore[no-untyped-def]
            seen.append(photometry)
            return super().forward(photometry)

    rows = photometry(4_000)
    exact = torch.arange(4_000) % 2 == 0
    batch = (*rows, exact, torch.ones(4_000, 1))
    objective = RowObjective(Spy(RedshiftScale(MEAN, SPREAD), (8,)), 0.4)
    random = RandomNumbers(torch.Generator().manual_seed(1), Portion.whole(*batch))
    objective.losses(batch, random, training=False)
    objective.losses(batch, random, training=True)
    plain, noisy = seen
    torch.testing.assert_close(plain.flux, rows.flux, equal_nan=True)
    kept = noisy.present
    assert 0.4 < float((kept == rows.present).all(dim=1).float().mean()) < 0.7
    measured = kept & ~exact[:, None]
    torch.testing.assert_close(noisy.flux[measured], rows.flux[measured])
    faint = kept & exact[:, None] & (rows.flux.abs() < rows.noise)
    pull = ((noisy.flux - rows.flux) / rows.noise)[faint]
    assert float(pull.std()) == pytest.approx(1.0, abs=0.05)


def test_mock_rows_are_those_that_are_detected() -> None:
    rng = np.random.default_rng(4)
    flux = np.exp(rng.normal(4, 1.5, (3_000, BANDS)))
    noise = np.exp(rng.normal(3, 0.3, (40, BANDS)))
    noise[::2, 0] = np.nan
    z = rng.random(3_000)
    found, again = (
        mock_rows(flux, z, noise, np.full(40, 0.1), 5_000, 10.0, np.random.default_rng(5)) for _ in range(2)
    )
    for first, second in zip(found, again, strict=True):
        np.testing.assert_array_equal(first, second)
        assert len(first) == 5_000
    assert 0.3 < np.isnan(found.flux[:, 0]).mean() < 0.7
    np.testing.assert_array_equal(np.isnan(found.flux), np.isnan(found.noise))
    # Without the light of others the fluxes are those of the catalogue.
    alone = np.isin(found.flux[:, 2], flux[:, 2])
    assert 0.5 < alone.mean() < 0.65
    rows = np.searchsorted(np.sort(flux[:, 2]), found.flux[alone, 2])
    np.testing.assert_allclose(z[np.argsort(flux[:, 2])][rows], found.z[alone])
    signal = np.sqrt(np.nansum((found.flux / found.noise)[alone] ** 2, axis=1))
    assert signal.min() > 5
    assert (signal > 9).mean() > 0.9
