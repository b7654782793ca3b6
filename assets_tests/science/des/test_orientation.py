"""The sign of e2, measured on drawn galaxies whose place on the sky is known through a WCS."""

from __future__ import annotations

from typing import NamedTuple

import galsim
import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.des.orientation import adaptive_shapes, measured_parity, to_west

SCALE = 0.263


class Drawn(NamedTuple):
    images: np.ndarray
    g1: np.ndarray
    g2: np.ndarray


def draw(jacobian: tuple[float, float, float, float], n: int = 60, seed: int = 3) -> Drawn:
    """Galaxies whose g is known on the sky (+x east, +y north), on pixels that a Jacobian to that frame describes."""
    rng = np.random.default_rng(seed)
    g1, g2 = rng.normal(0, 0.2, (2, n)).clip(-0.45, 0.45)
    wcs = galsim.JacobianWCS(*(SCALE * v for v in jacobian))
    images = []
    for a, b in zip(g1, g2, strict=True):
        profile = galsim.Convolve(galsim.Exponential(half_light_radius=0.7, flux=1e4).shear(g1=a, g2=b), PSF)
        image = profile.drawImage(nx=45, ny=45, wcs=wcs, dtype=np.float64).array
        images.append(image + rng.normal(0, 5.0, image.shape))
    return Drawn(np.stack(images), g1, g2)


PSF = galsim.Moffat(beta=2.5, fwhm=0.9)


@pytest.fixture(scope="module")
def standard() -> Drawn:
    """North up, east left: east falls with x."""
    return draw((-1, 0, 0, 1))


def test_frames_are_mirror_images() -> None:
    table = pd.DataFrame({"e_1": [0.1], "e_2": [0.2], "nbc_c2": [0.01], "ra": [3.0]})
    turned = to_west(table, "e_2", "nbc_c2")
    assert turned.iloc[0].tolist() == [0.1, -0.2, -0.01, 3.0]
    pd.testing.assert_frame_equal(to_west(turned, "e_2", "nbc_c2"), table)


def test_a_known_gaussian_has_its_distortion() -> None:
    shears = [galsim.Shear(g1=0.2, g2=-0.1), galsim.Shear(g1=-0.3, g2=0.25)]
    profiles = [galsim.Gaussian(sigma=3.0).shear(s).shift(0.4, -0.3) for s in shears]
    images = np.stack([p.drawImage(nx=45, ny=45, scale=1.0, method="no_pixel").array for p in profiles])
    e1, e2, good = adaptive_shapes(images)
    assert good.all()
    assert e1 == pytest.approx([s.e1 for s in shears], abs=1e-3)
    assert e2 == pytest.approx([s.e2 for s in shears], abs=1e-3)


def test_a_failed_fit_and_another_galaxy_are_not_ok() -> None:
    empty = np.zeros((45, 45))
    elsewhere = galsim.Gaussian(sigma=2.0, flux=100.0).shift(9, 4).drawImage(nx=45, ny=45, scale=1.0).array
    e1, e2, good = adaptive_shapes(np.stack([empty, elsewhere]))
    assert not good.any()
    assert np.isnan(e1).all()
    assert np.isnan(e2).all()


def test_images_follow_the_sky_through_the_frame_change(standard: Drawn) -> None:
    e1, e2, good = adaptive_shapes(standard.images)
    assert good.all()
    g1, g2 = standard.g1, -standard.g2
    # The PSF rounds them, so only the direction is compared: no component may go against the other frame's.
    assert np.corrcoef(e1, g1)[0, 1] > 0.95
    assert np.corrcoef(e2, g2)[0, 1] > 0.95


def test_standard_orientation_is_recognised(standard: Drawn) -> None:
    e1, e2, _ = adaptive_shapes(standard.images)
    found = measured_parity(e1, e2, standard.g1, standard.g2, resamples=100, seed=1)
    assert found.slope1 > 5 * found.slope1_error > 0
    assert found.slope2 < -5 * found.slope2_error < 0
    assert (found.parity, found.n, found.as_assumed) == (-1, 60, True)


@pytest.mark.parametrize(
    ("jacobian", "signs", "parity"),
    [
        ((1, 0, 0, 1), (1, 1), 1),  # east right
        ((-1, 0, 0, -1), (1, 1), 1),  # north down
        ((0, -1, 1, 0), (-1, -1), 1),  # turned by 90° and mirrored
        ((0, 1, 1, 0), (-1, 1), -1),  # turned by 90°: not mirrored, yet not as assumed
    ],
)
def test_any_other_orientation_is_seen(
    jacobian: tuple[float, float, float, float], signs: tuple[int, int], parity: int
) -> None:
    drawn = draw(jacobian)
    e1, e2, _ = adaptive_shapes(drawn.images)
    found = measured_parity(e1, e2, drawn.g1, drawn.g2, resamples=100, seed=1)
    assert (np.sign(found.slope1), np.sign(found.slope2)) == signs
    assert found.parity == parity
    assert not found.as_assumed


def test_images_flipped_in_memory_change_the_sign_of_the_second_slope(standard: Drawn) -> None:
    e1, e2, _ = adaptive_shapes(standard.images[:, :, ::-1])
    found = measured_parity(e1, e2, standard.g1, standard.g2, resamples=100, seed=1)
    assert found.slope2 > 0
    assert found.parity == 1


def test_a_catalogue_of_other_galaxies_decides_nothing(standard: Drawn) -> None:
    e1, e2, _ = adaptive_shapes(standard.images)
    others = np.random.default_rng(5).normal(0, 0.2, (2, len(e1)))
    assert measured_parity(e1, e2, *others, resamples=100, seed=1).parity == 0


def test_too_few_galaxies_and_nan_rows(standard: Drawn) -> None:
    e1, e2, _ = adaptive_shapes(standard.images[:12])
    e1[:4] = np.nan
    found = measured_parity(e1, e2, standard.g1[:12], standard.g2[:12], resamples=100, seed=1)
    assert (found.n, found.parity) == (8, 0)
    assert np.isnan(found.slope1)
