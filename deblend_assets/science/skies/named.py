"""Distributions of skies: LSST, DES and HSC around their values, and the whole range.

Pixel scale, zero points, sky brightness, exposure times, median seeing, mirror and obscuration are SurveyCodex's (1.3),
whose references are the surveys' own. LSST is the ten years' coadd, DES and HSC are their wide surveys. SurveyCodex
does not have the scatter of the seeing (15 %), of the visits (Poisson) and of the sky's brightness (0.1 mag), nor
aberrations: these are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import galsim
import numpy as np

from deblend_assets.errors import SettingsError
from deblend_assets.science.skies.background import SkyResidual
from deblend_assets.science.skies.limits import BANDS, MOFFAT_BETA, PIXEL_SCALE, PSF_SHEAR, Limits, fwhm_limits
from deblend_assets.science.skies.measured_psf import flux_error
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation, reconvolved, resampled
from deblend_assets.science.skies.psf import PSF, Atmosphere, Optics, PSFModel, PSFVariation, VaryingPSF
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.settings import FieldSkySettings

_SEEING_SCATTER = 0.15  # of ln FWHM, half of its variance common to the bands
_SKY_SCATTER = 0.1  # mag, of a coadd's sky brightness
_ABERRATION = 0.008  # arcsec: standard deviation of a coefficient in waves times wavelength over diameter
_OPTICS_SHARE = 2 / 3  # of the PSFs that are not Gaussian
_G_SCATTER = 0.02  # of each component of g in a survey, half of its variance common to the bands
# Exposure of a visit [s]: LSST, DES; HSC's differ by band.
_VISIT = {"LSST": dict.fromkeys(BANDS, 30.0), "DES": dict.fromkeys(BANDS, 90.0) | {"y": 45.0}}
_VISIT["HSC"] = {"g": 150.0, "r": 150.0, "i": 200.0, "z": 200.0, "y": 200.0}
# `wide`: 5 σ depth below that of LSST's ten years [mag], of the field and each band; DES is at 2.7, HSC at 1.2 in r.
_SHALLOWER, _DEPTH_SCATTER = (0.0, 3.0), 0.2


@dataclass(frozen=True)
class _Nominal:
    """A survey's band: FWHM [arcsec], AB magnitude of 1 electron / s, sky [electron / s / pixel], exposure [s]."""

    fwhm: float
    zero_point: float
    sky_rate: float
    exposure: float
    wavelength: float


@dataclass(frozen=True)
class _Survey:
    """Pixel scale [arcsec], mirror [m], its obscuration in diameter, and the bands."""

    pixel_scale: float
    diameter: float
    obscuration: float
    bands: dict[str, _Nominal]


@lru_cache(maxsize=4)
def _survey(name: str) -> _Survey:
    import surveycodex
    from surveycodex.utilities import mean_sky_level

    survey = surveycodex.get_survey(name)
    bands = {}
    for filter_name in survey.available_filters:
        band = survey.get_filter(filter_name)
        exposure = float(band.full_exposure_time.to_value("s"))
        bands[filter_name.lower()] = _Nominal(
            fwhm=float(band.psf_fwhm.to_value("arcsec")),
            zero_point=float(band.zeropoint.value),
            sky_rate=float(mean_sky_level(survey, band).to_value("electron")) / exposure,
            exposure=exposure,
            wavelength=float(band.effective_wavelength.to_value("nm")),
        )
    return _Survey(
        pixel_scale=float(survey.pixel_scale.to_value("arcsec")),
        diameter=float(survey.mirror_diameter.to_value("m")),
        # SurveyCodex's is that of the area.
        obscuration=float(survey.obscuration) ** 0.5,
        bands={band: bands[band] for band in BANDS if band in bands},
    )


def survey_pixel_scale(name: str) -> float:
    """Pixel scale of LSST, DES or HSC [arcsec / pixel]."""
    return _survey(name).pixel_scale


