"""The shear operator against GalSim, its noise against its own samples, its symmetry, its lost pixels."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft

from assets_tests.science.metadetection.images import (
    GALAXIES,
    PSF,
    SIDE,
    SQUARE,
    drawn,
    noiseless,
    observed,
    psf_stamp,
)
from deblend_assets.science.metadetection.noise import white_noise
from deblend_assets.science.metadetection.operator import ShearOperator
from deblend_assets.science.skies.noise import measured_correlation
from deblend_assets.science.stamps.correlation import on_torus
from deblend_assets.science.stamps.mask_bits import MaskBit

SHARP = galsim.Moffat(beta=4.0, fwhm=0.5)
"""Of 2.5 pixels."""
# East left, turned a little, pixels that are not square.
ASKEW = np.array([[-0.2, 0.01], [0.02, 0.21]])


@pytest.mark.parametrize("jacobian", [SQUARE, ASKEW], ids=["square", "askew"])
@pytest.mark.parametrize("shear", [(0.0, 0.0), (0.01, 0.0), (0.0, -0.01), (0.05, 0.02)])
def test_sheared_image_is_galsims(shear: tuple[float, float], jacobian: NDArray) -> None:
    image = observed(drawn(GALAXIES, PSF, jacobian)[None], psf_stamp(jacobian=jacobian), jacobian)
    operator = noiseless(image)
    found = operator.sheared(*shear).image
    sheared = [(x, y, galaxy.shear(g1=shear[0], g2=shear[1])) for x, y, galaxy in GALAXIES]
    on_sky = galsim.Shear(g1=shear[0], g2=shear[1]).getMatrix()
    matrix = np.linalg.inv(jacobian) @ on_sky @ jacobian
    width = float(operator.sigma[0] * np.sqrt(abs(np.linalg.det(jacobian))))
    want = drawn(sheared, galsim.Gaussian(sigma=width), jacobian, method="no_pixel", matrix=matrix)
    known = found.inverse_variance[0] > 0
    assert known.mean() > 0.75
    assert np.abs(found.pixels[0] - want)[known].max() < 3e-4 * want.max()


@pytest.mark.parametrize("psf", [PSF, SHARP], ids=["usual", "sharp"])
def test_artificial_shear_is_a_real_one(psf: galsim.GSObject) -> None:
    """The response of moments to the operator's shear is that to a shear of the galaxy before its PSF."""

    def moments(galaxy: galsim.GSObject, shear: float) -> float:
        operator = noiseless(observed(drawn([(0.0, 0.0, galaxy)], psf)[None], psf_stamp(psf)))
        pixels = operator.sheared(shear, 0.0).image.pixels[0, 16:-16, 16:-16].astype(np.float64)
        return float(galsim.hsm.FindAdaptiveMom(galsim.Image(pixels)).observed_shape.g1)

    galaxy = galsim.Exponential(half_light_radius=0.35, flux=1e3).shear(g1=0.2, g2=0.1)
    artificial = moments(galaxy, 0.01) - moments(galaxy, -0.01)
    real = moments(galaxy.shear(g1=0.01), 0.0) - moments(galaxy.shear(g1=-0.01), 0.0)
    assert artificial == pytest.approx(real, rel=3e-4)


def test_new_psf_is_the_star_behind_the_operator_and_a_little_wider() -> None:
    star = [(0.5, 0.5, galsim.DeltaFunction(flux=1000.0))]  # the middle of a pixel
    operator = noiseless(observed(drawn(star, PSF)[None], psf_stamp()))
    found = operator.sheared(0.01, 0.0).image
    at = SIDE // 2
    seen = found.pixels[0, at - 20 : at + 21, at - 20 : at + 21] / 1000
    given = found.psf(0, 0)[0, 12:-12, 12:-12]
    # The star lies half a pixel off the middle, about which the image is sheared: by 0.005 pixel.
    assert np.abs(seen - given).max() < 3e-3 * given.max()
    before = galsim.hsm.FindAdaptiveMom(galsim.Image(psf_stamp())).moments_sigma
    assert 1.02 < operator.sigma[0] / before < 1.2


@pytest.mark.parametrize("correlated", [False, True])
def test_noise_is_isotropic_and_as_it_is_said_to_be(correlated: bool) -> None:
    side, sigma = 320, 2.0
    correlation = np.zeros((5, 5))
    correlation[2] = [0, 0.3, 1, 0.3, 0]
    correlation[1, 2] = correlation[3, 2] = 0.1
    correlation = correlation if correlated else np.ones((1, 1))
    power = fft.rfft2(on_torus(correlation, (side, side))).real
    noise = fft.irfft2(
        fft.rfft2(np.random.default_rng(1).standard_normal((side, side))) * np.sqrt(power), s=(side, side)
    )
    image = observed(sigma * noise[None], psf_stamp(), sigma=sigma, correlation=correlation)
    # A shear ten times as large as that of the catalogues, to see it in this noise.
    found = ShearOperator(image, seed=2).sheared(0.1, 0.05).image
    given, known = found.noise_correlation[0], found.inverse_variance[0] > 0
    np.testing.assert_allclose(given, np.rot90(given), atol=1e-12)
    measured = measured_correlation(found.pixels[0], 6, known)
    np.testing.assert_allclose(measured, given, atol=0.03)
    variance = found.pixels[0][known].var() * found.inverse_variance[0][known].mean()
    assert variance == pytest.approx(1, abs=0.02)


