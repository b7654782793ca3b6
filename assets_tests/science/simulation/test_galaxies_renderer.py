"""The batched renderer of `Galaxies` against GalSim, one galaxy and band at a time, and whole fields."""

from __future__ import annotations

from pathlib import Path

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.science.simulation.galaxy_samples import random_galaxies
from assets_tests.science.simulation.test_cosmos import write_images
from assets_tests.science.simulation.test_renderers import PSFS
from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation import sersic
from deblend_assets.science.simulation.cosmos import RealImages
from deblend_assets.science.simulation.galaxies import KNOTS, Galaxies, Morphology, concatenate
from deblend_assets.science.simulation.renderers.components import grid_sizes
from deblend_assets.science.simulation.renderers.galaxies import STAMP_SIDES, GalaxiesRenderer

BANDS, ZERO_POINTS, SCALE, PIXELS = ("g", "i"), (31.4, 30.4), 0.2, 45
ANALYTIC = (Morphology.SERSIC, Morphology.ALIGNED, Morphology.MISALIGNED, Morphology.KNOTTED)


def profile(galaxies: Galaxies, k: int, band: int) -> galsim.GSObject:
    """One galaxy in one band of the images, by GalSim."""
    flux = galaxies.flux_in(BANDS, ZERO_POINTS)[k, band]
    parts = []
    for c in (0, 1):
        if flux[c] > 0:
            xx, xy, yy = galaxies.ellipses[k, c]
            root = np.linalg.cholesky(np.array([[xx, xy], [xy, yy]]))
            round_one = galsim.Sersic(galaxies.n[k, c], half_light_radius=1.0, flux=flux[c] / np.linalg.det(root))
            parts.append(round_one.transform(*root.ravel()))  # keeps the surface brightness
    number = int(galaxies.knot_count[k])
    point = galsim.DeltaFunction(flux=flux[KNOTS] / max(number, 1))
    return galsim.Add([*parts, *(point.shift(*at) for at in galaxies.knots[k, :number])])


def differences(
    galaxies: Galaxies, ours: NDArray, psfs: list[galsim.GSObject], x: NDArray, y: NDArray
) -> tuple[NDArray, NDArray]:
    """Largest difference of each stamp over its peak, and that of the flux in the stamp, (G, band) each."""
    pixel, flux = np.zeros(ours.shape[:2]), np.zeros(ours.shape[:2])
    for k in range(len(galaxies)):
        for band, psf in enumerate(psfs):
            image = galsim.Convolve(profile(galaxies, k, band), psf).drawImage(
                nx=ours.shape[3], ny=ours.shape[2], scale=SCALE, offset=(x[k], y[k])
            )
            pixel[k, band] = np.abs(ours[k, band] - image.array).max() / image.array.max()
            flux[k, band] = abs(ours[k, band].sum() / image.array.sum() - 1)
    return pixel, flux


@pytest.mark.parametrize("kind", ANALYTIC)
@pytest.mark.parametrize("psf", ["kolmogorov, wide and sheared", "all aberrations, sheared"])
def test_equal_to_galsim(kind: Morphology, psf: str) -> None:
    """A hundredth of the tolerances of docs/rendering.md."""
    galaxies = random_galaxies(kind, 6, seed=3).magnified(0.6).sheared(0.05j)
    x, y = np.random.default_rng(4).uniform(-0.5, 0.5, (2, 6))
    psfs = [PSFS[psf](), PSFS["gaussian, sheared and off centre"]()]
    ours = GalaxiesRenderer(BANDS, ZERO_POINTS, psfs, SCALE).stamps(galaxies, x, y, PIXELS).numpy()
    pixel, flux = differences(galaxies, ours, psfs, x, y)
    assert pixel.max() < 2e-5
    assert np.median(pixel) < 3e-6
    assert flux.max() < 1e-4
    swapped = ours[:, :, ::-1, ::-1]
    assert differences(galaxies, swapped, psfs, x, y)[0].max() > 1e-3, "a wrong image would be seen"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ANALYTIC)
def test_equal_to_galsim_over_many_galaxies(kind: Morphology) -> None:
    """99.9 % within the tolerances of docs/rendering.md: sizes and indices far beyond those of catalogues."""
    galaxies = random_galaxies(kind, 150, seed=7)
    x, y = np.random.default_rng(8).uniform(-5, 5, (2, 150))
    psfs = [galsim.Kolmogorov(fwhm=0.8).shear(g1=0.02, g2=-0.03), galsim.Moffat(beta=3.0, fwhm=0.7)]
    ours = GalaxiesRenderer(BANDS, ZERO_POINTS, psfs, SCALE).stamps(galaxies, x, y, PIXELS).numpy()
    pixel, flux = differences(galaxies, ours, psfs, x, y)
    assert (pixel < 1e-3).mean() > 0.999
    assert np.median(pixel) < 5e-6
    assert (flux < 1e-3).mean() > 0.999


