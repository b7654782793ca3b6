"""Noise: measured correlation and variance equal the asked ones, which equal those of real resampling."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from assets_tests.science.skies.real_data import real_file
from deblend_assets.errors import MismatchError, SettingsError
from deblend_assets.science.skies.noise import (
    WHITE,
    Kernel,
    NoiseCorrelation,
    measured_correlation,
    reconvolved,
    resampled,
)

SCALE = 0.2
LOPSIDED = reconvolved(galsim.Moffat(beta=3.0, fwhm=0.65).shear(g1=0.1, g2=0.08), galsim.Gaussian(fwhm=0.85), SCALE)
CORRELATIONS = {
    "white": WHITE,
    "bilinear": resampled("bilinear"),
    "lanczos3": resampled("lanczos3"),
    "lanczos3, finer pixels": resampled("lanczos3", 0.8),
    "reconvolved": LOPSIDED,
    "both": resampled("lanczos3").followed_by(LOPSIDED),
}


@pytest.mark.parametrize("correlation", CORRELATIONS.values(), ids=CORRELATIONS)
def test_measured_is_asked(correlation: NoiseCorrelation) -> None:
    """Over 20 images of 200 × 250: the error of a lag is 1e-3 for white noise, more for correlated."""
    rng = np.random.default_rng(1)
    images = [correlation.sample((200, 250), rng) for _ in range(20)]
    correlated_area = float((correlation.values**2).sum())
    error = np.sqrt(correlated_area / (20 * 200 * 250))
    assert np.mean([np.square(i).mean() for i in images]) == pytest.approx(1, abs=5 * error * 2**0.5)
    asked = correlation.lags(4)
    measured = np.mean([measured_correlation(image, 4) for image in images], axis=0)
    assert np.abs(measured - asked).max() < 5 * error
    # The test can fail: white noise is not taken for the others, nor a mirror image for the lopsided one.
    if not correlation.white:
        assert np.abs(measured - WHITE.lags(4)).max() > 10 * error
    if correlation is LOPSIDED:
        assert np.abs(measured - asked[:, ::-1]).max() > 5 * error


@pytest.mark.parametrize("name", [name for name in CORRELATIONS if name != "both"])
def test_variance_and_covariance_are_exact(name: str) -> None:
    """The linear map from white noise to the image, pixel by pixel: no edge is joined to the other side."""
    correlation, shape = CORRELATIONS[name], (6, 7)

    class Unit:
        """Stands for random numbers: one white pixel at a time."""

        def __init__(self, size: tuple[int, int], index: int) -> None:
            self.pixel = np.zeros(size)
            self.pixel.flat[index] = 1.0

        def standard_normal(self, size: tuple[int, int], dtype: type = np.float64) -> np.ndarray:
            assert self.pixel.shape == tuple(size)
            return self.pixel.astype(dtype)

    sizes: list[tuple[int, int]] = []

    class Ask:
        def standard_normal(self, size: tuple[int, int], dtype: type = np.float64) -> np.ndarray:
            sizes.append(tuple(size))
            return np.zeros(size, dtype)

    correlation.sample(shape, Ask())
    size = sizes[0]
    columns = np.stack([correlation.sample(shape, Unit(size, i)).ravel() for i in range(int(np.prod(size)))], axis=1)
    covariance = columns @ columns.T
    y, x = np.indices(shape).reshape(2, -1)
    lags = correlation.lags(10)
    asked = lags[(y[:, None] - y) + 10, (x[:, None] - x) + 10]
    assert np.abs(covariance - asked).max() < 1e-5
    assert np.diag(covariance) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("kernel", "ratio"), [("bilinear", 1.0), ("lanczos3", 1.0), ("lanczos3", 0.8)])
def test_resampling_correlates_as_it_is_said(kernel: Kernel, ratio: float) -> None:
    """Against the weights of the resampling itself, over many dithers."""
    weight = (
        (lambda t: np.clip(1 - np.abs(t), 0, None))
        if kernel == "bilinear"
        else (lambda t: np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0))
    )
    inputs = np.arange(-10, 20)
    covariance = np.zeros(5)
    for phase in (np.arange(200) + 0.5) / 200:
        rows = weight(phase + ratio * np.arange(5)[:, None] - inputs)
        covariance += rows @ rows[0]
    assert resampled(kernel, ratio).lags(4)[4, 4:] == pytest.approx(covariance / covariance[0], abs=1e-4)


def test_bilinear_neighbours() -> None:
    """The triangle's autocorrelation is the cubic B-spline: (1/6)/(2/3) at a distance of one pixel."""
    lags = resampled("bilinear").lags(2)
    assert lags[2] == pytest.approx([0, 0.25, 1, 0.25, 0], abs=1e-5)
    assert lags[1, 1] == pytest.approx(1 / 16, abs=1e-5)


def test_reconvolution_of_gaussians_is_gaussian() -> None:
    """From σ1 to σ2 the kernel has σ² = σ2² - σ1², and the noise exp(-d²/4σ²)."""
    correlation = reconvolved(galsim.Gaussian(sigma=0.3), galsim.Gaussian(sigma=0.38), SCALE)
    d = np.arange(-5, 6)
    expected = np.exp(-(d**2 + d[:, None] ** 2) / (4 * (0.38**2 - 0.3**2) / SCALE**2))
    assert correlation.lags(5) == pytest.approx(expected, abs=2e-4)


