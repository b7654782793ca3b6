"""The batched renderer against BTK and GalSim, and against what must hold for any renderer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import galsim
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.renderers import GalaxyRenderer, new_galaxy_renderer
from deblend_assets.science.simulation.renderers.components import Components, grid_sizes
from deblend_assets.science.simulation.renderers.fourier import FourierRenderer
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey, survey_magnitudes
from deblend_assets.science.stamps.moments import image_moments

PIXELS = 45
# Faintest galaxies of the simulations of each survey, AB magnitude in i: targets and neighbours.
DEPTH = {"LSST": 27.0, "DES": 25.5}


@functools.cache
def galaxies_of(survey: str) -> tuple[pd.DataFrame, NDArray]:
    """The whole table, which takes seconds to make, and its magnitudes in the survey's bands."""
    table = generate_population(60_000, 1)
    return table, survey_magnitudes(
        {c: table[c].to_numpy() for c in table.columns if c.endswith("_ab")}, load_survey(survey)
    )


class Population:
    """Galaxies of every magnitude that a simulation of the survey draws, at random places and angles."""

    def __init__(self, survey: str, galaxies: int, *, largest: int = 0) -> None:
        self.survey = load_survey(survey)
        table, self.magnitudes = galaxies_of(survey)
        self.catalog = {c: table[c].to_numpy() for c in table.columns if not c.endswith("_ab")}
        rng = np.random.default_rng(7)
        magnitude = table["i_ab"].to_numpy()
        bright, all_rows = (np.flatnonzero(magnitude < limit) for limit in (DEPTH[survey] - 2.7, DEPTH[survey]))
        # Half of them bright: it is there that an error could exceed the sky's noise.
        rows = np.concatenate([rng.choice(bright, galaxies // 2), rng.choice(all_rows, galaxies - galaxies // 2)])
        size = np.maximum(self.catalog["a_d"], self.catalog["a_b"])
        self.rows = np.concatenate([rows, bright[np.argsort(-size[bright])[:largest]]])
        n = len(self.rows)
        self.x, self.y = rng.uniform(-2.2, 2.2, (2, n))
        self.turn = rng.uniform(0, 360, n)

    def galaxy_renderer(self, kind: str, shear: complex = 0j) -> GalaxyRenderer:
        return new_galaxy_renderer(kind, self.catalog, self.magnitudes, self.survey, PIXELS, shear)

    def render(self, kind: str, shear: complex = 0j) -> NDArray:
        return self.galaxy_renderer(kind, shear).render(self.rows, self.x, self.y, self.turn)

    def e(self, images: NDArray) -> NDArray:
        """Observed distortion in r, complex."""
        moments = image_moments(images[:, self.survey.bands.index("r")])
        return moments.e1 + 1j * moments.e2


def disagreement(population: Population, ours: NDArray, btk: NDArray) -> pd.DataFrame:
    """Largest differences of each galaxy over its bands and pixels."""
    error = np.abs(ours - btk).max(axis=(2, 3))
    seen = btk.sum(axis=(2, 3)) > 100  # electrons: below, BTK's rounding to whole ones is all there is
    flux = np.abs(ours.sum(axis=(2, 3)) / np.where(seen, btk.sum(axis=(2, 3)), 1) - 1)
    return pd.DataFrame(
        {
            "of_peak": (error / np.maximum(btk.max(axis=(2, 3)), 1e-3)).max(axis=1, where=seen, initial=0),
            "of_sky": (error / np.sqrt(population.survey.sky)).max(axis=1),
            "flux": flux.max(axis=1, where=seen, initial=0),
            "e": np.abs(population.e(ours) - population.e(btk)),
        }
    )


LIMITS = {"of_peak": 1e-3, "of_sky": 0.02, "flux": 1e-3, "e": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("survey", ["LSST", "DES"])
def test_equal_to_btk_over_the_whole_population(survey: str) -> None:
    """300 galaxies, and the 50 largest, all within all limits; of 5,000 none was seen beyond a tenth of any."""
    population = Population(survey, 300, largest=50)
    found = disagreement(population, population.render("torch"), population.render("btk"))
    for name, limit in LIMITS.items():
        assert (found[name] < limit).all(), found[name].describe()
    assert (found["of_sky"] < 0.01).all()
    assert found["of_peak"].median() < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("survey", ["LSST", "DES"])
def test_equal_to_btk_with_shear_and_equal_in_response(survey: str) -> None:
    population = Population(survey, 60, largest=4)
    shears = [0.05, -0.05, 0.05j, -0.05j]
    ours, btk = ([population.render(kind, complex(g)) for g in shears] for kind in ("torch", "btk"))
    for mine, theirs in zip(ours, btk, strict=True):
        found = disagreement(population, mine, theirs)
        for name, limit in LIMITS.items():
            assert (found[name] < limit).all(), found[name].describe()

    def response(images: list[NDArray]) -> NDArray:
        e = [population.e(image) for image in images]
        return np.stack([(e[0] - e[1]).real, (e[2] - e[3]).imag]) / 0.1

    difference = np.abs(response(ours) - response(btk))
    # GalSim sizes its grid a band and a shear: where +g and -g fall on two sizes, what it folds into the stamp
    # differs between them, and its own response errs by a few thousandths. Ours takes the larger grid for all bands.
    assert (difference < 1e-3).mean() > 0.95
    assert difference.max() < 1e-2
    assert response(ours).mean() == pytest.approx(response(btk).mean(), abs=2e-4)
    assert np.median(response(ours)) > 0.2


def test_a_difference_would_be_seen() -> None:
    """The limits are not empty: half a per cent in size breaks them for most galaxies."""
    population = Population("LSST", 40)
    btk = population.render("btk")
    for name in ("a_d", "b_d", "a_b", "b_b"):
        population.catalog[name] = population.catalog[name] * 1.005
    found = disagreement(population, population.render("torch"), btk)
    assert (found["of_sky"] > LIMITS["of_sky"]).mean() > 0.5


def test_a_galaxy_is_the_same_whatever_is_drawn_with_it() -> None:
    population = Population("LSST", 60, largest=6)
    galaxy_renderer = population.galaxy_renderer("torch")
    places = (population.rows, population.x, population.y, population.turn)
    together = galaxy_renderer.render(*places)
    apart = np.concatenate(
        [galaxy_renderer.render(*(a[k : k + 5] for a in places)) for k in range(0, len(together), 5)]
    )
    assert apart.tobytes() == together.tobytes()


def test_a_quarter_turn_turns_the_image() -> None:
    population = Population("LSST", 12)
    galaxy_renderer = population.galaxy_renderer("torch")
    zero = np.zeros(12)
    upright = galaxy_renderer.render(population.rows, zero, zero, population.turn)
    turned = galaxy_renderer.render(population.rows, zero, zero, population.turn + 90)
    peak = upright.max(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(turned / peak, np.rot90(upright, -1, axes=(2, 3)) / peak, atol=2e-6)
    assert population.e(turned) == pytest.approx(-population.e(upright), abs=1e-5)


def test_a_step_of_one_pixel_moves_the_image_by_one() -> None:
    population = Population("DES", 8)
    galaxy_renderer, step = population.galaxy_renderer("torch"), population.survey.pixel_scale
    here = galaxy_renderer.render(population.rows, population.x, population.y, population.turn)
    there = galaxy_renderer.render(population.rows, population.x + step, population.y, population.turn)
    peak = here.max(axis=(2, 3), keepdims=True)
    # The grid's size may change with the offset, and the light it folds with it.
    np.testing.assert_allclose((there / peak)[..., 1:], (here / peak)[..., :-1], atol=1e-4)


def with_psf(survey: SurveyModel, change: Callable[[galsim.GSObject], galsim.GSObject]) -> SurveyModel:
    """The survey seen through other PSFs."""
    other = load_survey(survey.name)
    for band in other.bands:
        band_filter = other.btk_survey.get_filter(band)
        band_filter.psf = change(band_filter.psf)
    return replace(survey, btk_survey=other.btk_survey)


def test_an_elliptical_psf_is_drawn_as_galsim_draws_it() -> None:
    population = Population("LSST", 20)
    population.survey = with_psf(population.survey, lambda psf: psf.shear(g1=0.03, g2=-0.05))
    found = disagreement(population, population.render("torch"), population.render("btk"))
    for name, limit in LIMITS.items():
        assert (found[name] < limit).all(), found[name].describe()


def atmosphere_and_optics(fwhm: float, e: tuple[float, float], **aberrations: float) -> galsim.GSObject:
    """A Kolmogorov atmosphere behind the optics of an 8.4 m telescope with aberrations [waves at 620 nm]."""
    optics = galsim.OpticalPSF(lam=620, diam=8.36, obscuration=0.61, **aberrations)
    return galsim.Convolve(galsim.Kolmogorov(fwhm=fwhm), optics).shear(g1=e[0], g2=e[1])


# Of every family that an image may have, round and not, symmetric and not: widths 0.5 to 1.4 arcsec, |g| up to 0.1.
PSFS: dict[str, Callable[[], galsim.GSObject]] = {
    "kolmogorov": lambda: galsim.Kolmogorov(fwhm=0.7),
    "kolmogorov, narrow": lambda: galsim.Kolmogorov(fwhm=0.5),
    "kolmogorov, wide and sheared": lambda: galsim.Kolmogorov(fwhm=1.4).shear(g1=-0.06, g2=0.08),
    "moffat, beta 2": lambda: galsim.Moffat(beta=2.0, fwhm=0.8, trunc=6.0),
    "moffat, beta 2.5": lambda: galsim.Moffat(beta=2.5, fwhm=0.8),
    "moffat, beta 3.5, sheared": lambda: galsim.Moffat(beta=3.5, fwhm=0.6).shear(g1=0.1, g2=0.0),
    "moffat, beta 5, off centre": lambda: galsim.Moffat(beta=5.0, fwhm=1.0).shift(0.06, -0.09),
    "gaussian": lambda: galsim.Gaussian(fwhm=0.9),
    "gaussian, sheared and off centre": lambda: galsim.Gaussian(fwhm=0.7).shear(g1=0.05, g2=0.05).shift(-0.1, 0.02),
    "defocus": lambda: atmosphere_and_optics(0.6, (0.0, 0.0), defocus=0.5),
    "astigmatism": lambda: atmosphere_and_optics(0.6, (0.0, 0.0), astig1=0.3, astig2=-0.2),
    "coma along x": lambda: atmosphere_and_optics(0.6, (0.0, 0.0), coma2=0.4),
    "coma along y": lambda: atmosphere_and_optics(0.6, (0.0, 0.0), coma1=-0.4),
    "trefoil": lambda: atmosphere_and_optics(0.6, (0.0, 0.0), trefoil1=0.3, trefoil2=0.2),
    "all aberrations, sheared": lambda: atmosphere_and_optics(
        0.65, (0.03, -0.04), defocus=0.3, coma1=0.2, coma2=-0.3, trefoil1=0.15, trefoil2=-0.2
    ),
    "coma, off centre": lambda: atmosphere_and_optics(0.8, (0.0, 0.0), coma1=0.3).shift(0.08, 0.05),
    "gaussian and optics": lambda: galsim.Convolve(
        galsim.Gaussian(fwhm=0.6), galsim.OpticalPSF(lam=620, diam=4.0, obscuration=0.42, defocus=0.3, coma2=0.2)
    ),
    "two moffats, lopsided": lambda: galsim.Add(
        0.8 * galsim.Moffat(beta=3.0, fwhm=0.6), 0.2 * galsim.Moffat(beta=3.0, fwhm=1.2).shift(0.2, 0.1)
    ),
    "an image": lambda: image_of(atmosphere_and_optics(0.7, (0.02, 0.01), coma1=0.3)),
    "an image of a moffat": lambda: image_of(galsim.Moffat(beta=3.0, fwhm=0.75).shear(g1=0.02, g2=0.0)),
}


def image_of(psf: galsim.GSObject) -> galsim.GSObject:
    """The PSF as an image of it, as files have them."""
    return galsim.InterpolatedImage(psf.drawImage(nx=65, ny=65, scale=0.1, method="no_pixel"), normalization="flux")


@pytest.mark.parametrize("name", PSFS)
def test_any_psf_is_rendered_as_galsim_renders_it(name: str) -> None:
    population = Population("LSST", 6, largest=2)
    psf = PSFS[name]()
    population.survey = with_psf(population.survey, lambda _: psf)
    found = disagreement(population, population.render("torch"), population.render("btk"))
    for quantity, limit in LIMITS.items():
        assert (found[quantity] < limit).all(), found[quantity].describe()


def test_a_lopsided_psf_differs_from_its_mirror_image() -> None:
    """What the imaginary part of its transform alone tells: without it both would look alike."""
    population = Population("LSST", 4)
    images = {}
    for turn in (0.0, 180.0):
        psf = atmosphere_and_optics(0.6, (0.0, 0.0), coma1=0.4).rotate(turn * galsim.degrees)
        population.survey = with_psf(population.survey, lambda _, psf=psf: psf)
        zero = np.zeros(4)
        images[turn] = population.galaxy_renderer("torch").render(population.rows, zero, zero, population.turn)
    peak = images[0.0].max(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(images[180.0] / peak, images[0.0][..., ::-1, ::-1] / peak, atol=5e-6)
    assert np.abs(images[180.0] / peak - images[0.0] / peak).max() > 0.05


def test_an_undersampled_psf_is_aliased_as_galsim_does() -> None:
    """A PSF of two thirds of a pixel, beyond the pixels' Nyquist frequency."""
    population = Population("LSST", 12)
    population.survey = with_psf(population.survey, lambda psf: galsim.Gaussian(fwhm=0.14))
    found = disagreement(population, population.render("torch"), population.render("btk"))
    # GalSim stops where the galaxy's or the PSF's transform falls to its `maxk_threshold` of 1e-3; ours goes on.
    assert (found["of_peak"] < 1e-4).mean() > 0.85
    assert (found["of_peak"] < 5e-3).all()


def test_light_is_counted_in_whole_electrons_and_shared_by_the_components() -> None:
    catalog = {name: np.array([1.0, 0.0]) for name in ("fluxnorm_disk", "fluxnorm_agn")}
    catalog |= {"fluxnorm_bulge": np.array([3.0, 0.0]), "pa_disk": np.array([30.0, 0]), "pa_bulge": np.array([30.0, 0])}
    catalog |= {
        name: np.array([value, value]) for name, value in (("a_d", 0.8), ("b_d", 0.2), ("a_b", 0.5), ("b_b", 0.5))
    }
    components = Components.of_catalog(catalog, np.array([[25.0], [25.0]]), np.array([30.0]))
    assert components.flux[:, 0].tolist() == [100.0, 0.0], "2.5 log10(100) = 5; a galaxy without light has none"
    assert components.share[0].tolist() == [0.2, 0.6, 0.2]
    assert components.hlr[0].tolist() == [pytest.approx(0.4), 0.5]
    along = components.ellipses(np.array([0]), np.radians([-30.0]), 0j)[0]
    assert along[0] == pytest.approx([0.64, 0.0, 0.04]), "semi-axes squared, the major one along x"
    # A round bulge under a shear g has axes in the ratio (1 + g) / (1 - g), at unchanged area.
    sheared = components.ellipses(np.array([0]), np.zeros(1), 0.1 + 0j)[0, 1]
    assert sheared[0] / sheared[2] == pytest.approx((1.1 / 0.9) ** 2)
    assert sheared[0] * sheared[2] == pytest.approx(0.5**4)


def test_grids_are_galsims() -> None:
    population = Population("LSST", 40, largest=10)
    components = Components.of_catalog(
        population.catalog, population.magnitudes, np.asarray(population.survey.zero_point)
    )
    galaxy_renderer = population.galaxy_renderer("torch")
    assert isinstance(galaxy_renderer, FourierRenderer)
    ellipses = components.ellipses(population.rows, np.radians(population.turn), 0j)
    psf = population.survey.btk_survey.get_filter("u").psf  # the widest
    sizes = grid_sizes(ellipses, np.hypot(population.x, population.y), psf.stepk, 0.2)
    for k, row in enumerate(population.rows):
        parts = [
            profile(half_light_radius=components.hlr[row, c], flux=components.share[row, c]).shear(
                q=components.q[row, c], beta=0 * galsim.degrees
            )
            for c, profile in enumerate((galsim.Exponential, galsim.DeVaucouleurs))
            if components.share[row, c] > 0
        ]
        seen = galsim.Convolve(galsim.Add(parts), psf).shift(population.x[k], population.y[k])
        wanted = galsim.Convolve(seen, galsim.Pixel(0.2)).getGoodImageSize(0.2)
        assert sizes[k] == max(128, galsim.Image.good_fft_size(wanted))
    assert len(set(sizes)) > 2
