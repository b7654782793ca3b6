"""Fields: what is in them, their twins, their noise and masks, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.science.simulation.field_samples import BANDS, small_catalog, small_sky
from deblend_assets.errors import CatalogError, MismatchError
from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.fields import Field, sample_field
from deblend_assets.science.simulation.galaxies import Galaxies, Morphology, concatenate
from deblend_assets.science.simulation.intrinsic import intrinsic_shapes
from deblend_assets.science.simulation.sources import (
    TRUTH_COLUMNS,
    SkyCatalog,
    Sources,
    faintest_magnitude,
    sample_sources,
)
from deblend_assets.science.skies.noise import measured_correlation, reconvolved
from deblend_assets.science.skies.psf import PSFModel, PSFVariation, VaryingPSF
from deblend_assets.science.stamps.conventions import add_shear
from deblend_assets.science.stamps.cutting import cut
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.settings import FieldSettings, MaskSettings

SIDE = 112
SETTINGS = FieldSettings(pixels=SIDE, margin=5.0, beyond_limit=2.5, faintest=26.0, brightest_star=19.0)
SHEAR = complex(0.02, -0.01)


@pytest.fixture(scope="module")
def catalog() -> SkyCatalog:
    return small_catalog()


@pytest.fixture(scope="module")
def field(catalog: SkyCatalog) -> Field:
    return sample_field(catalog, small_sky(SIDE), SETTINGS, np.random.default_rng(2))


def placed(x: list[float], y: list[float], flux: float, *, star: bool = False, redshift: float = 1.0) -> Sources:
    """Galaxies (exponential, q = 0.5, 0.6 arcsec) or stars of one flux [nJy] at positions [pixel]."""
    count = len(x)
    light = np.full((count, 6), flux)
    if star:
        bodies = Galaxies.of_stars(-1 - np.arange(count), light)
    else:
        parts = np.zeros((count, 6, 3))
        parts[:, :, 0] = light
        two = np.ones((count, 2))
        shape = np.full((count, 2), 1 / 3 + 0j)
        bodies = Galaxies.build(np.arange(count), Morphology.SERSIC, redshift * two[:, 0], parts, two, 0.6 * two, shape)
    shapes = intrinsic_shapes(bodies)
    return Sources(bodies, shapes, np.array(x), np.array(y), np.full(count, -1))


def both(first: Sources, second: Sources) -> Sources:
    """All sources of two tables."""
    shapes = intrinsic_shapes(bodies := concatenate([first.bodies, second.bodies]))
    x, y = np.concatenate([first.x, second.x]), np.concatenate([first.y, second.y])
    return Sources(bodies, shapes, x, y, np.full(len(x), -1))


# What is in a field


def test_numbers_and_limits_of_sources(catalog: SkyCatalog) -> None:
    sky = small_sky(side=300)
    settings = FieldSettings(pixels=300, margin=5.0, beyond_limit=0.5, faintest=28.0)
    limit = faintest_magnitude(sky, settings)
    assert limit == pytest.approx(sky.depth("i", 10.0) + 0.5)
    assert faintest_magnitude(sky, settings.model_copy(update={"faintest": 22.0})) == 22.0
    without_i = replace(sky, bands={"r": sky["r"]})
    assert faintest_magnitude(without_i, settings) == pytest.approx(sky.depth("r", 10.0) + 0.5)
    area = ((300 * sky.pixel_scale + 10) / 60) ** 2
    expected = area * float(relations.count_density(limit) - relations.count_density(relations.I_BRIGHTEST))
    counts, stars, reach = [], [], []
    for seed in range(12):
        sources = sample_sources(catalog, sky, settings, np.random.default_rng(seed))
        truth = sources.truth(sky)
        assert truth["mag_i"].max() < limit
        reach.append(np.maximum(np.abs(sources.x - 149.5), np.abs(sources.y - 149.5)).max())
        counts.append(int((~sources.star).sum()))
        stars.append(int(sources.star.sum()))
    assert np.mean(counts) == pytest.approx(expected, rel=0.15)
    assert 0.99 * 175 < max(reach) < 175
    assert 1 < np.mean(stars) < 0.3 * np.mean(counts)


def test_a_catalogue_with_measured_counts_keeps_its_galaxies_together(catalog: SkyCatalog) -> None:
    thinned = catalog.with_measured_counts(np.random.default_rng(1))
    assert 0.5 < len(thinned.galaxies) / len(catalog.galaxies) < 1
    rows = thinned.galaxies.id - 1  # the generated population's ids count from 1
    assert np.array_equal(thinned.shapes.hlr, catalog.shapes.hlr[rows])


def test_truth_has_the_documented_columns(field: Field) -> None:
    truth = field.truth
    documented = [
        name for key in TRUTH_COLUMNS for name in ([key.format(band=b) for b in BANDS] if "{" in key else [key])
    ]
    assert list(truth.columns) == documented
    stars = truth["star"]
    assert 0 < stars.sum() < len(truth)
    assert (truth["id"] < 0).equals(stars)
    assert truth.loc[~stars, ["g1", "g2", "hlr_arcsec", "concentration"]].notna().all(axis=None)
    assert truth.loc[stars, ["g1", "g2"]].isna().all(axis=None)
    sky = field.sky
    assert truth["flux_i"].to_numpy() == pytest.approx([sky["i"].flux(m) for m in truth["mag_i"]], rel=1e-3)


def test_the_same_seed_gives_the_same_field_and_images(catalog: SkyCatalog, field: Field) -> None:
    again = sample_field(catalog, small_sky(SIDE), SETTINGS, np.random.default_rng(2))
    assert again.light.tobytes() == field.light.tobytes()
    first, second, other = (f.observe(seed, MaskSettings()) for f, seed in ((field, 5), (again, 5), (field, 6)))
    for name in ("images", "inverse_variance", "mask"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.images.tobytes() != other.images.tobytes()


# Light


def test_whole_flux_is_the_catalogues() -> None:
    sky = small_sky(side=160)
    sources = both(placed([80.2, 60.0], [79.5, 90.7], 5000.0), placed([100.0], [60.3], 20000.0, star=True))
    light = Field(FieldRenderer(sky, 1), sources).light
    flux = sources.truth(sky)[[f"flux_{band}" for band in BANDS]].to_numpy().sum(axis=0)
    assert light.sum(axis=(1, 2)) == pytest.approx(flux, rel=0.01)


@pytest.mark.parametrize("name", ["pieces", "pieces_of_light"])
def test_light_is_the_sum_of_the_sources(field: Field, name: str) -> None:
    total = np.zeros_like(field.light)
    for piece in getattr(field.renderer, name)(field.sources.bodies, field.sources.x, field.sources.y):
        side = piece.light.shape[-1]
        if not side:
            continue
        y, x = (np.arange(side) + first for first in (piece.y, piece.x))
        row, column = (np.flatnonzero((v >= 0) & (v < SIDE)) for v in (y, x))
        if len(row) and len(column):
            total[:, y[row[0]] : y[row[-1]] + 1, x[column[0]] : x[column[-1]] + 1] += piece.light[:, row][:, :, column]
    # Single precision of the brightest source, which may lie outside.
    brightest = field.truth[[f"flux_{band}" for band in BANDS]].to_numpy().max()
    assert np.abs(total - field.light).max() < 2e-6 * brightest
    assert total.max() > 1e-3 * brightest


def test_a_star_is_its_psf() -> None:
    sky = small_sky(side=64)
    light = Field(FieldRenderer(sky, 1), placed([30.3], [33.8], 1e4, star=True)).light
    psf = sky["r"].psf.at(30.3, 33.8)
    expected = psf.drawImage(nx=64, ny=64, scale=sky.pixel_scale, offset=(30.3 - 31.5, 33.8 - 31.5)).array
    flux = sky["r"].flux(31.4 - 2.5 * np.log10(1e4))
    assert np.abs(light[0] - flux * expected).max() < 2e-3 * flux * expected.max()


def test_light_of_outside_sources_comes_in() -> None:
    sky = small_sky(side=64)
    light = Field(FieldRenderer(sky, 1), placed([-4.0], [30.0], 1e5)).light
    assert light[0, 30, 0] > 5 * sky["r"].sigma
    assert light[0, 30, 0] > light[0, 30, 5] > light[0, 30, 15]
    assert light[0, 5, 60] == 0.0


def test_each_source_is_seen_through_the_psf_of_its_part() -> None:
    variation = PSFVariation((96, 96), (0.03, 0, 0, 0, 0), (0.0,) * 5, (0.0,) * 5)
    sky = small_sky(side=96, psf=VaryingPSF(PSFModel("moffat", 0.8, 3.0), variation))
    renderer = FieldRenderer(sky, 3)
    patch = renderer.patch([-5.0, 31.4, 31.6, 95.4, 200], [0.0, 0, 64, 95, 200])
    assert patch.tolist() == [0, 0, 7, 8, 8]
    sources = placed([16.0, 80.0], [48.0, 48.0], 1e4, star=True)
    left, right = (piece.light[0] for piece in renderer.pieces(sources.bodies, sources.x, sources.y))
    # Wider by the change of ln size between the middles of the first and the last part: 0.03 × 2 × 2/3 × 96/95.
    assert np.log(left.max() / right.max()) == pytest.approx(2 * 0.0404, rel=0.1)
    for x, image in ((16.0, left), (80.0, right)):
        drawn = renderer.psfs(x, 48.0)[0].drawImage(nx=31, ny=31, scale=sky.pixel_scale)
        flux = sky["r"].flux(31.4 - 10)
        assert image.max() == pytest.approx(flux * drawn.array.max(), rel=0.05)


# Twins


def test_sheared_twins_differ_by_the_shear_alone(field: Field) -> None:
    plus, minus = (field.twin(shear=sign * SHEAR) for sign in (1, -1))
    galaxies = ~field.sources.star
    centre = complex(*field.sky.centre)
    z = field.sources.x + 1j * field.sources.y - centre
    for twin, gamma in ((plus, SHEAR), (minus, -SHEAR)):
        moved = twin.sources.x + 1j * twin.sources.y - centre
        expected = (z + gamma * z.conj()) / np.sqrt(1 - abs(gamma) ** 2)
        assert moved[galaxies] == pytest.approx(expected[galaxies], abs=1e-10)
        assert moved[~galaxies] == pytest.approx(z[~galaxies], abs=0)
        g = add_shear(field.sources.shapes.g[galaxies], gamma)
        assert twin.sources.shapes.g[galaxies] == pytest.approx(g, abs=1e-12)
    # The same noise: what is left without the light, over its own standard deviation, is the same.
    unit = [_unit_noise(twin, 3) for twin in (plus, minus)]
    assert np.abs(unit[0] - unit[1]).max() < 2e-3
    assert np.abs(plus.light - minus.light).max() > 0


def _unit_noise(field: Field, seed: int) -> NDArray[np.float64]:
    """Noise over its σ, sky and sources; no artefacts."""
    noise = field.observe(seed).images.astype(np.float64) - field.light
    return np.asarray(noise / np.sqrt(field.sky.variance(field.light)))


def test_positions_move_as_galsim_shears_and_shapes_with_them() -> None:
    """A ring of points around a round galaxy becomes the ellipse that the galaxy does."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = placed(list(31.5 + 10 * np.cos(angle)), list(31.5 + 10 * np.sin(angle)), 100.0)
    moved = ring.sheared(complex(0.2, 0.1), (31.5, 31.5))
    matrix = galsim.Shear(g1=0.2, g2=0.1).getMatrix()
    expected = matrix @ np.stack([ring.x - 31.5, ring.y - 31.5])
    assert np.stack([moved.x - 31.5, moved.y - 31.5]) == pytest.approx(expected, abs=1e-12)
    turned = ring.turned(1, (31.5, 31.5))
    # Turned by 90°, a shape of g = 1/3 along x lies along y.
    assert turned.shapes.g == pytest.approx(-ring.shapes.g, abs=1e-12)


