"""Light within a radius, and what is true of a detection: on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from assets_tests.science.detection.images import FWHM, SIGMA, correlated_noise, sources
from deblend_assets.errors import MismatchError
from deblend_assets.science.detection.light import (
    light_of_gaussians,
    light_of_pieces,
    nearby,
    sum_weights,
    true_snr,
)
from deblend_assets.science.detection.truth import DetectionTruth, TruthFlag, match
from deblend_assets.science.stamps.source_light import SourceLight

B, U, SPURIOUS, SHRED, STAR = (
    TruthFlag.BLEND,
    TruthFlag.UNRECOGNIZED_BLEND,
    TruthFlag.SPURIOUS,
    TruthFlag.SHRED,
    TruthFlag.STAR,
)


def match_near(light: csr_array, star: np.ndarray, noise: float | np.ndarray) -> DetectionTruth:
    """All sources lie nearby."""
    return match(light, csr_array(np.ones(light.shape)), star, noise)


def star_piece(x: float, y: float, flux: float, side: int = 41) -> SourceLight:
    """A Gaussian star of FWHM `FWHM` on the pixels around (x, y), in one band."""
    left, low = round(x) - side // 2, round(y) - side // 2
    return SourceLight(sources(side, [x - left], [y - low], [flux])[None], left, low)


def test_light_of_a_star_within_a_radius_is_analytic() -> None:
    """1 - exp(-R²/2σ²) of it around its centre; pieces and the analytic form agree at any distance."""
    x, y = np.array([50.0, 52.3, 50.0, 58.7]), np.array([40.0, 40.0, 35.2, 41.0])
    pieces = light_of_pieces(x, y, FWHM, [star_piece(50.0, 40.0, 1000.0)], np.ones(1)).toarray()
    formula = light_of_gaussians(x, y, FWHM, [50.0], [40.0], [1000.0], [SIGMA]).toarray()
    assert formula[0, 0] == pytest.approx(1000 * (1 - np.exp(-0.5 * (FWHM / SIGMA) ** 2)), rel=1e-9)
    np.testing.assert_allclose(pieces, formula, rtol=0.02, atol=1.0)
    assert formula[0, 0] > formula[1, 0] > formula[2, 0] > formula[3, 0]


def test_light_far_away_and_beyond_the_edge_is_none() -> None:
    pieces = [star_piece(-3.0, 5.0, 100.0), star_piece(80.0, 80.0, 100.0)]
    light = light_of_pieces([1.0], [5.0], FWHM, pieces, np.ones(1))
    assert light.toarray()[0, 0] > 10
    assert light.nnz == 1
    assert light_of_pieces([], [], FWHM, pieces, np.ones(1)).shape == (0, 2)
    assert light_of_gaussians([1.0], [5.0], FWHM, [80.0], [80.0], [100.0], [SIGMA]).nnz == 0


def test_bands_add_with_the_weights_of_the_detection_image() -> None:
    """A source of a flat spectrum has the flux of the most sensitive band, and the sum the noise of all."""
    ivar = np.stack([np.full((5, 5), 0.25), np.full((5, 5), 4.0)]).astype(np.float32)
    ivar[0, 2] = 0
    weights, noise = sum_weights(ivar, [30.0, 31.0])
    fluxes = 100 * 10 ** (0.4 * (np.array([30.0, 31.0]) - 31.0))
    assert weights @ fluxes == pytest.approx(100.0)
    assert noise == pytest.approx(np.sqrt(np.square(weights) @ [4.0, 0.25]))
    assert sum_weights(ivar)[0] == pytest.approx([0.25 / 4.25, 4.0 / 4.25])


def test_true_snr_is_that_of_the_sources_own_light() -> None:
    piece = star_piece(30.0, 30.0, 500.0)
    ivar = np.full((1, 61, 61), 0.25, dtype=np.float32)
    expected = 500 / (2 * np.sqrt(np.pi) * SIGMA * 2.0)
    assert true_snr(piece, ivar) == pytest.approx(expected, rel=1e-3)
    ivar[:, :, :30] = 0
    assert 0.7 < true_snr(piece, ivar) / expected < 0.85, "a little less than half of the light is lost"
    assert true_snr(SourceLight(piece.light, 100, 0), ivar) == 0.0
    with pytest.raises(MismatchError):
        true_snr(piece, np.ones((2, 5, 5), dtype=np.float32))


def test_true_snr_under_correlated_noise_is_the_scatter_of_the_filter() -> None:
    rng = np.random.default_rng(1)
    noise, correlation = correlated_noise((400, 41, 41), 1.0, rng)
    piece = star_piece(20.0, 20.0, 100.0)
    filtered = (noise * piece.light).sum(axis=(1, 2))
    expected = np.square(piece.light).sum() / filtered.std()
    ivar = np.ones((1, 41, 41), dtype=np.float32)
    assert true_snr(piece, ivar, [correlation]) == pytest.approx(expected, rel=0.1)
    assert true_snr(piece, ivar) > 2 * expected


def test_the_target_is_the_source_of_most_light_not_the_nearest() -> None:
    """A galaxy ten times as bright, two thirds of a FWHM away, outshines the one at the detection's place."""
    light = light_of_gaussians([20.0], [20.0], FWHM, [20.0, 22.7], [20.0, 20.0], [100.0, 1000.0], [SIGMA] * 2)
    truth = match_near(light, np.zeros(2, bool), 1.0)
    assert truth.target.tolist() == [1]
    members, values = truth.others(0)
    assert members.tolist() == [0]
    assert values[0] + truth.light[0] == pytest.approx(truth.total[0])


