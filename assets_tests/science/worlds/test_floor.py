"""The floor of targets in a field: against formulae for Gaussians, the report's floor, and what must always hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from assets_tests.science.simulation.galaxy_samples import random_galaxies
from assets_tests.science.simulation.test_cosmos import write_images
from deblend_assets.errors import MismatchError
from deblend_assets.science.evaluation.fisher import fisher_floor
from deblend_assets.science.simulation.cosmos import RealImages
from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.fields import Field
from deblend_assets.science.simulation.galaxies import DISC, Galaxies, Morphology, concatenate
from deblend_assets.science.simulation.intrinsic import intrinsic_shapes
from deblend_assets.science.simulation.morphologies import TRAINING_MIX, shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.sources import Sources
from deblend_assets.science.skies.inverse_noise import InverseNoise
from deblend_assets.science.skies.measured_psf import flux_error
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation, reconvolved, resampled
from deblend_assets.science.skies.psf import PSF, PSFModel
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.stamps.conventions import CATSIM_BANDS, g_response
from deblend_assets.science.stamps.cutting import cut
from deblend_assets.science.worlds.derivatives import STEPS, psf_derivatives, source_derivatives
from deblend_assets.science.worlds.floor import PSFScatter, Scatter, floor_columns, target_floor

SIDE, SCALE, SIGMA = 61, 0.2, 40.0
ROUND = PSFModel("gaussian", 0.8)
# Variance of that PSF and its pixel [pixel²].
PSF_SIZE = (0.8 / SCALE / 2.3548) ** 2 + 1 / 12
NO_PHOTONS = 1e9
SHAPES = ["sigma_g1", "sigma_g2", "sigma_e1", "sigma_e2", "sigma_ln_size"]


def sky_of(
    sigma: float = SIGMA,
    gain: float = NO_PHOTONS,
    correlation: NoiseCorrelation = WHITE,
    psf: PSF = ROUND,
    bands: str = "ri",
) -> Sky:
    """Bands of one zero point; those after the first have noise 1.5 times as high."""
    noise = [sigma] + [1.5 * sigma] * (len(bands) - 1)
    each = {band: SkyBand(psf, s, 31.4, gain, correlation) for band, s in zip(bands, noise, strict=True)}
    return Sky("test", SCALE, (SIDE, SIDE), each)


def gaussian(flux: float, size: float = 2.0, g: complex = 0j) -> Galaxies:
    """One Gaussian galaxy of a variance [pixel²] before the PSF, of one flux in all bands [image unit]."""
    light = np.zeros((1, 6, 3))
    light[:, :, DISC] = flux
    hlr = np.sqrt(2 * np.log(2) * size) * SCALE
    return Galaxies.build(
        [7], Morphology.SERSIC, [0.5], light, np.full((1, 2), 0.5), np.full((1, 2), hlr), np.full((1, 2), g)
    )


def star(flux: float) -> Galaxies:
    return Galaxies.of_stars([-1], np.full((1, 6), flux))


def field_of(sky: Sky, *bodies: tuple[Galaxies, float, float]) -> Field:
    galaxies = concatenate([body for body, _, _ in bodies])
    x, y = (np.array([place[axis] for place in bodies], float) for axis in (1, 2))
    sources = Sources(galaxies, intrinsic_shapes(galaxies), x, y, np.full(len(x), -1))
    return Field(FieldRenderer(sky), sources)


def floor_of(
    field: Field,
    target: int = 0,
    snr: Sequence[float] | None = None,
    lost: NDArray[np.bool_] | None = None,
    side: int = 41,
    **options: Any,
) -> pd.Series:
    """The floor of one source's stamp; all sources are bright enough to be free unless `snr` is given."""
    x, y = (values[[target]] for values in (field.sources.x, field.sources.y))
    stamps = cut(field.observed_image(field.observe(1), 15), np.round(x), np.round(y), side)
    if lost is not None:
        stamps = replace(stamps, inverse_variance=np.where(lost, 0, stamps.inverse_variance))
    bright = np.full(len(field.sources), 100.0) if snr is None else np.array(snr)
    row: pd.Series = target_floor(field, stamps, [target], bright, 4.0, **options).iloc[0]
    return row


