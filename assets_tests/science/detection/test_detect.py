"""Detection on images of known content: positions, S/N, noise, lost pixels and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.detection.images import FWHM, SIGMA, correlated_noise, grid, sources
from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.detection.detect import DETECTION_COLUMNS, Detections, detect
from deblend_assets.science.detection.filtering import filter_bands, gaussian_taps, separable, variance_factor
from deblend_assets.settings import DetectionSettings

BANDS = ("g", "r", "i")
WIDTHS = (4.4, 4.0, 3.8)


@pytest.fixture(scope="module")
def field() -> tuple[np.ndarray, np.ndarray]:
    """(images, inverse variance) of three bands: 36 galaxies of S/N 10 to 300, noise of another depth in each."""
    rng = np.random.default_rng(5)
    x, y = grid(180, 28, rng)
    flux = np.geomspace(300, 9000, len(x))
    sigma = np.array([1.5, 1.0, 2.0], dtype=np.float32)
    images = np.stack([sources(180, x, y, list(flux), width, half_light=2.0) for width in WIDTHS])
    images += rng.normal(size=images.shape).astype(np.float32) * sigma[:, None, None]
    return images, np.broadcast_to(sigma[:, None, None] ** -2, images.shape).astype(np.float32)


def same(one: Detections, other: Detections) -> bool:
    return one.table.equals(other.table) and np.array_equal(one.segments, other.segments) and one.fwhm == other.fwhm


def test_the_table_has_its_columns(field: tuple[np.ndarray, np.ndarray]) -> None:
    found = detect(*field, WIDTHS, BANDS)
    names = [n for name in DETECTION_COLUMNS for n in ([name.format(band=b) for b in BANDS] if "{" in name else [name])]
    assert list(found.table.columns) == names
    assert len(found.table) == 36
    assert found.segments.max() == 36
    assert min(WIDTHS) < found.fwhm < max(WIDTHS)
    for n in range(36):
        row = found.table.iloc[n]
        assert found.segments[round(row["y"]), round(row["x"])] == n + 1
        assert (found.segments == n + 1).sum() == row["pixels"]


@pytest.mark.parametrize("background", [0, 64])
def test_a_lost_pixel_changes_nothing(field: tuple[np.ndarray, np.ndarray], background: int) -> None:
    """To the last bit, whatever lost pixels hold: single ones, a column in all bands, a band over half the field."""
    images, ivar = (array.copy() for array in field)
    rng = np.random.default_rng(0)
    lost = rng.random(images.shape) < 0.03
    lost[:, :, 61:63] = True
    lost[1, 90:] = True
    ivar[lost] = 0
    settings = DetectionSettings(background_pixels=background)
    found = detect(images, ivar, WIDTHS, BANDS, settings)
    assert len(found.table) > 25
    for junk in (np.nan, np.inf, 1e9, -3e4):
        images[lost] = junk
        assert same(found, detect(images, ivar, WIDTHS, BANDS, settings))
    images[lost] = rng.normal(0, 1e5, lost.sum())
    assert same(found, detect(images, ivar, WIDTHS, BANDS, settings))


def test_a_band_without_weight_changes_nothing(field: tuple[np.ndarray, np.ndarray]) -> None:
    images, ivar = (array.copy() for array in field)
    ivar[2] = 0
    with_it = detect(images, ivar, WIDTHS, BANDS)
    without = detect(images[:2], ivar[:2], WIDTHS[:2], BANDS[:2])
    assert with_it.table["snr_i"].isna().all()
    assert with_it.fwhm == pytest.approx(without.fwhm)
    pd.testing.assert_frame_equal(with_it.table[without.table.columns], without.table, rtol=1e-9)


def test_a_bad_column_does_not_split_a_star() -> None:
    image = sources(41, [20.3], [19.8], [20_000])
    ivar = np.ones((1, 41, 41), dtype=np.float32)
    ivar[:, :, 20] = 0
    found = detect(image[None], ivar, [FWHM], ["r"])
    assert len(found.table) == 1
    assert found.table["x"][0] == pytest.approx(20.3, abs=0.25)
    assert 0.1 < found.table["masked_fraction"][0] < 0.35


def test_positions_are_x_along_rows_counted_from_0() -> None:
    image = sources(61, [14.3, 40.0], [33.6, 12.1], [5000, 3000])
    table = detect(image[None], np.ones((1, 61, 61), np.float32), [FWHM], ["r"]).table.sort_values("x")
    np.testing.assert_allclose(table["x"], [14.3, 40.0], atol=0.02)
    np.testing.assert_allclose(table["y"], [33.6, 12.1], atol=0.02)


def test_snr_of_stars_is_that_of_the_matched_filter() -> None:
    """Flux / (2 √π σ_psf σ_pixel) in each band, added in quadrature, less the noise's share."""
    x, y, flux = [15.2, 45.0], [15.0, 44.7], [400.0, 4000.0]
    noise, widths = np.array([1.0, 2.0]), (4.0, 5.0)
    images = np.stack([sources(61, x, y, flux, width) for width in widths])
    ivar = np.broadcast_to(noise[:, None, None] ** -2, images.shape).astype(np.float32)
    table = detect(images, ivar, widths, ["r", "i"]).table.sort_values("x")
    sigma = np.array(widths) / FWHM * SIGMA
    expected = np.array(flux)[:, None] / (2 * np.sqrt(np.pi) * sigma * noise)
    np.testing.assert_allclose(table[["snr_r", "snr_i"]], expected, rtol=0.005)
    np.testing.assert_allclose(table["snr"], np.sqrt(np.square(expected).sum(axis=1) - 2), rtol=0.005)
    np.testing.assert_allclose(table["sigma"], 0.0)


