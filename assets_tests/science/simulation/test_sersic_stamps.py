"""Sérsic profiles behind PSF images, against GalSim; their derivatives, against differences."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deblend_assets.science.simulation import sersic
from deblend_assets.science.simulation.renderers.sersic_stamps import (
    G_MAX,
    PARAMETERS,
    Profiles,
    RenderedStamps,
    SersicStamps,
)

SIDE, SCALE, PSF_SIDE = 45, 0.2, 41
MIDDLE = (SIDE - 1) / 2


def psf_image(fwhm: float, beta: float = 3.0) -> NDArray[np.float32]:
    psf = galsim.Moffat(beta=beta, fwhm=fwhm).shear(g1=0.03, g2=-0.02)
    return np.asarray(psf.drawImage(nx=PSF_SIDE, ny=PSF_SIDE, scale=SCALE).array)


def profiles(hlr: NDArray, n: NDArray, x: float = 24.3, y: float = 20.6, g: complex = 0.3 - 0.2j) -> Profiles:
    count = len(hlr)
    return Profiles(*(np.full(count, value) for value in (x, y, g.real, g.imag)), np.log(hlr), n, np.zeros(count, bool))


def test_concentration_is_that_of_closed_forms_and_gives_its_index() -> None:
    """A Gaussian's radii are √(-ln(1 - share)); Bershady et al. (2000) give 2.7 for a disc and 5.2 for a bulge."""
    assert sersic.concentration(0.5) == pytest.approx(2.5 * np.log10(np.log(0.2) / np.log(0.8)), abs=1e-9)
    assert sersic.concentration([1.0, 4.0]) == pytest.approx([2.8, 5.27], abs=0.01)
    n = np.geomspace(sersic.N_MIN, sersic.N_MAX, 333)
    found, slope = sersic.index_of_concentration(sersic.concentration(n))
    assert np.abs(found / n - 1).max() < 1e-6
    step = 1e-4
    by_difference = 2 * step * n / (sersic.concentration(n * (1 + step)) - sersic.concentration(n * (1 - step)))
    assert np.abs(slope / by_difference - 1).max() < 1e-3


def test_a_concentration_that_no_profile_has_gives_the_nearest_index() -> None:
    found, slope = sersic.index_of_concentration([0.0, 20.0])
    assert found == pytest.approx([sersic.N_MIN, sersic.N_MAX])
    assert (slope > 0).all()


@pytest.mark.parametrize("fwhm", [0.6, 0.8, 1.2])
def test_stamps_are_those_of_galsim(fwhm: float) -> None:
    """Convolved with the PSF's image; 2e-3 of the brightest pixel."""
    image = psf_image(fwhm)
    seen = galsim.InterpolatedImage(galsim.Image(image.copy(), scale=SCALE), x_interpolant="lanczos15")
    hlr, n = (values.ravel() for values in np.meshgrid([0.1, 0.3, 0.7, 1.5], [0.5, 1.0, 2.0, 4.0]))
    renderer = SersicStamps(image[None, None], np.array([SCALE]), SIDE)
    found = renderer.stamps(profiles(hlr, n), np.zeros(len(n), int))[:, 0].numpy()
    for stamp, radius, index in zip(found, hlr, n, strict=True):
        galaxy = galsim.Convolve(galsim.Sersic(n=index, half_light_radius=radius).shear(g1=0.3, g2=-0.2), seen)
        offset = (24.3 - MIDDLE, 20.6 - MIDDLE)
        expected = galaxy.drawImage(nx=SIDE, ny=SIDE, scale=SCALE, offset=offset, method="no_pixel").array
        assert np.abs(stamp - expected).max() < 2e-3 * expected.max(), (radius, index)


def test_each_source_has_the_psfs_of_its_stamp_and_a_point_is_the_psf() -> None:
    psf = np.stack([[psf_image(0.7), psf_image(0.9)], [psf_image(1.1), psf_image(0.8)]])
    sources = profiles(np.array([0.3, 0.3, 5.0]), np.array([1.0, 1.0, 4.0]), 22.0, 22.0)
    sources = replace(sources, point=np.array([False, False, True]))
    renderer = SersicStamps(psf, np.array([SCALE, SCALE]), SIDE)
    found = renderer.stamps(sources, np.array([1, 0, 1])).numpy()
    for at, stamp in ((0, 1), (1, 0)):
        alone = SersicStamps(psf[[stamp]], np.array([SCALE]), SIDE)
        expected = alone.stamps(sources.rows(np.array([at])), np.array([0])).numpy()[0]
        assert np.abs(found[at] - expected).max() < 1e-6
    assert np.abs(found[2][:, 2:-2, 2:-2] - psf[1]).max() < 1e-6 * psf.max()


