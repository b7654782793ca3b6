"""The peers' adapters on galaxies whose answers are known, drawn by GalSim with LSST's PSFs, sky and noise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from subprocess import run

import galsim
import numpy as np
import pytest
from _pytest.mark import ParameterSet

from deblend_assets.science.peers import PEERS, Blends, Measured, Peer, available
from deblend_assets.science.peers.anacal import fpfs
from deblend_assets.science.peers.sep_hsm import AutoAperture
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.stamps.moments import image_moments

SIDE, COUNT, MAGNITUDE = 45, 6, 20.0
BY_NAME = {peer.name: peer for peer in PEERS}
GIVE_E = ("hsm", "sep_hsm", "scarlet2", "sersic")
# Greatest error of a component of g, and of e: S/N is above 500, what is left is the method's.
TOLERANCE_G = {"hsm": 0.01, "sep_hsm": 0.01, "anacal": 0.01, "scarlet2": 0.01, "sersic": 0.003}
TOLERANCE_E = {"hsm": 0.005, "sep_hsm": 0.005, "scarlet2": 0.005, "sersic": 0.005}
# Kron's ellipse holds some 95 % of an exponential's light.
TOLERANCE_FLUX = {"sep_hsm": 0.08, "scarlet2": 0.05, "sersic": 0.015}


def each(names: Iterable[str]) -> list[ParameterSet]:
    """Peers as parameters of a test; scarlet2 compiles for many seconds."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name == "scarlet2" else []) for name in names]


@dataclass(frozen=True)
class Sky:
    """Blends with their truth: g (N, 2), flux (N, band), and the target alone without noise (N, y, x), label band."""

    blends: Blends
    g: np.ndarray
    flux: np.ndarray
    alone: np.ndarray


def discs(count: int, *, neighbour: bool = False, shear: complex = 0j, seed: int = 3) -> Sky:
    """Exponential discs of r = 20 and |g| of 0.2 to 0.3; angles in pairs turned by 90°, sheared after that."""
    survey, generator = load_survey("LSST"), np.random.default_rng(seed)
    psfs = [survey.btk_survey.get_filter(band).psf for band in survey.bands]
    flux = 10 ** (-0.4 * (MAGNITUDE - np.array(survey.zero_point)))
    label, scale = survey.band_index("r"), survey.pixel_scale
    positions = np.array([[22.0, 22.0], [27.0, 30.0]])[: 1 + neighbour]
    images, shapes, alone, g = [], [], [], 0j
    for k in range(count):
        # Noise aside, shapes in such pairs average to 0.
        g = generator.uniform(0.2, 0.3) * np.exp(2j * generator.uniform(0, np.pi)) if k % 2 == 0 else -g
        disc = galsim.Exponential(half_light_radius=0.7).shear(g1=g.real, g2=g.imag)
        disc = disc.shear(g1=shear.real, g2=shear.imag)
        other = galsim.Exponential(half_light_radius=0.7).shear(g1=0.2).shift(8 * scale, 5 * scale)
        sheared = (g + shear) / (1 + np.conj(shear) * g)
        shapes.append([sheared.real, sheared.imag])
        stamps = np.stack([_drawn(disc * f, psf, scale) for f, psf in zip(flux, psfs, strict=True)])
        alone.append(stamps[label])
        if neighbour:
            # Redder, by 0.3 mag a band: scarlet2 tells galaxies apart by colour.
            redder = flux * 10 ** (0.12 * (np.arange(len(flux)) - label))
            stamps = stamps + [_drawn(other * f, psf, scale) for f, psf in zip(redder, psfs, strict=True)]
        images.append(generator.normal(stamps, np.sqrt(np.array(survey.sky)[:, None, None] + stamps.clip(0))))
    blends = Blends(
        np.array(images, dtype=np.float32),
        np.array(survey.sky),
        psfs,
        survey.bands,
        label,
        scale,
        [positions] * count,
    )
    return Sky(blends, np.array(shapes), np.tile(flux, (count, 1)), np.array(alone))


