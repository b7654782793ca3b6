"""One survey's weights for another's bands and population: the same function of the same light."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deblend_assets.errors import MismatchError
from deblend_assets.science.networks.residual_vae import NoiseUnits, residual_vae
from deblend_assets.science.networks.transfer import for_bands, in_units, load_matching
from deblend_assets.science.networks.trunk import StampTrunk
from deblend_assets.science.networks.vae import VAE
from deblend_assets.science.shapes.network import ShapeNetwork

THEIRS, OURS = ("u", "g", "r"), ("r", "G")
PIXELS = 15


def shapes(bands: int, seed: int = 1) -> ShapeNetwork:
    torch.manual_seed(seed)
    network = ShapeNetwork(StampTrunk(bands, PIXELS, (6, 8), 10), 10, 6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.2)
    return network.eval()


def vae(bands: int, seed: int = 1) -> VAE:
    torch.manual_seed(seed)
    network = residual_vae(NoiseUnits([2.0] * bands, [9.0] * bands), PIXELS, (6, 8), 10, 4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.2)
    return network.eval()


@pytest.mark.parametrize("make", [shapes, vae])
def test_a_network_of_fewer_bands_is_one_that_misses_the_others(make: type) -> None:
    """Bands in another order and without u: as the first network without u, through its mask."""
    first, second = make(3), make(2, seed=2)
    load_matching(second, for_bands(first.state_dict(), THEIRS, OURS, "here"), "here")
    ours = torch.randn((4, 2, PIXELS, PIXELS), generator=torch.Generator().manual_seed(3)) * 0.3
    theirs = torch.stack([torch.full_like(ours[:, 0], torch.nan), ours[:, 1], ours[:, 0]], dim=1)
    present = torch.ones(4, 2, dtype=torch.bool)
    mask = torch.tensor([[False, True, True]]).expand(4, 3)
    with torch.no_grad():
        one, other = first(theirs, mask), second(ours, present)
    if make is vae:
        torch.testing.assert_close(other, one[:, [2, 1]], rtol=1e-5, atol=1e-6)
    else:
        torch.testing.assert_close(other.mean, one.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other.cholesky, one.cholesky, rtol=1e-5, atol=1e-6)


def test_another_population_is_other_units_only() -> None:
    rng = np.random.default_rng(1)
    (mean, scale), (new_mean, new_scale) = ((rng.normal(size=6), rng.uniform(0.5, 2.0, 6)) for _ in range(2))
    network, stamps = shapes(3), torch.randn(5, 3, PIXELS, PIXELS)
    present = torch.ones(5, 3, dtype=torch.bool)
    with torch.no_grad():
        before = network(stamps, present)
        network.load_state_dict(in_units(network.state_dict(), (mean, scale), (new_mean, new_scale)))
        after = network(stamps, present)
    torch.testing.assert_close(
        after.mean.double() * torch.from_numpy(new_scale) + torch.from_numpy(new_mean),
        before.mean.double() * torch.from_numpy(scale) + torch.from_numpy(mean),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(
        after.cholesky.double() * torch.from_numpy(new_scale)[:, None],
        before.cholesky.double() * torch.from_numpy(scale)[:, None],
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_band_that_the_weights_do_not_know_is_named() -> None:
    with pytest.raises(MismatchError, match=r"no band i, Y \(they have ugr\) \[here\]"):
        for_bands(shapes(3).state_dict(), THEIRS, ("g", "i", "Y"), "here")


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(MismatchError, match=r"another network: .*differ"):
        load_matching(shapes(2), vae(2).state_dict(), "here")
    with pytest.raises(MismatchError, match=r"trunk\.first\.weight"):
        load_matching(shapes(2), shapes(3).state_dict(), "here")