def test_sources_beyond_the_edge_are_those_of_a_larger_stamp() -> None:
    """A point, whose PSF ends within its image, and a galaxy."""
    psf = psf_image(0.8)
    for point in (True, False):
        for x, y in ((-9.0, 20.3), (50.0, 48.0), (20.0, 57.0)):
            source = replace(profiles(np.array([0.7]), np.array([1.0]), x, y), point=np.array([point]))
            found = SersicStamps(psf[None, None], np.array([SCALE]), SIDE).stamps(source, np.array([0]))[0, 0].numpy()
            larger = SersicStamps(psf[None, None], np.array([SCALE]), 3 * SIDE)
            moved = replace(source, x=source.x + SIDE, y=source.y + SIDE)
            expected = larger.stamps(moved, np.array([0]))[0, 0].numpy()
            inside = expected[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
            assert np.abs(found - inside).max() < 3e-4 * expected.max(), (point, x, y)


def test_slopes_are_differences() -> None:
    renderer = SersicStamps(psf_image(0.8)[None, None], np.array([SCALE]), SIDE)
    hlr, n = np.array([0.2, 0.6, 0.5]), np.array([0.7, 1.0, 2.5])
    sources, stamp = profiles(hlr, n), np.zeros(3, int)
    rendered = renderer.rendered(sources, stamp)
    assert np.array_equal(rendered.images.numpy(), renderer.stamps(sources, stamp).numpy())
    slopes = slopes_of(rendered)
    step = 0.01
    for k, name in enumerate(PARAMETERS):
        sides = []
        for sign in (1, -1):
            if name == "ln_n":
                moved = replace(sources, n=n * np.exp(sign * step))
            else:
                moved = replace(sources, **{name: getattr(sources, name) + sign * step})
            sides.append(renderer.stamps(moved, stamp)[:, 0].double().numpy())
        expected = (sides[0] - sides[1]) / (2 * step)
        wrong = np.abs(slopes[:, k] - expected).max(axis=(1, 2)) / np.abs(expected).max(axis=(1, 2))
        assert wrong.max() < 5e-3, name  # float32 stamps, and the third derivative


def test_sums_with_slopes_are_of_the_own_stamp_and_band() -> None:
    psf = np.stack([[psf_image(fwhm), psf_image(1.2 * fwhm)] for fwhm in (0.7, 0.9)])
    renderer = SersicStamps(psf, np.full(2, SCALE), SIDE)
    sources, stamp = profiles(np.array([0.2, 0.6, 2.5]), np.array([0.7, 1.0, 4.0])), np.array([1, 0, 1])
    rendered = renderer.rendered(sources, stamp)
    others = torch.from_numpy(np.random.default_rng(5).normal(size=(2, 2, 4, SIDE, SIDE)).astype(np.float32))
    found = rendered.slopes_times(others).numpy()
    assert found.shape == (3, 2, len(PARAMETERS), 4)
    for row, own in enumerate(stamp):
        for band in (0, 1):
            alone = SersicStamps(psf[own : own + 1, band : band + 1], np.full(1, SCALE), SIDE)
            slopes = slopes_of(alone.rendered(sources.rows(np.array([row])), np.array([0])))[0]
            expected = np.einsum("kyx,cyx->kc", slopes, others[own, band].double().numpy())
            # float32 sums of so many terms.
            rounding = 1e-6 * np.sqrt((slopes**2).sum(axis=(1, 2)).max()) * SIDE
            np.testing.assert_allclose(found[row, band], expected, atol=rounding)


def test_a_point_has_slopes_by_its_position_alone() -> None:
    renderer = SersicStamps(psf_image(0.8)[None, None], np.array([SCALE]), SIDE)
    point = replace(profiles(np.array([0.5]), np.array([1.0])), point=np.array([True]))
    rendered = renderer.rendered(point, np.array([0]))
    slopes = slopes_of(rendered)[0]
    assert np.abs(slopes[2:]).max() == 0
    assert np.abs(slopes[:2]).max() > 0.1 * float(rendered.images.max())


def slopes_of(rendered: RenderedStamps) -> NDArray[np.float64]:
    """Images of the derivatives in the first band, all of one PSF, (G, 6, y, x): sums with images of one lit pixel."""
    lit = torch.eye(SIDE**2).view(1, 1, SIDE**2, SIDE, SIDE)
    return rendered.slopes_times(lit)[:, 0].double().numpy().reshape(-1, len(PARAMETERS), SIDE, SIDE)


def test_everything_turned_by_90_degrees_gives_the_turned_stamp() -> None:
    image, turned = psf_image(0.8), np.rot90(psf_image(0.8)).copy()
    first = SersicStamps(image[None, None], np.array([SCALE]), SIDE)
    second = SersicStamps(turned[None, None], np.array([SCALE]), SIDE)
    hlr, n = np.array([0.5]), np.array([1.5])
    before = first.stamps(profiles(hlr, n), np.array([0]))[0, 0].numpy()
    after = second.stamps(profiles(hlr, n, 20.6, 2 * MIDDLE - 24.3, -0.3 + 0.2j), np.array([0]))[0, 0].numpy()
    assert np.abs(after - np.rot90(before)).max() < 1e-5 * before.max()


def test_a_profile_too_long_is_rendered_with_the_longest() -> None:
    renderer = SersicStamps(psf_image(0.8)[None, None], np.array([SCALE]), SIDE)
    hlr, n = np.array([0.5]), np.array([1.0])
    found, expected = (
        renderer.stamps(profiles(hlr, n, g=g), np.array([0])).numpy() for g in (1.5 + 0j, complex(G_MAX))
    )
    assert np.abs(found - expected).max() < 1e-6
