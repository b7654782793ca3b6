"""Examples: inputs, values and stars of the same rows."""

from __future__ import annotations

import numpy as np
import torch

from assets_tests.science.worlds.samples import gaussian_field, targets_of
from deblend_assets.science.sky_shapes.examples import FARTHEST, displacements, examples, standardized
from deblend_assets.science.sky_shapes.inputs import given
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, prior_of, units_of
from deblend_assets.science.worlds.targets import Targets


def test_examples_are_the_inputs_and_the_truth_of_the_same_targets() -> None:
    field = gaussian_field([15.0, 48.0, 30.0], [15.0, 20.0, 50.0], [3000.0, 2500.0, 2000.0], 0.3, 0.1 + 0j, 64)
    targets = targets_of(field)
    star = np.arange(len(targets)) == 1
    targets = Targets(targets.stamps, targets.truth.assign(star=star))
    *inputs, values, stars = examples(targets)
    for one, other in zip(inputs, given(targets.stamps), strict=True):
        assert torch.equal(one, other)
    assert {len(tensor) for tensor in (*inputs, values, stars)} == {3}
    assert stars.tolist() == star.tolist()
    assert values.isnan().any(dim=1).tolist() == star.tolist()
    np.testing.assert_allclose(values[~stars, QUANTITIES.index("g1")], 0.1, atol=1e-6)


def test_displacements_are_of_a_share_and_within_their_limit() -> None:
    shift = displacements(20_000, 0.4, np.random.default_rng(1))
    radius = np.hypot(*shift.T)
    moved = radius > 0
    assert abs(moved.mean() - 0.4) < 3 * np.sqrt(0.24 / len(shift))
    assert 0.99 * FARTHEST < radius.max() <= FARTHEST
    # Radii are uniform: the mean square of a component is FARTHEST² / 6.
    assert (abs(shift[moved].mean(axis=0)) < 3 * FARTHEST / np.sqrt(6 * moved.sum())).all()


def test_a_displaced_place_moves_the_stamp_and_the_targets_offset_from_it() -> None:
    field = gaussian_field([15.0, 48.0, 30.0], [15.0, 20.0, 50.0], [3000.0, 2500.0, 2000.0], 0.3, 0.1 + 0j, 64)
    targets = targets_of(field)
    shift = np.array([[2.0, -1.0], [0.0, 0.0], [0.0, 3.5]])
    found, plain = examples(targets, shift), examples(targets)
    offset = slice(QUANTITIES.index("dx"), QUANTITIES.index("dy") + 1)
    np.testing.assert_allclose(
        (plain[-2] - found[-2])[:, offset], shift / units_of(targets.stamps).fwhm[:, None], atol=1e-9
    )
    assert torch.equal(plain[-2][:, : offset.start], found[-2][:, : offset.start])
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one[1], other[1])
    # A whole number of pixels moves the images as they are.
    assert torch.equal(found[0][0, :, 1:, :-2], plain[0][0, :, :-1, 2:])


def test_standardized_values_have_the_populations_units() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(2.0, 3.0, (500, len(QUANTITIES))))
    values[7] = torch.nan
    prior = prior_of(values.numpy())
    images, whitened, star = standardized((torch.ones(500, 1), values, torch.zeros(500, dtype=torch.bool)), prior)
    assert whitened.dtype == torch.float32
    assert images.shape == (500, 1)
    assert whitened[7].isnan().all()
    scalar = QUANTITIES.index("ln_size")
    assert abs(float(whitened[:, scalar].nanmean())) < 1e-5
    assert abs(float(whitened[~whitened[:, 0].isnan(), scalar].std()) - 1) < 0.01
    assert not star.any()
