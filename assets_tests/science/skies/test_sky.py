"""Skies and their distributions: limits, depth, noise of sky and sources, twins."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest
from pydantic import ValidationError

from deblend_assets.errors import MismatchError, SettingsError
from deblend_assets.science.skies import named
from deblend_assets.science.skies.background import SkyResidual
from deblend_assets.science.skies.limits import fwhm_limits
from deblend_assets.science.skies.measured_psf import flux_error
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation, resampled
from deblend_assets.science.skies.psf import PSFModel, PSFVariation, VaryingPSF
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.settings import FieldSkySettings

SHAPE = (64, 64)
NAMES = ("LSST", "DES", "HSC", "wide")


@pytest.fixture
def without_optics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aberrated PSFs take a tenth of a second each; distributions of the rest need many skies."""
    monkeypatch.setattr(named, "_OPTICS_SHARE", 0.0)


def skies(name: str, n: int, seed: int = 1, **settings: object) -> list[Sky]:
    rng = np.random.default_rng(seed)
    return [sample_sky(FieldSkySettings(name=name, **settings), SHAPE, rng) for _ in range(n)]


def model_of(band: SkyBand) -> PSFModel:
    model = band.psf.model if isinstance(band.psf, VaryingPSF) else band.psf
    assert isinstance(model, PSFModel)
    return model


# Distributions


@pytest.mark.parametrize("name", NAMES)
def test_both_limits_of_the_fwhm_hold_all_over_the_field(name: str, without_optics: None) -> None:
    fwhm, g = [], []
    for sky in skies(name, 25):
        low, high = fwhm_limits(sky.pixel_scale).low, fwhm_limits(sky.pixel_scale).high
        assert low >= max(0.5, 2.3 * sky.pixel_scale) - 1e-12
        assert high <= min(1.4, 6 * sky.pixel_scale) + 1e-12
        for band in sky.bands.values():
            model = model_of(band)
            size, change = band.psf.variation.largest if isinstance(band.psf, VaryingPSF) else (0.0, 0.0)
            assert low <= model.fwhm * np.exp(-size)
            assert model.fwhm * np.exp(size) <= high
            assert abs(model.g) + change <= 0.1
            fwhm.append(model.fwhm)
            g.append(abs(model.g))
    if name == "wide":
        assert min(fwhm) < 0.6
        assert max(fwhm) > 1.25
        assert max(g) > 0.07


def test_psfs_with_optics_are_measured_inside_the_limits() -> None:
    for name in ("LSST", "DES"):
        for sky in skies(name, 2, bands=("r", "i"), correlated=0.0):
            for band in sky.bands.values():
                for x, y in ((0, 0), (63, 20)):
                    shape = measure_psf(band.psf.at(x, y))
                    assert fwhm_limits(sky.pixel_scale).low < shape.fwhm < fwhm_limits(sky.pixel_scale).high
                    assert abs(shape.g) < 0.1


@pytest.mark.parametrize(
    ("name", "seeing", "depth"),
    [
        # Seeing: SurveyCodex. Depth: 5 σ of a point source in i. HSC Wide has 26.2 (Aihara et al. 2022, 2108.13045);
        # DES DR2 (2101.05765) has S/N = 10 in 2 arcsec at 23.8, which is 24.5 to 25.0 for a PSF fit at S/N = 5;
        # LSST's ten years have 26.8 (Ivezić et al. 2019, 0805.2366).
        ("LSST", 0.79, (26.5, 26.9)),
        ("DES", 0.88, (24.5, 25.1)),
        ("HSC", 0.61, (25.9, 26.4)),
    ],
)
def test_surveys_are_around_their_values(
    name: str, seeing: float, depth: tuple[float, float], without_optics: None
) -> None:
    sampled = skies(name, 60, bands=("i",))
    fwhm = np.array([model_of(sky["i"]).fwhm for sky in sampled])
    assert np.median(fwhm) == pytest.approx(seeing, rel=0.08)
    assert 0.08 < np.log(fwhm).std() < 0.2
    depths = np.array([sky.depth("i") for sky in sampled])
    assert depth[0] < np.median(depths) < depth[1]
    assert 0.1 < depths.std() < 0.35
    assert all(sky["i"].gain == 1 for sky in sampled)


@pytest.mark.parametrize("name", NAMES)
def test_half_of_the_fields_have_correlated_noise_and_it_is_of_every_kind(name: str, without_optics: None) -> None:
    sampled = skies(name, 80, bands=("r",))
    correlated = [not sky["r"].correlation.white for sky in sampled]
    assert abs(np.mean(correlated) - 0.5) < 3.5 * 0.5 / 80**0.5
    assert len({sky["r"].correlation.reach for sky in sampled}) >= 4, "white, bilinear, Lanczos, reconvolved"
    for sky in sampled:
        if sky["r"].correlation.reach > 20:
            assert model_of(sky["r"]).atmosphere == "gaussian"
            assert model_of(sky["r"]).g == 0
    assert all(sky["r"].correlation.white for sky in skies(name, 20, bands=("r",), correlated=0.0))


