"""Targets of observed fields against closed forms: Gaussian galaxies behind a Gaussian PSF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assets_tests.science.simulation.field_samples import small_catalog
from assets_tests.science.worlds.samples import (
    DETECTION,
    FWHM,
    FWHM_OVER_SIGMA,
    HLR,
    SCALE,
    STAMPS,
    gaussian_field,
    targets_of,
)
from deblend_assets.science.detection.detect import DETECTION_COLUMNS
from deblend_assets.science.simulation.fields import Field, sample_field
from deblend_assets.science.skies.psf import PSFModel
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.worlds.observed_fields import observe_field
from deblend_assets.science.worlds.targets import TARGET_COLUMNS, field_targets, join_targets, target_columns
from deblend_assets.settings import FieldSettings, MaskSettings


def observed_sigma(sigma: float) -> float:
    """Behind the PSF and the pixel [pixel]."""
    return float(np.sqrt((sigma / SCALE) ** 2 + (FWHM / SCALE / FWHM_OVER_SIGMA) ** 2 + 1 / 12))


def test_the_truth_of_a_lonely_gaussian_is_that_of_the_closed_form() -> None:
    g = 0.2 * np.exp(0.8j)
    field = gaussian_field([31.7], [30.2], [3000.0], 0.4, g, 64)
    truth = targets_of(field).truth
    assert len(truth) == 1
    row = truth.iloc[0]
    # Second moments of the galaxy, PSF and pixel add up.
    square = abs(g) ** 2
    own, psf = (0.4 / SCALE) ** 2, (FWHM / SCALE / FWHM_OVER_SIGMA) ** 2 + 1 / 12
    trace, difference = 2 * own * (1 + square) / (1 - square) + 2 * psf, 4 * own * g / (1 - square)
    assert complex(row["e1"], row["e2"]) == pytest.approx(difference / trace, abs=1e-3)
    assert complex(row["g1"], row["g2"]) == pytest.approx(g, abs=1e-6)
    assert row["hlr_arcsec"] == pytest.approx(HLR * 0.4, rel=1e-6)
    assert row["flux_r"] == pytest.approx(3000.0, rel=1e-4)  # zero point 31.4: nJy
    assert (row["true_x"], row["true_y"]) == (31.7, 30.2)
    assert abs(row["x"] - 31.7) < 0.3
    assert abs(row["y"] - 30.2) < 0.3
    assert row["blendedness"] == pytest.approx(0.0, abs=1e-6)
    assert row["others_r"] == pytest.approx(0.0, abs=1e-6)
    assert np.isinf(row["nearest_arcsec"])
    assert np.isinf(row["separation_fwhm"])
    assert not row[["star", "spurious", "shred", "blend", "unrecognized", "correlated"]].any()
    # S/N of a matched filter of an elliptical Gaussian: flux / (σ √(4π √det)), two equal bands.
    det = np.linalg.det([[1, 0], [0, 1]]) * ((trace / 2) ** 2 - abs(difference / 2) ** 2)
    assert row["true_snr"] == pytest.approx(3000 * np.sqrt(2 / (4 * np.pi * np.sqrt(det))), rel=0.01)
    assert row["snr"] == pytest.approx(row["true_snr"], rel=0.1)
    assert row["fwhm_arcsec"] == pytest.approx(FWHM, rel=3e-3)
    assert row["density"] == pytest.approx(1 / (64 * SCALE / 60) ** 2)


def test_blendedness_and_the_light_of_others_of_two_gaussians_are_the_closed_form() -> None:
    apart, ratio = 10.0, 0.4
    field = gaussian_field([28.0, 28.0 + apart], [32.0, 32.0], [4000.0, 4000.0 * ratio], 0.3, 0j, 64)
    truth = targets_of(field).truth.sort_values("x").reset_index(drop=True)
    assert truth["source"].tolist() == [0, 1]
    overlap = np.exp(-(apart**2) / (4 * observed_sigma(0.3) ** 2))
    for k, others in enumerate((ratio * overlap, overlap / ratio)):
        assert truth["others_r"].iloc[k] == pytest.approx(others, rel=0.01)
        assert truth["blendedness"].iloc[k] == pytest.approx(1 - 1 / (1 + others), rel=0.01)
        for which in ("nearest", "brightest"):
            assert truth[f"{which}_arcsec"].iloc[k] == pytest.approx(apart * SCALE)
            assert truth[f"{which}_dmag"].iloc[k] == pytest.approx((1, -1)[k] * -2.5 * np.log10(ratio), abs=1e-6)
        # The other detection is displaced a little by this one's light.
        assert truth["separation_fwhm"].iloc[k] == pytest.approx(apart * SCALE / FWHM, rel=0.1)
    assert not truth["unrecognized"].any()


def test_two_gaussians_within_a_fwhm_are_one_unrecognised_blend_whose_target_is_the_brighter() -> None:
    truth = targets_of(gaussian_field([30.0, 32.5], [32.0, 32.0], [4000.0, 2400.0], 0.3, 0j, 64)).truth
    assert truth["source"].tolist() == [0]
    assert truth["unrecognized"].all()
    assert truth["blend"].all()
    assert 0.5 < truth["light_share"].iloc[0] < 0.75


def test_a_field_of_stars_and_masks_has_every_column_and_stamps_in_all_bands() -> None:
    sky = Sky(
        "test",
        SCALE,
        (112, 112),
        {
            band: SkyBand(PSFModel("moffat", FWHM, 3.0), sigma=sigma, zero_point=zero)
            for band, sigma, zero in (("g", 50.0, 31.9), ("r", 40.0, 32.0), ("i", 60.0, 31.5))
        },
    )
    settings = FieldSettings(pixels=112, margin=5.0, beyond_limit=2.5, faintest=26.0, brightest_star=19.0)
    field = sample_field(small_catalog(), sky, settings, np.random.default_rng(2))
    targets = targets_of(field, MaskSettings(cosmic_rays=20.0))
    truth, stamps = targets.truth, targets.stamps
    assert len(truth) == len(stamps) > 5
    assert list(truth) == list(target_columns())
    assert stamps.bands == ("u", "g", "r", "i", "z", "y")
    absent = ~stamps.present
    assert absent[:, [0, 4, 5]].all()
    assert not absent[:, 2].any()
    assert truth[["flux_u", "snr_z", "others_y"]].isna().all(axis=None)
    assert truth["snr_r"].notna().all()
    assert (truth["flux_g"].notna() == (truth["source"] >= 0)).all()
    assert (truth["snr"] >= 10).all()
    assert (stamps.others_count <= 4).all()
    assert (truth["reference_band"] == "r").all()
    np.testing.assert_allclose(stamps.position + stamps.corner, truth[["x", "y"]], atol=1e-9)
    # The nearest other detection on a stamp gives the separation.
    several = stamps.others_count > 0
    first = np.hypot(*(stamps.others[several, 0] - stamps.position[several]).T)
    np.testing.assert_allclose(truth["separation_fwhm"][several], first / truth["fwhm_pixel"][several], rtol=1e-9)
    real = truth["source"] >= 0
    sources = field.truth
    for name, other in (("mag_i", "mag_i"), ("flux_r", "flux_r"), ("true_x", "x"), ("id", "id")):
        np.testing.assert_array_equal(truth[name][real], sources[other].to_numpy()[truth["source"][real]])
    # Pieces of a saturated star lie far from it, and a galaxy's centre may lie outside of the image.
    inside = truth[["true_x", "true_y"]].gt(-0.5).all(axis=1) & truth[["true_x", "true_y"]].lt(111.5).all(axis=1)
    whole = real & inside & ~truth["shred"] & ~truth["star"]
    assert (np.hypot(truth["x"] - truth["true_x"], truth["y"] - truth["true_y"])[whole] < 1.5 * FWHM / SCALE).all()


def test_what_a_masked_pixel_held_changes_nothing() -> None:
    """Light under the mask, however much, does not reach stamps, detections or their truth."""
    field = gaussian_field([31.7], [30.2], [3000.0], 0.4, 0.1, 64)
    observed = observe_field(field, 3, None, DETECTION)
    lost = np.zeros(observed.seen.images.shape, dtype=bool)
    lost[:, 33:35, 32:36] = True
    results = []
    for value in (0.0, 1e6, np.nan):
        seen = replace(
            observed.seen,
            images=np.where(lost, np.float32(value), observed.seen.images),
            inverse_variance=np.where(lost, np.float32(0), observed.seen.inverse_variance),
        )

        class Seen(Field):
            def observe(self, seed: object, masks: object = None) -> object:  # type: ignore[override]
                return seen  # noqa: B023 - used within this turn of the loop

        again = Seen(field.renderer, field.sources)
        results.append(field_targets(observe_field(again, 3, None, DETECTION), 0, STAMPS, 10.0))
    for other in results[1:]:
        assert other.truth.equals(results[0].truth)
        for name, values in results[0].stamps.arrays().items():
            np.testing.assert_array_equal(values, other.stamps.arrays()[name], err_msg=name)


def test_rows_and_joined_targets_keep_stamps_beside_their_truth() -> None:
    field = gaussian_field([15.0, 48.0, 30.0], [15.0, 20.0, 50.0], [3000.0, 2500.0, 2000.0], 0.3, 0j, 64)
    targets = targets_of(field)
    assert len(targets) == 3
    both = join_targets([targets.rows(np.array([2])), targets.rows(slice(0, 2))])
    np.testing.assert_allclose(both.stamps.position + both.stamps.corner, both.truth[["x", "y"]], atol=1e-9)
    assert both.truth["row"].tolist() == [targets.truth["row"].iloc[k] for k in (2, 0, 1)]


def test_some_targets_of_a_field_are_the_same_as_among_all_of_them() -> None:
    field = gaussian_field([15.0, 48.0, 30.0], [15.0, 20.0, 50.0], [3000.0, 2500.0, 2000.0], 0.3, 0j, 64)
    whole = targets_of(field)
    wanted = [int(whole.truth["row"].iloc[k]) for k in (2, 0)]
    found = field_targets(observe_field(field, 3, None, DETECTION), 5, STAMPS, 10.0, wanted)
    expected = whole.rows(np.array([0, 2]))
    assert found.truth.equals(expected.truth)  # the density is that of all of them
    for name, values in expected.stamps.arrays().items():
        np.testing.assert_array_equal(found.stamps.arrays()[name], values, err_msg=name)


def test_every_column_has_a_meaning_and_detection_columns_keep_their_units() -> None:
    for name, (unit, _) in DETECTION_COLUMNS.items():
        # Both errors are the same number.
        assert TARGET_COLUMNS["position_err" if name in ("x_err", "y_err") else name][0] == unit
    assert all(meaning for _, meaning in target_columns().values())
