"""First-order changes of a stamp against GalSim and finite differences, and what the network's answer makes of them."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest
import torch

from assets_tests.science.sky_shapes.samples import observed, turned_in_the_sky
from assets_tests.science.sky_shapes.test_model import uncalibrated_model
from assets_tests.science.sky_shapes.test_network import DENSE, WIDTHS
from deblend_assets.science.skies.noise import NoiseCorrelation
from deblend_assets.science.sky_shapes.centring import centred
from deblend_assets.science.sky_shapes.changes import LIGHT, Changes, StampChanges
from deblend_assets.science.sky_shapes.inputs import SIDE, given
from deblend_assets.science.sky_shapes.model import SkyModel, multiplies_bfloat16
from deblend_assets.science.sky_shapes.network import SkyShapeNetwork, oriented
from deblend_assets.science.sky_shapes.quantities import units_of
from deblend_assets.science.sky_shapes.response import (
    Response,
    _differentiated,
    chosen_rows,
    measure_response,
)
from deblend_assets.science.stamps.observed import ObservedStamps, joined

SCALE, STAMP = 0.2, 49
PSF = galsim.Kolmogorov(fwhm=0.8).shear(g1=0.02, g2=-0.03)
GALAXY = galsim.Exponential(half_light_radius=0.4, flux=500.0).shear(g1=0.2, g2=-0.1)
PLACE = (24.3, 23.8)


@pytest.fixture(scope="module")
def model() -> SkyModel:
    """Weights of no meaning, every one of which matters."""
    found = uncalibrated_model()
    found.calibration.factors.copy_(0.1 * torch.randn(found.calibration.factors.shape, generator=torch.Generator()))
    return found


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No added noise: what remains is the derivative itself."""
    monkeypatch.setattr(StampChanges, "noise", lambda self, generator: torch.zeros_like(self._images))


def sheared_sky(sky: complex = 0, psf: complex = 0, given_psf: complex | None = None) -> ObservedStamps:
    """A noiseless galaxy in one band, and the PSF that is given, under shears of the sky and of the PSF."""
    lens = galsim.Shear(complex(sky))
    middle = (STAMP - 1) / 2
    seen, said = (PSF.shear(galsim.Shear(complex(g))) for g in (psf, psf if given_psf is None else given_psf))
    image = galsim.Convolve(GALAXY.shear(lens), seen).drawImage(
        nx=STAMP, ny=STAMP, scale=SCALE, offset=(PLACE[0] - middle, PLACE[1] - middle), dtype=float
    )
    correlation = np.zeros((1, 1, 1, 1)) + 1
    return ObservedStamps(
        bands=("r",),
        pixels=image.array[None, None],
        inverse_variance=np.ones((1, 1, STAMP, STAMP)),
        mask=np.zeros((1, 1, STAMP, STAMP), dtype=np.uint16),
        psf=said.drawImage(nx=41, ny=41, scale=SCALE, dtype=float).array[None, None],
        noise_correlation=correlation,
        position=np.array([PLACE]),
        others=np.full((1, 0, 2), np.nan),
        others_count=np.zeros(1, dtype=np.int32),
        corner=np.zeros((1, 2), dtype=np.int32),
        pixel_scale=np.full(1, SCALE),
        zero_point=np.full((1, 1), 30.0),
        jacobian=SCALE * np.eye(2)[None],
        sky_position=np.full((1, 2), np.nan),
    )


def changes_of(stamps: ObservedStamps) -> StampChanges:
    return StampChanges(stamps, given(stamps))