def signal(flux: float, size: float, bands: str = "ri") -> NDArray[np.float64]:
    """S/N of a round Gaussian of a variance [pixel²] behind the PSF, in each band."""
    sigma = np.array([SIGMA] + [1.5 * SIGMA] * (len(bands) - 1))
    return np.asarray(flux / (sigma * np.sqrt(4 * np.pi * size)))


def test_a_stars_position_and_flux_are_those_of_the_matched_filter() -> None:
    field = field_of(sky_of(), (star(9000.0), 30.3, 29.8))
    found = floor_of(field)
    error = flux_error(ROUND.profile(), SCALE)
    assert found["sigma_flux_r"] == pytest.approx(SIGMA * error, rel=2e-3)
    assert found["sigma_flux_i"] == pytest.approx(1.5 * SIGMA * error, rel=2e-3)
    whole = np.hypot(*signal(9000.0, PSF_SIZE))
    assert found[["sigma_x", "sigma_y"]].to_numpy() == pytest.approx(np.sqrt(2 * PSF_SIZE) / whole, rel=0.01)
    shapes = [name for name in found.index if name.startswith(("sigma_g", "sigma_e", "sigma_ln", "cov"))]
    assert found[shapes].isna().all(), "a star has no shape"
    assert len(shapes) == 6 + 6 + 4
    assert found["free"] == 1


def test_a_round_gaussian_has_the_errors_of_the_formulae() -> None:
    """I = F exp(-r²/2S) / (2πS) with S = s + p: of each derivative, sums of I² times polynomials."""
    flux, size = 20_000.0, 3.0
    found = floor_of(field_of(sky_of(), (gaussian(flux, size), 30.2, 30.4)))
    whole = size + PSF_SIZE
    by_band = signal(flux, whole)
    snr = np.hypot(*by_band)
    shape = whole / size / snr
    assert found[["sigma_g1", "sigma_g2"]].to_numpy() == pytest.approx(shape, rel=0.02)
    assert found["sigma_ln_size"] == pytest.approx(shape, rel=0.02)
    assert found[["sigma_e1", "sigma_e2"]].to_numpy() == pytest.approx(2 / snr, rel=0.02)
    assert found[["sigma_x", "sigma_y"]].to_numpy() == pytest.approx(np.sqrt(2 * whole) / snr, rel=0.02)
    # A larger galaxy is a brighter one at the centre: σ²(flux) = 1/b² + (1/2 a)² σ²(ln size) with a = 2 s / S.
    relative = np.sqrt(by_band**-2.0 + (size / whole * found["sigma_ln_size"]) ** 2)
    errors = found[["sigma_flux_r", "sigma_flux_i"]].to_numpy() / flux
    assert errors == pytest.approx(relative, rel=0.02)
    assert abs(found["cov_g12"]) < 0.02 * shape**2


def test_the_psf_costs_what_its_share_of_the_image_says() -> None:
    """Of one band: shapes and sizes of a Gaussian galaxy and of its PSF cannot be told apart."""
    size, known = 3.0, PSFScatter(ln_size=0.02, g=0.01)
    found = floor_of(field_of(sky_of(bands="r"), (gaussian(1e6, size), 30.0, 30.0)), psf=known)
    share = PSF_SIZE / size
    for name, prior in (("g1", known.g), ("g2", known.g), ("ln_size", known.ln_size)):
        expected = np.hypot(found[f"sigma_{name}"], share * prior)
        assert found[f"sigma_{name}_psf"] == pytest.approx(expected, rel=0.02), name
        assert expected > 3 * found[f"sigma_{name}"], "the PSF dominates"
    assert "sigma_e1_psf" not in found


