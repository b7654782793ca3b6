"""Ready stamps: damages that were wrong at flags 0 are flagged or right; PSF, noise, mask and units are as given."""

from __future__ import annotations

import re

import galsim
import numpy as np
import pytest
from astropy.table import Table, vstack

import deblend_assets as da
from benchmarks.hard_stamps import BANDS, DAMAGED, SCALE, SIDE, UNUSUAL, Truth, psfs, right, scenes, sky
from deblend_assets.errors import MismatchError
from deblend_assets.science.images.ready_stamps import ReadyStamps
from deblend_assets.science.measuring.stamp_noise import with_noise
from deblend_assets.science.measuring.stamp_sets import ArrayStamps, measured_blocks, noise_line, noise_of_set
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.settings import MeasurementSettings, StampSettings
from deblend_assets.steps.measuring.model import load_sky_model

NUMBER = 3
SETTINGS = MeasurementSettings(responses=0.0)
KINDS = DAMAGED


@pytest.fixture(scope="module")
def model() -> SkyModel:
    return load_sky_model(None)


def measure(model: SkyModel, stamps: ReadyStamps) -> Table:
    found = ArrayStamps(stamps)
    noise = noise_of_set(found, SETTINGS)
    return vstack([Table.from_pandas(b.table) for b in measured_blocks(found, noise, model, "shipped", SETTINGS)])


