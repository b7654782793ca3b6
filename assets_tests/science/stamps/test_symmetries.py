"""The symmetries of the square act alike on images and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.stamps.symmetries import ORDER, transform_ellipticity, transform_images

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
