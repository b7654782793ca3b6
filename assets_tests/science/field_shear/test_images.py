"""Images of a field of known shear: what must be the same in them, what is measured of them, and by the peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.worlds.samples import FWHM, SCALE, gaussian_field
from deblend_assets.errors import MissingDataError
from deblend_assets.science.field_shear.biases import biases
from deblend_assets.science.field_shear.bins import VARIABLES
from deblend_assets.science.field_shear.design import ShearField, fields_of
from deblend_assets.science.field_shear.fields import CONDITIONS, EXACT, ShearedField, ShearFields
from deblend_assets.science.field_shear.measure import measure_images, within_border
from deblend_assets.science.field_shear.methods import SEP_HSM, Given, Method
from deblend_assets.science.field_shear.stacked import Stacked
from deblend_assets.science.field_shear.twin_checks import twin_facts
from deblend_assets.science.metadetection.catalogs import STEP
from deblend_assets.science.peers.fields import sep_hsm
from deblend_assets.science.peers.fields.summed import summed, usable_bands
from deblend_assets.science.simulation.fields import Field
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.settings import FieldSettings, FieldShearSettings, MaskSettings

SIDE, GALAXIES, SHAPE = 128, 9, 0.1 - 0.05j
SETTINGS = FieldShearSettings(pixels=SIDE, border=10)
WHICH = ShearField("LSST", 0)
PLACES = [24.3, 64.0, 103.6]
# Of a galaxy [nJy]: S/N of some hundreds.
FLUX = 4000.0
# What is left of the noise of images for methods whose answer is known.
_NOISE = 0.01


def fields_of_galaxies(masks: MaskSettings | None = None, shape: complex = SHAPE) -> tuple[ShearFields, Field]:
    x, y = (list(v.ravel()) for v in np.meshgrid(PLACES, PLACES))
    field = gaussian_field(x, y, [FLUX] * GALAXIES, 0.5, shape, SIDE)
    return ShearFields(SkyCatalog(field.sources.bodies, 1.0), SETTINGS, FieldSettings(), masks), field


def images_of(shape: complex = SHAPE, masks: MaskSettings | None = None) -> list[ShearedField]:
    fields, field = fields_of_galaxies(masks, shape)
    return fields.observed(WHICH, field)


@pytest.fixture(scope="module")
def images() -> list[ShearedField]:
    return images_of(masks=MaskSettings(cosmic_rays=20.0, missing=0.0, chip_gaps=0.0, trails=0.0))


def truth_as_catalog(given: Given) -> Mapping[str, pd.DataFrame]:
    """Rows at the pixels of a grid, some off the border's inside, one failed, one not chosen."""
    x, y = (v.ravel().astype(float) for v in np.meshgrid([5, 40, 64, 90, 124], [30, 64, 100]))
    table = pd.DataFrame({"x": x, "y": y, "g1": 0.1, "g2": -0.1, "snr": 20.0, "chosen": True})
    table.loc[1, "g1"], table.loc[2, "chosen"] = np.nan, False
    return {"noshear": table.assign(r11=1.0, r22=1.0)}


def test_true_twins_are_found_so(images: Sequence[ShearedField]) -> None:
    assert (images[0].seen.mask != 0).any()
    assert twin_facts(images).problems == []
    shear = images[0].field.truth["g1"] - images[1].field.truth["g1"]
    assert shear.to_numpy() == pytest.approx(0.04 * (1 - SHAPE.real**2 + SHAPE.imag**2), rel=0.02)


def test_new_noise_in_the_twins_is_seen(images: Sequence[ShearedField]) -> None:
    other = replace(images[1], seen=images[1].field.observe(5, MaskSettings()))

    assert "of their noise" in twin_facts([images[0], other, *images[2:]]).problems[0]


def test_noise_that_is_not_turned_is_seen(images: Sequence[ShearedField]) -> None:
    noise = images[0].seen.images - images[0].field.light
    unturned = replace(images[2], seen=images[2].field.observe(1, noise=noise))

    assert "of their noise" in twin_facts([*images[:2], unturned, images[3]]).problems[0]


