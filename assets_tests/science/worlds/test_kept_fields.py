"""Kept fields: what is observed in them is what is observed in the fields themselves."""

from __future__ import annotations

import numpy as np
import pytest

from assets_tests.science.simulation.field_samples import small_catalog
from assets_tests.science.worlds.samples import DETECTION, STAMPS, gaussian_field
from deblend_assets.errors import MismatchError
from deblend_assets.science.detection.light import true_snr
from deblend_assets.science.simulation.fields import Field, sample_field
from deblend_assets.science.skies.background import SkyResidual
from deblend_assets.science.skies.noise import resampled
from deblend_assets.science.skies.psf import PSFModel, PSFVariation, VaryingPSF
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.worlds.kept_fields import LEAST_SNR, KeptField, kept_arrays, kept_field, packed, unpacked
from deblend_assets.science.worlds.observed_fields import observe_field, observe_known
from deblend_assets.science.worlds.targets import Targets, field_targets
from deblend_assets.settings import FieldSettings, MaskSettings

SIDE = 160
MASKS = MaskSettings(cosmic_rays=10.0)


def full_field() -> Field:
    """Galaxies and stars under a sky with all that a sky has: varying PSF, correlated noise, a residual, a gain."""
    psf = VaryingPSF(
        PSFModel("moffat", 0.8, 3.0, 0.02, 0.01), PSFVariation.random((SIDE, SIDE), np.random.default_rng(5))
    )
    bands = {
        "r": SkyBand(psf, 12.0, 32.0, 1.5, resampled("bilinear"), SkyResidual(2.0, 1.0, -1.0)),
        "i": SkyBand(psf, 18.0, 31.5),
    }
    settings = FieldSettings(pixels=SIDE, margin=5.0, beyond_limit=2.5, faintest=27.0, brightest_star=19.0)
    sky = Sky("test", 0.2, (SIDE, SIDE), bands)
    return sample_field(small_catalog(), sky, settings, np.random.default_rng(2))


@pytest.fixture(scope="module")
def field() -> Field:
    return full_field()


@pytest.fixture(scope="module")
def kept(field: Field) -> KeptField:
    return kept_field(kept_arrays(field, STAMPS.psf_side))


def observed(kept: KeptField, seed: int = 3) -> Targets:
    return field_targets(observe_known(kept, kept.alone, seed, MASKS, DETECTION), 5, STAMPS, 10.0)


def test_light_is_kept_to_a_thousandth_of_its_value_or_of_the_noise_over_nine_decades() -> None:
    rng = np.random.default_rng(0)
    values = (10 ** rng.uniform(-6, 6, (3, 40, 40))).astype(np.float32)
    values[1] *= np.float32(1e-4)
    values[2] = 0
    short, scale = packed(values)
    assert short.dtype == np.float16
    assert np.isfinite(short).all()
    error = np.abs(unpacked(short, scale) - values)
    assert (error <= np.maximum(1e-3 * values, 1e-5)).all()  # the sky's sigma is 1 where light is counted in it
    assert unpacked(*packed(values)).dtype == np.float32


def test_sky_and_light_come_back(field: Field, kept: KeptField) -> None:
    sky, again = field.sky, kept.sky
    assert (again.name, again.pixel_scale, again.shape, again.names) == (
        sky.name,
        sky.pixel_scale,
        sky.shape,
        sky.names,
    )
    for name in ("sigma", "zero_point", "gain"):
        np.testing.assert_array_equal(again.column(name), sky.column(name))
    for name in sky.names:
        np.testing.assert_array_equal(again[name].correlation.values, sky[name].correlation.values)
        assert again[name].residual == sky[name].residual
        assert again.depth(name) == sky.depth(name)
    limit = np.maximum(1e-3 * field.light, 1e-3 * sky.column("sigma")[:, None, None])
    assert (np.abs(kept.light - field.light) <= limit).all()


