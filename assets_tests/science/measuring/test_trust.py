"""Flags: none on a stamp that is as it is said to be, and the right one for each damage."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import galsim
import numpy as np
import pandas as pd
import pytest
import torch

import deblend_assets as da
from assets_tests.science.measuring.test_stamp_checks import FWHM, SCALE, stamps
from deblend_assets.science.deblender.scene_fit import fit_targets
from deblend_assets.science.deblender.scene_fluxes import solve_fluxes
from deblend_assets.science.deblender.scene_sources import SceneSources
from deblend_assets.science.measuring.field_rows import BandFlag, band_flags
from deblend_assets.science.measuring.sky_scene import SkyScene
from deblend_assets.science.measuring.stamp_checks import check_stamps
from deblend_assets.science.measuring.trust import REASONS, RowFlag, Trust, lack_of_light, trust_of
from deblend_assets.science.measuring.two_sources import MOST_EVIDENCE, evidence_of_two
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.simulation.sersic import concentration
from deblend_assets.science.sky_shapes.model import SkyMeasurement
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.worlds.damages import DAMAGES

HLR = 0.4


@lru_cache(maxsize=1)
def plain() -> ObservedStamps:
    return stamps(peaks=30.0)


def known(observed: ObservedStamps, **changes: float) -> SkyScene:
    """The scene of one exponential in the middle, with small errors, and the fluxes that the pixels give it."""
    n = len(observed)
    light = np.log(stamps(peaks=30.0).pixels[:, 0].sum(axis=(1, 2)).mean())
    values = {"g1": 0.2, "ln_size": np.log(HLR), "ln_flux": light, "concentration": float(concentration(1.0))} | changes
    mean = np.tile([values.get(name, 0.0) for name in QUANTITIES], (n, 1))
    covariance = np.tile(np.diag(np.full(len(QUANTITIES), 1e-4)), (n, 1, 1))
    posterior = GaussianPosterior(torch.from_numpy(mean), covariance=torch.from_numpy(covariance), blocks=BLOCKS)
    targets = SkyMeasurement(posterior, posterior, np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64))
    numbers = np.stack(
        [
            *observed.position.T,
            *mean[:, [QUANTITIES.index("g1"), QUANTITIES.index("g2")]].T,
            mean[:, QUANTITIES.index("ln_size")],
            mean[:, QUANTITIES.index("concentration")],
        ],
        axis=1,
    )
    sources = SceneSources(
        numbers[:, None], np.tile(np.diag(np.full(6, 1e-4)), (n, 1, 1, 1)), np.zeros((n, 1), dtype=bool)
    )
    none = fit_targets(observed, sources, np.zeros(n, bool))
    gain = np.zeros((n, len(QUANTITIES), 6))
    fluxes, checks = solve_fluxes(observed, sources), check_stamps(observed)
    return SkyScene(targets, sources, fluxes, none, sources, gain, observed, checks)


def share(found: Trust, flag: RowFlag) -> float:
    return float(((found.flags & int(flag)) != 0).mean())


def test_what_is_as_it_is_said_to_be_has_no_flag() -> None:
    found = trust_of(plain(), known(plain()))
    assert (found.flags == 0).all()
    assert found.snr.shape == (len(plain()), 2)
    np.testing.assert_allclose(found.snr_total, np.hypot(*found.snr.T))
    assert (found.masked < 0.01).all()
    assert (found.offset == 0).all()
    # PSF of 0.8 arcsec: the half-light radius of 2 pixels over 0.15 of 49 pixels, and ln flux over 9, are below this.
    assert ((found.training_distance > 0.3) & (found.training_distance < 0.7)).all()
    # 120 values of a scatter of 0.15; what the profiles' errors allow lowers it.
    chi2 = known(plain()).fluxes.chi2[:, 0]
    assert abs(chi2.mean() - 1) < 0.05
    assert (found.misfit <= chi2).all()
    assert found.misfit.mean() > 0.8


@pytest.mark.parametrize(
    ("damage", "flag"),
    [
        ("blank sky", RowFlag.NO_SIGNAL),
        ("sky left in, 1 %", RowFlag.SKY),
        ("constant", RowFlag.FILLED),
        ("zero", RowFlag.FILLED),
        ("negated", RowFlag.NEGATIVE),
        ("cosmic ray", RowFlag.BAD_FIT),
        ("saturated core, masked", RowFlag.SATURATED),
        ("core clipped", RowFlag.FILLED),
        ("noise stated 1.5 times too low", RowFlag.NOISE),
        ("noise stated 1.5 times too high", RowFlag.NOISE),
        ("edge filled with 0", RowFlag.FILLED),
        ("edge filled with -9999", RowFlag.NEGATIVE),
    ],
)
def test_each_damage_has_its_flag(damage: str, flag: RowFlag) -> None:
    light = plain().pixels.sum(axis=(2, 3))
    truth = pd.DataFrame({f"flux_{band}": light[:, k] for k, band in enumerate(plain().bands)})
    damaged = DAMAGES[damage](plain(), truth, np.random.default_rng(2))
    assert share(trust_of(damaged, known(damaged)), flag) > 0.97


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"dx": 3.0}, RowFlag.OFF_CENTRE),
        ({"dx": 2.0, "dy": -1.8}, RowFlag.OFF_CENTRE),
        ({"ln_size": np.log(0.2 * 49 * SCALE)}, RowFlag.LARGE),
        ({"ln_flux": 20.0}, RowFlag.BRIGHT),
    ],
)
def test_answers_beyond_what_is_known_are_flagged(change: dict[str, float], flag: RowFlag) -> None:
    found = trust_of(plain(), known(plain(), **change))
    assert share(found, flag) == 1
    assert ((found.training_distance > 1) == (flag in RowFlag.UNLIKE_TRAINING)).all()


@pytest.mark.parametrize(
    ("probability", "n", "flagged"),
    [(0.4, 1.0, 1.0), (0.4, 3.0, 0.0), (0.02, 1.0, 0.0), (1.0, 1.0, 1.0), (np.nan, 1.0, 0.0)],
)
def test_what_is_probably_two_sources_is_flagged(probability: float, n: float, flagged: float) -> None:
    """The more so the less of a core the profile, of index n, has."""
    scene = known(plain(), concentration=float(concentration(n)))
    blend = np.full(len(plain()), probability)
    found = trust_of(plain(), scene._replace(targets=scene.targets._replace(blend=blend)))
    assert share(found, RowFlag.BLENDED) == flagged


def test_what_the_network_sees_of_a_close_detection_is_no_second_source() -> None:
    apart = plain()
    scene = known(apart, concentration=float(concentration(1.0)))
    scene = scene._replace(targets=scene.targets._replace(blend=np.full(len(apart), 0.9)))
    for distance, flagged in ((1.8 * FWHM / SCALE, 0.0), (2.3 * FWHM / SCALE, 1.0)):
        others = (apart.position + np.array([0.0, distance]))[:, None]
        beside = replace(apart, others=others, others_count=np.ones(len(apart), np.int32))
        assert share(trust_of(beside, scene), RowFlag.BLENDED) == flagged


def test_a_faint_target_needs_a_higher_probability_to_be_two_sources() -> None:
    several, one = (
        evidence_of_two(np.full(3, 0.4), np.array([10.0, 100.0, 1000.0]), np.full(3, 2.7), np.full(3, bands))
        for bands in (2, 1)
    )
    assert ((several > MOST_EVIDENCE) == [False, True, True]).all()
    np.testing.assert_allclose(np.diff(several), np.log(10))
    np.testing.assert_allclose(np.diff(one), [np.log(10), 0])


def test_bright_discs_in_one_band_are_not_taken_for_two_sources() -> None:
    psf, rng = galsim.Moffat(beta=3, fwhm=0.8), np.random.default_rng(1)
    image = galsim.Image(200, 200, scale=SCALE)
    disc = galsim.Convolve(galsim.Exponential(half_light_radius=0.5, flux=4000).shear(g1=0.2, g2=0.1), psf)
    for x in range(25, 200, 50):
        for y in range(25, 200, 50):
            disc.drawImage(image, center=galsim.PositionD(x, y), add_to_image=True)
    pixels = image.array + rng.normal(0, 1, image.array.shape)
    found = da.measure(da.Field({"r": da.Observation(pixels, 1.0, zero_point=30, psf=psf, wcs=SCALE)}))
    assert len(found) == 16
    assert np.median(found["snr"]) > 250
    assert not (found["flags"] & int(RowFlag.BLENDED)).any()


@pytest.mark.parametrize(
    ("change", "distance"),
    [({"ln_size": np.log(0.12 * 49 * SCALE)}, 0.8), ({"ln_size": np.log(0.3 * 49 * SCALE)}, 2.0)],
)
def test_training_distance_is_the_largest_over_its_limit(change: dict[str, float], distance: float) -> None:
    found = trust_of(plain(), known(plain(), **change))
    np.testing.assert_allclose(found.training_distance, distance, rtol=1e-6)


def test_two_pixels_off_is_not_flagged() -> None:
    assert share(trust_of(plain(), known(plain(), dx=1.4, dy=-1.4)), RowFlag.OFF_CENTRE) == 0


@pytest.mark.parametrize(
    ("fwhm", "shear", "flagged"),
    [(0.47, 0.0, True), (0.5, 0.1, False), (1.2, 0.0, False), (1.25, 0.0, True), (0.7, 0.12, True)],
)
def test_a_psf_unlike_those_of_the_training_is_flagged_in_its_band(fwhm: float, shear: float, flagged: bool) -> None:
    """At 0.2 arcsec a pixel the training has 0.5 to 1.2 arcsec, abs(g) up to 0.1."""
    few = plain().rows(slice(0, 4))
    psf = few.psf.copy()
    model = galsim.Moffat(beta=3.0, fwhm=fwhm).shear(g1=shear)
    psf[:, 1] = model.drawImage(nx=41, ny=41, scale=SCALE).array
    observed = replace(few, psf=psf)
    found = trust_of(observed, known(observed))
    assert share(found, RowFlag.PSF) == flagged
    assert ((found.training_distance > 1) == flagged).all()
    assert (found.training_distance > 0.9).all(), "all of these are near a limit"
    assert not (band_flags(observed)[:, 0]).any()
    assert ((band_flags(observed)[:, 1] == int(BandFlag.PSF)) == flagged).all()
    coarse = replace(few, pixel_scale=np.full(4, 0.45), jacobian=few.jacobian * 2.25)
    assert (band_flags(coarse) == int(BandFlag.PSF)).all()
    weight = observed.inverse_variance.copy()
    weight[:, 1] = 0
    absent = replace(observed, inverse_variance=weight)
    assert share(trust_of(absent, known(absent)), RowFlag.PSF) == 0


def test_lost_pixels_and_the_images_end_are_flagged_near_the_target_alone() -> None:
    near, far = plain().mask.copy(), plain().mask.copy()
    column = 24 + round(FWHM / SCALE)
    near[:, :, :, column] = far[:, :, :, 45] = int(MaskBit.NO_DATA)
    for mask, expected in ((near, 1), (far, 0)):
        observed = replace(plain(), mask=mask)
        assert share(trust_of(observed, known(observed)), RowFlag.EDGE) == expected
    weight = plain().inverse_variance.copy()
    weight[:, :, :, 25:] = 0
    half = replace(plain(), inverse_variance=weight)
    found = trust_of(half, known(half))
    # The half from half a pixel right of the middle on: a little less than half of the light.
    assert ((found.masked > 0.4) & (found.masked < 0.5)).all()
    assert share(found, RowFlag.MASKED) == 1


def test_without_weight_nothing_is_measured() -> None:
    weight = plain().inverse_variance.copy()
    weight[0] = 0
    observed = replace(plain(), inverse_variance=weight)
    scene = known(observed)
    found = trust_of(observed, scene)
    assert found.flags[0] & int(RowFlag.NO_DATA)
    assert np.isnan(found.training_distance).tolist() == [True] + [False] * (len(plain()) - 1)
    assert (found.flags[1:] == 0).all()


def test_galaxies_have_light_in_redder_bands() -> None:
    bands, noise, zero = ("g", "r", "i", "z"), np.ones((1, 4)), np.full((1, 4), 30.0)
    assert lack_of_light(bands, np.array([[20.0, 40, 50, 55]]), noise, zero) == 0
    assert lack_of_light(bands, np.array([[0.0, 40, 0, 0]]), noise, zero) > 9
    # A dropout in g, and a band that is absent.
    assert lack_of_light(bands, np.array([[0.0, 40, 45, np.nan]]), noise, zero) == 0
    # 0.5 of the r flux is allowed, at the limit of 1 mag 0.398.
    assert lack_of_light(bands, np.array([[0.0, 40, 20, 20]]), noise, zero) == 0
    expected = (0.398107 * 40 - 10) ** 2 / (1 + 0.398107**2)
    np.testing.assert_allclose(lack_of_light(bands, np.array([[0.0, 40, 10, 20]]), noise, zero), expected, rtol=1e-4)
    # 3 times the flux unit of another zero point is the same light.
    other = zero + np.array([[0, 0, 2.5 * np.log10(3), 0]])
    scaled = np.array([[0.0, 40, 30, 20]]), np.array([[1.0, 1, 3, 1]])
    np.testing.assert_allclose(lack_of_light(bands, *scaled, other), expected, rtol=1e-4)


def test_every_flag_has_its_reason() -> None:
    assert set(REASONS) == set(RowFlag)
