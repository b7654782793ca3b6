"""Images that several stamps share."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.stamps.batches import distinct


def test_distinct_images_are_found_in_the_order_of_their_first_places() -> None:
    images = np.random.default_rng(1).normal(size=(3, 4, 5))
    first, place = distinct(images[[2, 0, 2, 1, 0]])
    assert first.tolist() == [0, 1, 3]
    assert place.tolist() == [0, 1, 0, 2, 1]
    assert [len(part) for part in distinct(images[:0])] == [0, 0]
