"""Eq. 9, its inverse, and the streaming statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.normalization import Normalization, mean_maximum

EQ9 = Normalization(("g", "r"), (100.0, 2000.0), 2.5)


def test_is_equation_9_as_printed() -> None:
    x = np.random.default_rng(0).normal(0, 3000, (5, 2, 7, 7))
    printed = np.tanh(np.arcsinh(2.5 * x / np.array([100.0, 2000.0])[:, None, None]))
    assert EQ9.forward(x) == pytest.approx(printed, abs=1e-14)


@pytest.mark.parametrize("peak", [1e-3, 1.0, 1e3, 1e6])
def test_inverse_gives_the_electrons_back(peak: float) -> None:
    x = np.random.default_rng(1).normal(0, peak, (3, 2, 5, 5))
    assert EQ9.inverse(EQ9.forward(x)) == pytest.approx(x, rel=1e-6 if peak < 1e5 else 1e-4)


def test_numpy_and_torch_are_one() -> None:
    x = np.random.default_rng(2).normal(0, 500, (3, 2, 5, 5)).astype(np.float32)
    ours, theirs = EQ9.forward(x), EQ9.forward(torch.from_numpy(x))
    assert ours.dtype == np.float32
    assert theirs.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)
    # At u = 75, as here at most, one rounding of x near 1 is 6e-8 u^2 = 3e-4 of the flux.
    np.testing.assert_allclose(EQ9.inverse(ours), EQ9.inverse(theirs).numpy(), rtol=6e-4)


def test_a_saturated_pixel_stays_finite() -> None:
    assert np.isfinite(EQ9.inverse(np.ones((1, 2, 1, 1), np.float32))).all()
    assert torch.isfinite(EQ9.inverse(torch.ones(1, 2, 1, 1))).all()


def test_streaming_statistics_are_those_of_the_whole() -> None:
    stamps = np.random.default_rng(3).gamma(2.0, 50.0, (60, 2, 6, 6))
    streamed = mean_maximum((stamps[k : k + 7] for k in range(0, 60, 7)), ("g", "r"))
    maxima = stamps.max(axis=(-2, -1))
    assert streamed.mean == pytest.approx(maxima.mean(axis=0))
    assert streamed.standard_error == pytest.approx(maxima.std(axis=0, ddof=1) / 60**0.5)
    assert streamed.normalization(2.5).mean_max == pytest.approx(tuple(maxima.mean(axis=0)))


def test_other_bands_and_dark_bands_are_refused() -> None:
    with pytest.raises(MismatchError, match="3 bands"):
        EQ9.forward(np.zeros((1, 3, 4, 4)))
    with pytest.raises(MismatchError, match="band r"):
        Normalization(("g", "r"), (1.0, 0.0), 2.5)