def test_the_derivatives_by_the_psf_are_galsims() -> None:
    psf = PSFModel("moffat", 0.8, 3.0, g1=0.05, g2=-0.03)
    bodies = random_galaxies(Morphology.ALIGNED, 1, seed=3)
    flux = bodies.flux_in(("r",), (31.4,))[0, 0]
    parts = []
    for k, n in ((0, 1.0), (1, 4.0)):
        xx, xy, yy = bodies.ellipses[0, k]
        root = np.sqrt(xx * yy - xy**2)
        g = (xx - yy + 2j * xy) / (xx + yy + 2 * root)
        parts.append(galsim.Sersic(n, half_light_radius=root**0.5, flux=flux[k]).shear(g1=g.real, g2=g.imag))
    galaxy = galsim.Sum(parts) / flux.sum()
    effective = galsim.Convolve(psf.profile(), galsim.Pixel(SCALE))

    def drawn(change: Callable[[galsim.GSObject], galsim.GSObject]) -> NDArray[np.float64]:
        whole = galsim.Convolve(galaxy, change(effective))
        image = whole.drawImage(nx=SIDE, ny=SIDE, scale=SCALE, method="no_pixel", dtype=float)
        return np.asarray(image.array)

    h = 0.01
    expected = [
        (drawn(up) - drawn(down)) / (2 * h)
        for up, down in (
            (lambda p: p.shear(g1=h), lambda p: p.shear(g1=-h)),
            (lambda p: p.shear(g2=h), lambda p: p.shear(g2=-h)),
            (lambda p: p.dilate(1 + h), lambda p: p.dilate(1 - h)),
        )
    ]
    renderer = FieldRenderer(sky_of(psf=psf, bands="r"), least=1e-5)
    middle = np.array([30.0])
    found = source_derivatives(renderer, bodies, middle, middle, np.array([True]), np.zeros((1, 2), int), SIDE)
    pixel = np.arange(SIDE) - 30.0
    changes = psf_derivatives(found.sources[0].on((0, 0), SIDE, 0), pixel, pixel[:, None])
    for change, wanted in zip(changes, expected, strict=True):
        np.testing.assert_allclose(change, wanted, atol=0.02 * np.abs(wanted).max())


def test_lost_pixels_carry_no_information() -> None:
    field = field_of(sky_of(), (gaussian(20_000.0, g=0.2 + 0.1j), 30.0, 30.0))
    whole = floor_of(field).drop("free")
    half = np.broadcast_to(np.arange(41) < 20, (1, 2, 41, 41))
    assert (floor_of(field, lost=half)[SHAPES] > 1.35 * whole[SHAPES]).all()
    one_band = floor_of(field, lost=np.broadcast_to(np.array([True, False])[:, None, None], (1, 2, 41, 41)))
    assert np.isnan(one_band["sigma_flux_r"])
    assert one_band["sigma_flux_i"] > whole["sigma_flux_i"]
    assert (one_band[SHAPES] > 1.5 * whole[SHAPES]).all()
    assert floor_of(field, lost=np.ones((1, 2, 41, 41), bool)).isna().all()


def test_errors_go_with_the_noise() -> None:
    bodies = (gaussian(20_000.0, g=0.3j), 30.0, 30.0)
    once, twice = (floor_of(field_of(sky_of(sigma), bodies)).drop("free") for sigma in (SIGMA, 2 * SIGMA))
    sigmas = [name for name in once.index if not name.startswith("cov") and not name.endswith(("_population", "_psf"))]
    assert (twice / once)[sigmas].to_numpy() == pytest.approx(2.0, rel=0.01)
    assert twice["cov_g12"] == pytest.approx(4 * once["cov_g12"], abs=1e-3 * once["sigma_g1"] ** 2)


def test_a_faint_source_is_known_and_adds_its_photons_alone() -> None:
    target, other = (gaussian(20_000.0), 30.0, 30.0), (gaussian(1000.0), 33.0, 31.0)
    alone = floor_of(field_of(sky_of(), target))
    beside = field_of(sky_of(), target, other)
    fixed = floor_of(beside, snr=[100.0, 2.9])
    pd.testing.assert_series_equal(fixed, alone, check_exact=False, rtol=1e-6)
    free = floor_of(beside, snr=[100.0, 3.1])
    assert free["free"] == 2
    assert (free[SHAPES] > 1.02 * alone[SHAPES]).all()
    bright = field_of(sky_of(gain=0.2), target, (gaussian(9000.0), 33.0, 31.0))
    photons = floor_of(bright, snr=[100.0, 0.0])[SHAPES] / floor_of(field_of(sky_of(gain=0.2), target))[SHAPES]
    assert (photons > 1.01).all()


def test_what_does_not_reach_the_stamp_is_not_free() -> None:
    target = (gaussian(20_000.0), 15.0, 30.0)
    alone = floor_of(field_of(sky_of(), target), side=25)
    far = floor_of(field_of(sky_of(), target, (gaussian(2000.0), 50.0, 30.0)), side=25)
    pd.testing.assert_series_equal(far, alone, check_exact=False, rtol=1e-6)