def test_masks_sheared_with_the_galaxies_are_seen(images: Sequence[ShearedField]) -> None:
    damage = images[1].seen.damage
    # A shear of 0.02 moves a mask 50 pixels from the middle by one pixel.
    moved = replace(damage, mask=np.roll(damage.mask, 1, axis=2))
    sheared = replace(images[1], seen=replace(images[1].seen, damage=moved))

    assert "masked pixels differ" in twin_facts([images[0], sheared, *images[2:]]).problems[0]


def test_a_field_is_summed_and_counted(images: Sequence[ShearedField]) -> None:
    method = Method("grid", "numpy", truth_as_catalog)
    found = measure_images(images, WHICH, [method], [EXACT], SETTINGS)
    whole = found.sums[found.sums["variable"] == "all"]
    facts = found.facts.iloc[0]

    # 9 of 15 rows within the border; of these one failed, another one is not chosen.
    assert facts[["detections", "selected", "failures"]].tolist() == [4 * 9, 4 * 8, 4]
    assert whole["n"].tolist() == [7.0] * 4
    assert whole["g1"].to_numpy() == pytest.approx(0.7)
    assert set(zip(whole["sign"], whole["turned"], strict=True)) == {(s, t) for s in (1, -1) for t in (False, True)}
    assert set(found.sums["variable"]) == {"all"} | {v.name for v in VARIABLES if v.name in ("snr", "crowding")} | {
        v.name for v in VARIABLES if not v.measured and v.name != "masked_fraction"
    }
    assert facts["galaxies"] == GALAXIES
    assert facts["sum_g2"] == pytest.approx(GALAXIES * abs(SHAPE) ** 2 / 2, rel=0.01)
    lost = (images[0].seen.mask[0, 10:-10, 10:-10] != 0).sum()
    assert facts["area"] == pytest.approx(((SIDE - 20) ** 2 - lost) * (SCALE / 60) ** 2)


def test_the_border_moves_with_the_galaxies(images: Sequence[ShearedField]) -> None:
    before = np.array([10.0, 8.0])
    for image in images:
        middle = (SIDE - 1) / 2
        x = middle + (before - middle) * (1 + image.shear.real)
        table = pd.DataFrame({"x": x, "y": [60.0, 60.0]})

        assert within_border(table, image, 10).tolist() == [True, False]
        near = replace(image, redshifts=(0.0, 0.8))
        for places, z in ((x, 0.5), (before, 1.2)):
            assert within_border(table.assign(x=places, redshift=z), near, 10).tolist() == [True, False]


@pytest.mark.parametrize(("name", "size", "e1"), [("exact", 0.0, 0.0), ("size_1", 0.01, 0.0), ("e_0.01", 0.0, 0.01)])
def test_wrong_psfs_are_as_wrong_as_asked(images: Sequence[ShearedField], name: str, size: float, e1: float) -> None:
    given = images[0].image(CONDITIONS[name], 33, 2).psf(60.0, 60.0)[0].astype(float)
    axis = np.arange(33) - 16.0
    xx, yy = ((given * v).sum() / given.sum() for v in (axis**2, axis[:, None] ** 2))
    # The pixel adds 1/12 to each second moment.
    sigma = np.sqrt((xx + yy) / 2 - 1 / 12) * SCALE

    assert sigma / (FWHM / 2.3548) - 1 == pytest.approx(size, abs=1e-3)
    assert (xx - yy) / (xx + yy - 1 / 6) == pytest.approx(e1, abs=5e-4)


def almost_noiseless(shape: complex) -> Iterator[ObservedImage]:
    """The upright pair."""
    for image in quiet_pair(shape):
        yield image.image(EXACT, 33, 2)


def quiet_pair(shape: complex) -> Iterator[ShearedField]:
    """The upright pair with a hundredth of its noise."""
    return quiet(images_of(shape)[:2])


def quiet(images: Sequence[ShearedField]) -> Iterator[ShearedField]:
    """The same images with a hundredth of their noise."""
    for image in images:
        noise = image.seen.images - image.field.light
        quiet = replace(
            image.seen,
            images=image.field.light + np.float32(_NOISE) * noise,
            inverse_variance=image.seen.inverse_variance / np.float32(_NOISE**2),
        )
        yield replace(image, seen=quiet)