def test_bulges_and_discs_have_their_own_colours() -> None:
    """Each band is the sum of the components' light in it: the image of a galaxy is not one image scaled."""
    galaxies = random_galaxies(Morphology.ALIGNED, 4)
    psfs = [galsim.Gaussian(fwhm=0.7)] * 2
    stamps = GalaxiesRenderer(BANDS, ZERO_POINTS, psfs, SCALE).stamps(galaxies, *np.zeros((2, 4)), PIXELS).numpy()
    shape = stamps / stamps.sum(axis=(2, 3), keepdims=True)
    centre = PIXELS // 2
    more_bulge = galaxies.flux[:, 3, 1] / galaxies.flux[:, 3].sum(1) > galaxies.flux[:, 1, 1] / galaxies.flux[:, 1].sum(
        1
    )
    assert more_bulge.all()
    assert (np.abs(shape[:, 1] - shape[:, 0]).max(axis=(1, 2)) > 1e-3 * shape[:, 0, centre, centre]).all()


def test_a_stamp_is_the_same_whatever_is_drawn_with_it_and_follows_turns() -> None:
    galaxies = concatenate([random_galaxies(kind, 5, seed=kind) for kind in ANALYTIC])
    x, y = np.random.default_rng(1).uniform(-3, 3, (2, len(galaxies)))
    renderer = GalaxiesRenderer(BANDS, ZERO_POINTS, [galsim.Moffat(beta=3.0, fwhm=0.7)] * 2, SCALE)
    together = renderer.stamps(galaxies, x, y, PIXELS).numpy()
    peak = together.max(axis=(2, 3), keepdims=True)
    for k in range(0, len(galaxies), 3):
        rows = np.array([k])
        alone = renderer.stamps(galaxies[rows], x[rows], y[rows], PIXELS).numpy()
        np.testing.assert_allclose(alone[0] / peak[k], together[k] / peak[k], atol=2e-6)
    turned = renderer.stamps(galaxies.turned(np.pi / 2), -y, x, PIXELS).numpy()
    np.testing.assert_allclose(turned / peak, np.rot90(together, -1, axes=(2, 3)) / peak, atol=5e-6)


def test_grids_fold_the_light_that_galsims_do() -> None:
    """Steps in k are GalSim's for every index: both fold the same light back into the stamp."""
    for n in (0.3, 0.5, 0.8, 1.0, 2.0, 4.0, 6.0):
        assert float(sersic.step_in_k(n)) == pytest.approx(galsim.Sersic(n, half_light_radius=1.0).stepk, rel=1e-6)
    steps = np.array([[sersic.step_in_k(1.0), sersic.step_in_k(4.0)]])
    ellipses = np.array([[[0.5, 0.1, 0.3], [0.2, 0.0, 0.2]]])
    same = grid_sizes(ellipses, np.zeros(1), 1.0, SCALE)
    assert grid_sizes(ellipses, np.zeros(1), 1.0, SCALE, steps) == same


def test_transforms_are_closed_forms_where_there_are_some() -> None:
    ln_n, ln_k, table = sersic.transform_table()
    k = np.exp(ln_k)
    b = sersic.b_of(1.0)
    for n, form in ((0.5, np.exp(-(k**2) / (4 * np.log(2)))), (1.0, (1 + (k / b) ** 2) ** -1.5)):
        row = (np.log(n) - ln_n[0]) / (ln_n[1] - ln_n[0])
        low = int(row)
        between = (1 - (row - low)) * table[low] + (row - low) * table[low + 1]
        assert np.abs(between - form).max() < 1e-5
    middle = np.abs(ln_k) < 4
    deep = np.array([galsim.Sersic(6.0, half_light_radius=1.0).kValue(float(v), 0).real for v in k[middle]])
    row = round((np.log(6.0) - ln_n[0]) / (ln_n[1] - ln_n[0]))
    assert np.abs(table[row][middle] - deep).max() < 0.005, "the nearest row, within 1 % of n"