def test_a_neighbour_raises_the_errors_the_more_the_nearer_it_is() -> None:
    target = (gaussian(20_000.0, g=0.1j), 30.0, 30.0)
    alone = floor_of(field_of(sky_of(), target))[SHAPES]
    near, far = (
        floor_of(field_of(sky_of(), target, (gaussian(30_000.0), 30.0 + apart, 30.5)))[SHAPES] for apart in (4.0, 8.0)
    )
    assert (near > 1.02 * far).all()
    assert (far > alone * (1 - 1e-6)).all()
    beside_a_star = floor_of(field_of(sky_of(), target, (star(30_000.0), 34.0, 30.5)))[SHAPES]
    assert (beside_a_star > alone).all()
    assert (beside_a_star < near).all(), "less is unknown of a star"


def test_correlated_noise_without_correlation_is_white() -> None:
    none = np.zeros((3, 3))
    none[1, 1] = 1.0
    bodies = (gaussian(20_000.0, g=0.2), 30.0, 30.0), (gaussian(9000.0), 34.0, 33.0)
    white, correlated = (field_of(sky_of(10.0, 1.0, c), *bodies) for c in (WHITE, NoiseCorrelation(none)))
    rng = np.random.default_rng(1)
    for lost in (None, rng.random((1, 2, 25, 25)) < 0.2, rng.random((1, 2, 25, 25)) < 0.7):
        expected, found = (floor_of(field, lost=lost, side=25) for field in (white, correlated))
        pd.testing.assert_series_equal(found, expected, check_exact=False, rtol=1e-6)


@pytest.mark.parametrize("kind", ["bilinear", "lanczos3", "reconvolved"])
def test_the_white_part_of_correlated_noise_does_not_matter(kind: str) -> None:
    psf = PSFModel("gaussian", 0.9)
    correlation = resampled("lanczos3" if kind == "reconvolved" else kind)
    if kind == "reconvolved":
        correlation = correlation.followed_by(reconvolved(galsim.Kolmogorov(fwhm=0.7), psf.profile(), SCALE))
    bodies = (gaussian(20_000.0, 1.0, g=0.3), 30.0, 30.0), (gaussian(9000.0, 1.0), 33.0, 33.0)
    field = field_of(sky_of(correlation=correlation, psf=psf, bands="r"), *bodies)
    more, usual, less = (floor_of(field, side=31, white_part=part) for part in (1e-4, 1e-5, 1e-6))
    assert (more / usual).drop("free").to_numpy() == pytest.approx(1.0, abs=0.01)
    assert (less / usual).drop("free").to_numpy() == pytest.approx(1.0, abs=0.01)


def test_a_reconvolved_image_tells_as_much_as_the_one_it_was_made_of() -> None:
    """Convolution of light and noise alike keeps what the pixels know, up to a stamp's edges."""
    narrow, wide = PSFModel("gaussian", 0.7), PSFModel("gaussian", 0.9)
    kernel = reconvolved(narrow.profile(), wide.profile(), SCALE)
    body = (gaussian(20_000.0, 3.0, g=0.2 - 0.1j), 30.0, 30.0)
    before = floor_of(field_of(sky_of(psf=narrow, bands="r"), body))
    # A kernel that keeps light lowers the noise of a pixel by the area of the correlation.
    after = floor_of(field_of(sky_of(SIGMA / kernel.area**0.5, correlation=kernel, psf=wide, bands="r"), body))
    names = [*SHAPES, "sigma_x", "sigma_y", "sigma_flux_r"]
    names = [name for name in names if not name.startswith("sigma_e")]  # that of another PSF
    assert (after[names] / before[names]).to_numpy() == pytest.approx(1.0, abs=0.02)


def striped() -> NoiseCorrelation:
    """Noise that is correlated along x alone."""
    values = np.zeros((3, 3))
    values[1] = 0.4, 1.0, 0.4
    return NoiseCorrelation(values)


