"""Fields to detect in: the generated population at its own density with pairs in excess and stars, LSST's six bands.

The Fourier renderer draws the galaxies (equal to GalSim, docs/rendering.md), GalSim the stars. Photon noise of sky and
sources; some pixels are lost: columns in all bands, and streaks in single bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deblend_assets.science.detection.light import true_snr
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.renderers.fourier import FourierRenderer
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.stamps.source_light import SourceLight

# Galaxies of the population, and its faint end in i.
_POPULATION, _FAINTEST = 60_000, 27.5
# Galaxies brighter than this have the larger stamps [pixel].
_BRIGHT, _STAMP, _LARGE_STAMP = 23.0, 45, 121
# Share of the galaxies that are moved to 0.6 to 3 arcsec from another one.
_PAIRS = 0.1
# Stars an arcmin², 18 < i < 25.
_STARS = 3.0
_SMOOTHING = 0.7
_LAGS = 6


@dataclass(frozen=True)
class Field:
    """One field and its truth.

    Attributes:
        images, inverse_variance: (band, y, x) [electron].
        fwhm: of each band's PSF [pixel].
        correlation: of the noise, the same in each band; None: white.
        pieces: of each source, S of them; x, y (S,) [pixel], snr (S,) true, i magnitudes (S,), star (S,).
    """

    images: NDArray[np.float32]
    inverse_variance: NDArray[np.float32]
    fwhm: tuple[float, ...]
    correlation: NDArray[np.float64] | None
    pieces: list[SourceLight]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    snr: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    star: NDArray[np.bool_]


class Fields:
    """Draws fields.

    Args:
        side: of a field [pixel].
    """

    def __init__(self, side: int = 300) -> None:
        self.side, self.survey = side, load_survey("LSST")
        galaxies = generate_population(_POPULATION, 3)
        self._magnitudes = galaxies[[f"{band}_ab" for band in self.survey.bands]].to_numpy()
        self._i = self._magnitudes[:, self.survey.bands.index("i")]
        columns = {name: galaxies[name].to_numpy() for name in galaxies}
        self._renderers = {
            pixels: FourierRenderer(columns, self._magnitudes, self.survey, pixels, 0j)
            for pixels in (_STAMP, _LARGE_STAMP)
        }
        self._psfs = [self.survey.btk_survey.get_filter(band).psf for band in self.survey.bands]
        self.fwhm = tuple(float(psf.calculateFWHM()) / self.survey.pixel_scale for psf in self._psfs)

    def draw(self, seed: int, exposure: float, *, correlated: bool) -> Field:
        """One field.

        Args:
            seed: of all its random numbers.
            exposure: time, in units of the survey's.
            correlated: whether the noise of the sky is white noise smoothed by a Gaussian of σ = 0.7 pixel.
        """
        rng = np.random.default_rng(seed)
        pieces, x, y, magnitude, galaxies = self._sources(rng, exposure)
        sky = np.asarray(self.survey.sky)[:, None, None] * exposure
        light = np.zeros((len(self._psfs), self.side, self.side))
        for piece in pieces:
            _add(light, piece)
        light = np.maximum(light, 0.0)
        correlation = None
        if correlated:
            noise, correlation = _smoothed(rng.normal(size=light.shape), _SMOOTHING)
            images = rng.poisson(light) + np.sqrt(sky) * noise
        else:
            images = rng.poisson(light + sky) - sky
        ivar = np.broadcast_to(1 / sky, light.shape).astype(np.float32)
        ivar[_lost(rng, light.shape)] = 0
        known = None if correlation is None else [correlation] * len(ivar)
        inside = (x > 0) & (x < self.side - 1) & (y > 0) & (y < self.side - 1)
        snr = np.array(
            [true_snr(piece, ivar, known) if seen else 0.0 for piece, seen in zip(pieces, inside, strict=True)]
        )
        star = np.arange(len(x)) >= galaxies
        return Field(
            np.where(ivar > 0, images, np.nan).astype(np.float32),
            ivar,
            self.fwhm,
            correlation,
            pieces,
            x,
            y,
            snr,
            magnitude,
            star,
        )

    def _sources(
        self, rng: np.random.Generator, exposure: float
    ) -> tuple[list[SourceLight], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int]:
        scale = self.survey.pixel_scale
        area = (self.side * scale / 60) ** 2
        usable = np.flatnonzero(self._i < _FAINTEST)
        number = rng.poisson(46 * 10 ** (0.31 * (_FAINTEST - 25)) * area)  # an arcmin², as the population's counts
        rows = rng.choice(usable, number)
        x, y = rng.uniform(-5, self.side + 4, (2, number))
        moved = np.flatnonzero(rng.random(number) < _PAIRS)
        beside = rng.integers(0, number, len(moved))
        away, angle = rng.uniform(3, 15, len(moved)), rng.uniform(0, 2 * np.pi, len(moved))
        x[moved], y[moved] = x[beside] + away * np.cos(angle), y[beside] + away * np.sin(angle)
        turn = rng.uniform(0, 360, number)
        pieces: list[SourceLight | None] = [None] * number
        for pixels, renderer in self._renderers.items():
            chosen = np.flatnonzero((self._i[rows] < _BRIGHT) == (pixels == _LARGE_STAMP))
            left, low = np.rint(x[chosen]).astype(int), np.rint(y[chosen]).astype(int)
            stamps = renderer.render(rows[chosen], (x[chosen] - left) * scale, (y[chosen] - low) * scale, turn[chosen])
            for n, stamp, i, j in zip(chosen, stamps, left, low, strict=True):
                pieces[n] = SourceLight(stamp * np.float32(exposure), int(i) - pixels // 2, int(j) - pixels // 2)
        stars = [self._star(rng, exposure) for _ in range(rng.poisson(_STARS * area))]
        return (
            [piece for piece in pieces if piece is not None] + [star[0] for star in stars],
            np.concatenate([x, [star[1] for star in stars]]),
            np.concatenate([y, [star[2] for star in stars]]),
            np.concatenate([self._i[rows], [star[3] for star in stars]]),
            number,
        )

    def _star(self, rng: np.random.Generator, exposure: float) -> tuple[SourceLight, float, float, float]:
        """A star of 18 < i < 25 with a flat spectrum tilted at random: its piece, x, y and i."""
        i, tilt = rng.uniform(18, 25), rng.normal(0, 0.15)
        x, y = rng.uniform(0, self.side - 1, 2)
        planes = []
        for band, (psf, zero_point) in enumerate(zip(self._psfs, self.survey.zero_point, strict=True)):
            flux = exposure * 10 ** (-0.4 * (i + tilt * (2 - band) - zero_point))
            offset = (x - round(x), y - round(y))
            planes.append(
                psf.withFlux(flux)
                .drawImage(nx=_LARGE_STAMP, ny=_LARGE_STAMP, scale=self.survey.pixel_scale, offset=offset)
                .array
            )
        half = _LARGE_STAMP // 2
        return SourceLight(np.stack(planes).astype(np.float32), round(x) - half, round(y) - half), x, y, i


def _add(image: NDArray[np.float64], piece: SourceLight) -> None:
    _, ny, nx = piece.light.shape
    _, height, width = image.shape
    x0, x1, y0, y1 = max(piece.x, 0), min(piece.x + nx, width), max(piece.y, 0), min(piece.y + ny, height)
    if x0 < x1 and y0 < y1:
        image[:, y0:y1, x0:x1] += piece.light[:, y0 - piece.y : y1 - piece.y, x0 - piece.x : x1 - piece.x]


def _smoothed(white: NDArray[np.float64], sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """White noise smoothed by a Gaussian, of unit variance again, and its correlation."""
    noise = gaussian_filter(white, sigma, mode="wrap", axes=(-2, -1))
    point = np.zeros((41, 41))
    point[20, 20] = 1.0
    kernel = gaussian_filter(point, sigma, mode="wrap")
    variance = np.square(kernel).sum()
    around = np.fft.fftshift(np.fft.ifft2(np.abs(np.fft.fft2(kernel)) ** 2).real) / variance
    correlation = around[20 - _LAGS : 21 + _LAGS, 20 - _LAGS : 21 + _LAGS]
    correlation[_LAGS, _LAGS] = 1.0
    return noise / np.sqrt(variance), correlation


def _lost(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Two columns lost in all bands, four streaks 2 pixels wide in each."""
    lost = np.zeros(shape, dtype=bool)
    _, height, width = shape
    for column in rng.integers(0, width, 2):
        lost[:, :, column] = True
    for plane in lost:
        for _ in range(4):
            x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * np.pi)
            along = np.arange(0, rng.uniform(4, 25), 0.5)
            i = np.rint(x + along * np.cos(angle)).astype(int)
            j = np.rint(y + along * np.sin(angle)).astype(int)
            for shift in (0, 1):
                inside = (i + shift >= 0) & (i + shift < width) & (j >= 0) & (j < height)
                plane[j[inside], i[inside] + shift] = True
    return lost
