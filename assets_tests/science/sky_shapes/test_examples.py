"""Examples: inputs, values and what is true of the same rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from assets_tests.science.worlds.samples import gaussian_field, targets_of
from deblend_assets.science.sky_shapes.examples import examples, standardized
from deblend_assets.science.sky_shapes.inputs import given
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, prior_of
from deblend_assets.science.worlds.targets import Targets


def test_examples_are_the_inputs_and_the_truth_of_the_same_targets() -> None:
    field = gaussian_field([15.0, 48.0, 30.0], [15.0, 20.0, 50.0], [3000.0, 2500.0, 2000.0], 0.3, 0.1 + 0j, 64)
    targets = targets_of(field)
    star = np.arange(len(targets)) == 1
    blend = np.arange(len(targets)) == 2
    targets = Targets(targets.stamps, targets.truth.assign(star=star, unrecognized=blend))
    *inputs, values, true = examples(targets)
    for one, other in zip(inputs, given(targets.stamps), strict=True):
        assert torch.equal(one, other)
    assert {len(tensor) for tensor in (*inputs, values, true)} == {3}
    assert true.T.tolist() == [star.tolist(), blend.tolist()]
    assert values.isnan().any(dim=1).tolist() == star.tolist()
    np.testing.assert_allclose(values[~star, QUANTITIES.index("g1")], 0.1, atol=1e-6)


def test_a_place_that_is_off_is_brought_to_the_light_and_the_offset_is_from_there() -> None:
    """Two pixels off, with other detections elsewhere: the same example as from the place of the detection."""
    field = gaussian_field([15.0, 48.0, 30.0], [15.0, 20.0, 50.0], [3000.0, 2500.0, 2000.0], 0.3, 0.1 + 0j, 64)
    targets = targets_of(field)
    moved = replace(targets.stamps, position=targets.stamps.position + np.array([2.0, -1.0]))
    *_, values, _ = examples(Targets(moved, targets.truth))
    *_, plain, _ = examples(targets)
    offset = slice(QUANTITIES.index("dx"), QUANTITIES.index("dy") + 1)
    # A centroid of 2,500 photons a band, 2.3 pixels wide, has an error of 0.03 pixels, 0.008 FWHM: six of them.
    np.testing.assert_allclose(values[:, offset], plain[:, offset], atol=0.05)
    assert torch.equal(values[:, : offset.start], plain[:, : offset.start])


def test_a_target_beyond_the_reach_of_its_position_is_none() -> None:
    field = gaussian_field([15.0, 48.0], [15.0, 20.0], [3000.0, 2500.0], 0.3, 0.1 + 0j, 64)
    targets = targets_of(field)
    # Farther than positions are brought back.
    moved = replace(targets.stamps, position=targets.stamps.position + np.array([7.0, 0.0]))
    assert examples(Targets(moved, targets.truth))[-2].isnan().all()


def test_standardized_values_have_the_populations_units() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(2.0, 3.0, (500, len(QUANTITIES))))
    values[7] = torch.nan
    prior = prior_of(values.numpy())
    images, whitened, true = standardized((torch.ones(500, 1), values, torch.zeros(500, 2, dtype=torch.bool)), prior)
    assert whitened.dtype == torch.float32
    assert images.shape == (500, 1)
    assert whitened[7].isnan().all()
    scalar = QUANTITIES.index("ln_size")
    assert abs(float(whitened[:, scalar].nanmean())) < 1e-5
    assert abs(float(whitened[~whitened[:, 0].isnan(), scalar].std()) - 1) < 0.01
    assert not true.any()