@pytest.mark.parametrize("correlation", [WHITE, striped()], ids=["white", "correlated"])
def test_a_field_turned_by_a_quarter_has_the_same_errors(correlation: NoiseCorrelation) -> None:
    bodies = (gaussian(20_000.0, g=0.3), 28.0, 33.0), (gaussian(20_000.0, g=-0.2), 31.0, 34.3)
    field = field_of(sky_of(correlation=correlation), *bodies)
    turned = field.twin(quarter_turns=1)
    one, other = floor_of(field), floor_of(turned)
    across = {"sigma_x": "sigma_y", "sigma_y": "sigma_x"}
    swapped = one.rename(lambda name: next((name.replace(a, b) for a, b in across.items() if a in name), name))
    assert abs(one["cov_g12"]) > 0.01 * one["sigma_g1"] * one["sigma_g2"]
    pd.testing.assert_series_equal(other, swapped[other.index], check_exact=False, rtol=1e-3)
    if not correlation.white:
        unturned = floor_of(Field(turned.renderer, turned.sources))
        assert abs(unturned["sigma_x"] / other["sigma_x"] - 1) > 0.005, "the noise turns with the field"


def test_a_mirror_changes_the_sign_of_the_covariance_alone() -> None:
    bodies = (gaussian(20_000.0, g=0.3 + 0.2j), 30.0, 33.0), (gaussian(9000.0, g=-0.2), 34.0, 32.0)
    mirrored = [(body.transformed(np.diag([1.0, -1.0])), x, 60.0 - y) for body, x, y in bodies]
    one, other = (floor_of(field_of(sky_of(), *parts)) for parts in (bodies, mirrored))
    signs = pd.Series([-1.0 if name.startswith("cov") else 1.0 for name in one.index], one.index)
    pd.testing.assert_series_equal(other, one * signs, check_exact=False, check_names=False, rtol=1e-3)


def test_a_linear_fit_of_observed_images_reaches_the_floor() -> None:
    """Photons of sources, correlated noise that turns with its field, lost pixels and priors, on 1,500 exposures."""
    sky, draws, side = sky_of(10.0, 1.0, striped(), bands="r"), 1500, 31
    bodies = (gaussian(20_000.0, g=0.3), 28.0, 33.0), (gaussian(30_000.0, g=-0.2), 32.0, 34.0)
    field = field_of(sky, *bodies).twin(quarter_turns=1)
    sources, scatter = field.sources, Scatter(g=0.1, ln_size=0.1, ln_flux=0.05, position=0.1)
    corner = np.round([sources.x[0], sources.y[0]]).astype(int) - side // 2
    lost = np.random.default_rng(3).random((1, 1, side, side)) < 0.1
    floor = floor_of(field, lost=lost, side=side, scatter=scatter)

    light = source_derivatives(
        field.renderer, sources.bodies, sources.x, sources.y, np.ones(2, bool), corner[None], side
    ).sources
    columns = np.concatenate([light[row].on(corner, side, 0) for row in (0, 1)])
    columns[:5] *= 20_000.0
    columns[6:11] *= 30_000.0
    inside = (0, slice(corner[1], corner[1] + side), slice(corner[0], corner[0] + side))
    noise = np.stack([field.observe(seed).images[inside] - field.light[inside] for seed in range(draws)])
    inverse = InverseNoise(NoiseCorrelation(striped().values.T), side)
    gram = inverse.gram(np.concatenate([columns, noise]), sky.variance(field.light)[inside], ~lost[0, 0])
    g = g_response(complex(sources.shapes.g[1]))
    prior = np.zeros((12, 12))
    prior[6:8, 6:8] = g.T @ g / scatter.g**2
    prior[range(8, 12), range(8, 12)] = np.array([0.4, 0.4, scatter.ln_size, scatter.ln_flux * 30_000.0]) ** -2.0
    known = np.linalg.cholesky(prior[6:, 6:]) @ np.random.default_rng(4).standard_normal((6, draws))
    shifts = gram[:12, 12:] + np.concatenate([np.zeros((6, draws)), known])
    estimates = np.linalg.solve(gram[:12, :12] + prior, shifts)
    estimates[:2] = g_response(complex(sources.shapes.g[0])) @ estimates[:2]
    for k, name in enumerate(("g1", "g2", "x", "y", "ln_size", "flux_r")):
        assert estimates[k].std() / floor[f"sigma_{name}"] == pytest.approx(1.0, abs=3 / (2 * draws) ** 0.5), name
    covariance = np.cov(estimates[:2])[0, 1] / (floor["sigma_g1"] * floor["sigma_g2"])
    assert covariance == pytest.approx(floor["cov_g12"] / (floor["sigma_g1"] * floor["sigma_g2"]), abs=3 / draws**0.5)