def test_the_sum_is_weighted_by_noise_and_zero_point() -> None:
    """The S/N of its peak is that of all bands for a source of a flat spectrum; no other weighting betters it."""
    noise, zero_points, widths = np.array([1.0, 5.0]), (30.0, 31.5), (4.0, 5.0)
    units = 10 ** (0.4 * np.array(zero_points))
    images = np.stack(
        [sources(41, [20], [20], [500 * u / units[0]], width) for u, width in zip(units, widths, strict=True)]
    )
    ivar = np.broadcast_to(noise[:, None, None] ** -2, images.shape).astype(np.float32)
    peaks = {}
    for name, response in (("right", units), ("alike", np.ones(2)), ("first", np.array([1, 1e-9]))):
        image = filter_bands(images, ivar, widths, response, [None, None], 0.2)
        peaks[name] = float(image.amplitude[20, 20] / image.sigma[20, 20])
    sigma = np.array(widths) / FWHM * SIGMA
    expected = 500 * (units / units[0]) / (2 * np.sqrt(np.pi) * sigma * noise)
    assert peaks["right"] == pytest.approx(np.hypot(*expected), rel=0.005)
    assert max(peaks["alike"], peaks["first"]) < 0.99 * peaks["right"]


@pytest.mark.parametrize("smoothing", [0.7, 1.2])
def test_correlated_noise_has_the_sigma_of_the_filtered_image(smoothing: float) -> None:
    """And its variance factor is the exact one, by brute force over the kernel's pixels."""
    rng = np.random.default_rng(2)
    noise, correlation = correlated_noise((400, 400), smoothing, rng)
    ivar = np.ones((1, 400, 400), dtype=np.float32)
    image = filter_bands(noise[None], ivar, [3.0], np.ones(1), [correlation], 0.2)
    assert (image.amplitude / image.sigma).std() == pytest.approx(1.0, abs=0.04)
    white = filter_bands(noise[None], ivar, [3.0], np.ones(1), [None], 0.2)
    assert (white.amplitude / white.sigma).std() > 1.4
    taps = gaussian_taps(3.0)
    kernel = np.outer(taps, taps)
    spread = separable(np.pad(correlation, 20), taps)
    around = separable(spread, taps)  # the kernel twice: its autocorrelation, at lag 0
    assert variance_factor(correlation, taps) == pytest.approx(around[26, 26] / np.square(kernel).sum(), rel=1e-9)
    assert variance_factor(np.ones((1, 1)), taps) == pytest.approx(1.0)


def test_false_detections_do_not_depend_on_the_correlation_where_it_is_given() -> None:
    rng = np.random.default_rng(3)
    settings = DetectionSettings(thresh=3.5, minarea=1)
    ivar = np.ones((1, 500, 500), dtype=np.float32)
    white = rng.normal(size=(1, 500, 500)).astype(np.float32)
    noise, correlation = correlated_noise((1, 500, 500), 0.8, rng)
    counts = [
        len(detect(image, ivar, [FWHM], ["r"], settings, noise_correlation=[given]).table)
        for image, given in ((white, None), (noise, correlation), (noise, None))
    ]
    # Smoother noise has fewer independent peaks.
    assert 0.3 * counts[0] < counts[1] < 1.3 * counts[0]
    assert counts[2] > 4 * counts[0]