def test_added_noise_is_what_makes_it_isotropic() -> None:
    from deblend_assets.science.metadetection.kernels import gaussian_covariance
    from deblend_assets.science.metadetection.noise import covariance_before, noise_behind

    operator = ShearOperator(observed(np.zeros((1, SIDE, SIDE)), psf_stamp()))
    inverse = operator.sheared(0.1, 0.0).inverse
    before = covariance_before(np.ones((1, 1)), psf_stamp(), gaussian_covariance(operator.sigma[0], SQUARE), inverse)
    middle = len(before) // 2
    along_x, along_y = before[middle, middle + 2], before[middle + 2, middle]
    assert abs(along_x - along_y) > 0.02 * before[middle, middle]
    factor, _ = noise_behind(before, inverse, 2)
    assert factor == pytest.approx(2 * before[middle, middle], rel=1e-3)


def test_turned_image_is_sheared_the_other_way() -> None:
    pixels = drawn(GALAXIES, PSF)
    image = observed(pixels[None], psf_stamp())
    turned = observed(np.rot90(pixels, -1)[None], np.rot90(psf_stamp(), -1))
    white = white_noise(1, pixels.shape, [3])
    one = ShearOperator(image, noise=white).sheared(0.03, -0.02).image.pixels[0]
    other = ShearOperator(turned, noise=np.rot90(white, -1, axes=(1, 2))).sheared(-0.03, 0.02).image.pixels[0]
    np.testing.assert_allclose(np.rot90(one, -1), other, atol=1e-4 * pixels.max())


def test_added_noise_is_not_that_of_an_image_of_the_same_seed() -> None:
    images = [np.random.default_rng(child) for child in np.random.SeedSequence([5, 6]).spawn(3)]
    drawn_before = [rng.standard_normal((64, 64), dtype=np.float32) for rng in images]
    for one in white_noise(3, (64, 64), [5, 6]):
        for other in drawn_before:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1


def test_noise_moves_with_the_light() -> None:
    operator = ShearOperator(observed(np.zeros((1, SIDE, SIDE)), psf_stamp()), seed=4)
    plus, minus = (operator.sheared(sign * 0.05, 0.0) for sign in (1, -1))
    x, y = np.meshgrid(np.arange(10, SIDE - 10), np.arange(10, SIDE - 10))
    # Back on the unsheared sky, to the nearest pixel, noise of the pair is nearly the same.
    back = [
        sheared.image.pixels[0][tuple(np.rint(place).astype(int) for place in _seen(sheared.inverse, x, y))]
        for sheared in (plus, minus)
    ]
    assert np.corrcoef(back[0].ravel(), back[1].ravel())[0, 1] > 0.75


def _seen(inverse: NDArray, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Row and column on the sheared image of places on the unsheared one."""
    middle = (SIDE - 1) / 2
    moved = np.linalg.inv(inverse) @ np.stack([x.ravel() - middle, y.ravel() - middle])
    return moved[1] + middle, moved[0] + middle


def test_narrow_holes_are_interpolated_and_wide_ones_stay_lost() -> None:
    pixels, psf = drawn(GALAXIES, PSF), psf_stamp()
    whole = noiseless(observed(pixels[None], psf)).sheared(0.01, 0.0).image
    column = np.zeros((SIDE, SIDE), bool)
    column[:, 76:79] = True  # 3 to 5 pixels from the centre of a galaxy
    damaged = np.where(column, 1e6, pixels)
    found = noiseless(observed(damaged[None], psf, lost=column, mask=int(MaskBit.BAD_COLUMN))).sheared(0.01, 0.0).image
    np.testing.assert_array_equal(found.inverse_variance > 0, whole.inverse_variance > 0)
    assert np.abs(found.pixels - whole.pixels).max() < 0.03 * whole.pixels.max()
    star = np.hypot(*(np.indices((SIDE, SIDE)) - 40)) < 9
    damaged = np.where(star, 1e6, pixels)
    found = noiseless(observed(damaged[None], psf, lost=star, mask=int(MaskBit.SATURATED))).sheared(0.01, 0.0).image
    lost = found.inverse_variance[0] == 0
    assert star.sum() < lost[20:60, 20:60].sum() < 2.6 * star.sum()
    assert (found.mask[0] & int(MaskBit.SATURATED)).any()
    far = ~lost & (whole.inverse_variance[0] > 0)
    assert np.abs(found.pixels - whole.pixels)[0][far].max() < 2e-3 * whole.pixels.max()


def test_psf_that_varies_is_deconvolved_tile_by_tile() -> None:
    wide = galsim.Moffat(beta=4.0, fwhm=0.84)
    stamps = {True: psf_stamp(PSF)[None], False: psf_stamp(wide)[None]}
    side = 256
    image = galsim.ImageD(side, side, scale=0.2)
    galaxy = galsim.Exponential(half_light_radius=0.5, flux=1e3)
    for left in (True, False):
        source = galsim.Convolve(galaxy, PSF if left else wide)
        source.drawImage(image, center=galsim.PositionD(65 if left else 193, 129), add_to_image=True)
    operator = noiseless(observed(image.array[None], lambda x, y: stamps[x < side / 2]))
    found = operator.sheared(0.0, 0.0).image.pixels[0]
    left, right = (found[108:149, middle - 20 : middle + 21] for middle in (64, 192))
    np.testing.assert_allclose(left, right, atol=1e-3 * left.max())
