"""The network that is given its sky: exactly symmetric, blind to absent bands, and begun by shipped weights."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from assets_tests.science.sky_shapes.samples import observed
from deblend_assets.errors import MismatchError
from deblend_assets.science.networks.trunk import ModulatedTrunk, StampTrunk
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import SCALARS, SIDE, GivenStamps, given, turned
from deblend_assets.science.sky_shapes.network import CHANCES, STAR, SkyShapeNetwork, continued, oriented, started_from
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES, prior_of, turn
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.stamps.symmetries import ORDER
from deblend_assets.stores.shipped import shipped

WIDTHS, DENSE = (8, 12), 16
FWHM = 0.8


def scramble(network: torch.nn.Module, seed: int) -> None:
    """Weights of no meaning, every one of which matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = math.prod(parameter.shape[1:])
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.8 / math.sqrt(fan_in)))


@pytest.fixture(scope="module")
def network() -> SkyShapeNetwork:
    network = SkyShapeNetwork(WIDTHS, DENSE)
    scramble(network, 1)
    return network.eval()


@pytest.fixture(scope="module")
def stamps() -> GivenStamps:
    return given(observed(8))


@pytest.mark.parametrize("orientations", [1, 2, 4, 8])
@torch.no_grad()
def test_a_turned_sky_has_the_turned_posterior(
    network: SkyShapeNetwork, stamps: GivenStamps, orientations: int
) -> None:
    posterior = oriented(network, stamps, orientations)
    pairs = [*range(4), 7, 8]
    assert posterior.mean[:, pairs].abs().min() > 1e-4  # nothing to turn would make this test pass
    for element in range(ORDER):
        elements = torch.full((len(stamps.images),), element)
        found = oriented(network, turned(stamps, elements), orientations)
        expected = posterior.turned(elements)
        torch.testing.assert_close(found.mean, turn(posterior.mean, elements), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.covariance, expected.covariance, rtol=1e-4, atol=1e-5)
        for name in CHANCES:
            torch.testing.assert_close(found.log_odds[name], posterior.log_odds[name], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_network_alone_prefers_a_direction(network: SkyShapeNetwork, stamps: GivenStamps) -> None:
    """So that the test above shows what averaging and turning back do."""
    elements = torch.full((len(stamps.images),), 5)
    found, expected = network(turned(stamps, elements)).mean, turn(network(stamps).mean, elements)
    assert (found - expected).abs().max() > 1e-2


@torch.no_grad()
def test_everything_that_is_given_matters(network: SkyShapeNetwork, stamps: GivenStamps) -> None:
    before = network(stamps)
    changes: dict[str, torch.Tensor] = {
        "images": stamps.images + 0.5,
        "seen": stamps.seen & (torch.arange(SIDE) % 3 > 0),
        "neighbours": stamps.neighbours + 0.2,
        "present": stamps.present & torch.tensor([True, True, False, True, True, True]),
        "scalars": stamps.scalars + 0.1,
        "spins": stamps.spins + 0.02,
        "vectors": stamps.vectors + 0.1,
        "pixel_scale": stamps.pixel_scale * 1.1,
    }
    assert tuple(changes) == GivenStamps._fields
    for name, changed in changes.items():
        after = network(stamps._replace(**{name: changed}))
        for one, other in ((before.mean, after.mean), (before.log_odds[STAR], after.log_odds[STAR])):
            assert ((one - other).abs().amax(dim=1) > 1e-5).all(), name


@torch.no_grad()
def test_an_absent_band_changes_nothing(network: SkyShapeNetwork, stamps: GivenStamps) -> None:
    present = stamps.present.clone()
    present[:, 1] = False
    hidden = stamps._replace(present=present)
    images, seen, scalars, spins = (part.clone() for part in (stamps.images, stamps.seen, stamps.scalars, stamps.spins))
    images[:, 1], scalars[:, 1], spins[:, 1] = torch.nan, torch.nan, torch.nan
    seen[:, 1] = ~seen[:, 1]
    other = hidden._replace(images=images, seen=seen, scalars=scalars, spins=spins)
    found, again = (oriented(network, each, 1) for each in (hidden, other))
    assert torch.equal(found.mean, again.mean)
    assert torch.equal(found.covariance, again.covariance)


@torch.no_grad()
def test_bfloat16_keeps_the_first_layer_and_the_heads_in_single_precision(
    network: SkyShapeNetwork, stamps: GivenStamps
) -> None:
    seen: dict[str, torch.dtype] = {}
    watched = {"first": network.trunk.first, "middle": network.trunk.convolutions[2], "mean": network.mean}
    handles = [
        layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
        for name, layer in watched.items()
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(stamps)
    for handle in handles:
        handle.remove()
    assert seen == {"first": torch.float32, "middle": torch.bfloat16, "mean": torch.float32}
    assert rough.mean.dtype == rough.cholesky.dtype == torch.float32
    torch.testing.assert_close(rough.mean, network(stamps).mean, rtol=0.1, atol=0.05)


@torch.no_grad()
def test_a_trunk_without_modulation_is_the_plain_one() -> None:
    plain, modulated = StampTrunk(3, 21, WIDTHS, DENSE), ModulatedTrunk(3, 2, 21, WIDTHS, DENSE)
    scramble(plain, 2)
    weights = plain.state_dict()
    weights["first.weight"] = torch.cat([weights["first.weight"], torch.zeros(8, 2, 5, 5)], dim=1)
    modulated.load_state_dict(weights)
    generator = torch.Generator().manual_seed(3)
    images, present = (
        3 * torch.randn((5, 3, 21, 21), generator=generator),
        torch.rand((5, 3), generator=generator) < 0.7,
    )
    further = torch.randn((5, 2, 21, 21), generator=generator)
    modulation = torch.zeros(5, 2, sum(modulated.channels))
    found = modulated(images, further, present, modulation)
    torch.testing.assert_close(found, plain(images, present), rtol=1e-5, atol=1e-6)
    # Every layer can be changed.
    ends = np.cumsum([0, *modulated.channels])
    for first, end in itertools.pairwise(ends):
        for part in range(2):
            changed = modulation.clone()
            changed[:, part, first:end] = 0.5
            assert ((modulated(images, further, present, changed) - found).abs().amax(dim=1) > 1e-4).all()


def population(number: int) -> PriorMoments:
    rng = np.random.default_rng(number)
    scale = np.array([0.25, 0.25, 0.2, 0.2, 0.8, 1.2, 0.5, 0.3, 0.3]) * rng.uniform(0.8, 1.25, 9)
    mean = np.where(np.isin(np.arange(9), (4, 5, 6)), rng.normal(size=9), 0.0)
    return prior_of(scale * rng.normal(size=(200, 9)) + mean)


def compare(
    old: GaussianPosterior, before: PriorMoments, new: GaussianPosterior, after: PriorMoments, shift: list[float]
) -> None:
    """Means, less the shift between the units, and covariances of the six common quantities."""
    theirs, ours = old.double().in_own_units(before), new.double().in_own_units(after)
    scale = torch.from_numpy(before.scale)
    expected = theirs.mean - torch.tensor(shift, dtype=torch.float64)
    torch.testing.assert_close((ours.mean[:, :6] - expected) / scale, torch.zeros_like(expected), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        ours.covariance[:, :6, :6] / scale.outer(scale), theirs.covariance / scale.outer(scale), rtol=1e-3, atol=1e-6
    )


def plain_stamps(number: int) -> GivenStamps:
    """Pixels of faint and bright galaxies (errors above their least), nothing lost, bands absent, any PSF and noise."""
    rng = np.random.default_rng(5)
    axis = np.arange(SIDE) - SIDE // 2
    sizes, peaks = rng.uniform(2, 5, (number, 1, 1, 1)), 10 ** rng.uniform(0, 1.5, (number, 6, 1, 1))
    light = peaks * np.exp(-0.5 * (axis**2 + axis[:, None] ** 2 + 0.4 * axis * axis[:, None]) / sizes**2)
    images = torch.from_numpy(light + rng.normal(size=light.shape)).half()
    present = torch.from_numpy(rng.random((number, 6)) < 0.8)
    present[:, 2] = True
    return GivenStamps(
        images=images,
        seen=torch.ones_like(images, dtype=torch.bool) & present[:, :, None, None],
        neighbours=torch.zeros((number, 1, SIDE, SIDE), dtype=torch.float16),
        present=present,
        scalars=torch.from_numpy(rng.normal(size=(number, 6, len(SCALARS))) / 5).float(),
        spins=torch.from_numpy(rng.normal(size=(number, 6, 2, 2)) / 30).float(),
        vectors=torch.from_numpy(rng.normal(size=(number, 1, 2)) / 3).float(),
        pixel_scale=torch.full((number,), 0.2),
    )


def old_network(weights: dict[str, torch.Tensor], card: dict[str, Any]) -> ShapeNetwork:
    dense = card["network"]["dense"]
    network = ShapeNetwork(StampTrunk(6, SIDE, card["network"]["widths"], dense), dense, 6)
    network.load_state_dict(weights)
    return network.eval()


@torch.no_grad()
def test_the_shipped_weights_answer_as_they_did() -> None:
    """Those of LSST; the six quantities they know, in the new units, with PSF, noise and position given."""
    checkpoint = shipped("LSST", "shapes")
    card, start = checkpoint.card, "network."
    weights = {k.removeprefix(start): v for k, v in checkpoint.weights.items() if k.startswith(start)}
    before, after = PriorMoments(**card["population"]), population(1)
    network, plain = started_from(weights, card, after, FWHM).eval(), old_network(weights, card)
    stamps = plain_stamps(12)
    sky, scale = card["frame"]["sky_sigma"][2], card["frame"]["pixel_scale"]
    error = sky * math.sqrt(4 * math.pi) * FWHM / scale / 2.3548200450309493
    shift = [0.0, 0.0, 0.0, 0.0, math.log(FWHM), math.log(error)]
    old, new = plain(stamps.images.float(), stamps.present), network(stamps)
    assert old.mean.std(dim=0).min() > 0.01
    compare(old, before, new, after, shift)
    # Of the rest it knows the population.
    assert (new.mean[:, 6:] == 0).all()
    torch.testing.assert_close(new.covariance[:, 6:, 6:], torch.eye(3).expand(12, 3, 3))
    assert (new.covariance[:, :6, 6:] == 0).all()
    assert all((new.log_odds[name] == 0).all() for name in CHANCES)
    # What is lost, and neighbours, have no effect yet.
    other = network(stamps._replace(seen=torch.zeros_like(stamps.seen), neighbours=1 + stamps.neighbours))
    torch.testing.assert_close(other.mean, new.mean)


@torch.no_grad()
def test_bands_are_matched_by_name_and_must_all_be_there() -> None:
    torch.manual_seed(1)
    plain = ShapeNetwork(StampTrunk(6, SIDE, WIDTHS, DENSE), DENSE, 6).eval()
    scramble(plain, 4)
    # Far from the limits of the errors, which are in units of the population.
    plain.spread.weight.mul_(0.1)
    plain.spread.bias.mul_(0.1)
    before = PriorMoments((0.0,) * 6, tuple(tuple(row) for row in np.eye(6)))
    frame = {
        "bands": list(CATSIM_BANDS[::-1]),
        "sky_sigma": [1.0] * 6,
        "zero_points": [30.0] * 6,
        "pixel_scale": 0.2,
        "pixels": SIDE,
        "label_band": "r",
    }
    card: dict[str, Any] = {
        "frame": frame,
        "population": {"mean": before.mean, "covariance": before.covariance},
        "network": {"widths": list(WIDTHS), "dense": DENSE},
    }
    after, stamps = population(2), plain_stamps(5)
    network = started_from(plain.state_dict(), card, after, FWHM).eval()
    error = math.sqrt(4 * math.pi) * FWHM / 0.2 / 2.3548200450309493
    old = plain(stamps.images.float().flip(1), stamps.present.flip(1))
    compare(old, before, network(stamps), after, [0.0] * 4 + [math.log(FWHM), math.log(error)])
    frame["bands"] = ["g", "r", "i", "z", "Y", "w"]
    with pytest.raises(MismatchError, match="no band u"):
        started_from(plain.state_dict(), card, after, FWHM)


def test_a_new_network_knows_the_population_alone() -> None:
    posterior = SkyShapeNetwork(WIDTHS, DENSE)(plain_stamps(3))
    assert posterior.blocks == BLOCKS
    torch.testing.assert_close(posterior.covariance, torch.eye(len(QUANTITIES)).expand(3, -1, -1))
    assert all((posterior.log_odds[name] == 0).all() for name in CHANCES)


@torch.no_grad()
def test_it_is_continued_in_the_units_of_another_population(network: SkyShapeNetwork) -> None:
    before, after, stamps = population(1), population(2), plain_stamps(6)
    card = {
        "bands": list(CATSIM_BANDS),
        "population": asdict(before),
        "network": {"widths": list(WIDTHS), "dense": DENSE},
    }
    network = deepcopy(network)
    # Far from the limits of the errors, which are in units of the population.
    network.spread.weight.mul_(0.1)
    network.spread.bias.mul_(0.1)
    again = continued(network.state_dict(), card, after).eval()
    first, second = (one(stamps).double().in_own_units(moments) for one, moments in ((network, before), (again, after)))
    torch.testing.assert_close(second.mean, first.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(second.covariance, first.covariance, rtol=1e-3, atol=1e-5)
    for name in CHANCES:
        torch.testing.assert_close(second.log_odds[name], first.log_odds[name])


@torch.no_grad()
def test_a_nearly_singular_covariance_stays_one(network: SkyShapeNetwork) -> None:
    """One direction with 1e8 times the variance of the others: float32 products would round these below zero."""
    network = deepcopy(network)
    network.spread.weight.zero_()
    rows, columns = torch.tril_indices(len(QUANTITIES), len(QUANTITIES))
    network.spread.bias.copy_(torch.where(rows == columns, math.log(1e-3), torch.where(columns == 0, 3.0, 0.0)))
    for orientations in (1, 8):
        found = oriented(network, plain_stamps(4), orientations)
        assert found.covariance.dtype == torch.float64
        assert (torch.linalg.eigvalsh(found.covariance)[:, 0] > 0).all()
