"""The PSF model: its parameters are what is measured on it, everywhere in the field."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import galsim
import numpy as np
import pytest

from deblend_assets.errors import SettingsError
from deblend_assets.science.skies.limits import fwhm_limits
from deblend_assets.science.skies.psf import (
    MAX_SHEAR_CHANGE,
    MAX_SIZE_CHANGE,
    ChipEdge,
    Optics,
    PSFModel,
    PSFVariation,
    VaryingPSF,
)
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.stamps.conventions import add_shear

ABERRATED = Optics(8.36, 620.0, 0.61, defocus=0.5, coma1=-0.4, coma2=0.3, trefoil1=0.3, trefoil2=-0.2)
MODELS = {
    "kolmogorov": PSFModel("kolmogorov", 0.7, g1=0.05, g2=-0.03, dx=0.02, dy=-0.01),
    "moffat 2": PSFModel("moffat", 1.4, beta=2.0, g1=-0.09),
    "moffat 5": PSFModel("moffat", 0.5, beta=5.0, g2=0.1),
    "gaussian": PSFModel("gaussian", 0.9, g1=0.01),
    "aberrated": PSFModel("kolmogorov", 0.65, g1=0.06, g2=0.04, dx=-0.03, dy=0.02, optics=ABERRATED),
    "aberrated moffat": PSFModel(
        "moffat", 0.9, beta=3.0, g1=-0.05, optics=Optics(4.0, 780.0, 0.42, defocus=-0.3, coma2=0.4, trefoil1=-0.2)
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_the_model_says_is_measured(model: PSFModel) -> None:
    profile = model.profile()
    shape = measure_psf(profile)
    assert shape.fwhm == pytest.approx(model.fwhm, rel=3e-3)
    assert abs(shape.g - model.g) < 1e-5 if model.optics is None else abs(shape.g - model.g) < 1e-4
    assert (shape.x, shape.y) == pytest.approx((model.dx, model.dy), abs=2e-4)
    assert profile.flux == pytest.approx(1.0)
    assert model.at(3.0, 5.0) == profile


@pytest.mark.parametrize("fwhm", [0.5, 1.4])
def test_the_largest_offset_is_measured(fwhm: float) -> None:
    for model in (PSFModel("kolmogorov", fwhm, dx=0.5 * fwhm), PSFModel("moffat", fwhm, 2.0, dy=-0.5 * fwhm)):
        shape = measure_psf(model.profile())
        assert (shape.x, shape.y) == pytest.approx((model.dx, model.dy), abs=1e-4)
        assert shape.fwhm == pytest.approx(fwhm, rel=3e-3)


def test_without_optics_it_is_galsims_profile() -> None:
    model = PSFModel("moffat", 0.8, beta=2.7, g1=0.03, g2=0.05, dx=0.1, dy=-0.05)
    same = galsim.Moffat(beta=2.7, fwhm=0.8).shear(g1=0.03, g2=0.05).shift(0.1, -0.05)
    ours, theirs = (p.drawImage(nx=48, ny=48, scale=0.2, dtype=float).array for p in (model.profile(), same))
    assert np.abs(ours - theirs).max() < 1e-6 * theirs.max()


def test_the_profiles_of_earlier_skies_are_let_go() -> None:
    """One with optics takes 20 MB: a process that renders thousands of fields keeps those of two skies at most."""
    profiles = [weakref.ref(PSFModel("kolmogorov", 0.5 + 0.01 * k).profile()) for k in range(60)]
    gc.collect()
    assert sum(profile() is not None for profile in profiles) <= 12


def test_aberrations_make_the_psf_lopsided() -> None:
    """Its transform has an imaginary part, which a shear, a shift or defocus alone does not give."""
    lopsided = replace(MODELS["aberrated"], dx=0.0, dy=0.0).profile()
    even = PSFModel("kolmogorov", 0.65, g1=0.06, optics=Optics(8.36, 620.0, 0.61, defocus=0.5)).profile()
    k = galsim.PositionD(5.0, 3.5)
    assert abs(lopsided.kValue(k).imag) > 0.01 * abs(lopsided.kValue(k))
    assert abs(even.kValue(k).imag) < 1e-4 * abs(even.kValue(k))


@pytest.mark.parametrize("name", ["kolmogorov", "aberrated"])
def test_shapes_follow_a_shear_and_sizes_do_not(name: str) -> None:
    profile = MODELS[name].profile()
    before, after = measure_psf(profile), measure_psf(profile.shear(g1=0.04, g2=-0.07))
    assert abs(after.g - complex(add_shear(np.complex128(before.g), 0.04 - 0.07j))) < 1e-4
    assert after.fwhm == pytest.approx(before.fwhm, rel=2e-3)
    assert after.sigma == pytest.approx(before.sigma, rel=1e-4)


@pytest.mark.parametrize("fwhm", [0.13, 0.5, 1.4, 2.6])
def test_fwhm_of_any_size(fwhm: float) -> None:
    for profile in (galsim.Kolmogorov(fwhm=fwhm), galsim.Moffat(beta=2.5, fwhm=fwhm), galsim.Gaussian(fwhm=fwhm)):
        assert measure_psf(profile).fwhm == pytest.approx(fwhm, rel=2e-3)
    assert measure_psf(galsim.Gaussian(fwhm=fwhm)).sigma == pytest.approx(fwhm / 2.35482, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fwhm": 0.45}, "fwhm"),
        ({"fwhm": 1.5}, "fwhm"),
        ({"fwhm": float("nan")}, "fwhm"),
        ({"g1": 0.08, "g2": 0.08}, "g1, g2"),
        ({"atmosphere": "airy"}, "atmosphere"),
        ({"beta": 3.0}, "beta"),
        ({"atmosphere": "moffat"}, "beta"),
        ({"atmosphere": "moffat", "beta": 1.9}, "beta"),
        ({"dx": 0.3, "dy": -0.3}, "dx"),
    ],
)
def test_bad_models_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[PSFModel\.{named}"):
        replace(PSFModel("kolmogorov", 0.8), **changes)


def test_optics_that_are_too_wide_are_refused() -> None:
    with pytest.raises(SettingsError, match="optics leave too little"):
        PSFModel("kolmogorov", 0.5, optics=Optics(4.0, 900.0, 0.4, defocus=2.0)).profile()
    with pytest.raises(SettingsError, match="wavelength"):
        Optics(8.4, 0.62)


def test_no_measurement_of_what_has_no_peak() -> None:
    twin = galsim.Gaussian(fwhm=0.3).shift(1.2, 0) + galsim.Gaussian(fwhm=0.3).shift(-1.2, 0)
    for profile in (twin, -1 * galsim.Gaussian(fwhm=0.8)):
        with pytest.raises(SettingsError, match="no adaptive moments"):
            measure_psf(profile)


SHAPE = (300, 400)


def test_variation_keeps_its_range_and_is_smooth() -> None:
    rng = np.random.default_rng(3)
    sizes, shears = [], []
    x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    for edge in (False, True) * 8:
        variation = PSFVariation.random(SHAPE, rng, edge=edge)
        ln_size, g = variation.at(x, y)
        sizes.append(np.abs(ln_size).max())
        shears.append(max(np.abs(g.real).max(), np.abs(g.imag).max()))
        steps = np.abs(np.diff(ln_size, axis=1)).max(), np.abs(np.diff(ln_size, axis=0)).max()
        assert (max(steps) > 3e-3) <= edge, "only a chip's edge makes a step"
        largest = variation.largest
        assert np.abs(ln_size).max() < largest[0] * 1.002
        assert np.abs(g).max() < largest[1] * 1.002
        if not edge:
            assert largest == pytest.approx((np.abs(ln_size).max(), np.abs(g).max()), rel=2e-3)
    assert 0.6 * MAX_SIZE_CHANGE < max(sizes) <= MAX_SIZE_CHANGE * 1.001
    assert 0.6 * MAX_SHEAR_CHANGE < max(shears) <= MAX_SHEAR_CHANGE * 1.001


def test_a_chips_edge_is_where_it_is_said() -> None:
    flat = (0.0,) * 5
    variation = PSFVariation(SHAPE, flat, flat, flat, ChipEdge("y", 100.0, 0.02, 0.01, -0.005))
    ln_size, g = variation.at([10.0, 390.0, 200.0], [99.4, 100.0, 299.0])
    assert ln_size == pytest.approx([0.0, 0.02, 0.02])
    assert np.allclose(g, [0, 0.01 - 0.005j, 0.01 - 0.005j])


def test_a_varying_psf_is_its_model_changed() -> None:
    rng = np.random.default_rng(8)
    psf = VaryingPSF(MODELS["aberrated"], PSFVariation.random(SHAPE, rng, edge=True))
    for x, y in ((0.0, 0.0), (250.0, 120.0)):
        ln_size, g = psf.variation.at(x, y)
        shape = measure_psf(psf.at(x, y))
        assert shape.fwhm == pytest.approx(psf.model.fwhm * np.exp(ln_size), rel=3e-3)
        assert abs(shape.g - psf.model.g - g) < 1e-4
        assert (shape.x, shape.y) == pytest.approx((psf.model.dx, psf.model.dy), abs=2e-4)
    outside = psf.variation.at(-50.0, 1e4)
    assert outside[0] == psf.variation.at(0.0, SHAPE[0] - 1.0)[0], "as at the image's edge"


def test_the_same_seed_gives_the_same_variation() -> None:
    first, second = (PSFVariation.random(SHAPE, np.random.default_rng(4), edge=True) for _ in range(2))
    assert first == second


def test_limits_in_arcsec_and_in_pixels() -> None:
    assert (fwhm_limits(0.15).low, fwhm_limits(0.15).high) == pytest.approx((0.5, 0.9))
    assert (fwhm_limits(0.30).low, fwhm_limits(0.30).high) == pytest.approx((0.69, 1.4))