@pytest.fixture(scope="module")
def damaged(model: SkyModel) -> dict[str, tuple[Table, Truth]]:
    """All kinds as one set, whose weights are given."""
    made = [scenes(kind, NUMBER, 1) for kind in KINDS]
    images = np.concatenate([stamps for stamps, _ in made])
    table = measure(model, da.Stamps(images, sky()[1] ** -2.0, bands=BANDS))
    parts = {kind.name: table[NUMBER * k : NUMBER * (k + 1)] for k, kind in enumerate(KINDS)}
    return {kind.name: (parts[kind.name], truth) for kind, (_, truth) in zip(KINDS, made, strict=True)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_stamps_are_flagged_or_right(kind: object, damaged: dict[str, tuple[Table, Truth]]) -> None:
    """Cases 03, 07 and 08: they were wrong at flags 0."""
    table, truth = damaged[kind.name]
    undamaged = damaged["none"][0] if kind.compare else None
    assert ((table["flags"] != 0) | right(table, truth, undamaged)).all(), table["flags"]
    if kind.name == "none":
        assert (table["flags"] == 0).all()


def test_a_trail_that_is_a_chain_of_detections_is_flagged(model: SkyModel) -> None:
    """Case 08, its noise measured on the stamps themselves."""
    images, _ = scenes(next(kind for kind in DAMAGED if kind.name == "… 100 sigma"), 4, 1)
    assert (measure(model, da.Stamps(images, bands=BANDS))["flags"] & int(da.RowFlag.BAD_FIT) > 0).all()


@pytest.mark.parametrize("name", ["… 10 times", "other units: zero points given, 10⁻⁶ of an electron"])
def test_noise_and_units_are_those_of_the_stamps(name: str, model: SkyModel) -> None:
    """Case 06."""
    kind = next(kind for kind in UNUSUAL if kind.name == name)
    images, truth = scenes(kind, NUMBER, 1)
    points = sky()[0] + 2.5 * np.log10(kind.unit)
    table = measure(model, da.Stamps(images, bands=BANDS, zero_point=points))
    assert (table["flags"] == 0).all()
    assert right(table, truth).all()
    stamps = da.Stamps(images, bands=BANDS)
    line = noise_line(stamps.sky, noise_of_set(ArrayStamps(stamps), SETTINGS), "stamps")
    assert line
    assert re.search(r"r 3[56]\d\d \(" if kind.unit == 1 else r"r 0\.0003", line)


def test_a_position_without_a_source_beside_one_is_seen() -> None:
    kind = next(kind for kind in DAMAGED if kind.name == "6 pixels")
    images, _ = scenes(kind, NUMBER, 1)
    stamps, middle = ArrayStamps(da.Stamps(images, bands=BANDS)), (SIDE - 1) / 2
    noise = noise_of_set(stamps, SETTINGS)
    assert with_noise(stamps.observed(0, NUMBER, SETTINGS), noise, SETTINGS).astray.all()
    told = da.Stamps(images, bands=BANDS, position=np.full((NUMBER, 2), (middle + 6, middle)))
    assert not with_noise(told.observed(0, NUMBER, SETTINGS.stamps), noise, SETTINGS).astray.any()


def test_psf_and_frame_are_what_is_given() -> None:
    wide = [psf.dilate(1.3) for psf in psfs()]
    image = np.random.default_rng(1).normal(size=(2, 6, SIDE, SIDE))
    stars = np.stack([psf.drawImage(nx=40, ny=40, scale=SCALE, offset=(0.3, -0.2)).array for psf in wide])
    turned = galsim.JacobianWCS(-SCALE, 0, 0, SCALE)
    forms = {
        "list": {"psf": wide, "wcs": SCALE},
        "by band": {"psf": dict(zip("ugrizY", wide, strict=True)), "wcs": turned},
        "images": {"psf": stars},
        "images of each stamp": {"psf": np.stack([stars, stars])},
    }
    expected = np.stack([psf.drawImage(nx=41, ny=41, scale=SCALE).array for psf in wide])
    for name, given in forms.items():
        stamps = da.Stamps(image, bands="ugrizY", **given)
        observed = stamps.observed(0, 2, StampSettings())
        assert observed.bands == tuple("ugrizy")
        np.testing.assert_allclose(observed.psf[1], expected, atol=0.02 * expected.max(), err_msg=name)
        sign = -1 if name == "by band" else 1
        np.testing.assert_allclose(observed.jacobian[0], [[sign * SCALE, 0], [0, SCALE]])
        assert stamps.sky.said.split(" of ")[0] == ("zero points" if "wcs" in given else "zero points, pixel scale")
    with pytest.raises(MismatchError, match="PSFs of 2 bands, stamps of 6"):
        da.Stamps(image, bands=BANDS, psf=wide[:2])
    with pytest.raises(MismatchError, match="DES has no band u"):
        da.Stamps(image, bands=BANDS, survey="DES")
    with pytest.raises(MismatchError, match="no PSF of r: stamps hold no stars"):
        da.Stamps(image[:, 2:3], bands="r", psf="measure")


def test_masks_weights_and_sides_are_those_of_the_stamps() -> None:
    image = np.random.default_rng(2).normal(size=(2, 2, 60, 46)).astype(np.float32)
    image[0, 1, 30, 20], image[1, 0, 31, 23] = np.nan, -9999
    bmask = np.zeros(image.shape, np.int32)
    bmask[0, 0, 28, 22], bmask[0, 0, 29, 22] = 4, 2
    stamps = da.Stamps(image, np.array([4.0, 0.25]), bands="ig", bmask=bmask, lost=4, zero_point={"g": 30, "i": 28})
    found = stamps.observed(0, 2, StampSettings())
    side, (left, low) = 49, found.corner[0]
    assert (found.bands, found.side, tuple(found.corner[0])) == (("g", "i"), side, (-1, 6))
    np.testing.assert_allclose(found.position, [[23.5, 23.5]] * 2)
    lost = {(0, 0, 30, 20), (0, 1, 28, 22), (1, 1, 31, 23)}
    inside = np.zeros((side, side), bool)
    inside[:, 1:47] = True
    known = np.broadcast_to(inside, (2, 2, side, side)).copy()
    for n, band, y, x in lost:
        known[n, band, y - low, x - left] = False
        assert found.mask[n, band, y - low, x - left] == MaskBit.BAD_COLUMN
    np.testing.assert_array_equal(found.inverse_variance > 0, known)
    assert set(np.unique(found.inverse_variance[:, 0])) == {0, 0.25}
    assert (found.mask[:, :, :, 0] == MaskBit.NO_DATA).all()
    np.testing.assert_allclose(found.zero_point, [[30, 28]] * 2)
    named = da.Stamps(image, bands=["HSC-I2", "g.MP9402"], zero_point={"HSC-G": 30, "I": 28})
    assert named.bands == ("g", "i")
    np.testing.assert_allclose(named.sky.zero_point, [30, 28])
    with pytest.raises(MismatchError, match=r"weight has shape \(3,\), the stamps"):
        da.Stamps(image, np.ones(3), bands="gi")
    with pytest.raises(MismatchError, match="name each band once"):
        da.Stamps(image, bands="gg")


def test_correlated_noise_is_measured_and_given() -> None:
    kind = next(kind for kind in UNUSUAL if kind.name == "… 1 pixel")
    stamps = da.Stamps(scenes(kind, 12, 3)[0], bands=BANDS)
    noise = noise_of_set(ArrayStamps(stamps), SETTINGS)
    sigma = sky()[1]
    np.testing.assert_allclose([of.sigma for of in noise], sigma, rtol=0.03)
    middle = SETTINGS.stamps.lags
    # Of white noise smoothed by a Gaussian: exp(-lag² / 4).
    np.testing.assert_allclose(noise[2].correlation[middle, middle + 1], np.exp(-0.25), atol=0.03)
    seen, _ = with_noise(stamps.observed(0, 2, StampSettings()), noise, SETTINGS)
    np.testing.assert_allclose(seen.inverse_variance[0, 2].max(), noise[2].sigma ** -2, rtol=1e-5)
    np.testing.assert_allclose(seen.noise_correlation[1, 2], noise[2].correlation, rtol=1e-5)