def test_shear_of_one_slice_of_redshift(field: Field) -> None:
    slice_ = (0.5, 1.0)
    twin = field.twin(shear=SHEAR, redshifts=slice_)
    z = field.sources.bodies.redshift
    inside = ~field.sources.star & (z >= 0.5) & (z < 1.0)
    assert 0 < inside.sum() < (~field.sources.star).sum()
    moved = (twin.sources.x != field.sources.x) & (twin.sources.y != field.sources.y)
    assert np.array_equal(moved, inside)
    whole = field.twin(shear=SHEAR).sources
    assert np.array_equal(twin.sources.bodies.ellipses[inside], whole.bodies.ellipses[inside])
    assert np.array_equal(twin.sources.bodies.ellipses[~inside], field.sources.bodies.ellipses[~inside])


def test_turned_twins_turn_sources_and_noise_but_not_psf_and_artefacts(field: Field) -> None:
    """rot90 by -1 turns from +x (second axis) to +y (first)."""
    twin = field.twin(quarter_turns=1)
    c = field.sky.centre[0]
    assert twin.sources.x - c == pytest.approx(-(field.sources.y - c), abs=1e-9)
    assert twin.sources.y - c == pytest.approx(field.sources.x - c, abs=1e-9)
    # A round PSF: the light turns too.
    assert np.abs(twin.light - np.rot90(field.light, -1, axes=(1, 2))).max() < 2e-4 * field.light.max()
    assert np.abs(_unit_noise(twin, 3) - np.rot90(_unit_noise(field, 3), -1, axes=(1, 2))).max() < 0.02
    masks = MaskSettings(cosmic_rays=30.0, bad_columns=1.0, saturation=12.0)
    first, second = (f.observe(3, masks).damage for f in (field, twin))
    assert first.mask.any()
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.added, second.added)


