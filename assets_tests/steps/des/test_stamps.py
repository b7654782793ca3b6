"""Cutouts as the model takes them: the archive's own pixels, places, weights and PSFs, and what is absent."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.des.noise import noise_ratios
from deblend_assets.steps.des.stamps import TileStamps
from deblend_assets.stores.tiles import Cutouts

BANDS = ("g", "r", "i", "z", "Y")
SIDE, SCALE = 61, 0.263
N = 5
SIGMA = np.array([2.0, 3.0, 5.0, 8.0, 20.0])
OTHER = (18.0, 41.0)
SETTINGS = MeasurementSettings()


@pytest.fixture(scope="module")
def cutouts() -> Cutouts:
    """A bright source at each position and a second one beside it.

    The second galaxy lacks Y; i of the third has no weight map; the fourth has lost pixels in r; the last has another
    pixel scale. The archive has a PSF of g of the first galaxy alone.
    """
    rng = np.random.default_rng(6)
    offset = rng.uniform(-0.5, 0.5, (N, 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    counts = rng.normal(size=(N, len(BANDS), SIDE, SIDE)) * SIGMA[:, None, None]
    for n, (dx, dy) in enumerate(offset):
        for u, v in ((30 + dx, 30 + dy), OTHER):
            counts[n] += 50 * SIGMA[:, None, None] * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 6)
    weight = np.broadcast_to(SIGMA[:, None, None] ** -2.0, counts.shape).copy()
    present = np.ones((N, len(BANDS)), dtype=bool)
    present[1, 4], counts[1, 4], weight[1, 4] = False, np.nan, 0
    weight[2, 2] = 0
    weight[3, 1, 35:40, 10:20] = 0
    table: dict[str, object] = {"coadd_objects_id": np.arange(N), "ra": 10.0 + np.arange(N), "dec": -40.0}
    scale = np.where(np.arange(N) == N - 1, 0.264, SCALE)
    for k, band in enumerate(BANDS):
        there = present[:, k]
        table |= {
            f"zero_point_{band}": np.where(there, 30.0 + 0.1 * k, np.nan),
            f"pixel_scale_{band}": np.where(there, scale, np.nan),
            f"offset_x_{band}": np.where(there, offset[:, 0], np.nan),
            f"offset_y_{band}": np.where(there, offset[:, 1], np.nan),
            f"sigma_{band}": np.where(there, SIGMA[k], np.nan),
            f"has_weight_{band}": there & ~((band == "i") & (np.arange(N) == 2)),
        }
    psf = np.full((N, len(BANDS), 41, 41), np.nan, dtype=np.float32)
    psf[0, 0] = galsim.Gaussian(fwhm=5.0).shear(g2=0.1).drawImage(nx=41, ny=41, scale=1.0).array
    return Cutouts(
        pd.DataFrame(table), counts.astype(np.float32), weight.astype(np.float32), psf, present, BANDS, {"rejected": {}}
    )


@pytest.fixture(scope="module")
def stamps(cutouts: Cutouts) -> TileStamps:
    return TileStamps(cutouts, load_survey("DES"), "r", SETTINGS)


def test_pixels_are_the_archive_s_and_places_are_the_galaxies(stamps: TileStamps, cutouts: Cutouts) -> None:
    found = stamps.observed()
    assert found.bands == ("g", "r", "i", "z", "y")
    kept = found.inverse_variance > 0
    np.testing.assert_array_equal(found.pixels[kept], cutouts.counts[kept])
    np.testing.assert_allclose(found.position, 30 + cutouts.galaxies[["offset_x_r", "offset_y_r"]].to_numpy())
    np.testing.assert_array_equal(found.sky_position, cutouts.galaxies[["ra", "dec"]].to_numpy())
    np.testing.assert_allclose(found.zero_point[0], [30.0, 30.1, 30.2, 30.3, 30.4])
    np.testing.assert_allclose(found.pixel_scale, [SCALE] * (N - 1) + [0.264])
    # North up, east left: x is west.
    np.testing.assert_allclose(found.jacobian[0], SCALE * np.eye(2))


def test_what_is_lost_or_absent_has_no_weight(stamps: TileStamps) -> None:
    found = stamps.observed()
    expected = np.ones((N, len(BANDS)), dtype=bool)
    expected[1, 4] = False
    np.testing.assert_array_equal(found.present, expected)
    assert (found.mask[1, 4] == MaskBit.NO_DATA).all()
    lost = found.inverse_variance[3, 1] == 0
    assert lost.sum() == 50
    assert (found.mask[3, 1][lost] == MaskBit.BAD_COLUMN).all()
    assert (found.mask[3, 1][~lost] == 0).all()
    np.testing.assert_allclose(found.inverse_variance[2, 2], 1 / 25.0, err_msg="without a map the border's noise")


def test_psfs_are_the_archive_s_or_else_the_survey_s_at_the_pixel_scale_of_each_galaxy(
    stamps: TileStamps, cutouts: Cutouts
) -> None:
    psf = stamps.observed().psf
    np.testing.assert_array_equal(psf[0, 0], cutouts.psf[0, 0])
    psf = np.where(np.isfinite(cutouts.psf), psf[1], psf)
    fwhm = measure_psf_images(psf).fwhm
    # SurveyCodex's, of the atmosphere alone: the telescope's pattern adds up to 2 %, and the measuring is good to 1 %.
    for k, expected in enumerate((1.12, 0.96, 0.88, 0.84, 0.9)):
        assert 0.99 < fwhm[0, k] * SCALE / expected < 1.03
        assert fwhm[-1, k] / fwhm[0, k] == pytest.approx(SCALE / 0.264, rel=1e-3)
    assert (psf.sum(axis=(-2, -1)) > 0.99).all()


def test_other_sources_are_those_of_the_stamp_and_the_target_is_none(stamps: TileStamps) -> None:
    found = stamps.observed()
    assert found.others_count.tolist() == [1] * N
    np.testing.assert_allclose(found.others[:, 0], np.tile(OTHER, (N, 1)), atol=0.3)


def test_noise_that_is_correlated_is_measured_and_given(stamps: TileStamps, cutouts: Cutouts) -> None:
    """White noise averaged over 2 × 2 pixels: 1/2 to the next pixel, 1/4 to the diagonal one; variance as stated."""
    counts = cutouts.counts.copy()
    rng = np.random.default_rng(9)
    white = rng.normal(size=(N, SIDE + 1, SIDE + 1))
    y, x = np.mgrid[:SIDE, :SIDE]
    light = 150 * np.exp(-((x - OTHER[0]) ** 2 + (y - OTHER[1]) ** 2) / 6)
    counts[:, 1] = 1.5 * sum(white[:, i : SIDE + i, j : SIDE + j] for i in (0, 1) for j in (0, 1)) + light
    found = TileStamps(replace(cutouts, counts=counts), stamps.survey, "r", SETTINGS).observed(slice(1, 3))
    middle = found.noise_correlation.shape[-1] // 2
    near = found.noise_correlation[:, :, middle : middle + 3, middle : middle + 3]
    expected = np.array([[1, 0.5, 0], [0.5, 0.25, 0], [0, 0, 0]])
    np.testing.assert_allclose(near[0, 1], expected, atol=0.06)
    np.testing.assert_array_equal(near[1], near[0], err_msg="of all cutouts of a band together")
    np.testing.assert_allclose(near[0, 0], expected == 1, atol=0.06, err_msg="g is white")


def test_some_at_a_time_are_the_same(stamps: TileStamps) -> None:
    whole, part = stamps.observed().rows(slice(2, 4)), stamps.observed(slice(2, 4))
    for name, values in part.arrays().items():
        np.testing.assert_array_equal(values, whole.arrays()[name], err_msg=name)


def test_noise_over_the_weights_is_that_of_the_borders(cutouts: Cutouts) -> None:
    found = noise_ratios(cutouts)
    assert set(found) == set(BANDS)
    # The median of five borders of some 2,000 pixels.
    assert all(abs(ratio - 1) < 0.08 for ratio in found.values())
    wrong = cutouts.galaxies.assign(sigma_r=1.5)
    ratio = noise_ratios(replace(cutouts, galaxies=wrong))["r"]
    assert ratio == pytest.approx(2.0, rel=0.08)
    unweighted = cutouts.galaxies.assign(has_weight_g=False)
    assert "g" not in noise_ratios(replace(cutouts, galaxies=unweighted))