def test_wide_covers_its_range(without_optics: None) -> None:
    sampled = skies("wide", 45)
    scales = [sky.pixel_scale for sky in sampled]
    assert min(scales) < 0.16
    assert max(scales) > 0.29
    assert {len(sky.names) for sky in sampled} == {1, 2, 3, 4, 5, 6}
    assert {b for sky in sampled for b in sky.names} == set("ugrizy")
    assert {model_of(b).atmosphere for sky in sampled for b in sky.bands.values()} == {
        "kolmogorov",
        "moffat",
        "gaussian",
    }
    depths = np.array([sky.depth("r") for sky in sampled if "r" in sky.names])
    # LSST's ten years less 0 to 3 mag.
    assert depths.min() < 24.6
    assert 26.7 < depths.max() < 27.9
    zero_points = [b.zero_point for sky in sampled for b in sky.bands.values()]
    assert min(zero_points) < 26
    assert max(zero_points) > 31


def test_wides_gain_is_that_of_the_skys_photons(without_optics: None) -> None:
    """Variance σ² in image units is the sky's electrons: brightness = σ² gain, near SurveyCodex's 21.2 mag in r."""
    for sky in skies("wide", 20, bands=("r",)):
        band = sky["r"]
        brightness = band.zero_point - 2.5 * np.log10(
            band.sigma**2 * band.correlation.area * band.gain / sky.pixel_scale**2
        )
        assert brightness == pytest.approx(21.2, abs=0.5)


def test_skies_repeat_with_their_seed_and_bands_differ(without_optics: None) -> None:
    first, again, other = skies("LSST", 1, 5)[0], skies("LSST", 1, 5)[0], skies("LSST", 1, 6)[0]
    assert {b: (model_of(v), v.sigma) for b, v in first.bands.items()} == {
        b: (model_of(v), v.sigma) for b, v in again.bands.items()
    }
    assert first["r"].sigma != other["r"].sigma
    assert len({model_of(b).fwhm for b in first.bands.values()}) == 6


def test_settings_name_bands_of_the_survey() -> None:
    assert FieldSkySettings(name="DES", bands=("g", "i")).bands == ("g", "i")
    for bands in (("u", "g"), ("i", "g"), ("g", "g"), ()):
        with pytest.raises(ValidationError, match="bands must be"):
            FieldSkySettings(name="DES", bands=bands)


# One sky


def simple_sky(shape: tuple[int, int] = (40, 40), **changes: object) -> Sky:
    band = replace(SkyBand(PSFModel("kolmogorov", 0.8), sigma=10.0, zero_point=30.0), **changes)
    return Sky("simple", 0.2, shape, {"r": band, "i": replace(band, sigma=20.0)})


def test_depth_of_white_noise_is_that_of_the_effective_area() -> None:
    """Gaussian PSF and pixel: n_eff = 4π σ² + a little for the pixel; facts of any textbook."""
    fwhm, scale = 0.9, 0.15
    sigma2 = (fwhm / 2.35482) ** 2 + scale**2 / 12
    error = flux_error(galsim.Gaussian(fwhm=fwhm), scale)
    assert error == pytest.approx((4 * np.pi * sigma2 / scale**2) ** 0.5, rel=2e-3)


def test_a_star_at_the_depth_has_its_snr() -> None:
    """By fitting the flux on noise images, correlated and not."""
    rng = np.random.default_rng(4)
    for correlation in (WHITE, resampled("bilinear")):
        sky = simple_sky((33, 33), correlation=correlation)
        p = sky["r"].psf.at(16, 16).drawImage(nx=33, ny=33, scale=0.2, dtype=float).array
        noise = np.stack([sky.noise(np.zeros((2, 33, 33)), rng)[0] for _ in range(500)])
        error = ((noise * p).sum((1, 2)) / (p * p).sum()).std()
        assert sky["r"].flux(sky.depth("r")) / error == pytest.approx(5, rel=0.13)
    assert simple_sky(correlation=resampled("bilinear")).depth("r") < simple_sky().depth("r") - 0.2


def test_noise_has_the_variance_of_sky_and_sources() -> None:
    sky = simple_sky((60, 50), gain=2.0, correlation=resampled("lanczos3"))
    light = np.zeros((2, 60, 50))
    light[:, 20:40, 10:40] = 5_000.0
    light[:, :5] = -100.0
    asked = sky.variance(light)
    assert asked[0, 0, 0] == 100
    assert asked[1, 30, 20] == pytest.approx(400 + 2_500 / sky["i"].correlation.area)
    rng = np.random.default_rng(2)
    noise = np.stack([sky.noise(light, rng) for _ in range(400)])
    assert noise.dtype == np.float32
    ratio = noise.var(axis=0) / asked
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert np.abs(ratio - 1).max() < 6 * (2 / 400) ** 0.5
    assert np.abs(noise.mean(axis=0) / np.sqrt(asked)).max() < 6 / 400**0.5


