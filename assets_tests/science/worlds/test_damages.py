"""Damages do what they are named for, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.sky_shapes.samples import SIGMA, observed
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.worlds.damages import DAMAGES, DARK_SKY, SLIGHT, noise_alone

STAMPS = observed(24)
FLUX = 30 * 2 * np.pi * 9 * SIGMA
TRUTH = pd.DataFrame({f"flux_{band}": np.full(24, flux) for band, flux in zip(STAMPS.bands, FLUX, strict=True)})


def damaged(name: str) -> ObservedStamps:
    return {**DAMAGES, **SLIGHT}[name](STAMPS, TRUTH, np.random.default_rng(5))


@pytest.mark.parametrize("name", [*DAMAGES, *SLIGHT])
def test_each_damage_changes_something_keeps_lost_pixels_lost_and_is_the_same_again(name: str) -> None:
    found, again = damaged(name), damaged(name)
    lost = STAMPS.inverse_variance == 0
    assert (found.pixels[lost] == 0).all()
    assert (found.inverse_variance[lost] == 0).all()
    before = STAMPS.arrays()
    changed = [key for key, values in found.arrays().items() if not np.array_equal(values, before[key], equal_nan=True)]
    assert 1 <= len(changed) <= 3
    assert set(changed) <= {"pixels", "inverse_variance", "mask", "position"} - (
        set() if "centre" in name else {"position"}
    )
    for key, values in found.arrays().items():
        np.testing.assert_array_equal(values, again.arrays()[key])


def test_noise_alone_has_the_stated_variance_and_correlation() -> None:
    noise = noise_alone(STAMPS, np.random.default_rng(1))[2:] / SIGMA[:, None, None]
    independent = noise.size / STAMPS.noise_correlation[0, 0].sum()
    assert abs(noise.var() - 1) < 3 * np.sqrt(2 / independent)
    along_x = (noise[..., 1:] * noise[..., :-1]).mean()
    assert abs(along_x - STAMPS.noise_correlation[0, 0, 2, 3]) < 3 / np.sqrt(independent)


def test_sky_is_that_of_the_dark_sky() -> None:
    """In r, at zero point 30 and 0.25" a pixel: 30 - 21.20 mag of an arcsec², a sixteenth of it."""
    added = (damaged("sky left in, 1 %").pixels - STAMPS.pixels)[3, 2]
    np.testing.assert_allclose(added, 0.01 * 10 ** (0.4 * (30 - DARK_SKY["r"])) / 16, rtol=1e-3)


@pytest.mark.parametrize("name", ["cosmic ray", "trail"])
def test_light_is_added_near_the_target_in_one_band(name: str) -> None:
    added = damaged(name).pixels - STAMPS.pixels
    assert ((added != 0).any(axis=(2, 3)).sum(axis=1) == 1).all()
    y, x = np.mgrid[: STAMPS.side, : STAMPS.side]
    for n, place in enumerate(STAMPS.position):
        near = (x - place[0]) ** 2 + (y - place[1]) ** 2 < 25
        band = int((added[n] != 0).any(axis=(1, 2)).argmax())
        lost = (STAMPS.inverse_variance[n, band] == 0).any()
        assert lost or added[n, band][near].sum() == pytest.approx(0.2 * FLUX[band], rel=1e-3)


def test_a_saturated_core_is_lost_and_named() -> None:
    found = damaged("saturated core, masked")
    core = (found.mask & int(MaskBit.SATURATED)) > 0
    assert core.any(axis=(2, 3))[STAMPS.present].all()
    assert (found.inverse_variance[core] == 0).all()
    y, x = np.nonzero(core[3, 2])
    assert (np.hypot(x - STAMPS.position[3, 0], y - STAMPS.position[3, 1]) < 3).all()


def test_a_clipped_core_has_no_peak() -> None:
    found = damaged("core clipped")
    assert (found.pixels[3, 2] == found.pixels[3, 2].max()).sum() >= 5


def test_the_position_is_off_by_so_many_pixels() -> None:
    for name, expected in (("1 pixel off centre", 1), ("2 pixels off centre", 2), ("3 pixels off centre", 3)):
        offset = damaged(name).position - STAMPS.position
        np.testing.assert_allclose(np.hypot(*offset.T), expected)


def test_noise_is_stated_otherwise() -> None:
    for name, factor in (("noise stated 1.5 times too low", 1 / 1.5), ("noise stated 1.5 times too high", 1.5)):
        weight = damaged(name).inverse_variance
        np.testing.assert_allclose(weight * factor**2, STAMPS.inverse_variance, rtol=1e-5)


def test_one_band_alone_has_light() -> None:
    light = damaged("light in one band alone").pixels[:, :, 22:27, 22:27].sum(axis=(2, 3)) / SIGMA
    assert ((light > 300).sum(axis=1) == 1).all()


def test_an_edge_is_filled() -> None:
    found = damaged("edge filled with -9999").pixels
    beyond = (np.arange(STAMPS.side) > STAMPS.position[:, :1] + 2)[:, None, None] & (STAMPS.inverse_variance > 0)
    assert (found[beyond] == -9999).all()
    assert (found[~beyond] > -9999).all()