@pytest.mark.parametrize(
    ("light", "star", "flags", "target", "detection"),
    [
        # One galaxy; one star; nothing; a little light below twice the noise.
        ([[50.0]], [False], [0], [0], [0]),
        ([[50.0]], [True], [STAR], [0], [0]),
        ([[0.0]], [False], [SPURIOUS], [-1], [-1]),
        ([[19.0]], [False], [SPURIOUS], [-1], [-1]),
        # Two over a tenth, found once; a second just below a tenth; each found.
        ([[80.0, 20.0]], [False, False], [B | U], [0], [0, -1]),
        ([[92.0, 8.0]], [False, False], [0], [0], [0, -1]),
        ([[80.0, 20.0], [30.0, 60.0]], [False, True], [B, B | STAR], [0, 1], [0, 1]),
        # Found twice: the one with less of its light is a shred.
        ([[40.0], [90.0]], [False], [SHRED, 0], [0, 0], [1]),
        ([[40.0], [40.0]], [False], [0, SHRED], [0, 0], [0]),
        # Three, of which the third is found by no detection.
        ([[60.0, 25.0, 15.0], [10.0, 90.0, 1.0]], [False] * 3, [B | U, 0], [0, 1], [0, 1, -1]),
    ],
)
def test_flags(
    light: list[list[float]], star: list[bool], flags: list[int], target: list[int], detection: list[int]
) -> None:
    truth = match_near(csr_array(np.array(light)), np.array(star), 10.0)
    assert truth.flags.tolist() == [int(flag) for flag in flags]
    assert truth.target.tolist() == target
    assert truth.detection.tolist() == detection


def test_others_are_listed_from_a_hundredth_on_the_brightest_first() -> None:
    truth = match_near(csr_array(np.array([[5.0, 100.0, 0.5, 20.0], [0, 0, 30.0, 0]])), np.zeros(4, bool), 1.0)
    assert [truth.others(n)[0].tolist() for n in (0, 1)] == [[3, 0], []]
    assert truth.others(0)[1].tolist() == [20.0, 5.0]
    assert truth.has(TruthFlag.UNRECOGNIZED_BLEND).tolist() == [True, False]


def test_noise_may_differ_between_detections() -> None:
    truth = match_near(csr_array(np.array([[30.0, 0], [0, 30.0]])), np.zeros(2, bool), np.array([10.0, 20.0]))
    assert truth.has(TruthFlag.SPURIOUS).tolist() == [False, True]


def test_no_detections_and_no_sources() -> None:
    assert match_near(csr_array((0, 3)), np.zeros(3, bool), 1.0).detection.tolist() == [-1, -1, -1]
    assert match_near(csr_array((2, 0)), np.zeros(0, bool), 1.0).flags.tolist() == [SPURIOUS, SPURIOUS]


@pytest.mark.parametrize(
    ("light", "stars", "noise"),
    [([[1.0]], 2, 1.0), ([[1.0]], 1, np.ones(2)), ([[-1.0]], 1, 1.0)],
)
def test_what_does_not_fit_is_refused(light: list[list[float]], stars: int, noise: float) -> None:
    with pytest.raises(MismatchError):
        match_near(csr_array(np.array(light)), np.zeros(stars, bool), noise)


def test_a_galaxy_on_the_far_wings_of_a_star_is_its_own() -> None:
    """And a piece of those wings with nothing nearby is a shred of the star, whatever else has its light."""
    light = csr_array(np.array([[60.0, 40.0], [60.0, 5.0], [900.0, 0.0]]))
    near = csr_array(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    truth = match(light, near, np.array([True, False]), 1.0)
    assert truth.target.tolist() == [1, 0, 0]
    assert truth.flags.tolist() == [int(B), int(SHRED | STAR), int(STAR)]
    assert truth.detection.tolist() == [2, 0]
    assert truth.others(0)[0].tolist() == [0], "the star's light is listed"
    alone = match(light[[1]], near[[1]], np.array([True, False]), 1.0)
    assert alone.detection.tolist() == [0, -1], "where nothing else has it as target, it stands for its source"
    with pytest.raises(MismatchError):
        match(light, near[:2], np.array([True, False]), 1.0)


def test_nearby_is_a_distance() -> None:
    assert nearby([0.0, 9.0], [0.0, 0.0], [1.0, 3.0, 8.0], [0.0, 0.0, 1.0], 2.0).toarray().tolist() == [
        [1, 0, 0],
        [0, 0, 1],
    ]
    assert nearby([], [], [1.0], [1.0], 2.0).shape == (0, 1)
