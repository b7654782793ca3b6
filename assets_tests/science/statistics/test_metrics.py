"""Similarities, fits and error bars against analytic truth."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.statistics.metrics import (
    Floats,
    bootstrap,
    cosine,
    cosine_by_band,
    line,
    rms,
    robust_sigma,
    ssim,
)


@pytest.fixture
def stamps() -> Floats:
    """Five stamps of three bands with values in (0, 1), not square."""
    return np.random.default_rng(1).random((5, 3, 15, 17))


def test_identical_images_are_wholly_similar(stamps: Floats) -> None:
    np.testing.assert_array_equal(ssim(stamps, stamps), np.ones((5, 3)))
    np.testing.assert_allclose(cosine(stamps, stamps), np.ones(5), rtol=1e-12)
    np.testing.assert_allclose(cosine_by_band(stamps, stamps), np.ones((5, 3)), rtol=1e-12)


def test_ssim_of_two_constant_images_is_the_luminance_term() -> None:
    """Without variance Eq. 10 leaves (2 x y + c1) / (x² + y² + c1), c1 = (0.01 L)²."""
    x, y = np.full((1, 1, 9, 9), 0.3), np.full((1, 1, 9, 9), 0.5)
    expected = (2 * 0.15 + 1e-4) / (0.09 + 0.25 + 1e-4)
    assert ssim(x, y)[0, 0] == pytest.approx(expected, rel=1e-9)
    wider = (2 * 0.15 + 4e-4) / (0.09 + 0.25 + 4e-4)
    assert ssim(x, y, data_range=2.0)[0, 0] == pytest.approx(wider, rel=1e-9)


def test_ssim_of_one_window_is_eq_10_with_sample_moments() -> None:
    """A stamp of 7 x 7 pixels holds one window: Eq. 10 by hand."""
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 7, 7))
    covariance = np.cov(x.ravel(), y.ravel())  # divides by N - 1
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
    expected /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    assert ssim(x[None, None], y[None, None])[0, 0] == pytest.approx(expected, rel=1e-10)


def test_ssim_is_of_its_own_stamp_and_band(stamps: Floats) -> None:
    spoilt = stamps.copy()
    spoilt[3, 1] = spoilt[3, 1, ::-1]
    values = ssim(spoilt, stamps)
    assert values[3, 1] < 0.5
    assert (np.delete(values.ravel(), 3 * 3 + 1) == 1).all()


def test_cosine_is_blind_to_scale_and_counts_bands_by_their_light(stamps: Floats) -> None:
    assert cosine(3e-9 * stamps, stamps) == pytest.approx(np.ones(5), rel=1e-12)
    np.testing.assert_allclose(cosine(-stamps, stamps), -np.ones(5), rtol=1e-12)
    one, two = np.zeros((1, 2, 7, 7)), np.zeros((1, 2, 7, 7))
    one[0, 0], two[0, 0], two[0, 1] = 1.0, 1.0, 1.0
    assert cosine(one, two)[0] == pytest.approx(np.sqrt(0.5))
    by_band = cosine_by_band(one, two)[0]
    assert by_band[0] == pytest.approx(1.0)
    assert np.isnan(by_band[1]), "a band without light has no direction"


def test_stacks_must_match(stamps: Floats) -> None:
    for measure in (ssim, cosine, cosine_by_band):
        with pytest.raises(ValueError, match=r"two stacks of \(N, band, y, x\)"):
            measure(stamps, stamps[:, :2])


def test_line_recovers_slope_and_intercept_in_every_row() -> None:
    truth = np.random.default_rng(3).normal(size=(2, 50))
    slope, intercept = line(truth, np.array([[0.7], [-2.0]]) * truth + np.array([[0.1], [0.3]]))
    np.testing.assert_allclose(slope, [0.7, -2.0])
    np.testing.assert_allclose(intercept, [0.1, 0.3])
    assert np.isnan(line(np.ones(5), np.arange(5.0))[0]), "a truth that does not vary has no slope"


def test_rms_holds_the_bias_and_robust_sigma_no_outlier() -> None:
    assert rms(np.array([3.0, 4.0, 3.0, 4.0])) == pytest.approx(np.sqrt(12.5))
    values = np.random.default_rng(4).normal(5.0, 2.0, 20_000)
    assert robust_sigma(values) == pytest.approx(2.0, rel=0.03)
    values[:500] = 1e6
    assert robust_sigma(values) == pytest.approx(2.0, rel=0.08)


def test_bootstrap_error_of_a_mean_is_s_over_root_n() -> None:
    values = np.random.default_rng(5).normal(1.0, 3.0, 400)
    mean, error = bootstrap(lambda c: c["v"].mean(axis=-1), {"v": values}, 500, seed=6)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std() / np.sqrt(400), rel=0.15)


def test_bootstrap_is_deterministic_keeps_rows_together_and_stacks() -> None:
    x = np.random.default_rng(7).normal(size=300)

    def slope_and_mean(columns: dict[str, Floats]) -> Floats:
        return np.stack([line(columns["x"], columns["y"])[0], columns["y"].mean(axis=-1)])

    columns = {"x": x, "y": 2 * x + 1}
    value, error = bootstrap(slope_and_mean, columns, 100, seed=8)
    assert value == pytest.approx([2.0, 1 + 2 * x.mean()])
    assert error[0] < 1e-12, "every resample of points on a line has the line's slope"
    assert error[1] > 0.05
    np.testing.assert_array_equal(error, bootstrap(slope_and_mean, columns, 100, seed=8)[1])
    assert error[1] != bootstrap(slope_and_mean, columns, 100, seed=9)[1][1]


def test_bootstrap_in_pieces_is_the_bootstrap_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"v": np.random.default_rng(10).normal(size=101)}
    whole = bootstrap(lambda c: c["v"].mean(axis=-1), columns, 33, seed=1)[1]
    monkeypatch.setattr("deblend_assets.science.statistics.metrics._ELEMENTS_AT_ONCE", 500)
    np.testing.assert_allclose(bootstrap(lambda c: c["v"].mean(axis=-1), columns, 33, seed=1)[1], whole, rtol=1e-12)


def test_the_error_of_many_rows_is_that_of_fewer_scaled() -> None:
    columns = {"v": np.random.default_rng(2).normal(size=20_000)}
    value, error = bootstrap(lambda c: np.median(c["v"], axis=-1), columns, 400, seed=1, most_rows=1_000)
    assert value == np.median(columns["v"])
    assert error == pytest.approx(np.sqrt(np.pi / 2 / 20_000), rel=0.15)
    few = {"v": columns["v"][:500]}
    whole, limited = (bootstrap(lambda c: c["v"].mean(axis=-1), few, 20, seed=1, most_rows=n)[1] for n in (None, 1_000))
    assert whole == limited


def test_bootstrap_needs_rows() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap(lambda c: c["v"].mean(axis=-1), {"v": np.array([])}, 10, seed=1)