def test_the_noise_correlation_of_a_turned_twin_turns() -> None:
    """Noise of an elliptical PSF brought to a round one is correlated along an axis: 1e-2 is its measured error."""
    lopsided = reconvolved(galsim.Moffat(beta=3.0, fwhm=0.65).shear(g1=0.15), galsim.Gaussian(fwhm=0.85), 0.2)
    sky = small_sky(side=256)
    bands = {name: replace(band, correlation=lopsided) for name, band in sky.bands.items()}
    base = Field(FieldRenderer(replace(sky, bands=bands), 1), placed([-500.0], [-500.0], 1e-6, star=True))
    for turns in (0, 1, 2):
        twin = base.twin(quarter_turns=turns)
        seen = twin.observe(5)
        stated = twin.observed_image(seen, 25, lags=2).noise_correlation
        measured = np.stack([measured_correlation(image, 2) for image in seen.images]).mean(axis=0)
        assert stated.shape == (2, 5, 5)
        assert stated[0] == pytest.approx(measured, abs=0.03)
        assert np.abs(np.rot90(stated[0]) - measured).max() > 0.06


def test_the_psf_of_a_turned_twin_stays() -> None:
    sky = small_sky(side=64, psf=PSFModel("moffat", 0.8, 3.0, g1=0.09))
    base = Field(FieldRenderer(sky, 1), placed([31.5], [31.5], 1e4, star=True))
    twin = base.twin(quarter_turns=1)
    assert np.abs(twin.light - base.light).max() < 1e-4 * base.light.max()
    assert np.abs(twin.light - np.rot90(base.light, -1, axes=(1, 2))).max() > 0.05 * base.light.max()