def test_snr_of_correlated_noise_has_unit_scatter() -> None:
    """A star's S/N in one band scatters by 1 about its mean, white or not."""
    rng = np.random.default_rng(4)
    x, y = grid(500, 25, rng)
    image = sources(500, x, y, [300.0] * len(x))
    for smoothing in (0.01, 1.0):
        noise, correlation = correlated_noise((500, 500), smoothing, rng)
        images = (image + noise)[None]
        table = detect(images, np.ones_like(images), [FWHM], ["r"], noise_correlation=[correlation]).table
        assert len(table) == len(x)
        assert table["snr_r"].std() == pytest.approx(1.0, abs=0.12)


def test_position_errors_are_those_of_isolated_stars() -> None:
    rng = np.random.default_rng(6)
    x, y = grid(500, 25, rng)
    image = sources(500, x, y, [300.0] * len(x))[None]
    images = image + rng.normal(size=image.shape).astype(np.float32)
    table = detect(images, np.ones_like(images), [FWHM], ["r"]).table
    nearest = ((table["x"].to_numpy()[:, None] - x) ** 2 + (table["y"].to_numpy()[:, None] - y) ** 2).argmin(axis=1)
    for name, true in (("x", x), ("y", y)):
        pull = (table[name] - np.array(true)[nearest]) / table[f"{name}_err"]
        assert abs(pull.mean()) < 0.2
        assert 0.9 < pull.std() < 1.3


def test_the_unit_of_the_images_does_not_matter(field: tuple[np.ndarray, np.ndarray]) -> None:
    images, ivar = field
    one, other = detect(images, ivar, WIDTHS, BANDS), detect(images * 64, ivar / 4096, WIDTHS, BANDS)
    pd.testing.assert_frame_equal(one.table, other.table, rtol=1e-5)


def test_a_background_is_subtracted_where_asked_for(field: tuple[np.ndarray, np.ndarray]) -> None:
    images, ivar = field
    settings = DetectionSettings(background_pixels=64)
    found = detect(images, ivar, WIDTHS, BANDS, settings)
    raised = detect(images + np.float32(256), ivar, WIDTHS, BANDS, settings)
    assert len(raised.table) == len(found.table)
    np.testing.assert_allclose(raised.table["snr"], found.table["snr"], rtol=1e-2, atol=0.1)


def test_an_empty_sky_has_an_empty_table() -> None:
    found = detect(np.zeros((1, 20, 20), np.float32), np.ones((1, 20, 20), np.float32), [3.0], ["r"])
    assert len(found.table) == 0
    assert "snr_r" in found.table
    assert not found.segments.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inverse_variance": np.ones((1, 20, 21), np.float32)}, "inverse_variance (1, 20, 21)"),
        ({"fwhm": [3.0, 3.0]}, "2 FWHMs"),
        ({"fwhm": [0.0]}, "fwhm is [0.0]"),
        ({"inverse_variance": -np.ones((1, 20, 20), np.float32)}, "negative"),
        ({"images": np.full((1, 20, 20), np.nan, np.float32)}, "400 pixels with a weight are not finite"),
        ({"zero_points": [30.0, 31.0]}, "2 zero points for 1 bands"),
        ({"noise_correlation": [np.ones((4, 5))]}, "noise correlation of r has shape (4, 5)"),
        ({"noise_correlation": [np.full((5, 5), 0.5)]}, "1 in the middle"),
        ({"noise_correlation": []}, "0 noise correlations"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], words: str) -> None:
    given: dict[str, object] = {
        "images": np.zeros((1, 20, 20), np.float32),
        "inverse_variance": np.ones((1, 20, 20), np.float32),
        "fwhm": [3.0],
        "bands": ["r"],
    }
    with pytest.raises(MismatchError) as caught:
        detect(**(given | changes))
    assert words in str(caught.value)


def test_no_weight_at_all_is_an_error() -> None:
    with pytest.raises(MissingDataError):
        detect(np.zeros((1, 20, 20), np.float32), np.zeros((1, 20, 20), np.float32), [3.0], ["r"])