@pytest.mark.parametrize(
    ("direction", "sky", "psf"), [(0, 1, 0), (1, 1j, 0), (2, 0, 1), (3, 0, 1j)], ids=["g1", "g2", "psf g1", "psf g2"]
)
def test_images_change_as_galsim_shears_sky_and_psf(direction: int, sky: complex, psf: complex) -> None:
    step = 2e-3
    ahead, behind = (sheared_sky(s * step * sky, s * step * psf).pixels.astype(float) for s in (1, -1))
    edge = (STAMP - SIDE) // 2
    expected = ((ahead - behind) / (2 * step))[0, 0, edge:-edge, edge:-edge]
    found = changes_of(sheared_sky()).of_light().images[direction, 0, 0].numpy()
    # Beyond the taper's beginning there is 1 % of the PSF's amplitude.
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_a_shear_of_the_psf_is_its_measured_g() -> None:
    """What is given of a PSF that is sheared: its g alone changes, by the shear (but for the second order)."""
    step = 0.01
    ahead, behind = (given(sheared_sky(psf=s * step)) for s in (1, -1))
    found = changes_of(sheared_sky()).of_psf().spins[0]
    torch.testing.assert_close((ahead.spins - behind.spins) / (2 * step), found, rtol=0, atol=0.01)
    torch.testing.assert_close(ahead.scalars, behind.scalars, rtol=0, atol=1e-3)


def test_other_detections_move_with_the_sky() -> None:
    stamps, step = observed(4), 1e-2
    found = changes_of(stamps).of_light().neighbours[:2]
    for j, (a, b) in enumerate(((1, 0), (0, 1))):
        shear = np.array([[a, b], [b, -a]])
        away = stamps.others - stamps.position[:, None]
        # Not smaller: `given` keeps half precision.
        ahead, behind = (
            given(replace(stamps, others=stamps.others + s * step * away @ shear)).neighbours.double() for s in (1, -1)
        )
        expected = (ahead - behind) / (2 * step)
        torch.testing.assert_close(found[j].double(), expected, rtol=0, atol=0.03 * float(expected.abs().max()))


def test_lost_pixels_change_nothing_and_are_filled_smoothly() -> None:
    whole = sheared_sky()
    weight = whole.inverse_variance.copy()
    weight[0, 0, 22:24, 27:29] = 0
    lost = replace(whole, inverse_variance=weight)
    seen = given(lost).seen[0, 0]
    expected, found = (changes_of(stamps).of_light().images[:, 0, 0] for stamps in (whole, lost))
    assert (found[:, ~seen] == 0).all()
    assert (~seen).sum() == 4
    away = (found - expected)[:, seen].square().mean().sqrt() / expected[:, seen].square().mean().sqrt()
    empty = changes_of(lost)
    empty._seen = torch.ones_like(empty._seen)  # holes as they are
    holes = (empty.of_light().images[:, 0, 0] - expected)[:, seen].square().mean().sqrt()
    assert away < 0.2 * holes / expected[:, seen].square().mean().sqrt()


def test_noise_has_the_stamps_variance_and_correlation() -> None:
    stamps = observed(40, seed=3)
    lag = np.exp(-0.5 * ((np.arange(7) - 3) / 1.0) ** 2)
    correlation = np.broadcast_to(np.outer(lag, lag), (40, 6, 7, 7))
    stamps = replace(stamps, noise_correlation=correlation)
    noise = changes_of(stamps).noise(torch.Generator().manual_seed(1)).double().numpy()[2:]
    assert noise.var() == pytest.approx(1, rel=0.05)  # 38 × 6 × 49² pixels of some 12 each: 0.8 %
    for dy, dx in ((0, 1), (1, 1), (2, 0)):
        product = (noise[:, :, dy:, dx:] * noise[:, :, : STAMP - dy, : STAMP - dx]).mean()
        assert product == pytest.approx(correlation[0, 0, 3 + dy, 3 + dx], abs=0.05)
    lost = changes_of(observed(2)).noise(torch.Generator().manual_seed(1))
    assert (lost[1, 2:4, 20:27, 10:25] == 0).all()
    assert (lost[0, 0] == 0).all()