def test_sep_and_hsm_see_the_shape_that_is_there() -> None:
    found = [sep_hsm.estimate(image, (4.0, 4.0)) for image in almost_noiseless(SHAPE)]

    for table, sign in zip(found, (1, -1), strict=True):
        assert len(table) == GALAXIES
        assert table["good"].all()
        sheared = (SHAPE + sign * 0.02) / (1 + sign * 0.02 * SHAPE)
        assert table["g1"].mean() == pytest.approx(sheared.real, abs=1e-3)
        assert table["g2"].mean() == pytest.approx(sheared.imag, abs=1e-3)
        assert table["size"].mean() == pytest.approx(0.5 / (FWHM / 2.3548), rel=0.1)


@pytest.mark.slow
def test_a_wrong_psf_changes_m_under_metadetection() -> None:
    """Of Gaussians without noise, whose REGAUSS is exact."""
    conditions = [EXACT, CONDITIONS["size_1"]]
    found = measure_images(list(quiet_pair(SHAPE)), WHICH, [SEP_HSM], conditions, SETTINGS)
    whole = found.sums[found.sums["variable"] == "all"]
    exact, wrong = (
        biases(Stacked.of(whole[whole["condition"] == condition.name], STEP), 0.02)["m1"].value
        for condition in conditions
    )

    assert exact == pytest.approx(0.0, abs=3e-3)
    # Too large a PSF is deconvolved too much.
    assert 5e-3 < wrong - exact < 0.03


def test_anacal_gives_the_shear_of_a_field_back() -> None:
    anacal = pytest.importorskip("deblend_assets.science.peers.fields.anacal")
    pytest.importorskip("anacal")
    both = []
    for image in almost_noiseless(0j):
        white = np.random.default_rng(1).standard_normal(image.pixels.shape)
        table = anacal.measure(image, 1, 10.0, white)
        # It leaves out what is nearer to the edge than 35 pixels.
        assert (table["weight"] > 0).sum() == 1
        both.append([(table["weight"] * table["g1"]).sum() / table["r11"].sum()])

    assert (both[0][0] - both[1][0]) / 0.04 == pytest.approx(1.0, abs=0.03)


def test_anacal_takes_a_noise_correlation_that_ends_early() -> None:
    """Without the lags that it was not given its power is negative."""
    anacal = pytest.importorskip("deblend_assets.science.peers.fields.anacal")
    pytest.importorskip("anacal")
    image = next(almost_noiseless(0j))
    lags = np.zeros((5, 5))
    lags[2] = [-0.3, 0.4, 1.0, 0.4, -0.3]
    white = np.random.default_rng(1).standard_normal(image.pixels.shape)

    assert len(anacal.measure(replace(image, noise_correlation=np.stack([lags, lags])), 1, 10.0, white))


def test_bands_with_many_lost_pixels_are_left_out(images: Sequence[ShearedField]) -> None:
    image = images[0].image(EXACT, 33, 2)
    weight = image.inverse_variance.copy()
    weight[0, :, : SIDE // 4] = 0
    damaged = replace(image, inverse_variance=weight)

    assert usable_bands(image, ("r", "i", "z")) == ("r", "i")
    assert usable_bands(damaged, ("r", "i", "z")) == ("i",)
    with pytest.raises(MissingDataError, match="none of r has 90%"):
        usable_bands(damaged, ("r",))


def test_the_sum_of_bands_has_the_noise_that_it_says() -> None:
    field = images_of()[0].field.lit(np.zeros((2, SIDE, SIDE), np.float32))
    image = field.observed_image(field.observe(3), 33, 2)
    whole = summed(image)

    assert whole.noise == pytest.approx(1 / np.sqrt(2))
    assert whole.pixels.std() == pytest.approx(whole.noise, rel=0.03)


def test_components_and_noise_take_turns() -> None:
    fields = fields_of("HSC", 4)

    assert [field.component for field in fields] == [1, 2, 1, 2]
    assert [field.correlated for field in fields] == [False, False, True, True]
    assert fields[3].key == "hsc_00003"