def test_an_observation_of_a_kept_field_is_that_of_the_field(field: Field, kept: KeptField) -> None:
    wanted = field_targets(observe_field(field, 3, MASKS, DETECTION), 5, STAMPS, 10.0)
    found = observed(kept)
    assert len(found) == len(wanted) > 5
    truth, other = wanted.truth, found.truth
    near = {
        "snr": 1e-3,
        "others_r": 5e-3,
        "others_i": 5e-3,
        "blendedness": 5e-3,
        "e_sigma": 1e-3,
        "e1": 1e-3,
        "e2": 1e-3,
    }
    for name in (
        "id",
        "star",
        "spurious",
        "shred",
        "blend",
        "unrecognized",
        "reference_band",
        "mag_i",
        "true_x",
        "true_y",
    ):
        np.testing.assert_array_equal(truth[name], other[name], err_msg=name)
    for name in ("fwhm_pixel", "psf_g1", "depth", "g1", "hlr_arcsec", "flux_r", "nearest_arcsec", "brightest_arcsec"):
        np.testing.assert_array_equal(truth[name], other[name], err_msg=name)
    for name, tolerance in near.items():
        np.testing.assert_allclose(truth[name], other[name], atol=tolerance, rtol=tolerance, err_msg=name)
    np.testing.assert_allclose(truth["light_share"], other["light_share"], atol=0.05)  # without the faintest sources
    np.testing.assert_allclose(truth["x"], other["x"], atol=0.01)
    np.testing.assert_array_equal(wanted.stamps.psf, found.stamps.psf)
    np.testing.assert_array_equal(wanted.stamps.mask, found.stamps.mask)
    np.testing.assert_array_equal(wanted.stamps.noise_correlation, found.stamps.noise_correlation)
    np.testing.assert_allclose(wanted.stamps.pixels, found.stamps.pixels, rtol=1e-3, atol=0.02)  # sigma 12, 18


def test_the_seed_alone_decides_an_observation(kept: KeptField) -> None:
    first, again, other = observed(kept), observed(kept), observed(kept, seed=4)
    assert first.truth.equals(again.truth)
    for name, values in first.stamps.arrays().items():
        np.testing.assert_array_equal(values, again.stamps.arrays()[name])
    assert not first.truth["snr"].isin(other.truth["snr"]).any()


def test_sources_that_can_be_no_target_are_light_alone(field: Field, kept: KeptField) -> None:
    inverse = np.broadcast_to(field.sky.column("sigma")[:, None, None] ** -2, field.light.shape).astype(np.float32)
    pieces = field.renderer.pieces(field.sources.bodies, field.sources.x, field.sources.y)
    lags = [band.correlation.lags(6) for band in field.sky.bands.values()]
    snr = np.array([true_snr(piece, inverse, lags) for piece in pieces])
    bright = snr >= LEAST_SNR
    assert 0 < bright.sum() < len(snr)
    np.testing.assert_array_equal(kept.truth["id"], field.truth["id"][bright])
    np.testing.assert_allclose(kept.alone.true_snr, snr[bright], rtol=1e-3)
    assert len(kept.alone.pieces) == bright.sum()


def test_pieces_on_the_detection_image_are_cut_at_the_edges() -> None:
    field = gaussian_field([2.0, 40.0], [30.0, 61.0], [3000.0, 2000.0], 0.3, 0j, 64)
    kept = kept_field(kept_arrays(field, STAMPS.psf_side))
    for piece in kept.alone.pieces:
        _, ny, nx = piece.light.shape
        assert piece.x >= 0
        assert piece.y >= 0
        assert piece.x + nx <= 64
        assert piece.y + ny <= 64
    # Two equal bands of the same flux: their mean is the source's light in either.
    whole = field.light[0].copy()
    for piece in kept.alone.pieces:
        _, ny, nx = piece.light.shape
        whole[piece.y : piece.y + ny, piece.x : piece.x + nx] -= piece.light[0]
    assert np.abs(whole).max() < 2e-3 * field.light.max()


def test_a_field_without_sources_can_be_kept() -> None:
    field = gaussian_field([30.0], [30.0], [1e-3], 0.3, 0j, 64)
    kept = kept_field(kept_arrays(field, STAMPS.psf_side))
    assert len(kept.truth) == 0
    assert len(observed(kept)) == 0


def test_stamps_of_another_psf_side_are_refused(kept: KeptField) -> None:
    with pytest.raises(MismatchError, match="PSFs of 31 pixels, not 21"):
        field_targets(
            observe_known(kept, kept.alone, 3, None, DETECTION), 0, STAMPS.model_copy(update={"psf_side": 21}), 10.0
        )