def test_real_images_are_seen_through_the_psf_turned_and_sheared(tmp_path: Path) -> None:
    images = RealImages(write_images(tmp_path))
    galaxies = images.galaxies().turned(0.7).sheared(0.2 - 0.1j)
    psfs = [galsim.Kolmogorov(fwhm=0.7)] * 2
    renderer = GalaxiesRenderer(BANDS, ZERO_POINTS, psfs, SCALE, images=images)
    stamps = renderer.stamps(galaxies, np.array([0.3, 0.0]), np.zeros(2), PIXELS).numpy()
    flux = galaxies.flux_in(BANDS, ZERO_POINTS).sum(axis=2)
    for k, hlr in enumerate((0.2, 0.4)):
        analytic = galsim.Exponential(half_light_radius=hlr, flux=flux[k, 1]).shear(g1=0.2, g2=-0.1)
        seen = galsim.Convolve(analytic, psfs[1]).drawImage(
            nx=PIXELS, ny=PIXELS, scale=SCALE, offset=(0.3 * (k == 0), 0)
        )
        assert np.abs(stamps[k, 1] - seen.array).max() < 0.01 * seen.array.max()
    with pytest.raises(MismatchError, match="without their images"):
        GalaxiesRenderer(BANDS, ZERO_POINTS, psfs, SCALE).stamps(galaxies, *np.zeros((2, 2)), PIXELS)


def test_a_star_is_the_psf() -> None:
    stars = Galaxies.of_stars([1, 2], np.full((2, 6), 300.0))
    psfs = [galsim.Moffat(beta=3.0, fwhm=0.8).shear(g1=0.05, g2=0.0), galsim.Kolmogorov(fwhm=0.7)]
    stamps = (
        GalaxiesRenderer(BANDS, ZERO_POINTS, psfs, SCALE).stamps(stars, np.array([0.2, -0.4]), np.zeros(2), 64).numpy()
    )
    image = psfs[0].withFlux(300.0).drawImage(nx=64, ny=64, scale=SCALE, offset=(0.2, 0)).array
    np.testing.assert_allclose(stamps[0, 0], image, atol=1e-4 * image.max())
    assert stamps[0, 1].max() / stamps[0, 0].max() < 0.6, "of a zero point one magnitude brighter"


def test_a_field_is_the_sum_of_its_galaxies_also_of_those_beyond_its_edge() -> None:
    galaxies = concatenate([random_galaxies(kind, 6, seed=kind) for kind in ANALYTIC])
    galaxies = concatenate([galaxies, Galaxies.of_stars([99], np.full((1, 6), 1e4))])
    x, y = np.random.default_rng(5).uniform(-10, 90, (2, len(galaxies)))
    x[0], y[0] = -300.0, 40.0  # far away
    psfs = [galsim.Moffat(beta=3.0, fwhm=0.8)] * 2
    renderer = GalaxiesRenderer(BANDS, ZERO_POINTS, psfs, SCALE)
    least = (0.01, 0.004)
    image = renderer.image(galaxies, x, y, (70, 80), least)
    assert image.shape == (2, 70, 80)
    expected = np.zeros((2, 70, 80))
    for k in range(1, len(galaxies)):
        for band, psf in enumerate(psfs):
            seen = galsim.Convolve(profile(galaxies, k, band), psf)
            middle = (x[k] - 39.5, y[k] - 34.5)
            expected[band] += seen.drawImage(nx=80, ny=70, scale=SCALE, offset=middle).array
    error = np.abs(image - expected).max(axis=(1, 2))
    assert (error < 5 * np.array(least)).all(), error
    assert (np.abs(expected).max(axis=(1, 2)) > 1000 * np.array(least)).all()


def test_brighter_galaxies_have_larger_stamps() -> None:
    renderer = GalaxiesRenderer(BANDS, ZERO_POINTS, [galsim.Moffat(beta=3.0, fwhm=0.8)] * 2, SCALE)
    stars = Galaxies.of_stars(np.arange(5), np.geomspace(1, 1e8, 5)[:, None] * np.ones(6))
    sides = renderer.stamp_sides(stars, (0.01, 0.01))
    assert sides[0] == STAMP_SIDES[0]
    assert sides[-1] == STAMP_SIDES[-1]
    assert (np.diff(sides) >= 0).all()
    edge = renderer.stamps(stars[1:2], np.zeros(1), np.zeros(1), int(sides[1])).numpy()[0]
    assert edge[:, 0].max() < 0.01
    assert edge[:, :, 0].max() < 0.01


def test_bands_zero_points_and_psfs_go_together() -> None:
    with pytest.raises(MismatchError, match="2 bands, 1 zero points and 1 PSFs"):
        GalaxiesRenderer(BANDS, ZERO_POINTS[:1], [galsim.Gaussian(fwhm=1.0)], SCALE)
