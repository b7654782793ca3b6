"""Saturated stars whose core is lost are one source; sources beside a hole stay their own."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import detect

SIDE, MIDDLE, FWHM = 121, 60.3, 3.4


def found(
    flux: float, full: float, beside: tuple[tuple[float, float, float], ...] = (), trail: int = 0, hole: int = 0
) -> NDArray[np.float64]:
    """x, y of what is found, (N, 2), around a Moffat star that is lost above a level; noise of 10.

    Args:
        flux, full: of the star; the level.
        beside: x, y and flux of others.
        trail: half length of a lost trail of two columns through the star [pixel].
        hole: half side of a lost square at the star [pixel].
    """
    image = galsim.ImageF(SIDE, SIDE, scale=1.0)
    profile = galsim.Moffat(beta=3.0, fwhm=FWHM)
    for x, y, total in ((MIDDLE, MIDDLE - 0.2, flux), *beside):
        offset = (x - SIDE // 2, y - SIDE // 2)
        profile.withFlux(total).drawImage(image, offset=offset, method="no_pixel", add_to_image=True)
    pixels = image.array + np.random.default_rng(1).normal(0, 10, image.array.shape).astype(np.float32)
    lost = image.array > full
    middle = SIDE // 2
    lost[middle - trail : middle + trail, middle : middle + 2] |= trail > 0
    lost[middle - hole : middle + hole, middle - hole : middle + hole] |= hole > 0
    weight = np.where(lost, 0, 0.01).astype(np.float32)
    table = detect(pixels[None], weight[None], [FWHM], ["r"]).table
    return table[["x", "y"]].to_numpy(np.float64)


@pytest.mark.parametrize(("flux", "full", "trail"), [(1e7, 2e4, 0), (1e7, 6e4, 0), (3e6, 6e4, 20), (1e7, 2e4, 30)])
def test_a_star_with_a_lost_core_is_one_source(flux: float, full: float, trail: int) -> None:
    galaxy = (95.0, 62.0, 3e4)
    places = found(flux, full, (galaxy,), trail)
    assert len(places) == 2
    apart = np.hypot(*(places - MIDDLE).T)
    assert apart.min() < 7
    assert np.hypot(*(places - galaxy[:2]).T).min() < 0.5


def test_a_source_beside_a_lost_core_keeps_its_row() -> None:
    assert len(found(1e7, 6e4, ((MIDDLE + 12, MIDDLE, 4e6),))) == 2


def test_sources_on_both_sides_of_a_bad_column_or_of_a_large_mask_stay_two() -> None:
    pair = ((MIDDLE - 4, MIDDLE, 1e5), (MIDDLE + 5, MIDDLE, 1e5))
    assert len(found(0.0, 1e9, pair, trail=60)) == 2
    assert len(found(0.0, 1e9, ((MIDDLE - 12, MIDDLE, 1e5), (MIDDLE + 12, MIDDLE, 1e5)), hole=12)) == 2