@pytest.mark.parametrize("orientations", [1, 8])
def test_derivatives_are_those_of_finite_differences(
    model: SkyModel, monkeypatch: pytest.MonkeyPatch, orientations: int
) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    network, stamps = SkyShapeNetwork(WIDTHS, DENSE).double().eval(), observed(6)
    network.load_state_dict(model.network.state_dict())
    double = SkyModel(network, model.prior, model.calibration, model.population, 1)
    part = given(stamps)
    operators = StampChanges(stamps, part)
    changes = Changes(*(values.double() for values in Changes.joined([operators.of_light(), operators.of_psf()])))
    at = part._replace(
        **{name: getattr(part, name).double() for name in ("images", "neighbours", "spins", "scalars", "vectors")}
    )
    _, found = _differentiated(double, at, changes, orientations, exact=True)
    step = 1e-7

    @torch.no_grad()
    def moved(k: int, size: float) -> torch.Tensor:
        there = at._replace(**{name: getattr(at, name) + size * getattr(changes, name)[k] for name in Changes._fields})
        posterior = oriented(network, there, orientations)
        return torch.cat([posterior.mean, posterior.covariance.flatten(1)], dim=1)

    assert len(found) == LIGHT + 2
    for k, change in enumerate(found):
        expected = (moved(k, step) - moved(k, -step)) / (2 * step)
        both = torch.cat([change.mean, change.covariance.flatten(1)], dim=1)
        torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.usefixtures("noiseless")
@pytest.mark.parametrize("element", [1, 5])
def test_responses_turn_with_the_sky(model: SkyModel, element: int) -> None:
    stamps = observed(5)
    before, after = (
        measure_response(model, s, share=1.0, orientations=8, exact=True)
        for s in (stamps, turned_in_the_sky(stamps, element))
    )
    signs = np.array([1 - 2 * (element >> 2 & 1), 1 - 2 * ((element ^ element >> 1) & 1)])
    for of, turned in zip(before, after, strict=True):
        for values, expected in zip(turned, of, strict=True):
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(
                values, signs[:, None] * signs * expected, atol=0.01 * float(np.abs(expected).max())
            )


@pytest.mark.usefixtures("noiseless")
def test_responses_predict_what_galsim_changes(model: SkyModel) -> None:
    """The answer for a noiseless galaxy under small shears of sky, PSF and given PSF, posterior and likelihood."""
    step = 0.01
    found = measure_response(model, sheared_sky(), share=1.0, orientations=8, exact=True)

    def pair(ways: dict[str, int], shear: complex) -> np.ndarray:
        """Of the posterior and of the likelihood, (2, 2)."""
        both = [
            model.measure(sheared_sky(**{k: s * v * shear * step for k, v in ways.items()}), 8, exact=True)
            for s in (1, -1)
        ]
        ahead, behind = (np.stack([m.posterior.mean[0, :2], m.likelihood.mean[0, :2]]) for m in both)
        return np.asarray((ahead - behind) / (2 * step))

    for name, ways, parts in (
        ("shear", {"sky": 1}, [of.shear for of in found]),
        ("PSF", {"psf": 1}, [of.psf for of in found]),
        ("its image", {"psf": 1, "given_psf": 0}, [of.psf - of.psf_model for of in found]),
        ("what is given of it", {"given_psf": 1}, [of.psf_model for of in found]),
    ):
        expected, values = np.stack([pair(ways, shear) for shear in (1, 1j)], axis=2), np.concatenate(parts)
        # The answer is of linear pieces, and images are given in half precision.
        np.testing.assert_allclose(values, expected, atol=0.1 * float(np.abs(values).max()), err_msg=name)


