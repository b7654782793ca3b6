"""PSFs measured on their images, pixel included, against the same measured on their profiles."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.science.skies import psf_images
from deblend_assets.science.skies.psf import Atmosphere, Optics, PSFModel
from deblend_assets.science.skies.psf_images import forget, measure_psf_images
from deblend_assets.science.skies.psf_shape import measure_psf

SIDE = 41
PROFILES: tuple[tuple[Atmosphere, float | None], ...] = (
    ("gaussian", None),
    ("kolmogorov", None),
    ("moffat", 5.0),
    ("moffat", 2.5),
    ("moffat", 2.0),
)


def drawn(model: PSFModel, scale: float) -> np.ndarray:
    return model.profile().drawImage(nx=SIDE, ny=SIDE, scale=scale).array.astype(np.float32)


@pytest.mark.parametrize(("atmosphere", "beta"), PROFILES)
@pytest.mark.parametrize(("fwhm", "scale"), [(0.621, 0.27), (0.7, 0.2), (1.2, 0.2)])
@pytest.mark.parametrize("g", [0j, 0.06 - 0.07j])
def test_the_image_says_what_the_profile_says(
    atmosphere: Atmosphere, beta: float | None, fwhm: float, scale: float, g: complex
) -> None:
    """FWHM of 2.3, 3.5 and 6 pixels, the limits of skies; the centre a quarter of a pixel off."""
    model = PSFModel(atmosphere, fwhm, beta, g.real, g.imag, 0.25 * scale, -0.2 * scale)
    truth, found = measure_psf(model.profile()), measure_psf_images(drawn(model, scale))
    assert found.fwhm == pytest.approx(truth.fwhm / scale, rel=0.012)
    assert complex(found.g1, found.g2) == pytest.approx(truth.g, abs=0.002)


@pytest.mark.parametrize(("atmosphere", "beta"), PROFILES)
def test_the_place_within_the_pixel_matters_little(atmosphere: Atmosphere, beta: float | None) -> None:
    """For a FWHM of 2.3 pixels, where the samples are too coarse for the PSF's finest parts."""
    models = [PSFModel(atmosphere, 0.621, beta, 0.05, 0.05, dx * 0.27, dx * 0.27) for dx in (0.0, 0.5)]
    found = measure_psf_images(np.stack([drawn(model, 0.27) for model in models]))
    assert found.fwhm[0] == pytest.approx(found.fwhm[1], rel=0.03)
    np.testing.assert_allclose(found.fwhm, 2.3, rtol=0.02)
    np.testing.assert_allclose([found.g1, found.g2], 0.05, atol=0.005)


def test_a_psf_with_aberrations_too() -> None:
    model = PSFModel("kolmogorov", 0.7, None, 0.05, 0.02, optics=Optics(6.5, 620, 0.6, 0.1, 0.1, -0.1, 0.05, 0.1))
    truth, found = measure_psf(model.profile()), measure_psf_images(drawn(model, 0.2))
    assert found.fwhm == pytest.approx(truth.fwhm / 0.2, rel=0.012)
    assert complex(found.g1, found.g2) == pytest.approx(truth.g, abs=0.002)


@pytest.mark.parametrize("name", ["wings", "kurtosis"])
def test_numbers_of_the_profile_are_nearly_those_of_any_size(name: str) -> None:
    """0 for a Gaussian; more for each Moffat profile of smaller beta. Both tell Kolmogorov's from Moffat's."""
    images = [[drawn(PSFModel(a, fwhm, beta), 0.2) for a, beta in PROFILES] for fwhm in (0.7, 0.9)]
    found = getattr(measure_psf_images(np.array(images)), name)
    np.testing.assert_allclose(found[:, 0], 0.0, atol=1e-3)
    assert (np.diff(found[:, [0, 2, 3, 4]], axis=1) > 0.04).all()
    np.testing.assert_allclose(found[0], found[1], atol=0.015)


def test_the_moments_are_those_of_galsim() -> None:
    """Of a finely sampled image, for which the pixel does not matter: kurtosis, and size through the FWHM."""
    profile = PSFModel("moffat", 0.8, 2.5, 0.08, 0.03).profile()
    fine = profile.drawImage(nx=201, ny=201, scale=0.04, method="no_pixel", dtype=float)
    moments = galsim.hsm.FindAdaptiveMom(fine)
    found = measure_psf_images(drawn(PSFModel("moffat", 0.8, 2.5, 0.08, 0.03), 0.2))
    assert found.kurtosis == pytest.approx(moments.moments_rho4 - 2, abs=2e-3)
    assert found.g1 == pytest.approx(moments.observed_shape.g1, abs=3e-4)


def test_a_psf_of_noise_has_finite_numbers() -> None:
    image = np.random.default_rng(1).normal(size=(20, SIDE, SIDE)).astype(np.float32) + 0.01
    found = measure_psf_images(image)
    assert all(np.isfinite(part[image.sum(axis=(1, 2)) > 0]).all() for part in found)


def test_each_image_is_measured_once_and_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counted(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return original(images)

    original = psf_images._measured
    monkeypatch.setattr(psf_images, "_measured", counted)
    one, two = (drawn(PSFModel("gaussian", fwhm, g1=0.05), 0.2) for fwhm in (0.6, 0.9))
    dark = np.zeros_like(one)
    found = measure_psf_images(np.array([[one, two], [two, dark], [one, one]]))
    assert sum(sizes) == 2
    assert found.fwhm.shape == (3, 2)
    np.testing.assert_allclose(found.fwhm, [[3.0, 4.5], [4.5, np.nan], [3.0, 3.0]], rtol=0.003)
    assert np.isnan(found.g1[1, 1])
    np.testing.assert_allclose(found.g1[np.isfinite(found.g1)], 0.05, atol=1e-3)


def test_no_image_gives_no_number() -> None:
    assert measure_psf_images(np.zeros((0, 6, SIDE, SIDE), dtype=np.float32)).wings.shape == (0, 6)


def test_what_is_remembered_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.stack([drawn(PSFModel("gaussian", fwhm, None, 0.02, 0.0, 0.0, 0.0), 0.2) for fwhm in (0.7, 0.8, 0.9)])
    forget()
    first = measure_psf_images(images)
    with monkeypatch.context() as patched:
        patched.setattr(psf_images, "_measured", lambda images: pytest.fail("measured again"))
        again = measure_psf_images(images[::-1])
    assert np.array_equal(np.stack(first), np.stack(again)[:, ::-1])
    # More than are remembered, in one call too.
    monkeypatch.setattr(psf_images, "_REMEMBERED", 2)
    forget()
    for _ in range(2):
        assert np.array_equal(np.stack(measure_psf_images(images)), np.stack(first))
    assert len(psf_images._lately) == 2
