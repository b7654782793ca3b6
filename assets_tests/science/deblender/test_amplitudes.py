"""The brightness of a deblended galaxy: from its pixels where there are photons, else from the network."""

from __future__ import annotations

import torch

from deblend_assets.science.deblender.amplitudes import amplitudes

SKY = torch.tensor([50.0, 200.0, 300.0])[:, None, None]


def profile(peak: float) -> torch.Tensor:
    """Round Gaussians of three bands, (1, 3, 21, 21) in units of the sky's noise."""
    at = torch.arange(21.0) - 10
    shape = torch.exp(-0.5 * (at.square() + at[:, None].square()) / 9.0)
    return peak * shape.expand(1, 3, -1, -1).clone()


def test_a_bright_galaxys_factor_is_that_of_its_photons() -> None:
    drawn, factors = profile(50.0), torch.tensor([0.8, 1.0, 1.3])
    light = drawn * factors[:, None, None]
    noise = torch.randn((200, 3, 21, 21), generator=torch.Generator().manual_seed(1))
    seen = light + noise * (1.0 + light / SKY).sqrt()
    present = torch.ones(200, 3, dtype=torch.bool)
    found = amplitudes(drawn.expand(200, -1, -1, -1), seen, present, SKY)
    # Cramer-Rao: 1 / sqrt(sum m^2 / V); the prior of 0.15 adds nothing to S/N of some 250.
    expected = (drawn.square() / (1.0 + light / SKY)).sum(dim=(2, 3))[0] ** -0.5
    torch.testing.assert_close(found.mean(dim=0), factors, rtol=3e-3, atol=0.0)
    torch.testing.assert_close(found.std(dim=0), expected, rtol=0.15, atol=0.0)


def test_a_faint_galaxys_factor_stays_near_one() -> None:
    drawn = profile(0.05)
    noise = torch.randn((200, 3, 21, 21), generator=torch.Generator().manual_seed(2))
    present = torch.ones(200, 3, dtype=torch.bool)
    found = amplitudes(drawn.expand(200, -1, -1, -1), drawn + noise, present, SKY)
    assert float((found - 1.0).abs().max()) < 0.05


def test_an_absent_band_says_nothing() -> None:
    drawn = profile(50.0)
    seen = 1.2 * drawn
    seen[:, 1] = torch.nan
    found = amplitudes(drawn, seen, torch.tensor([[True, False, True]]), SKY)
    torch.testing.assert_close(found, torch.tensor([[1.2, 1.0, 1.2]]), rtol=2e-3, atol=0.0)