def _drawn(galaxy: galsim.GSObject, psf: galsim.GSObject, scale: float) -> np.ndarray:
    return galsim.Convolve(galaxy, psf).drawImage(nx=SIDE, ny=SIDE, scale=scale).array.astype(float)


@pytest.fixture(scope="module")
def isolated() -> Sky:
    return discs(COUNT)


@pytest.fixture(scope="module")
def measured(isolated: Sky) -> Callable[[str], Measured]:
    """A peer's answer on `isolated`, made once."""
    return lru_cache(lambda name: peer(name).measure(isolated.blends))


def peer(name: str) -> Peer:
    pytest.importorskip(BY_NAME[name].module)
    return BY_NAME[name]


@pytest.mark.parametrize("name", each(BY_NAME))
def test_the_intrinsic_shapes_of_bright_discs_are_found(
    name: str, isolated: Sky, measured: Callable[[str], Measured]
) -> None:
    assert np.abs(measured(name).g - isolated.g).max() < TOLERANCE_G[name]


@pytest.mark.parametrize("name", each(GIVE_E))
def test_observed_ellipticity_is_that_of_the_convention_the_method_names(
    name: str, isolated: Sky, measured: Callable[[str], Measured]
) -> None:
    if name == "sersic":
        moments = image_moments(isolated.alone)
        expected = np.stack([moments.e1, moments.e2], axis=1)
    else:
        found = [galsim.hsm.FindAdaptiveMom(galsim.Image(image)).observed_shape for image in isolated.alone]
        expected = np.array([[shape.e1, shape.e2] for shape in found])
    assert np.abs(measured(name).e - expected).max() < TOLERANCE_E[name]


@pytest.mark.parametrize("name", each(TOLERANCE_FLUX))
def test_fluxes_are_the_galaxies_own_in_every_band(
    name: str, isolated: Sky, measured: Callable[[str], Measured]
) -> None:
    found = measured(name)
    assert np.abs(found.flux / isolated.flux - 1).max() < TOLERANCE_FLUX[name]
    assert found.images is not None
    assert found.images.dtype == np.float32
    sums = found.images[:, isolated.blends.label].sum(axis=(1, 2)) / isolated.flux[:, isolated.blends.label]
    assert np.abs(sums - 1).max() < TOLERANCE_FLUX[name]


def test_what_a_method_does_not_give_is_nan(measured: Callable[[str], Measured]) -> None:
    assert np.isnan(measured("hsm").flux).all()
    assert measured("hsm").images is None
    if available(BY_NAME["anacal"]):
        assert np.isnan(measured("anacal").e).all()


@pytest.mark.parametrize("name", each(BY_NAME))
def test_a_turn_by_90_degrees_changes_both_signs(name: str, isolated: Sky, measured: Callable[[str], Measured]) -> None:
    blends = isolated.blends
    turned = replace(blends, images=np.rot90(blends.images, axes=(-2, -1)))  # about the galaxies' own place
    found, before = peer(name).measure(turned), measured(name)
    np.testing.assert_allclose(found.g, -before.g, atol=0.01 if name == "anacal" else 0.003)
    np.testing.assert_allclose(found.e, -before.e, atol=0.003)


@pytest.mark.parametrize("name", each(BY_NAME))
def test_a_stamp_without_numbers_is_a_row_of_nan_among_good_ones(
    name: str, isolated: Sky, measured: Callable[[str], Measured]
) -> None:
    images = isolated.blends.images[:3].copy()
    images[1] = np.nan
    blends = replace(isolated.blends, images=images, positions=isolated.blends.positions[:3])
    found = peer(name).measure(blends)
    assert found.e.shape == found.g.shape == (3, 2)
    assert found.flux.shape == images.shape[:2]
    for values in (found.e, found.g, found.flux):
        assert np.isnan(values[1]).all()
    if found.images is not None:
        assert found.images.shape == images.shape
        assert np.isnan(found.images[1]).all()
    atol = 0.02 if name == "anacal" else 1e-4  # AnaCal's mean response is that of fewer galaxies, its noise another
    np.testing.assert_allclose(found.g[[0, 2]], measured(name).g[[0, 2]], atol=atol)