def test_the_population_bounds_the_errors_of_what_is_faint() -> None:
    scatter = Scatter(g=0.25, ln_size=0.6, ln_flux=0.8, position=1.0)
    field = field_of(sky_of(), (gaussian(300.0, g=0.4 - 0.3j), 30.0, 30.0))
    found = floor_of(field, scatter=scatter)
    bounds = {"g1": 0.25, "g2": 0.25, "ln_size": 0.6, "x": 4.0, "y": 4.0, "flux_r": 0.8 * 300, "flux_i": 0.8 * 300}
    for name, bound in bounds.items():
        assert found[f"sigma_{name}_population"] < min(bound, found[f"sigma_{name}"]), name
    assert found["sigma_g1"] > 1
    assert found["sigma_g1_population"] > 0.2
    unseen = floor_of(field_of(sky_of(), (gaussian(0.01), 30.0, 30.0)), scatter=scatter)
    for name, bound in bounds.items():
        expected = bound * (1e-2 / 300 if name.startswith("flux") else 1)
        assert unseen[f"sigma_{name}_population"] == pytest.approx(expected, rel=1e-3), name


def test_the_priors_are_the_populations_scatter() -> None:
    population = generate_population(3000, seed=1, i_max=27.0, counts="observed")
    galaxies = shaped_galaxies({name: population[name].to_numpy() for name in population}, TRAINING_MIX, seed=1)
    shapes = intrinsic_shapes(galaxies)
    assert Scatter().g == pytest.approx(np.hypot(shapes.g.real.std(), shapes.g.imag.std()) / 2**0.5, rel=0.1)
    assert Scatter().ln_size == pytest.approx(np.log(shapes.hlr).std(), rel=0.1)
    assert Scatter().ln_flux == pytest.approx(np.log(galaxies.flux.sum(axis=2)).std(axis=0).mean(), rel=0.1)


def test_a_flux_has_an_error_in_a_band_without_light() -> None:
    body = gaussian(20_000.0)
    dark = replace(body, flux=body.flux * (np.array(list(CATSIM_BANDS)) != "i")[:, None])
    found = floor_of(field_of(sky_of(), (dark, 30.0, 30.0)))
    error = flux_error(galsim.Gaussian(sigma=SCALE * (2.0 + PSF_SIZE - 1 / 12) ** 0.5), SCALE)
    assert found["sigma_flux_i"] == pytest.approx(1.5 * SIGMA * error, rel=0.02), "r knows its size and position"


@pytest.mark.parametrize("kind", [Morphology.SERSIC, Morphology.MISALIGNED, Morphology.KNOTTED])
def test_halved_steps_give_the_same_floor(kind: Morphology) -> None:
    bodies = random_galaxies(kind, 3, seed=4).magnified(0.7)
    bodies = replace(bodies, flux=bodies.flux * 60)
    field = field_of(sky_of(), (bodies[:1], 30.3, 29.7), (bodies[1:2], 35.0, 33.0), (bodies[2:], 24.0, 27.0))
    usual, half = (
        floor_of(field, steps={name: step * factor for name, step in STEPS.items()}) for factor in (1.0, 0.5)
    )
    assert np.isfinite(usual).all()
    assert (half / usual).to_numpy() == pytest.approx(1.0, abs=0.02)


def test_a_real_image_has_the_errors_of_its_profile(tmp_path: Path) -> None:
    """The images of the test are exponential galaxies; only g is not defined on them."""
    images = RealImages(write_images(tmp_path))
    real = images.galaxies()[1:].sheared(0.2)
    profile = gaussian(1.0)
    disc = replace(profile, flux=real.flux, n=np.array([[1.0, 4.0]]), ellipses=profile.ellipses * 0)
    disc.ellipses[0, 0] = 0.4**2, 0.0, 0.4**2
    disc = disc.sheared(0.2)
    sky = sky_of(10.0)
    expected = floor_of(field_of(sky, (disc, 30.0, 30.0)))
    field = field_of(sky, (real, 30.0, 30.0))
    found = floor_of(Field(FieldRenderer(sky, images=images), field.sources))
    of_g = [name for name in found.index if name.startswith(("sigma_g", "cov"))]
    assert found[of_g].isna().all()
    assert (found / expected).drop(of_g).to_numpy() == pytest.approx(1.0, abs=0.03)