def sample_sky(settings: FieldSkySettings, shape: tuple[int, int], rng: np.random.Generator) -> Sky:
    """A random sky.

    The PSF keeps the limits of FWHM, in arcsec and in pixels, and of |g| everywhere in the field.

    Args:
        settings: which distribution.
        shape: of the field's images, (y, x) [pixel].
        rng: random numbers; the same give the same sky.
    """
    wide = settings.name == "wide"
    survey = _survey(str(rng.choice(["LSST", "DES", "HSC"])) if wide else settings.name)
    pixel_scale = float(rng.uniform(PIXEL_SCALE.low, PIXEL_SCALE.high)) if wide else survey.pixel_scale
    names: tuple[str, ...] = settings.bands or (_subset(rng) if wide else tuple(survey.bands))
    limits = fwhm_limits(pixel_scale)
    noise = _NoiseKind.random(settings, rng)
    with_edge = settings.psf_varies and rng.random() < settings.chip_edges
    sampler = _PSFSampler(wide, survey, limits, noise.reconvolution, settings.psf_varies, with_edge, shape, rng)
    shallower = rng.uniform(*_SHALLOWER)
    bands = {}
    for name in names:
        nominal = (_survey("LSST") if wide else survey).bands[name]
        psf, fwhm = sampler.psf(nominal)
        correlation = noise.correlation(psf, fwhm, pixel_scale, rng)
        band = (
            _band_of_depth(nominal, pixel_scale, psf, correlation, shallower, shape, rng)
            if wide
            else _band_of_visits(nominal, _VISIT[settings.name][name], psf, correlation, rng)
        )
        if settings.residual:
            band = replace(band, residual=SkyResidual.random(pixel_scale, band.zero_point, rng))
        bands[name] = band
    return Sky(settings.name, pixel_scale, shape, bands)


def _subset(rng: np.random.Generator) -> tuple[str, ...]:
    chosen = set(rng.choice(BANDS, size=rng.integers(1, len(BANDS) + 1), replace=False))
    return tuple(band for band in BANDS if band in chosen)


def _within(low: float, high: float, mean: float, scatter: float, rng: np.random.Generator) -> float:
    """A log-normal number inside the limits; the nearer limit where the distribution lies outside."""
    for _ in range(100):
        value = mean * np.exp(scatter * rng.standard_normal())
        if low <= value <= high:
            return float(value)
    return float(np.clip(mean, low, high))


@dataclass
class _PSFSampler:
    """Random PSFs of one field, a band after the other, with what they have in common."""

    wide: bool
    survey: _Survey
    limits: Limits
    reconvolution: bool
    varies: bool
    edge: bool
    shape: tuple[int, int]
    rng: np.random.Generator

    def __post_init__(self) -> None:
        kinds: list[Atmosphere] = ["kolmogorov", "moffat", "gaussian"] if self.wide else ["kolmogorov", "moffat"]
        self.atmosphere = kinds[self.rng.integers(len(kinds))]
        self.ln_seeing = self.rng.standard_normal() * _SEEING_SCATTER / 2**0.5
        self.mean_fwhm = self.rng.uniform(self.limits.low, self.limits.high)
        self.g = self._ellipticity(PSF_SHEAR.high) if self.wide else self._normal_g()

    def psf(self, nominal: _Nominal) -> tuple[PSF, float]:
        """A band's PSF, and its FWHM at the mean of the field [arcsec]."""
        rng = self.rng
        variation = PSFVariation.random(self.shape, rng, edge=self.edge) if self.varies else None
        if self.reconvolution:
            variation = None
        size, change = variation.largest if variation else (0.0, 0.0)
        low, high = self.limits.low * np.exp(size) * 1.001, self.limits.high * np.exp(-size) * 0.999
        mean = self.mean_fwhm if self.wide else nominal.fwhm * np.exp(self.ln_seeing)
        fwhm = _within(low, high, mean, _SEEING_SCATTER / 2**0.5, rng)
        if self.reconvolution:
            # Brought to a round Gaussian, the same all over the field.
            return PSFModel("gaussian", fwhm), fwhm
        largest_g = PSF_SHEAR.high * 0.999 - change
        g = 0.5 * (self.g + self._ellipticity(PSF_SHEAR.high)) if self.wide else self.g + self._normal_g()
        if abs(g) > largest_g:
            g *= largest_g / abs(g)
        offset = rng.normal(size=2) * (0.03 if self.wide else 0.01)
        beta = None
        if self.atmosphere == "moffat":
            beta = float(rng.uniform(MOFFAT_BETA.low, MOFFAT_BETA.high) if self.wide else rng.uniform(2.5, 4.5))
        model = PSFModel(self.atmosphere, fwhm, beta, g.real, g.imag, float(offset[0]), float(offset[1]))
        if self.atmosphere != "gaussian" and rng.random() < _OPTICS_SHARE:
            model = self._with_optics(model, nominal.wavelength)
        return (VaryingPSF(model, variation) if variation else model), fwhm

    def _with_optics(self, model: PSFModel, wavelength: float) -> PSFModel:
        """The model with random aberrations, halved until they leave most of the width to the atmosphere."""
        diffraction = wavelength * 1e-9 / self.survey.diameter * (180 / np.pi * 3600)
        aberrations = self.rng.normal(size=5) * _ABERRATION / diffraction
        while True:
            optics = Optics(self.survey.diameter, wavelength, self.survey.obscuration, *map(float, aberrations))
            try:
                candidate = replace(model, optics=optics)
                candidate.profile()
                return candidate
            except SettingsError:
                aberrations = aberrations / 2

    def _normal_g(self) -> complex:
        return complex(*(self.rng.normal(size=2) * _G_SCATTER / 2**0.5))

    def _ellipticity(self, largest: float) -> complex:
        """Uniform over a disc."""
        return complex(largest * self.rng.random() ** 0.5 * np.exp(2j * np.pi * self.rng.random()))


