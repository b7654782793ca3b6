"""The symmetries of the square act alike on images and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.stamps.symmetries import (
    ORDER,
    inverse,
    transform_ellipticity,
    transform_images,
    transform_vectors,
)

from .test_moments import gaussian


@pytest.mark.parametrize("element", range(ORDER))
def test_measured_shape_of_the_turned_image_is_the_turned_label(element: int) -> None:
    image = gaussian(0.2, -0.1, pixels=45)
    before, elements = image_moments(image), torch.tensor([element])
    turned = transform_images(torch.from_numpy(image)[None, None], elements)[0, 0].numpy()
    after = image_moments(turned)
    label = transform_ellipticity(torch.tensor([[before.e1, before.e2]]), elements)[0]
    assert (after.e1, after.e2) == pytest.approx((float(label[0]), float(label[1])), abs=1e-12)


def test_the_eight_are_different_and_mixed_in_one_batch() -> None:
    image = torch.arange(25.0).reshape(1, 1, 5, 5).expand(ORDER, 1, 5, 5)
    turned = transform_images(image, torch.arange(ORDER))
    assert len({t.numpy().tobytes() for t in turned}) == ORDER
    assert all(np.array_equal(np.sort(t.flatten()), np.arange(25.0)) for t in turned.numpy())


def test_a_turned_image_is_flipped_then_swapped_stamp_by_stamp() -> None:
    images, elements = torch.rand(40, 2, 7, 7), torch.arange(40) % ORDER
    for image, element, turned in zip(images, elements.tolist(), transform_images(images, elements), strict=True):
        expected = image.flip([axis for bit, axis in ((1, -1), (2, -2)) if element & bit])
        assert torch.equal(turned, expected.transpose(-1, -2) if element & 4 else expected)


@pytest.mark.parametrize("element", range(ORDER))
def test_a_point_of_the_turned_image_lies_where_its_turned_position_says(element: int) -> None:
    image, elements = torch.zeros(1, 1, 9, 9), torch.tensor([element])
    image[0, 0, 2, 7] = 1
    row, column = (int(v[0]) for v in torch.nonzero(transform_images(image, elements)[0, 0], as_tuple=True))
    # Two vectors in a row: the point's, and its opposite.
    found = transform_vectors(torch.tensor([[3.0, -2.0, -3.0, 2.0]]), elements)[0]
    assert found.tolist() == [column - 4, row - 4, 4 - column, 4 - row]


def test_the_inverse_undoes_images_vectors_and_ellipticities() -> None:
    elements = torch.arange(ORDER)
    images, pairs = torch.rand(ORDER, 2, 7, 7), torch.rand(ORDER, 4)
    assert torch.equal(transform_images(transform_images(images, elements), inverse(elements)), images)
    assert torch.equal(transform_vectors(transform_vectors(pairs, elements), inverse(elements)), pairs)
    assert torch.equal(transform_ellipticity(transform_ellipticity(pairs, elements), inverse(elements)), pairs)
    # All but the turns by 90° are their own inverse.
    assert (inverse(elements) != elements).sum() == 2
