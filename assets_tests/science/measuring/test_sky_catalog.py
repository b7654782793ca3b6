"""The catalogue of the model for every sky: units, frame, what is absent, and the same sky seen by another camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from assets_tests.science.sky_shapes.samples import observed, turned_in_the_sky
from assets_tests.science.sky_shapes.test_model import model, uncalibrated_model  # noqa: F401 - a fixture
from deblend_assets.errors import MismatchError
from deblend_assets.science.measuring.field_sources import SOURCE_COLUMNS, sources_of
from deblend_assets.science.measuring.redshifts import photometry_of, redshifts_of
from deblend_assets.science.measuring.sky_catalog import measure_catalog, measure_with_scene
from deblend_assets.science.measuring.sky_columns import sky_columns, tile_columns
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.measuring.trust import RowFlag, trust_of
from deblend_assets.science.redshift.mixture import RedshiftScale
from deblend_assets.science.redshift.row_redshifts import RowRedshifts
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.sky_shapes.response import measure_response
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.symmetries import ORDER, transform_vectors

N = 8
R = CATSIM_BANDS.index("r")


@pytest.fixture(scope="module")
def stamps() -> ObservedStamps:
    """Without r in stamp 5, without anything in stamp 6; zero points that differ."""
    found = observed(N)
    weight = found.inverse_variance.copy()
    weight[5, R] = 0
    weight[6] = 0
    zero_point = np.broadcast_to(25.0 + np.arange(6.0), (N, 6))
    return replace(found, inverse_variance=weight, zero_point=zero_point)


@pytest.mark.parametrize("bands", ["ugrizy", "zyriug"])
def test_redshifts_are_of_the_fluxes_of_the_catalogue(
    model: SkyModel,  # noqa: F811
    stamps: ObservedStamps,
    bands: str,
) -> None:
    stamps = stamps.in_bands(tuple(bands))
    scene = measure_scenes(model, stamps)
    found = photometry_of(stamps, scene)
    trust = trust_of(stamps, scene)
    fluxes, unit = scene.fluxes, 10 ** (0.4 * (31.4 - stamps.zero_point))
    for k, band in enumerate(bands):
        place = CATSIM_BANDS.index(band)
        flux = fluxes.flux[:, 0, k] * unit[:, k]
        np.testing.assert_allclose(found.flux[:, place], flux, rtol=1e-5)
        np.testing.assert_allclose(found.noise[:, place], flux / trust.snr[:, k], rtol=1e-5)
    known = np.isfinite(fluxes.flux[:, 0]).any(axis=1)
    light, noise, error = (np.nan_to_num(part[:, 0] * unit) for part in (fluxes.flux, fluxes.noise_error, fluxes.error))
    expected = np.sqrt((error**2 - noise**2).sum(axis=1)[known] / (light**2).sum(axis=1)[known])
    np.testing.assert_allclose(found.common[known], expected, rtol=1e-3)
    assert found.shared.isfinite().all()
    torch.manual_seed(1)
    network = RowRedshifts(RedshiftScale(0.6, 0.2), (16,))
    estimates = redshifts_of(network, stamps, scene)
    np.testing.assert_array_equal(np.isfinite(estimates.z), known)
    np.testing.assert_array_equal(estimates.high, network.estimates(found).high)
    assert np.isnan(redshifts_of(None, stamps, scene).z).all()


@pytest.fixture(scope="module")
def table(model: SkyModel, stamps: ObservedStamps) -> pd.DataFrame:  # noqa: F811
    return measure_catalog(model, stamps, responses=0.5, seed=2)


def test_the_columns_are_those_of_the_registry_in_its_order(table: pd.DataFrame) -> None:
    assert list(table) == list(sky_columns(CATSIM_BANDS))
    assert [name for name in tile_columns(CATSIM_BANDS) if name in table] == list(table)
    assert len(table) == N


def test_numbers_are_the_scene_s_in_the_units_of_the_catalogue(
    table: pd.DataFrame,
    model: SkyModel,  # noqa: F811
    stamps: ObservedStamps,
) -> None:
    scene = measure_scenes(model, stamps)
    trust = trust_of(stamps, scene)
    posterior, likelihood = scene.targets.posterior, scene.targets.likelihood
    for k, band in enumerate(CATSIM_BANDS):
        # 1 nJy is AB 31.4.
        unit = 10 ** (0.4 * (31.4 - 25.0 - k))
        np.testing.assert_allclose(table[f"flux_{band}"], scene.fluxes.flux[:, 0, k] * unit)
        np.testing.assert_allclose(table[f"flux_{band}_err"], scene.fluxes.error[:, 0, k] * unit)
        flux = table[f"flux_{band}"].to_numpy()
        bright = flux > 0
        assert table[f"mag_{band}"].notna().tolist() == bright.tolist() == table[f"mag_{band}_err"].notna().tolist()
        np.testing.assert_allclose(table[f"mag_{band}"][bright], 31.4 - 2.5 * np.log10(flux[bright]))
        # By finite differences.
        step = 1e-6 * table[f"flux_{band}_err"][bright] / flux[bright]
        np.testing.assert_allclose(table[f"mag_{band}_err"][bright], 2.5 * np.log10(1 + step) / 1e-6, rtol=1e-4)
        np.testing.assert_allclose(table[f"snr_{band}"], trust.snr[:, k])
        for other in range(k + 1, len(CATSIM_BANDS)):
            covariance = scene.fluxes.color_covariance[:, 0, other, k] * unit * 10 ** (0.4 * (31.4 - 25.0 - other))
            np.testing.assert_allclose(table[f"flux_cov_{band}{CATSIM_BANDS[other]}"], covariance)
    assert (table["flux_r"].isna() == np.isin(np.arange(N), (5, 6))).all()

    def pair(of: GaussianPosterior, name: str) -> tuple[np.ndarray, np.ndarray]:
        k = QUANTITIES.index(name)
        return of.mean.numpy()[:, k : k + 2], of.covariance.numpy()[:, k : k + 2, k : k + 2]

    # x of these stamps is west and y north: the sky frame is the pixel frame.
    for letter in "ge":
        for suffix, of in (("", posterior), ("_pixel", posterior), ("_likelihood", likelihood)):
            mean, covariance = pair(of, f"{letter}1")
            known = np.isfinite(mean[:, 0])
            if suffix == "_likelihood":
                known &= likelihood.is_constrained(QUANTITIES.index(f"{letter}1"))
            assert (table[f"{letter}1{suffix}"].notna() == known).all()
            for k in (0, 1):
                np.testing.assert_allclose(table[f"{letter}{k + 1}{suffix}"][known], mean[known, k])
            for name, (i, j) in {"11": (0, 0), "12": (0, 1), "22": (1, 1)}.items():
                column = f"{letter}_cov_{name}_pixel" if suffix == "_pixel" else f"{letter}{suffix}_cov_{name}"
                np.testing.assert_allclose(table[column][known], covariance[known, i, j], atol=1e-15)
    size = QUANTITIES.index("ln_size")
    np.testing.assert_allclose(table["half_light_radius"], np.exp(posterior.mean[:, size].numpy()))
    np.testing.assert_allclose(
        table["half_light_radius_err"] / table["half_light_radius"], posterior.errors[:, size].numpy()
    )
    np.testing.assert_allclose(table["star_probability"], scene.targets.star)
    np.testing.assert_allclose(table["centroid_offset"], 0.25 * trust.offset)
    np.testing.assert_array_equal(table["flags"], trust.flags)
    np.testing.assert_array_equal(table["training_distance"], trust.training_distance)
    reference = [CATSIM_BANDS.index("i") if n == 5 else R for n in range(N)]
    blendedness = scene.fluxes.blendedness[np.arange(N), 0, reference]
    np.testing.assert_array_equal(table["blendedness"], blendedness)
    np.testing.assert_array_equal(table["chi2"], np.nanmax(np.nan_to_num(scene.fluxes.chi2[:, 0], nan=-1), axis=1)
                                  * np.where(np.arange(N) == 6, np.nan, 1))  # fmt: skip


def test_the_psf_is_the_one_that_was_given(table: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    rng.uniform(5, 44, (N, 3, 2)), rng.integers(1, 4, N)
    for band, (fwhm, g1, g2) in zip(CATSIM_BANDS, rng.uniform([3, -0.08, -0.08], [5, 0.08, 0.08], (6, 3)), strict=True):
        # The Gaussians of the samples have their FWHM with the pixel, whose variance is 1/12.
        sigma = np.sqrt((fwhm / 2.3548) ** 2 - 1 / 12)
        assert table[f"psf_fwhm_{band}"][1] == pytest.approx(0.25 * 2.3548 * sigma, rel=0.01)
        assert table[f"psf_g1_{band}"][1] == pytest.approx(g1, abs=0.005)
        assert table[f"psf_g2_{band}"][1] == pytest.approx(g2, abs=0.005)
        assert np.isnan(table[f"psf_g1_{band}"][6])
    assert np.isnan(table["psf_fwhm_u"][0])
    assert np.isnan(table["psf_fwhm_r"][5])


def test_bands_and_stamps_that_are_absent(table: pd.DataFrame) -> None:
    assert table["bands_present"].tolist() == ["grizy", *["ugrizy"] * 4, "ugizy", "", "ugrizy"]
    assert table["reference_band"].tolist() == [*["r"] * 5, "i", "", "r"]
    assert table["flags"][6] & int(RowFlag.NO_DATA)
    assert not (table["flags"].drop(6) & int(RowFlag.NO_DATA)).any()
    numbers = table.drop(columns=["bands_present", "reference_band", "flags", "snr", "masked_fraction"])
    assert numbers.loc[6].isna().all()


def test_responses_are_those_of_a_share_of_the_rows(
    table: pd.DataFrame,
    model: SkyModel,  # noqa: F811
    stamps: ObservedStamps,
) -> None:
    expected = measure_response(model, measure_scenes(model, stamps).seen, 0.5, 2).posterior.columns()
    assert len(expected) == 12
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values)
    assert 0 < table["R11"].notna().sum() < N
    assert measure_catalog(model, stamps.rows(slice(2)), responses=0.0)["R11"].isna().all()


@pytest.mark.parametrize("element", range(ORDER))
def test_another_camera_sees_the_same_sky(element: int) -> None:
    """Stamps that are turned or mirrored, with the WCS that says so, give the same rows."""
    stamps = observed(4)
    # What each axis of the pixels becomes.
    turn = transform_vectors(torch.eye(2), torch.full((2,), element)).numpy().T
    turned = turned_in_the_sky(stamps, element)
    turned = replace(turned, jacobian=stamps.jacobian @ turn.T)
    every = uncalibrated_model()
    # Of all orientations: which one is canonical is a near tie here and there.
    every.orientations = ORDER
    first, second = (measure_catalog(every, part, responses=0.0) for part in (stamps, turned))
    for name in first:
        if name in ("flags", "bands_present", "reference_band"):
            assert first[name].tolist() == second[name].tolist(), name
        elif name.endswith("_pixel"):
            continue
        elif first[name].notna().any():
            # Convolutions in bfloat16 round by some 1 % of an error.
            scale = np.nanmax(np.abs(first[name]))
            np.testing.assert_allclose(second[name], first[name], rtol=0.02, atol=0.02 * scale, err_msg=name)


def test_targets_are_measured_in_as_many_orientations_as_asked() -> None:
    stamps, every = observed(2), uncalibrated_model()
    found = [measure_scenes(every, stamps, number) for number in (None, ORDER)]
    means = [scene.targets.posterior.mean for scene in found]

    assert not torch.allclose(*means)
    for number, scene, mean in zip((1, ORDER), found, means, strict=True):
        faint = np.isnan(scene.fit.chi2)
        assert faint.any()
        torch.testing.assert_close(mean[faint], every.measure(scene.seen, number).posterior.mean[faint])


def test_names_of_bands_are_the_survey_s_and_foreign_bands_are_refused(
    model: SkyModel,  # noqa: F811
    stamps: ObservedStamps,
) -> None:
    some = stamps.rows(slice(2))
    found = measure_catalog(model, some, responses=0.0, names=tuple("ugrizY"))
    assert "flux_Y" in found
    assert found["bands_present"].tolist() == ["grizY", "ugrizY"]
    with pytest.raises(MismatchError, match="wanted u g r i z y"):
        measure_catalog(model, replace(some, bands=tuple("ugrizY")), responses=0.0)


def test_the_sources_are_those_of_the_scene_beside_their_detections(
    model: SkyModel,  # noqa: F811
    stamps: ObservedStamps,
    table: pd.DataFrame,
) -> None:
    again, found = measure_with_scene(model, stamps, responses=0.5, seed=2)
    sources = sources_of(stamps, found)
    pd.testing.assert_frame_equal(again, table)
    assert tuple(sources) == tuple(SOURCE_COLUMNS)
    scene = measure_scenes(model, stamps).sources
    np.testing.assert_allclose(sources[["source_dx", "source_dy"]], scene.values[:, 0, :2] - stamps.position)
    np.testing.assert_array_equal(sources["source_ln_hlr"], scene.values[:, 0, 4])
    assert sources.loc[6].isna().all(), "nothing is measured of a stamp without weight"