@pytest.mark.parametrize("name", ["sep_hsm", "sersic"])
def test_pure_noise_is_a_failure(name: str, isolated: Sky) -> None:
    sky = isolated.blends.sky
    noise = np.random.default_rng(5).normal(0, np.sqrt(sky)[:, None, None], (4, len(sky), SIDE, SIDE))
    found = peer(name).measure(
        replace(isolated.blends, images=noise.astype(np.float32), positions=isolated.blends.positions[:4])
    )
    assert np.isnan(found.g).all()
    assert np.isnan(found.flux).all()


def test_seps_angle_of_a_right_angle_in_single_precision_has_an_aperture() -> None:
    pixels, theta = np.ones((121, 121), np.float32), np.float64(np.float32(np.pi / 2))
    aperture = AutoAperture(
        pixels, {"x": 60.0, "y": 60.0, "a": 4.0, "b": 2.0, "theta": theta}, np.ones((121, 121), np.int32), 1
    )
    assert theta > np.pi / 2
    assert not aperture.is_least
    assert aperture.flux(pixels)[0] == pytest.approx(aperture.area, rel=0.05)


def test_a_galaxy_far_from_the_centre_is_not_seps_target(isolated: Sky) -> None:
    images = np.roll(isolated.blends.images, 12, axis=-1)
    found = peer("sep_hsm").measure(replace(isolated.blends, images=images))
    assert np.isnan(found.g).all()
    assert np.isnan(found.flux).all()


@pytest.mark.parametrize("name", each(["scarlet2", "sersic"]))
def test_positions_help_with_a_bright_neighbour(name: str) -> None:
    sky = discs(4, neighbour=True)
    found, unmasked = peer(name).measure(sky.blends), BY_NAME["hsm"].measure(sky.blends)

    def worst(values: np.ndarray) -> float:
        return float(np.abs(np.where(np.isnan(values), 1.0, values - sky.g)).max())

    assert worst(found.g) < {"scarlet2": 0.12, "sersic": 0.01}[name]
    assert worst(found.g) < 0.3 * worst(unmasked.g)


def test_the_mean_response_turns_fpfs_into_a_shear() -> None:
    pytest.importorskip("anacal")
    shear = 0.02
    means, responses = [], []
    for sign in (1, -1):
        ellipticity, response = fpfs(discs(20, shear=sign * shear + 0j).blends)
        means.append(ellipticity.mean(axis=0))
        responses.append(response.mean(axis=0))
    slope = (means[0] - means[1]) / (2 * shear) / np.mean(responses, axis=0)
    assert abs(slope[0] - 1) < 0.01
    assert abs(slope[1]) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("neighbour", [False, True])
def test_the_compiled_fit_is_that_of_scarlet2(neighbour: bool) -> None:
    pytest.importorskip("scarlet2")
    from deblend_assets.science.peers.scarlet2 import survey_fitter

    blends = discs(1, neighbour=neighbour).blends
    fitter = survey_fitter(np.sqrt(blends.sky), blends.psfs, blends.scale, blends.bands, (SIDE, SIDE))
    ours, theirs = (fit(blends.images[0], blends.positions[0]) for fit in (fitter.fit, fitter.plain_fit))
    assert np.abs(ours - theirs).max() < 1e-3 * theirs.max()


def test_the_package_imports_no_optional_module() -> None:
    modules = "{'sep', 'anacal', 'scarlet2', 'jax', 'equinox', 'optax'}"
    code = f"import sys, deblend_assets.science.peers; sys.exit(bool({modules} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_peer_without_its_module_is_not_available() -> None:
    assert available(BY_NAME["hsm"])
    assert not available(replace(BY_NAME["hsm"], module="no_such_module"))