def test_a_turned_and_sheared_pair_cancels_shapes() -> None:
    """Of a galaxy and its turned twin, both sheared by γ, the mean g is γ - g² γ*, to second order in γ."""
    base = Field(FieldRenderer(small_sky(), 1), placed([40.0], [20.0], 1e4))
    g = [base.twin(shear=SHEAR, quarter_turns=k).sources.shapes.g[0] for k in (0, 1)]
    assert np.mean(g) == pytest.approx(SHEAR - SHEAR.conjugate() / 9, abs=1e-4)


def test_four_turns_are_none(field: Field) -> None:
    twin = field.twin(quarter_turns=3).twin(quarter_turns=1)
    assert twin.quarter_turns == 0
    assert twin.sources.x == pytest.approx(field.sources.x, abs=1e-9)
    assert twin.sources.bodies.ellipses == pytest.approx(field.sources.bodies.ellipses, abs=1e-12)


# Noise and masks


def test_noise_is_that_of_sky_and_sources() -> None:
    sky = small_sky(side=32)
    base = Field(FieldRenderer(sky, 1), placed([15.5], [15.5], 3e5, star=True))
    images = np.stack([base.observe(seed).images for seed in range(600)]).astype(np.float64)
    light, band = base.light, sky["r"]
    peak = light[0, 15, 15]
    assert peak > 3 * band.sigma**2, "the source's photons must dominate"
    variance = images.var(axis=0)
    assert variance[0, 15, 15] == pytest.approx(band.sigma**2 + peak / band.gain, rel=0.25)
    assert variance[0, :4].mean() == pytest.approx(band.sigma**2 + (light[0, :4] / band.gain).mean(), rel=0.02)
    assert images.mean(axis=0) == pytest.approx(light, abs=5 * np.sqrt(variance.max() / 600))


