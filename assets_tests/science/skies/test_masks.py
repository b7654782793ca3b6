"""Damage: lost pixels weigh nothing, artefacts have their numbers and shapes, saturation conserves charge."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from deblend_assets.errors import MismatchError
from deblend_assets.science.skies.artefacts import TOUCHED, sample_artefacts
from deblend_assets.science.skies.masks import WITHOUT_VALUE, Damage
from deblend_assets.science.skies.psf import PSFModel
from deblend_assets.science.skies.saturation import bleed, full_well, saturate
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.settings import MaskSettings

SHAPE = (150, 180)
NONE = {"cosmic_rays": 0.0, "trails": 0.0, "bad_columns": 0.0, "chip_gaps": 0.0, "missing": 0.0}
# The setting of each kind that makes some, and its bit.
KINDS = {
    "cosmic_rays": (30.0, MaskBit.COSMIC_RAY),
    "trails": (2.0, MaskBit.TRAIL),
    "bad_columns": (3.0, MaskBit.BAD_COLUMN),
    "chip_gaps": (2.0, MaskBit.CHIP_GAP),
    "missing": (1.0, MaskBit.NO_DATA),
}
SIGMA = 7.0


def sky_of(shape: tuple[int, int] = SHAPE) -> Sky:
    band = SkyBand(PSFModel("kolmogorov", 0.8), sigma=SIGMA, zero_point=30.0)
    return Sky("simple", 0.2, shape, {"g": band, "r": band})


def only(kind: str, **quality: float) -> MaskSettings:
    return MaskSettings(**(NONE | {kind: KINDS[kind][0]} | quality))


def damage_of(settings: MaskSettings, seed: int = 1) -> Damage:
    return sample_artefacts(sky_of(), settings, np.random.default_rng(seed))


# Any damage


def test_lost_pixels_weigh_nothing_and_others_are_untouched() -> None:
    """Whatever is written into lost pixels, a weighted sum stays; where nothing is touched the image stays."""
    settings = MaskSettings(cosmic_rays=20.0, trails=1.0, bad_columns=2.0, chip_gaps=1.0, missing=0.5)
    damage = damage_of(settings)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    variance = rng.uniform(1, 2, images.shape)
    weight = damage.inverse_variance(variance)
    assert weight.dtype == np.float32
    assert np.array_equal(weight == 0, damage.mask != 0)
    assert np.allclose(weight[damage.mask == 0], (1 / variance)[damage.mask == 0])
    damaged = damage.apply(images)
    anything = np.where(damage.mask != 0, 1e9, damaged)
    assert (weight * anything).sum() == pytest.approx((weight * damaged).sum(), rel=1e-6)
    change = np.abs(damaged - images)
    valued = (damage.affected & WITHOUT_VALUE) == 0
    assert change[(damage.affected == 0) & valued].max() <= TOUCHED * SIGMA * 3
    assert change[damage.left_in].max() > 3 * SIGMA, "an imperfect mask leaves something behind"
    assert not damaged[~valued].any()
    assert not weight[~valued].any(), "no mask misses what was never measured"


def test_no_damage_and_both_damages() -> None:
    none = damage_of(MaskSettings(**NONE))
    assert not none.added.any()
    assert not none.affected.any()
    first, second = damage_of(only("trails")), damage_of(only("chip_gaps"), 2)
    both = first | second
    assert np.array_equal(both.mask, first.mask | second.mask)
    assert np.array_equal(both.added, first.added + second.added)
    with pytest.raises(MismatchError, match="images of shape"):
        none.apply(np.zeros((2, 10, 10)))
    with pytest.raises(MismatchError, match=r"\(band, y, x\)"):
        Damage(none.added, none.affected, none.mask[:1])


def test_the_same_seed_gives_the_same_damage() -> None:
    first, again, other = damage_of(MaskSettings()), damage_of(MaskSettings()), damage_of(MaskSettings(), 2)
    for name in ("added", "affected", "mask"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.added.tobytes() != other.added.tobytes()


# Each kind


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_bit_alone_and_differs_by_band(kind: str) -> None:
    damages = [damage_of(only(kind), seed) for seed in range(8)]
    bits = np.bitwise_or.reduce([np.bitwise_or.reduce(d.affected, axis=None) for d in damages])
    assert MaskBit(int(bits)) == KINDS[kind][1]
    assert any(d.affected.any() for d in damages)
    assert any(not np.array_equal(*d.affected) for d in damages)
    value = KINDS[kind][1] in WITHOUT_VALUE
    assert all(not d.added.any() for d in damages) == value


@pytest.mark.parametrize("kind", ["cosmic_rays", "trails", "bad_columns"])
def test_masks_are_perfect_tight_or_miss(kind: str) -> None:
    perfect, tight, missed = (
        damage_of(only(kind, missed=m, tight=t), 3) for m, t in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0))
    )
    assert np.array_equal(perfect.added, missed.added), "the same artefacts"
    assert perfect.affected.any()
    assert not perfect.left_in.any()
    assert not missed.mask.any()
    assert np.array_equal(missed.left_in, missed.affected != 0)
    assert tight.left_in.any()
    assert tight.mask.any()
    inside = (tight.mask != 0) <= (tight.affected != 0)
    assert inside.all()
    assert np.abs(tight.added[tight.left_in]).mean() < 0.5 * np.abs(tight.added[tight.mask != 0]).mean()


@pytest.mark.parametrize("kind", ["chip_gaps", "missing"])
def test_no_mask_misses_what_was_not_measured(kind: str) -> None:
    damage = damage_of(only(kind, missed=1.0, tight=0.0), 3)
    assert damage.affected.any()
    assert np.array_equal(damage.affected, damage.mask)


def test_numbers_of_cosmic_rays_and_their_lengths() -> None:
    """Those that begin in the area, 0.3 square arcmin of 30 each, and those that enter: perimeter × length / π.

    Muons' tracks are short in the median, with a tail.
    """
    counts, lengths = [], []
    for seed in range(20):
        damage = damage_of(only("cosmic_rays", missed=0.0, tight=0.0), seed)
        for affected in damage.affected:
            groups, n = ndimage.label(affected, np.ones((3, 3)))
            counts.append(n)
            lengths += [max(s.stop - s.start for s in window) for window in ndimage.find_objects(groups)]
    expected = 30 * (150 * 180 + 660 * np.mean(lengths) / np.pi) * (0.2 / 60) ** 2
    assert 0.88 * expected < np.mean(counts) < 1.08 * expected, "some overlap"
    assert 5 < np.median(lengths) < 16
    assert np.max(lengths) > 40


def test_the_rim_has_as_many_cosmic_rays_as_the_middle() -> None:
    """Of 160 images; some 500 tracks touch the rim."""
    settings = MaskSettings(**(NONE | {"cosmic_rays": 100.0}))
    sky, rng = sky_of((60, 60)), np.random.default_rng(5)
    hits = np.sum([(sample_artefacts(sky, settings, rng).affected != 0).sum(axis=0) for _ in range(80)], axis=0)
    rim = np.concatenate([hits[0], hits[-1], hits[:, 0], hits[:, -1]])
    assert rim.mean() == pytest.approx(hits[10:50, 10:50].mean(), rel=0.15)


def test_trails_are_straight_and_cross_the_field() -> None:
    for seed in range(6):
        for added, affected in zip(
            *(getattr(damage_of(only("trails"), seed), n) for n in ("added", "affected")), strict=True
        ):
            if not affected.any():
                continue
            y, x = np.nonzero(affected)
            on_the_rim = (y == 0) | (y == SHAPE[0] - 1) | (x == 0) | (x == SHAPE[1] - 1)
            assert on_the_rim.sum() >= 4
            assert added.min() >= 0


def test_bad_columns_are_columns() -> None:
    damage = damage_of(only("bad_columns"), 1)
    assert damage.affected.any()
    for affected in damage.affected:
        hit = affected.any(axis=0)
        assert hit.sum() <= 9 * 3
        rows = np.flatnonzero(affected.any(axis=1))
        assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
        assert rows[-1] > 0.8 * SHAPE[0], "each runs to the end of the image, or fades before it"


def test_masks_of_bad_columns_are_a_pixel_wider() -> None:
    settings = only("bad_columns", missed=0.0, tight=0.0)
    wider = 0
    for seed in range(8):
        damage = damage_of(settings, seed)
        for affected, mask in zip(damage.affected, damage.mask, strict=True):
            expected = ndimage.binary_dilation(affected != 0, np.ones((3, 3)))
            assert np.array_equal(mask != 0, expected)
            wider += int(expected.sum() > (affected != 0).sum())
    assert wider > 8


def test_every_column_may_be_bad_and_images_may_be_small() -> None:
    settings = MaskSettings(**(NONE | {"bad_columns": 40.0, "cosmic_rays": 500.0, "chip_gaps": 1.0}))
    for shape in ((2, 2), (3, 3), (20, 12)):
        damage = sample_artefacts(sky_of(shape), settings, np.random.default_rng(1))
        assert ((damage.affected & MaskBit.BAD_COLUMN) != 0).any(axis=(0, 1)).all()


def test_variance_matters_where_nothing_is_masked_alone() -> None:
    mask = np.array([[[1, 0]]], np.uint16)
    damage = Damage(np.zeros((1, 1, 2), np.float32), mask, mask)
    for lost in (0.0, np.nan, np.inf):
        assert damage.inverse_variance(np.array([[[lost, 4.0]]])).tolist() == [[[0.0, 0.25]]]
    with pytest.raises(MismatchError, match="1 pixels without a bit"):
        damage.inverse_variance(np.array([[[1.0, 0.0]]]))


def test_settings_are_validated() -> None:
    with pytest.raises(ValidationError, match="missed \\+ tight"):
        MaskSettings(missed=0.6, tight=0.5)
    with pytest.raises(ValidationError, match="cosmic_rays"):
        MaskSettings(cosmic_rays=-1.0)


# Saturation


def test_bleeding_conserves_charge_and_stops_at_the_full_well() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        column = rng.exponential(1.0, 400) * (rng.random(400) < 0.05) * 20
        column[:150] = column[250:] = 0
        result = bleed(column, 10.0)
        assert result.max() <= 10.0
        assert result.sum() == pytest.approx(column.sum())
        assert (result >= np.minimum(column, 10.0) - 1e-12).all()


def test_bleeding_has_no_preferred_direction() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        column = np.zeros(80)
        column[rng.integers(0, 80, 4)] = rng.uniform(5, 150, 4)
        assert bleed(column[::-1], 10.0)[::-1] == pytest.approx(bleed(column, 10.0))


def test_bleeding_of_one_pixel_is_symmetric() -> None:
    column = np.zeros(41)
    column[20] = 70.0
    assert bleed(column, 10.0).tolist() == [0.0] * 17 + [10.0] * 7 + [0.0] * 17
    column[20] = 75.0
    assert bleed(column, 10.0).tolist() == [0.0] * 16 + [2.5] + [10.0] * 7 + [2.5] + [0.0] * 16
    end = np.zeros(10)
    end[1] = 50.0
    assert bleed(end, 10.0).tolist() == [10.0, 10.0, 10.0, 10.0] + [0.0] * 6, "what reaches the edge is lost"


def starry(sky: Sky, magnitude: float) -> np.ndarray:
    image = sky["r"].psf.at(*sky.centre).drawImage(nx=sky.shape[1], ny=sky.shape[0], scale=sky.pixel_scale)
    return np.stack([image.array * sky["r"].flux(magnitude)] * 2)


def test_saturated_stars() -> None:
    sky = sky_of((301, 101))
    perfect = MaskSettings(missed=0.0, tight=0.0, saturation=17.0)
    faint = saturate(sky, starry(sky, 17.01), perfect, np.random.default_rng(0))
    assert not faint.affected.any()
    light = starry(sky, 14.5)
    damage = saturate(sky, light, perfect, np.random.default_rng(0))
    level = full_well(sky, "r", 17.0)
    seen = damage.apply(light)
    assert seen.max() <= level * (1 + 1e-6)
    assert seen.sum() == pytest.approx(light.sum(), rel=1e-5), "charge is conserved"
    core, trail = damage.affected & MaskBit.SATURATED != 0, damage.affected & MaskBit.BLEED != 0
    assert np.array_equal(core, light > level)
    assert core[0, 150, 50]
    assert trail.any()
    assert not (core & trail).any()
    rows, columns = np.nonzero(trail[0])
    assert np.ptp(rows) > 3 * np.ptp(columns), "along the column"
    assert not damage.left_in.any()
    missed = saturate(sky, light, MaskSettings(missed=1.0, tight=0.0, saturation=17.0), np.random.default_rng(0))
    assert not missed.mask.any()
    assert np.array_equal(missed.added, damage.added)
    with pytest.raises(MismatchError, match="light of shape"):
        saturate(sky, light[:1], perfect, np.random.default_rng(0))