def test_targets_without_a_source_and_bands_without_a_sky_are_nan() -> None:
    field = field_of(sky_of(), (gaussian(20_000.0), 20.0, 30.0), (gaussian(9000.0), 40.0, 30.0))
    stamps = cut(field.observed_image(field.observe(1), 15), [40.0, 30.0, 20.0], [30.0, 50.0, 30.0], 25)
    found = target_floor(field, stamps, [1, -1, 0], [50.0, 50.0], 4.0)
    assert found.columns.tolist() == list(floor_columns("ri"))
    assert found.loc[1].isna().all()
    assert np.isfinite(found.loc[[0, 2]]).all(axis=None)
    for row, source in ((0, 1), (2, 0)):
        one = target_floor(field, stamps.rows([row]), [source], [50.0, 50.0], 4.0)
        pd.testing.assert_series_equal(one.iloc[0], found.loc[row], check_names=False, check_exact=False, rtol=1e-5)


def test_arguments_of_another_field_are_refused() -> None:
    field = field_of(sky_of(), (gaussian(20_000.0), 20.0, 30.0))
    stamps = cut(field.observed_image(field.observe(1), 15), [20.0], [30.0], 25)
    with pytest.raises(MismatchError, match="targets from 1 to 1, of 1 sources"):
        target_floor(field, stamps, [1], [50.0], 4.0)
    with pytest.raises(MismatchError, match="1 sources"):
        target_floor(field, stamps, [0], [50.0, 1.0], 4.0)
    with pytest.raises(MismatchError, match="a field of r i z"):
        target_floor(field_of(sky_of(bands="riz"), (gaussian(1.0), 20.0, 30.0)), stamps, [0], [50.0], 4.0)


@dataclass(frozen=True)
class GivenPSF:
    """A PSF that is the same everywhere."""

    profile: galsim.GSObject

    def at(self, x: float, y: float) -> galsim.GSObject:
        return self.profile


def test_it_is_the_floor_of_the_reports_scenes(renderer: ShardRenderer) -> None:
    """The same light by another renderer, Gaussian noise of the variance that counts of photons have."""
    shard = Shard("train", 0, 0, 24)
    expected = fisher_floor(renderer, shard, 0, shard.scenes)
    tables = renderer.scene_tables(shard, 0, shard.scenes)
    survey, side = renderer.survey, renderer.settings.stamp_pixels
    bands = {
        band: SkyBand(GivenPSF(survey.btk_survey.get_filter(band).psf), sky**0.5, zero_point)
        for band, sky, zero_point in zip(survey.bands, survey.sky, survey.zero_point, strict=True)
    }
    sky = Sky("report", survey.pixel_scale, (side, side), bands)
    magnitudes = {f"{band}_ab": renderer.magnitudes[:, k] for k, band in enumerate(survey.bands)}
    catalog = Galaxies.of_catsim(renderer.catalog | magnitudes)
    scatter = Scatter(g=0.3, ln_size=0.7, ln_flux=1.0, position=1.0)
    drawn = FieldRenderer(sky)
    ratios = []
    for scene in range(12):
        table = tables[tables["scene"] == scene]
        galaxies = catalog[table["row"].to_numpy()].turned(np.radians(table["rotation_deg"].to_numpy()))
        x, y = (table[f"{axis}_arcsec"].to_numpy() / sky.pixel_scale + (side - 1) / 2 for axis in "xy")
        field = Field(drawn, Sources(galaxies, intrinsic_shapes(galaxies), x, y, np.full(len(x), -1)))
        stamps = cut(field.observed_image(field.observe(1), 15), [(side - 1) / 2], [(side - 1) / 2], side)
        found = target_floor(field, stamps, [0], np.full(len(x), 9.0), 0.5 / sky.pixel_scale, scatter=scatter).iloc[0]
        names = ["sigma_g1", "sigma_g2", "sigma_ln_size"]
        flux = {f"sigma_ln_flux_{band}": found[f"sigma_flux_{band}"] for band in survey.bands}
        truth = field.truth.iloc[0]
        flux = {name: error / truth[f"flux_{name[-1]}"] for name, error in flux.items()}
        ratios.append(pd.concat([found[names], pd.Series(flux)]) / expected.iloc[scene][[*names, *flux]])
    ratio = pd.DataFrame(ratios)
    assert (ratio.median() - 1).abs().max() < 0.01
    assert ((ratio - 1).abs() < 0.05).mean(axis=None) > 0.9
