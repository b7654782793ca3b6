"""The light of each source within a radius of each detection: on the detection image, without noise.

The answer is a sparse matrix (detection, source); where a field is too large to keep its sources' pixels, an analytic
approximation gives the same matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sep
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from scipy.stats import ncx2

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.source_light import SourceLight

# Light below this share of the radius' whole light is left out of the analytic matrix.
_NEGLIGIBLE = 1e-6
# Beyond this many σ from the circle's edge a Gaussian has no light inside.
_FAR = 5.0


def sum_weights(
    inverse_variance: NDArray[np.float32], zero_points: Sequence[float] | None = None
) -> tuple[NDArray[np.float64], float]:
    """Weights of the bands in the detection image, and the noise of one of its pixels.

    Args:
        inverse_variance: (band, y, x), as for `detect`; 0 where lost.
        zero_points: as for `detect`.

    Returns:
        (band,) weights, with which images add up to the flux in the most sensitive band's unit of a source of a flat
        spectrum; standard deviation of a pixel of that sum for white noise. Both at the mean inverse variance of
        the pixels that are not lost.
    """
    values = np.zeros(len(inverse_variance)) if zero_points is None else np.asarray(zero_points, dtype=np.float64)
    response = 10 ** (0.4 * (values - values.max()))
    seen = inverse_variance > 0
    number = np.maximum(seen.sum(axis=(1, 2)), 1)
    mean = inverse_variance.sum(axis=(1, 2), dtype=np.float64) / number
    norm = (response**2 * mean).sum()
    return response * mean / norm, float(1 / np.sqrt(norm))


def light_of_pieces(
    x: ArrayLike, y: ArrayLike, radius: float, pieces: Sequence[SourceLight], weights: NDArray[np.float64]
) -> csr_array:
    """Light of each source within `radius` of each detection, by exact overlap of circle and pixels.

    Args:
        x, y: of the detections, (D,) [pixel].
        radius: [pixel].
        pieces: of the sources, S of them; one without a pixel has no light.
        weights: of the bands in the detection image (`sum_weights`).

    Returns:
        (D, S) float64, light of the detection image; negative rounding is 0.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    rows, columns, values = [], [], []
    for number, piece in enumerate(pieces):
        _, ny, nx = piece.light.shape
        along, up = x - piece.x, y - piece.y
        near = np.flatnonzero((along > -radius - 1) & (along < nx + radius) & (up > -radius - 1) & (up < ny + radius))
        if not near.size or not piece.light.size:
            continue
        image = np.tensordot(weights, piece.light, axes=1)
        sums, _, _ = sep.sum_circle(image, along[near], up[near], radius, subpix=0)
        rows.append(near)
        columns.append(np.full(near.size, number))
        values.append(np.maximum(sums, 0.0))
    return _matrix(rows, columns, values, (len(x), len(pieces)))


def light_of_gaussians(
    x: ArrayLike,
    y: ArrayLike,
    radius: float,
    source_x: ArrayLike,
    source_y: ArrayLike,
    flux: ArrayLike,
    sigma: ArrayLike,
) -> csr_array:
    """The same for round Gaussian sources, analytically: flux × P(χ²₂(d²/σ²) < radius²/σ²).

    Args:
        x, y: of the detections, (D,) [pixel].
        radius: [pixel].
        source_x, source_y: (S,) [pixel].
        flux: on the detection image, (S,).
        sigma: behind the PSF, (S,) [pixel].
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    source_x, source_y, flux, sigma = (
        np.asarray(values, dtype=np.float64) for values in (source_x, source_y, flux, sigma)
    )
    rows, columns, values = [], [], []
    for number in range(len(source_x)):
        apart = np.hypot(x - source_x[number], y - source_y[number])
        near = np.flatnonzero(apart < radius + _FAR * sigma[number])
        share = ncx2.cdf((radius / sigma[number]) ** 2, 2, (apart[near] / sigma[number]) ** 2)
        bright = share > _NEGLIGIBLE
        rows.append(near[bright])
        columns.append(np.full(int(bright.sum()), number))
        values.append(flux[number] * share[bright])
    return _matrix(rows, columns, values, (len(x), len(source_x)))


def nearby(x: ArrayLike, y: ArrayLike, source_x: ArrayLike, source_y: ArrayLike, radius: float) -> csr_array:
    """Which sources lie within a radius of which detections, (D, S), 1 where they do.

    Args:
        x, y: of the detections, (D,) [pixel].
        source_x, source_y: (S,) [pixel].
        radius: [pixel].
    """
    places, sources = (
        np.stack([np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)], axis=1)
        for a, b in ((x, y), (source_x, source_y))
    )
    if not len(places) or not len(sources):
        return csr_array((len(places), len(sources)), dtype=np.float64)
    found = cKDTree(places).query_ball_tree(cKDTree(sources), radius)
    rows = np.repeat(np.arange(len(places)), [len(members) for members in found])
    columns = np.array([member for members in found for member in members], dtype=np.int64)
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(places), len(sources)))


def true_snr(
    piece: SourceLight,
    inverse_variance: NDArray[np.float32],
    correlations: Sequence[NDArray[np.float64] | None] | None = None,
) -> float:
    """S/N of a filter of the source's own light over all bands, from the pixels of the field that have a weight.

    Σ w L² / √(Σ w L (ρ ⋆ L)): √(Σ w L²) for white noise.

    Args:
        piece: the source.
        inverse_variance: of the whole field, (band, y, x).
        correlations: of the noise, as for `detect`.
    """
    bands, height, width = inverse_variance.shape
    if len(piece.light) != bands:
        raise MismatchError(
            f"a piece has {len(piece.light)} bands, the field {bands}", where="true_snr", remedy="give the same bands"
        )
    _, ny, nx = piece.light.shape
    first_x, last_x = max(piece.x, 0), min(piece.x + nx, width)
    first_y, last_y = max(piece.y, 0), min(piece.y + ny, height)
    if first_x >= last_x or first_y >= last_y:
        return 0.0
    weight = inverse_variance[:, first_y:last_y, first_x:last_x].astype(np.float64)
    light = piece.light[:, first_y - piece.y : last_y - piece.y, first_x - piece.x : last_x - piece.x]
    signal = variance = 0.0
    for band in range(bands):
        seen = np.where(weight[band] > 0, light[band].astype(np.float64), 0.0)
        correlation = None if correlations is None else correlations[band]
        spread = seen if correlation is None else fftconvolve(seen, correlation, mode="same")
        signal += float((weight[band] * seen * seen).sum())
        variance += float((weight[band] * seen * spread).sum())
    return signal / np.sqrt(variance) if variance > 0 else 0.0


def _matrix(
    rows: list[NDArray[np.int64]],
    columns: list[NDArray[np.int64]],
    values: list[NDArray[np.float64]],
    shape: tuple[int, int],
) -> csr_array:
    if not rows:
        return csr_array(shape, dtype=np.float64)
    matrix = csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    matrix.eliminate_zeros()
    return matrix
