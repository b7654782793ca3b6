"""The response of network and fit together, against finite differences of the same estimate."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.science.measuring.fit_response import with_fit_response
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.sky_shapes.response import measure_response
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.steps.measuring.model import load_sky_model

SIDE, SCALE, STEP = 49, 0.2, 0.02
G = 0.2 * np.exp(2j * np.pi * np.arange(6) / 6)
FIRST = QUANTITIES.index("g1")


@pytest.fixture(scope="module")
def model() -> SkyModel:
    return load_sky_model(None)


def drawn(shear: complex = 0, psf: complex = 0, given: complex | None = None) -> ObservedStamps:
    """Bright exponentials, the same noise always."""
    rng = np.random.default_rng(1)
    seen = galsim.Moffat(beta=3, fwhm=0.8).shear(g1=psf.real, g2=psf.imag)
    known = seen if given is None else galsim.Moffat(beta=3, fwhm=0.8).shear(g1=given.real, g2=given.imag)
    pixels = np.zeros((len(G), 2, SIDE, SIDE))
    for n, g in enumerate(G):
        galaxy = galsim.Exponential(half_light_radius=0.5, flux=4000).shear(g1=g.real, g2=g.imag)
        image = galsim.Convolve(galaxy.shear(g1=shear.real, g2=shear.imag), seen).drawImage(
            nx=SIDE, ny=SIDE, scale=SCALE
        )
        pixels[n] = image.array + rng.normal(size=(2, SIDE, SIDE))
    star = known.drawImage(nx=41, ny=41, scale=SCALE).array
    number = len(G)
    return ObservedStamps(
        bands=("r", "i"),
        pixels=pixels,
        inverse_variance=np.ones(pixels.shape),
        mask=np.zeros(pixels.shape, int),
        psf=np.broadcast_to(star, (number, 2, 41, 41)),
        noise_correlation=np.ones((number, 2, 1, 1)),
        position=np.full((number, 2), (SIDE - 1) / 2),
        others=np.zeros((number, 0, 2)),
        others_count=np.zeros(number),
        corner=np.zeros((number, 2), int),
        pixel_scale=np.full(number, SCALE),
        zero_point=np.full((number, 2), 30.0),
        jacobian=np.tile(SCALE * np.eye(2), (number, 1, 1)),
        sky_position=np.full((number, 2), np.nan),
    )


def estimates(model: SkyModel, stamps: ObservedStamps) -> np.ndarray:
    return measure_scenes(model, stamps).targets.posterior.mean.numpy()[:, FIRST : FIRST + 2]


def differences(model: SkyModel, **kinds: bool) -> np.ndarray:
    """Mean over the stamps of (g(+) - g(-)) / 2 step, (2, 2)."""
    columns = []
    for direction in (STEP, 1j * STEP):
        ahead, behind = (estimates(model, drawn(**{kind: sign * direction for kind in kinds})) for sign in (1, -1))
        columns.append(((ahead - behind) / (2 * STEP)).mean(axis=0))
    return np.stack(columns, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kinds", "within"),
    [("shear", ("shear",), 0.08), ("psf", ("psf",), 0.12), ("psf_model", ("given",), 0.12)],
)
def test_it_is_that_of_finite_differences(model: SkyModel, name: str, kinds: tuple[str, ...], within: float) -> None:
    stamps = drawn()
    scene = measure_scenes(model, stamps)
    assert (scene.gain[:, FIRST, 2] > 0.3).all(), "the fit counts"
    network = measure_response(model, stamps, 1.0, 0).posterior
    found = with_fit_response(network, stamps, scene, model.bands)
    measured = differences(model, **dict.fromkeys(kinds, True))
    np.testing.assert_allclose(getattr(found, name).mean(axis=0), measured, atol=within)
    if name != "shear":
        # The network alone is far from it: the test would see that the fit's part is missing.
        assert np.abs(getattr(network, name).mean(axis=0) - measured).max() > within
