"""Similarity of images, accuracy of estimates, and bootstrap errors of both.

Every statistic of an estimate reduces the **last** axis, so that `bootstrap` can evaluate a whole stack
of resampled rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Floats = NDArray[np.float64]
MEDIAN_ERROR = 1.2533
"""Standard error of a median over that of a mean, of Gaussian numbers."""
Statistic = Callable[[Mapping[str, Floats]], Floats]

SSIM_WINDOW = 7
_ELEMENTS_AT_ONCE = 4_000_000


def ssim(images: np.ndarray, reference: np.ndarray, data_range: float = 1.0) -> Floats:
    """Structural similarity (Eq. 10; Wang et al. 2004) of each stamp and band: 1 for identical images.

    scikit-image's defaults, spelt out: a uniform window of 7 x 7 pixels, sample (co)variances, c1 = (0.01 L)² and
    c2 = (0.03 L)² with L the data range, and the mean over the windows that lie wholly inside the stamp. Nothing
    is clipped: noise below 0 counts as it is.

    Args:
        images, reference: (N, band, y, x), float, at least 7 pixels a side; Eq. 9 space for the default range.
        data_range: L; 1 because clean images lie in [0, 1) after Eq. 9.

    Returns:
        (N, band), in [-1, 1].
    """
    images, reference = _pair(images, reference)
    values = np.empty(images.shape[:2])
    for stamp, band in np.ndindex(*values.shape):
        values[stamp, band] = structural_similarity(  # type: ignore[no-untyped-call]
            images[stamp, band],
            reference[stamp, band],
            win_size=SSIM_WINDOW,
            data_range=data_range,
            gaussian_weights=False,
            use_sample_covariance=True,
        )
    return values


def cosine(images: np.ndarray, reference: np.ndarray) -> Floats:
    """Cosine similarity (Eq. 11) of stamps flattened over all bands and pixels; independent of a common factor.

    Args:
        images, reference: (N, band, y, x), float.

    Returns:
        (N,), in [-1, 1]; NaN where either stamp is zero everywhere.
    """
    images, reference = _pair(images, reference)
    return _cosine(images.reshape(len(images), -1), reference.reshape(len(images), -1))


def cosine_by_band(images: np.ndarray, reference: np.ndarray) -> Floats:
    """Eq. 11 in each band by itself: (N, band, y, x) twice to (N, band); NaN as in `cosine`."""
    images, reference = _pair(images, reference)
    return _cosine(images.reshape(*images.shape[:2], -1), reference.reshape(*images.shape[:2], -1))


def _pair(images: np.ndarray, reference: np.ndarray) -> tuple[Floats, Floats]:
    if images.shape != reference.shape or images.ndim != 4:
        raise ValueError(f"two stacks of (N, band, y, x) expected, got {images.shape} and {reference.shape}")
    return images.astype(np.float64), reference.astype(np.float64)


def _cosine(a: Floats, b: Floats) -> Floats:
    # Each is brought to unit length first: the product of two norms would underflow for faint electrons.
    return np.asarray(np.einsum("...p,...p->...", _unit(a), _unit(b)))


def _unit(vectors: Floats) -> Floats:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norm > 0, norm, np.nan))


def line(truth: Floats, estimate: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept of the ordinary least-squares line of the estimate on the truth.

    A slope below 1 is a bias toward zero, as of an estimate that is shrunk according to its noise. Both are NaN where
    the truth does not vary.
    """
    middle = truth.mean(axis=-1, keepdims=True)
    offset = truth - middle
    spread = np.square(offset).sum(axis=-1)
    slope = (offset * estimate).sum(axis=-1) / np.where(spread > 0, spread, np.nan)
    return slope, estimate.mean(axis=-1) - slope * middle[..., 0]


def rms(differences: Floats) -> Floats:
    """Root of the mean square, bias included."""
    return np.asarray(np.sqrt(np.square(differences).mean(axis=-1)))


def robust_sigma(values: Floats) -> Floats:
    """1.4826 times the median absolute deviation from the median: σ of a Gaussian, robust against outliers."""
    deviation = np.abs(values - np.median(values, axis=-1, keepdims=True))
    return np.asarray(1.4826 * np.median(deviation, axis=-1))


def thirds(values: Floats) -> list[tuple[str, NDArray[np.bool_]]]:
    """Low, middle and high third of the finite values, a mask (N,) each; all empty without a finite value."""
    finite = np.isfinite(values)
    edges = np.quantile(values[finite], [1 / 3, 2 / 3]) if finite.any() else np.full(2, np.nan)
    third = np.digitize(values, edges)
    return [(name, (third == k) & finite) for k, name in enumerate(("low", "middle", "high"))]


def bootstrap(
    statistic: Statistic, columns: Mapping[str, Floats], resamples: int, seed: int, most_rows: int | None = None
) -> tuple[Floats, Floats]:
    """A statistic of a table's rows, and its standard error over tables of rows resampled with replacement.

    Args:
        statistic: reduces the last axis of every column: (rows,) to a scalar or (k,) of them, and
            (resample, rows) to (resample,) or (k, resample).
        columns: (rows,) each, at least one row; a row's values stay together.
        resamples: number of resampled tables, at least 2.
        seed: of the random numbers; the same seed gives the same error to the last digit.
        most_rows: of a resampled table. The error of a larger table is that of so many rows, less by the root of the
            ratio of the numbers (Bickel, Götze & van Zwet 1997), as for any statistic whose error falls so.

    Returns:
        Value on the table as it is, and error (standard deviation over the resamples): scalars or (k,).
    """
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or not (rows := lengths.pop()):
        raise ValueError("columns of one length, with at least one row, expected")
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    taken = rows if most_rows is None else min(rows, most_rows)
    at_once = max(1, _ELEMENTS_AT_ONCE // taken)  # bounds the memory, whatever the number of rows
    drawn = []
    for start in range(0, resamples, at_once):
        picks = generator.integers(rows, size=(min(at_once, resamples - start), taken))
        drawn.append(statistic({name: column[picks] for name, column in columns.items()}))
    error = np.concatenate(drawn, axis=-1).std(axis=-1, ddof=1) * np.sqrt(taken / rows)
    return np.asarray(statistic(columns)), np.asarray(error)