@dataclass(frozen=True)
class _NoiseKind:
    """How a field's coadds came about: resampling by a kernel, reconvolution, or neither."""

    kernel: str | None
    ratio: float
    reconvolution: bool

    @classmethod
    def random(cls, settings: FieldSkySettings, rng: np.random.Generator) -> _NoiseKind:
        if rng.random() >= settings.correlated:
            return cls(None, 1.0, False)
        kind = str(rng.choice(["bilinear", "lanczos3", "reconvolution"]))
        ratio = float(rng.uniform(0.8, 1.1)) if settings.name == "wide" else 1.0
        return cls("lanczos3" if kind == "reconvolution" else kind, ratio, kind == "reconvolution")

    def correlation(self, psf: PSF, fwhm: float, pixel_scale: float, rng: np.random.Generator) -> NoiseCorrelation:
        if self.kernel is None:
            return WHITE
        resampling = resampled("bilinear" if self.kernel == "bilinear" else "lanczos3", self.ratio)
        if not self.reconvolution:
            return resampling
        before = fwhm / rng.uniform(1.15, 1.4)
        native = (
            galsim.Kolmogorov(fwhm=before)
            if rng.random() < 0.5
            else galsim.Moffat(fwhm=before, beta=float(rng.uniform(2.6, 4.5)))
        ).shear(g1=float(rng.normal() * _G_SCATTER), g2=float(rng.normal() * _G_SCATTER))
        return resampling.followed_by(reconvolved(native, psf.at(0.0, 0.0), pixel_scale))


def _band_of_visits(
    nominal: _Nominal, visit: float, psf: PSF, correlation: NoiseCorrelation, rng: np.random.Generator
) -> SkyBand:
    """A survey's coadd in electrons: sky noise of a random number of visits, at least half of the nominal."""
    visits = nominal.exposure / visit
    exposure = visit * max(rng.poisson(visits), np.ceil(visits / 2))
    sky = nominal.sky_rate * exposure * 10 ** (-0.4 * _SKY_SCATTER * rng.standard_normal())
    return SkyBand(
        psf,
        sigma=float((sky / correlation.area) ** 0.5),
        zero_point=nominal.zero_point + 2.5 * float(np.log10(exposure)),
        correlation=correlation,
    )


def _band_of_depth(
    nominal: _Nominal,
    pixel_scale: float,
    psf: PSF,
    correlation: NoiseCorrelation,
    shallower: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> SkyBand:
    """A coadd of random zero point whose depth is that of LSST's ten years less some magnitudes, under LSST's sky."""
    zero_point = float(rng.uniform(25.0, 32.0))
    depth = _full_depth(nominal) - shallower + _DEPTH_SCATTER * rng.standard_normal()
    error = flux_error(psf.at((shape[1] - 1) / 2, (shape[0] - 1) / 2), pixel_scale, correlation)
    sigma = 10 ** (-0.4 * (depth - zero_point)) / (5 * error)
    # Brightness of the sky in image units a pixel; the variance of its electrons, sigma² × area, gives the gain.
    rate = (
        nominal.sky_rate
        * (pixel_scale / _survey("LSST").pixel_scale) ** 2
        * 10 ** (-0.4 * (nominal.zero_point - zero_point))
    )
    sky = rate * 10 ** (-0.4 * _SKY_SCATTER * rng.standard_normal())
    gain = float(sky / (sigma**2 * correlation.area))
    return SkyBand(psf, sigma=float(sigma), zero_point=zero_point, gain=gain, correlation=correlation)


@lru_cache(maxsize=len(BANDS))
def _full_depth(nominal: _Nominal) -> float:
    """5 σ depth of LSST's ten years in a band, at the median seeing."""
    error = flux_error(galsim.Kolmogorov(fwhm=nominal.fwhm), _survey("LSST").pixel_scale)
    faintest = 5 * error * (nominal.sky_rate / nominal.exposure) ** 0.5  # electrons a second
    return nominal.zero_point - 2.5 * float(np.log10(faintest))