def test_a_masked_pixel_has_no_weight(field: Field) -> None:
    masks = MaskSettings(cosmic_rays=30.0, bad_columns=1.0, chip_gaps=1.0, saturation=20.0)
    seen = field.observe(2, masks)
    lost = seen.mask != 0
    assert 0.01 < lost.mean() < 0.9
    assert (seen.inverse_variance[lost] == 0).all()
    sigma = np.broadcast_to(field.sky.column("sigma")[:, None, None], lost.shape)
    assert seen.inverse_variance[~lost] == pytest.approx(1 / sigma[~lost] ** 2)
    assert (seen.images[(seen.mask & MaskBit.CHIP_GAP) != 0] == 0).all()
    # Where nothing touches a pixel, it is as without artefacts.
    clean, without = (seen.damage.affected == 0) & (seen.damage.added == 0), field.observe(2)
    assert np.array_equal(seen.images[clean], without.images[clean])
    assert not np.array_equal(seen.images, without.images)
    assert (without.inverse_variance > 0).all()


def test_a_saturated_star_is_in_the_mask() -> None:
    base = Field(FieldRenderer(small_sky(), 1), placed([31.5], [31.5], 1e8, star=True))
    quiet = {"cosmic_rays": 0.0, "trails": 0.0, "bad_columns": 0.0, "chip_gaps": 0.0, "missing": 0.0}
    seen = base.observe(1, MaskSettings(**quiet, missed=0.0, tight=0.0))
    assert seen.mask[0, 31, 31] & MaskBit.SATURATED
    assert (seen.mask & MaskBit.BLEED).any()


def test_stamps_are_cut_from_an_observation(field: Field) -> None:
    seen = field.observe(1)
    stamps = cut(field.observed_image(seen, 25, lags=2), [50.2], [60.7], 31)
    assert np.array_equal(stamps.pixels[0], seen.images[:, 46:77, 35:66])
    assert stamps.psf[0].sum(axis=(1, 2)) == pytest.approx([1, 1], abs=0.03)
    assert stamps.psf[0].reshape(2, -1).argmax(axis=1).tolist() == [312, 312]
    assert stamps.noise_correlation[0, 0] == pytest.approx(field.sky["r"].correlation.lags(2))
    assert stamps.zero_point[0].tolist() == [32.0, 31.5]
    assert stamps.pixel_scale[0] == pytest.approx(0.2)


def test_bad_input_is_one_clear_error(catalog: SkyCatalog, field: Field) -> None:
    with pytest.raises(CatalogError, match="area that they cover"):
        SkyCatalog(catalog.galaxies, 0.0)
    oblong = replace(small_sky(), shape=(64, 48))
    with pytest.raises(MismatchError, match="no twin turned"):
        Field(FieldRenderer(oblong, 1), field.sources).twin(quarter_turns=1)
