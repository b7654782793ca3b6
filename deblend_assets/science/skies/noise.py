"""Noise of a coadd: white or correlated, of exactly the asked variance and correlation function.

A coadd's noise is that of its exposures after resampling and later convolutions. Both are linear filters, so that the
correlation function is known: see `resampled` and `reconvolved`. Its extent is finite here. A field made on a padded
torus and cropped therefore has exactly that covariance, at every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from deblend_assets.errors import MismatchError, SettingsError
from deblend_assets.science.stamps.correlation import on_torus

Kernel = Literal["bilinear", "lanczos3"]

# Half width of each interpolation kernel [input pixel].
_REACH: dict[Kernel, float] = {"bilinear": 1.0, "lanczos3": 3.0}
_FINE = 512  # samples of a kernel a pixel
_GRID = 128  # side on which a reconvolution kernel is computed
_MAX_GAIN = (
    1.5  # of a reconvolution, over that at k = 0; a PSF with wings against a Gaussian 1.15 times as wide has 1.4
)
_KERNEL_REACH = 12  # lags [pixel] kept of it; see `reconvolved`


@dataclass(frozen=True, eq=False)
class NoiseCorrelation:
    """Correlation function of an image's noise.

    Attributes:
        values: correlation at lags (dy, dx) from -reach to reach, (2 reach + 1, 2 reach + 1); 1 at lag 0, symmetric
            under inversion, 0 beyond. Kept as a read-only copy: correlations are shared.
    """

    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        v = np.array(self.values, dtype=np.float64)
        v.flags.writeable = False
        object.__setattr__(self, "values", v)
        problem = None
        if v.ndim != 2 or v.shape[0] != v.shape[1] or v.shape[0] % 2 == 0:
            problem = f"has shape {v.shape}"
        elif not np.isfinite(v).all():
            problem = "has values that are not finite"
        elif abs(v[self.reach, self.reach] - 1) > 1e-9:
            problem = "is not 1 at lag 0"
        elif not np.allclose(v, v[::-1, ::-1], atol=1e-9):
            problem = "is not symmetric under inversion"
        elif self.power((4 * len(v), 4 * len(v))).min() < -1e-3:
            problem = "has a negative power spectrum"
        if problem:
            raise SettingsError(
                f"the noise correlation {problem}",
                where="NoiseCorrelation.values",
                remedy="give a (2n + 1, 2n + 1) autocorrelation with lag 0 in the middle",
            )

    @property
    def reach(self) -> int:
        """Largest lag along an axis with correlation [pixel]; 0 for white noise."""
        return len(self.values) // 2

    @property
    def white(self) -> bool:
        """Whether pixels are independent."""
        return self.reach == 0

    @property
    def area(self) -> float:
        """Sum over all lags, ≥ 0: the variance of a wide area's sum over that of white noise of the same σ a pixel.

        A filter that conserves light lowers the variance a pixel by it: σ² = σ²(white) / area.
        """
        return float(self.values.sum())

    def lags(self, n: int) -> NDArray[np.float64]:
        """Correlation at the first lags.

        Args:
            n: largest lag along an axis [pixel].

        Returns:
            (2n + 1, 2n + 1) at lags (dy, dx) from -n to n; [n, n] is 1, [n, n + 1] that of neighbours in x.
        """
        if n <= self.reach:
            return self.values[self.reach - n : self.reach + n + 1, self.reach - n : self.reach + n + 1].copy()
        return np.pad(self.values, n - self.reach)

    def power(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Power spectrum of unit-variance noise on a torus, of mean 1; for weights and whitening.

        Args:
            shape: (y, x) of the torus [pixel], at least 2 reach + 1 along each axis.

        Returns:
            (y, x // 2 + 1), at the frequencies of `numpy.fft.rfft2`.
        """
        self._require_room(shape)
        power: NDArray[np.float64] = fft.rfft2(on_torus(self.values, shape)).real
        return power

    def _require_room(self, shape: tuple[int, int]) -> None:
        if min(shape) < len(self.values):
            raise SettingsError(
                f"a torus of {shape} pixels is smaller than the correlation's {len(self.values)}",
                where="NoiseCorrelation.power",
                remedy="give a larger shape",
            )

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Gaussian noise of unit variance a pixel and this correlation, (y, x) float32.

        Multiplied by a σ a pixel it has exactly that σ, and this correlation where σ changes slowly.

        Args:
            shape: (y, x) [pixel].
            rng: random numbers.
        """
        if self.white:
            return rng.standard_normal(shape, dtype=np.float32)
        # Lags larger than `reach` have no correlation: pixels that the torus joins are farther apart once cropped.
        height, width = (fft.next_fast_len(side + len(self.values), real=True) for side in shape)
        power = np.maximum(self.power((height, width)), 0.0)
        noise = fft.irfft2(fft.rfft2(rng.standard_normal((height, width))) * np.sqrt(power), s=(height, width))
        return noise[: shape[0], : shape[1]].astype(np.float32)

    def variance_of_sum(self, weights: NDArray[np.float64]) -> float:
        """Variance of Σ w n over pixels of unit-variance noise n, as of a flux measured with weights w.

        Args:
            weights: (y, x).
        """
        height, width = (side + len(self.values) for side in weights.shape)
        spectrum = np.abs(fft.fft2(weights, s=(height, width))) ** 2
        autocorrelation = fft.ifft2(spectrum).real
        r = self.reach
        nearest = np.roll(autocorrelation, (r, r), axis=(0, 1))[: 2 * r + 1, : 2 * r + 1]
        return float((nearest * self.values).sum())

    def followed_by(self, other: NoiseCorrelation) -> NoiseCorrelation:
        """The correlation after a second filter, as reconvolution after resampling.

        Args:
            other: what the second filter makes of white noise.
        """
        side = len(self.values) + len(other.values) - 1
        product = fft.irfft2(
            fft.rfft2(self.values, s=(side, side)) * fft.rfft2(other.values, s=(side, side)), s=(side, side)
        )
        return _normalized(product)


WHITE = NoiseCorrelation(np.ones((1, 1)))


@lru_cache(maxsize=64)
def resampled(kernel: Kernel, ratio: float = 1.0) -> NoiseCorrelation:
    """Correlation of white noise that was resampled onto the coadd's grid, for many exposures of random dither.

    A pixel at x is Σ_j w(x - j) n_j over the exposure's pixels j. Averaged over the dither, pixels d apart have the
    covariance ∫ w(t) w(t + d) dt: the kernel's own autocorrelation. Two dimensions are its product.

    Args:
        kernel: interpolation kernel w: bilinear, or Lanczos of order 3 (SWarp's default, and the LSST pipelines').
        ratio: coadd's pixel scale over the exposures'.
    """
    if kernel not in _REACH or not 0.3 <= ratio <= 3:
        raise SettingsError(
            f"kernel {kernel!r}, ratio {ratio:g}",
            where="resampled",
            remedy=f"choose one of {', '.join(_REACH)} and a ratio of pixel scales in 0.3 to 3",
        )
    reach = _REACH[kernel]
    t = np.arange(-reach * _FINE, reach * _FINE + 1) / _FINE
    w = np.clip(1 - np.abs(t), 0, None) if kernel == "bilinear" else np.sinc(t) * np.sinc(t / 3)
    size = 2 * len(t) - 1
    autocorrelation = fft.irfft(np.abs(fft.rfft(w, n=size)) ** 2, n=size)
    lags = np.arange(int(np.ceil(2 * reach / ratio)))
    line = np.interp(lags * ratio * _FINE, np.arange(len(t)), autocorrelation[: len(t)])
    line = np.concatenate([line[:0:-1], line]) / line[0]
    return NoiseCorrelation(np.outer(line, line))


def reconvolved(psf: galsim.GSObject, target: galsim.GSObject, pixel_scale: float) -> NoiseCorrelation:
    """Correlation of white noise in an image whose PSF was brought to another by a convolution.

    The kernel's transform is T(target)/T(psf), both before the pixel. It is kept to ±12 pixels, which changes the
    correlation by less than 1e-3, and makes its spectrum positive whatever was cut off.

    Args:
        psf, target: PSFs before and after; the target is the wider one.
        pixel_scale: [arcsec].

    Raises:
        SettingsError: the convolution would amplify noise.
    """
    step = 2 * np.pi / (_GRID * pixel_scale)
    half = _GRID // 2
    bounds = galsim.BoundsI(-half, half - 1, -half, half - 1)
    before, after = (
        p.drawKImage(image=galsim.ImageCD(bounds, scale=step), recenter=False).array for p in (psf, target)
    )
    # Where neither PSF lets light through the kernel passes no noise either.
    small = np.abs(before) < 1e-6
    transform = np.where(small, 0.0, after / np.where(small, 1.0, before))
    gain = float(np.abs(transform).max() / abs(transform[half, half]))
    if gain > _MAX_GAIN:
        raise SettingsError(
            f"the target PSF is too sharp: noise of some wave vectors grows by {gain:.3g}",
            where="reconvolved",
            remedy="choose a wider target; for a Gaussian, 1.1 to 1.3 times the FWHM",
        )
    kernel = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(transform))).real
    n = _KERNEL_REACH
    kernel = kernel[half - n : half + n + 1, half - n : half + n + 1]
    side = 4 * n + 1
    return _normalized(fft.fftshift(fft.irfft2(np.abs(fft.rfft2(kernel, s=(side, side))) ** 2, s=(side, side))))


def _normalized(covariance: NDArray[np.float64]) -> NoiseCorrelation:
    middle = len(covariance) // 2
    values = covariance / covariance[middle, middle]
    return NoiseCorrelation(0.5 * (values + values[::-1, ::-1]))


def measured_correlation(
    noise: NDArray[np.floating], n: int, good: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Correlation function of an image of noise, as of a coadd with its sources masked.

    Args:
        noise: (y, x), of mean 0.
        n: largest lag along an axis [pixel].
        good: pixels to use, (y, x); none: all. Pairs of good pixels are averaged, at each lag over their number.

    Returns:
        (2n + 1, 2n + 1) at lags (dy, dx) from -n to n, 1 at lag 0.

    Raises:
        MismatchError: the image has no pairs of pixels at the largest lag, or no noise in its good pixels.
    """
    if min(noise.shape) <= n:
        raise MismatchError(
            f"an image of {noise.shape} pixels has no lag of {n}",
            where="measured_correlation",
            remedy="give a larger image or fewer lags",
        )
    used = np.ones(noise.shape, bool) if good is None else good
    shape = tuple(side + n for side in noise.shape)
    values = np.abs(fft.fft2(np.where(used, noise, 0.0), s=shape)) ** 2
    pairs = np.abs(fft.fft2(used.astype(float), s=shape)) ** 2
    sums, counts = (np.roll(fft.ifft2(p).real, (n, n), axis=(0, 1))[: 2 * n + 1, : 2 * n + 1] for p in (values, pairs))
    covariance = sums / np.maximum(np.round(counts), 1)
    if not covariance[n, n] > 0:
        raise MismatchError(
            f"{int(used.sum())} good pixels, of variance {covariance[n, n]:g}",
            where="measured_correlation",
            remedy="give finite noise in pixels that are good",
        )
    result: NDArray[np.float64] = covariance / covariance[n, n]
    return result