def test_reconvolution_kernels_are_cut_where_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LOPSIDED
    monkeypatch.setattr("deblend_assets.science.skies.noise._KERNEL_REACH", 24)
    psf = galsim.Moffat(beta=3.0, fwhm=0.65).shear(g1=0.1, g2=0.08)
    longer = reconvolved(psf, galsim.Gaussian(fwhm=0.85), SCALE)
    assert np.abs(longer.lags(24) - whole.lags(24)).max() < 1e-3


def test_variance_of_a_weighted_sum() -> None:
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(7, 6))
    for correlation in CORRELATIONS.values():
        y, x = np.indices(weights.shape).reshape(2, -1)
        lags = correlation.lags(8)
        covariance = lags[(y[:, None] - y) + 8, (x[:, None] - x) + 8]
        brute = weights.ravel() @ covariance @ weights.ravel()
        assert correlation.variance_of_sum(weights) == pytest.approx(brute, rel=1e-9)
    assert WHITE.variance_of_sum(weights) == pytest.approx((weights**2).sum())


def test_power_is_the_transform_of_the_correlation() -> None:
    power = CORRELATIONS["lanczos3"].power((64, 48))
    assert power.shape == (64, 25)
    assert np.fft.irfft2(power, s=(64, 48))[:5, :5] == pytest.approx(CORRELATIONS["lanczos3"].lags(4)[4:, 4:], abs=1e-9)
    assert power.min() > 0
    with pytest.raises(SettingsError, match="smaller than the correlation"):
        CORRELATIONS["lanczos3"].power((64, 8))


def test_measured_correlation_leaves_masked_pixels_out() -> None:
    rng = np.random.default_rng(5)
    image = CORRELATIONS["bilinear"].sample((400, 400), rng)
    good = rng.random(image.shape) > 0.3
    image[~good] = 1e6
    assert measured_correlation(image, 2, good) == pytest.approx(CORRELATIONS["bilinear"].lags(2), abs=0.02)


@pytest.mark.parametrize("plane", range(3), ids=list("grz"))
def test_real_coadd_has_the_noise_of_lanczos(plane: int) -> None:
    """DECaLS resamples with Lanczos 3 and gives the weights before it: the variance is 1 / area of what they say."""
    with fits.open(real_file("decals_dr9_cutout/cutout_59.1067_-30.4848.fits")) as file:
        planes = [np.squeeze(hdu.data).astype(float) for hdu in file if hdu.data is not None]
    image, weight = planes[2 * plane : 2 * plane + 2]
    noise = image * np.sqrt(weight)
    bright = ndimage.gaussian_filter(noise, 1.5) > 0.5
    good = ~ndimage.binary_dilation(bright, iterations=6) & (weight > 0)
    noise -= np.median(noise[good])
    good &= np.abs(noise) < 4
    lanczos = resampled("lanczos3")
    measured = measured_correlation(noise, 2, good)
    assert measured == pytest.approx(lanczos.lags(2), abs=0.035)
    assert measured != pytest.approx(resampled("bilinear").lags(2), abs=0.1)
    assert noise[good].var() == pytest.approx(1 / lanczos.area, rel=0.06)


def test_the_same_seed_gives_the_same_noise() -> None:
    for correlation in CORRELATIONS.values():
        first, second = (correlation.sample((50, 40), np.random.default_rng(6)) for _ in range(2))
        assert first.dtype == np.float32
        assert first.shape == (50, 40)
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.ones((2, 2)), "shape"),
        (np.array([[0, 0.2, 0], [0.1, 0.9, 0.1], [0, 0.2, 0]]), "lag 0"),
        (np.array([[0, 0.2, 0], [0.1, 1, 0.1], [0, 0.3, 0]]), "inversion"),
        (np.array([[0, 0.6, 0], [0.6, 1, 0.6], [0, 0.6, 0]]), "negative"),
    ],
)
def test_no_correlation_that_cannot_be(values: np.ndarray, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        NoiseCorrelation(values)


def test_a_sharper_target_and_an_unknown_kernel_are_refused() -> None:
    with pytest.raises(SettingsError, match="too sharp"):
        reconvolved(galsim.Kolmogorov(fwhm=0.8), galsim.Gaussian(fwhm=0.7), SCALE)
    with pytest.raises(SettingsError, match="lanczos3"):
        resampled("cubic")


def test_shared_correlations_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        resampled("bilinear").values[0, 0] = 5.0
    own = np.array([[0, 0.2, 0], [0.1, 1, 0.1], [0, 0.2, 0]])
    correlation = NoiseCorrelation(own)
    own[0, 1] = 0.9
    assert correlation.values[0, 1] == 0.2


def test_no_correlation_of_too_few_pixels() -> None:
    with pytest.raises(MismatchError, match="no lag of 5"):
        measured_correlation(np.ones((3, 9)), 5)
    with pytest.raises(MismatchError, match="0 good pixels"):
        measured_correlation(np.ones((9, 9)), 2, np.zeros((9, 9), bool))
    assert measured_correlation(np.ones((3, 3)), 2) == pytest.approx(1.0)
