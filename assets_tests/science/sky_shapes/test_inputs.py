"""What the network is given of observed stamps, and that all of it turns with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from assets_tests.science.sky_shapes.samples import SIDE as WHOLE
from assets_tests.science.sky_shapes.samples import SIGMA, observed, turned_in_the_sky
from deblend_assets.science.simulation.observed import reference_band
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.sky_shapes.inputs import (
    SCALARS,
    SIDE,
    SPINS,
    GivenStamps,
    count_of_numbers,
    given,
    numbers_of,
    reference_mask,
    turned,
)
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.observed import sky_sigma
from deblend_assets.science.stamps.symmetries import ORDER


def test_parts_have_the_shapes_and_types_that_are_promised() -> None:
    found = given(observed())
    assert found.images.shape == found.seen.shape == (6, 6, SIDE, SIDE)
    assert found.neighbours.shape == (6, 1, SIDE, SIDE)
    assert found.scalars.shape == (6, 6, len(SCALARS))
    assert found.spins.shape == (6, 6, len(SPINS), 2)
    assert found.vectors.shape == (6, 1, 2)
    assert [part.dtype for part in found] == [
        torch.float16,
        torch.bool,
        torch.float16,
        torch.bool,
        *[torch.float32] * 4,
    ]
    assert all(part.isfinite().all() for part in found)


def test_pixels_are_in_units_of_the_sky_and_zero_where_lost() -> None:
    stamps = observed()
    found = given(stamps)
    middle = slice(2, 2 + SIDE)
    expected = stamps.pixels[:, :, middle, middle] / SIGMA[:, None, None]
    np.testing.assert_allclose(found.images, expected, rtol=1e-3, atol=1e-6)
    assert (found.images[1, 2:4, 18:25, 8:23] == 0).all()
    assert found.lost[1].sum() == 2 * 7 * 15
    assert found.lost.sum() == found.lost[1].sum()
    assert found.present.tolist() == [[False] + [True] * 5] + [[True] * 6] * 5
    assert not found.seen[0, 0].any()
    assert (found.scalars[0, 0] == 0).all()
    assert (found.spins[0, 0] == 0).all()


def test_a_bright_star_stays_finite() -> None:
    stamps = observed(2)
    found = given(replace(stamps, pixels=stamps.pixels * np.float32(1e9)))
    assert found.images.isfinite().all()
    assert found.images.abs().max() > 5e4


def test_the_sky_is_the_median_of_the_pixels_that_are_left() -> None:
    weight = np.full((1, 2, 5, 5), 0.25, dtype=np.float32)
    weight[0, 0, :2] = 0
    weight[0, 0, 2] = 4.0
    weight[0, 1] = 0
    np.testing.assert_array_equal(sky_sigma(weight), [[2.0, np.nan]])
    assert sky_sigma(weight[:0]).shape == (0, 2)


def test_the_detections_pixel_is_the_middle_one_and_what_is_off_the_stamp_is_lost() -> None:
    stamps = observed(2)
    found = given(replace(stamps, position=np.array([[30.4, 22.0], [23.6, 24.0]])))
    assert found.images[0, 3, 22, 22] == pytest.approx(stamps.pixels[0, 3, 22, 30] / SIGMA[3], rel=1e-3)
    np.testing.assert_allclose(found.vectors[:, 0], [[0.4, 0.0], [-0.4, 0.0]], atol=1e-6)
    # 41 columns and all rows of the first stamp are there.
    assert found.seen[0, 3].sum() == (WHOLE - 8) * SIDE
    assert found.seen[0, 3, :, : WHOLE - 8].all()
    assert found.lost[0, 3, :, WHOLE - 8 :].all()


def test_neighbours_are_gaussians_of_the_reference_bands_fwhm() -> None:
    stamps = observed()
    found, fwhm = given(stamps), measure_psf_images(stamps.psf[1, 2]).fwhm
    assert found.neighbours[-1].abs().max() == 0
    grid = np.arange(SIDE) + 2.0
    for row, count in enumerate(stamps.others_count.tolist()):
        square = [(grid - x) ** 2 + (grid[:, None] - y) ** 2 for x, y in stamps.others[row, :count]]
        # Half of the peak half a FWHM away.
        expected = sum((0.5 ** (4 * part / fwhm**2) for part in square), start=np.zeros((SIDE, SIDE)))
        np.testing.assert_allclose(found.neighbours[row, 0], expected, atol=1e-3)


def test_numbers_of_psf_and_noise() -> None:
    stamps = observed()
    found = given(stamps)
    psf = measure_psf_images(stamps.psf[1])
    names = list(SCALARS)
    np.testing.assert_allclose(found.scalars[1, :, names.index("ln_fwhm")], np.log(psf.fwhm / 3.5), atol=1e-6)
    for name in ("wings", "kurtosis"):
        np.testing.assert_allclose(found.scalars[1, :, names.index(name)], getattr(psf, name), atol=1e-6)
    np.testing.assert_allclose(found.scalars[1, 0, -3:], [0.25, 0.1, 0.03], atol=1e-6)
    np.testing.assert_allclose(found.spins[1, :, 0], np.stack([psf.g1, psf.g2], axis=1), atol=1e-6)
    np.testing.assert_allclose(found.spins[1, :, 1], [[0.05, 0.05]] * 6, atol=1e-6)
    white = given(replace(stamps, noise_correlation=stamps.noise_correlation[..., 2:3, 2:3]))
    assert (white.scalars[..., -3:] == 0).all()
    assert (white.spins[:, :, 1] == 0).all()


@pytest.mark.parametrize("element", range(ORDER))
def test_what_is_given_of_a_turned_sky_is_what_was_given_turned(element: int) -> None:
    stamps = observed()
    found = turned(given(stamps), torch.full((len(stamps),), element))
    for name, mine, expected in zip(GivenStamps._fields, found, given(turned_in_the_sky(stamps, element)), strict=True):
        if mine.dtype == torch.bool or name == "images":
            assert torch.equal(mine, expected), name
        else:
            torch.testing.assert_close(mine, expected, rtol=0, atol=1e-3 if name == "neighbours" else 1e-5, msg=name)


def test_each_stamp_turns_by_its_own_element() -> None:
    whole, elements = given(observed(ORDER)), torch.arange(ORDER)
    found = turned(whole, elements)
    for row in range(ORDER):
        alone = turned(GivenStamps(*(part[row : row + 1] for part in whole)), elements[row : row + 1])
        assert all(torch.equal(a[row], b[0]) for a, b in zip(found, alone, strict=True))


def test_numbers_are_of_order_one_and_hide_absent_bands() -> None:
    found = given(observed())
    numbers = numbers_of(found)
    assert numbers.shape == (6, count_of_numbers(6))
    assert numbers.abs().max() < 4
    scrambled = found._replace(
        scalars=torch.where(found.present[..., None], found.scalars, torch.nan),
        spins=torch.where(found.present[..., None, None], found.spins, torch.nan),
    )
    assert torch.equal(numbers_of(scrambled), numbers)
    for name in ("scalars", "spins", "vectors", "pixel_scale"):
        changed = numbers_of(found._replace(**{name: getattr(found, name) + 0.1}))
        assert (changed != numbers).any(dim=1).all(), name


def test_the_reference_band_is_that_of_the_truth() -> None:
    present = np.random.default_rng(1).random((50, 6)) < 0.4
    present[present.sum(axis=1) == 0, 3] = True
    found = reference_mask(CATSIM_BANDS, torch.from_numpy(present))
    assert (found.sum(dim=1) == 1).all()
    np.testing.assert_array_equal(found.int().argmax(dim=1), reference_band(CATSIM_BANDS, present))