def test_turned_twins_have_turned_noise() -> None:
    """x → y: a source at +x of the centre is at +y of the twin, and so is its noise."""
    sky = simple_sky(correlation=resampled("lanczos3"))
    light = np.zeros((2, 40, 40))
    light[:, 20, 35] = 1e6
    turned_light = np.rot90(light, -1, axes=(1, 2))
    assert turned_light[0].argmax() // 40 == 35
    noise = sky.noise(light, np.random.default_rng(3))
    twin = sky.noise(turned_light, np.random.default_rng(3), quarter_turns=1)
    assert np.array_equal(np.rot90(noise, -1, axes=(1, 2)), twin)
    with pytest.raises(MismatchError, match="no twin"):
        simple_sky((40, 50)).noise(np.zeros((2, 40, 50)), np.random.default_rng(3), quarter_turns=1)


def test_an_exposure_is_light_residual_and_noise() -> None:
    sky = simple_sky(residual=SkyResidual(3.0, 2.0, -1.0))
    light = np.random.default_rng(0).uniform(0, 50, (2, 40, 40)).astype(np.float32)
    image = sky.expose(light, np.random.default_rng(7))
    noise = sky.noise(light, np.random.default_rng(7))
    left = image - light - noise
    assert left[0, 0, 0] == pytest.approx(3 - 2 + 1, abs=1e-3)
    assert left[1, 39, 39] == pytest.approx(3 + 2 - 1, abs=1e-3)
    assert left.mean() == pytest.approx(3.0, abs=1e-3)
    with pytest.raises(MismatchError, match=r"\(band, y, x\)"):
        sky.expose(light[:1], np.random.default_rng(7))


def test_residuals_are_those_of_surveys() -> None:
    """29 mag / arcsec² rms, none beyond 28, of either sign."""
    rng = np.random.default_rng(1)
    levels = np.array([SkyResidual.random(0.2, 30.0, rng).level for _ in range(2_000)])
    unit = 10 ** (-0.4 * (29.0 - 30.0)) * 0.04
    assert levels.std() == pytest.approx(unit, rel=0.1)
    assert np.abs(levels).max() <= unit * 10**0.4 * 1.0001
    assert abs(levels.mean()) < 4 * unit / 2_000**0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_scale": 0.45}, "pixel_scale"),
        ({"pixel_scale": 0.15, "bands": {"r": SkyBand(PSFModel("kolmogorov", 1.2), 1.0, 30.0)}}, "FWHM of r"),
        (
            {
                "bands": {
                    "i": SkyBand(PSFModel("kolmogorov", 0.8), 1.0, 30.0),
                    "r": SkyBand(PSFModel("kolmogorov", 0.8), 1.0, 30.0),
                }
            },
            "bands",
        ),
        ({"bands": {}}, "bands"),
        ({"shape": (1, 40)}, "pixels"),
    ],
)
def test_skies_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(simple_sky(), **changes)


def test_bands_out_of_range_are_refused() -> None:
    psf = PSFModel("kolmogorov", 0.8)
    for kwargs in ({"sigma": 0.0}, {"sigma": float("nan")}, {"gain": -1.0}, {"zero_point": float("inf")}):
        with pytest.raises(SettingsError, match="SkyBand"):
            SkyBand(psf, **({"sigma": 1.0, "zero_point": 30.0} | kwargs))
    with pytest.raises(SettingsError, match="no band 'z'"):
        simple_sky()["z"]


@pytest.mark.parametrize("end", ["low", "high"])
def test_psfs_at_the_limits_are_skies(end: str) -> None:
    """In arcsec and in pixels at once: 6 × 0.153 / 0.153 is 6.000000000000001."""
    for scale in np.linspace(0.15, 0.30, 301):
        fwhm = getattr(fwhm_limits(scale), end)
        Sky("limit", float(scale), (40, 40), {"r": SkyBand(PSFModel("gaussian", fwhm), 1.0, 30.0)})


def test_varying_psfs_are_validated_all_over_the_image() -> None:
    flat = (0.0,) * 5
    slope = (1.0, 0.0, 0.0, 0.0, 0.0)

    def sky_of(ln_size: tuple[float, ...], g1: tuple[float, ...], shape: tuple[int, int] = (40, 40)) -> Sky:
        return simple_sky(psf=VaryingPSF(PSFModel("kolmogorov", 0.8), PSFVariation(shape, ln_size, g1, flat)))

    sky_of(flat, flat)
    with pytest.raises(SettingsError, match="FWHM of r"):
        sky_of(slope, flat)
    with pytest.raises(SettingsError, match="ellipticity of the PSF of r"):
        sky_of(flat, slope)
    with pytest.raises(MismatchError, match="varies over"):
        sky_of(flat, flat, (40, 50))
    with pytest.raises(SettingsError, match="finite"):
        sky_of((float("nan"),) * 5, flat)


def test_noise_without_power_in_wide_areas_has_no_photons() -> None:
    """The variance of a source's photons is divided by the correlation's sum."""
    values = np.array([[0, 0, 0], [-0.5, 1, -0.5], [0, 0, 0]])
    with pytest.raises(SettingsError, match="sums to 0"):
        simple_sky(correlation=NoiseCorrelation(values))