@pytest.mark.slow
def test_noise_is_no_light_though_it_is_sheared() -> None:
    """In correlated noise a quadratic estimate responds as the light does, once the part of the noise is taken away."""
    number, light = 1500, sheared_sky()
    lag = np.exp(-0.5 * ((np.arange(9) - 4) / 0.9) ** 2)
    correlation = NoiseCorrelation(np.outer(lag, lag))
    rng = np.random.default_rng(2)
    noise = np.stack([correlation.sample((STAMP, STAMP), rng) for _ in range(number)])[:, None]
    stamps = joined([light] * number)
    stamps = replace(
        stamps,
        pixels=stamps.pixels / 30 + noise,
        noise_correlation=np.broadcast_to(correlation.lags(4), (number, 1, 9, 9)),
    )
    at = torch.arange(SIDE) - 22.0
    weight = torch.exp(-0.5 * ((at - 0.3) / 2).square() - 0.5 * ((at[:, None] + 0.2) / 2).square())
    shape = weight * (at.square() - at[:, None].square())

    def slope(images: torch.Tensor, change: torch.Tensor) -> np.ndarray:
        product = (images * weight).sum((1, 2, 3)) * (change * shape).sum((1, 2, 3))
        return (product + (images * shape).sum((1, 2, 3)) * (change * weight).sum((1, 2, 3))).numpy()

    fainter = replace(light, pixels=light.pixels / 30)
    true = slope(given(fainter).images.float(), changes_of(fainter).of_light().images[0])
    operators = changes_of(stamps)
    raw = slope(operators.given.images.float(), operators.of_light().images[0])
    added = operators.noise(torch.Generator().manual_seed(4))
    of_noise = operators.of_light(added).images[0]
    ahead, behind = (slope(operators.with_noise(s * 0.5 * added).images.float(), of_noise) for s in (1, -1))
    found = raw - (ahead - behind)
    assert abs(found.mean() - true[0]) < 3 * found.std() / np.sqrt(number)
    assert abs(raw.mean() - true[0]) > 5 * raw.std() / np.sqrt(number)


def test_a_share_of_the_stamps_has_responses(model: SkyModel) -> None:
    stamps = observed(8)
    weight = stamps.inverse_variance.copy()
    chosen = chosen_rows(8, 0.6, 3)
    blank = int(np.flatnonzero(chosen)[0])
    weight[blank] = 0
    found = measure_response(model, replace(stamps, inverse_variance=weight), 0.6, 3)
    chosen[blank] = False
    assert 0 < chosen.sum() < 8
    for of in found:
        for values in of:
            np.testing.assert_array_equal(np.isfinite(values).all(axis=(1, 2)), chosen)
            np.testing.assert_array_equal(np.isnan(values).all(axis=(1, 2)), ~chosen)
    assert chosen_rows(10_000, 0.3, 1).mean() == pytest.approx(0.3, abs=3 * np.sqrt(0.3 * 0.7 / 10_000))
    assert not chosen_rows(5, 0.0, 1).any()
    assert chosen_rows(5, 1.0, 1).all()


def test_rounding_moves_responses_by_a_part_of_their_scatter(model: SkyModel) -> None:
    stamps = observed(24)
    exact, rounded = (measure_response(model, stamps, 1.0, 3, exact=e).posterior for e in (True, False))
    for one, other in zip(exact, rounded, strict=True):
        moved = np.sqrt(((other - one) ** 2).mean())
        assert moved < 0.3 * one.std()
        assert (moved > 0) == multiplies_bfloat16()


def test_columns_are_rows_and_columns_of_the_response() -> None:
    parts = np.arange(12.0).reshape(3, 1, 2, 2)
    columns = Response(*parts).columns()
    assert {name: float(values[0]) for name, values in columns.items()} == {
        **{"R11": 0, "R12": 1, "R21": 2, "R22": 3},
        **{"R11_psf": 4, "R12_psf": 5, "R21_psf": 6, "R22_psf": 7},
        **{"R11_psf_model": 8, "R12_psf_model": 9, "R21_psf_model": 10, "R22_psf_model": 11},
    }


def test_the_response_is_that_of_the_place_where_a_stamp_is_measured(model: SkyModel) -> None:
    """A position two pixels off gives the response of the stamp whose position was brought to the light before."""
    off = np.array(PLACE) + np.array([1.0, 2.0])
    moved = replace(joined([sheared_sky(0.02 * k) for k in range(3)]), position=np.tile(off, (3, 1)))
    back, shift = centred(moved, units_of(moved).fwhm)
    assert (np.hypot(*shift.T) > 2).all()
    found, expected = (measure_response(model, stamps, share=1.0, seed=3).likelihood for stamps in (moved, back))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
