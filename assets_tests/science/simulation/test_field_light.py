"""The light of a field behind a PSF that varies."""

from __future__ import annotations

import numpy as np
import pytest

from assets_tests.science.simulation.galaxy_samples import random_galaxies
from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.galaxies import Galaxies, Morphology
from deblend_assets.science.simulation.observed import adaptive_moments
from deblend_assets.science.skies.psf import PSFModel, PSFVariation, VaryingPSF
from deblend_assets.science.skies.sky import Sky, SkyBand

SHAPE = (120, 100)


@pytest.fixture(scope="module")
def sky() -> Sky:
    model = PSFModel("moffat", fwhm=0.8, beta=3.0)
    variation = PSFVariation.random(SHAPE, np.random.default_rng(2))
    return Sky(
        "test",
        0.2,
        SHAPE,
        {"r": SkyBand(VaryingPSF(model, variation), 10.0, 30.0), "i": SkyBand(model, 12.0, 29.5)},
    )


def test_patches_divide_the_image_and_take_in_what_is_beyond_it(sky: Sky) -> None:
    renderer = FieldRenderer(sky, patches=2)
    assert renderer.patch([0, 99, 0, 99, -50, 300], [0, 0, 119, 119, -50, 300]).tolist() == [0, 1, 2, 3, 0, 3]
    assert renderer.patch(49.4, 59.4) == 0
    assert renderer.patch(49.6, 59.6) == 3


def test_a_star_is_the_psf_of_its_position(sky: Sky) -> None:
    renderer = FieldRenderer(sky, patches=4)
    star = Galaxies.of_stars([1], np.full((1, 6), 1000.0))
    x, y = np.array([80.3]), np.array([20.6])
    image = renderer.light(star, x, y)
    psf = renderer.psfs(80.3, 20.6)[0]
    flux = float(star.flux_in(("r",), (30.0,)).sum())
    expected = psf.withFlux(flux).drawImage(nx=100, ny=120, scale=0.2, offset=(80.3 - 49.5, 20.6 - 59.5)).array
    assert np.abs(image[0] - expected).max() < 3e-5 * expected.max() + 0.1
    widths = [renderer.psfs(x, y)[0].calculateFWHM() for x in (12, 37, 62, 87) for y in (15, 45, 75, 105)]
    assert np.ptp(widths) > 0.005, "the PSF varies over the field"
    centre = sky.psfs(80.3, 20.6)[0]
    assert centre.calculateFWHM() == pytest.approx(psf.calculateFWHM(), rel=0.02), "and little within a patch"


def test_a_source_alone_is_its_light_in_the_field(sky: Sky) -> None:
    galaxies = random_galaxies(Morphology.KNOTTED, 3).magnified(0.5)
    x, y = np.array([30.2, 60.9, 75.5]), np.array([40.0, 70.3, 30.8])
    renderer = FieldRenderer(sky, patches=2, least=1e-6)
    stamps = renderer.alone(galaxies, x, y, 41)
    for k in range(3):
        field = renderer.light(galaxies[[k]], x[[k]], y[[k]])
        left, bottom = round(x[k]) - 20, round(y[k]) - 20
        cut = field[:, bottom : bottom + 41, left : left + 41]
        np.testing.assert_allclose(stamps[k], cut, atol=2e-4 * cut.max())
    moments = adaptive_moments(stamps[:, 0], 20 + x - np.round(x), 20 + y - np.round(y), 2.5)
    assert np.isfinite(moments.e1).all()


def test_light_adds_up_over_patches(sky: Sky) -> None:
    galaxies = random_galaxies(Morphology.SERSIC, 12).magnified(0.4)
    x, y = np.random.default_rng(1).uniform(0, 100, (2, 12))
    renderer = FieldRenderer(sky, patches=3)
    whole = renderer.light(galaxies, x, y)
    parts = sum(renderer.light(galaxies[[k]], x[[k]], y[[k]]) for k in range(12))
    np.testing.assert_allclose(whole, parts, atol=1e-5 * whole.max())
    assert whole.shape == (2, *SHAPE)


def test_wrong_settings_are_refused(sky: Sky) -> None:
    with pytest.raises(SettingsError, match="0 patches"):
        FieldRenderer(sky, patches=0)
    with pytest.raises(SettingsError, match="down to 0"):
        FieldRenderer(sky, least=0.0)
