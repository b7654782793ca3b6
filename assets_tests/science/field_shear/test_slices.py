"""Shear of one redshift slice alone: isolated galaxies respond by their share, blends of both slices do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.field_shear.catalogs import SHEAR, STEP, Truth, tables
from assets_tests.science.field_shear.test_images import FLUX, SETTINGS, WHICH, fields_of_galaxies, quiet
from deblend_assets.science.field_shear.bins import ALL, REDSHIFT
from deblend_assets.science.field_shear.fields import EXACT, SLICES, Condition, ShearedField
from deblend_assets.science.field_shear.measure import measure_images
from deblend_assets.science.field_shear.methods import Given, Method
from deblend_assets.science.field_shear.places import Places
from deblend_assets.science.field_shear.slices import slice_responses
from deblend_assets.science.field_shear.stacked import Stacked
from deblend_assets.science.field_shear.twin_checks import twin_facts
from deblend_assets.science.peers.fields import sep_hsm
from deblend_assets.science.simulation.fields import Field

# Of nine galaxies; those of the first column weigh half as much as the others.
REDSHIFTS = np.array([0.5] * 4 + [1.2] * 5)
SHARES = (6 / 15, 9 / 15)


@pytest.fixture(scope="module")
def images() -> Mapping[Condition, list[ShearedField]]:
    fields, field = fields_of_galaxies()
    sources = replace(field.sources, bodies=replace(field.sources.bodies, redshift=REDSHIFTS))
    field = Field(field.renderer, sources)
    return {condition: fields.observed(WHICH, field, condition.redshifts) for condition in (EXACT, *SLICES)}


def regauss(given: Given) -> Mapping[str, pd.DataFrame]:
    """Shapes of Gaussians, which REGAUSS measures exactly, with the response of a shear to shear."""
    table = sep_hsm.estimate(given.image, (4.0, 4.0))
    weight = np.where(table["x"] < 50, 1.0, 2.0)
    change = weight * (1 - table["g1"] ** 2 + table["g2"] ** 2)
    return {"noshear": table.assign(chosen=table["good"], weight=weight, r11=change, r22=change)}


def sums_of(images: Mapping[Condition, list[ShearedField]], condition: Condition) -> pd.DataFrame:
    """Of the upright pair."""
    pair = list(quiet(images[condition][:2]))
    return measure_images(pair, WHICH, [Method("regauss", "sep", regauss)], [condition], SETTINGS).sums


def chosen(sums: pd.DataFrame, variable: str, number: int = 0) -> Stacked:
    return Stacked.of(sums[(sums["variable"] == variable) & (sums["bin"] == number)], STEP)


def test_isolated_galaxies_respond_by_their_weighted_share(images: Mapping[Condition, list[ShearedField]]) -> None:
    exact = sums_of(images, EXACT)
    for number, (condition, share) in enumerate(zip(SLICES, SHARES, strict=True)):
        alone = chosen(sums_of(images, condition), ALL)
        found = slice_responses(alone, chosen(exact, ALL), chosen(exact, REDSHIFT, number), SHEAR)

        assert found["share"].value == pytest.approx(share)
        assert found["responding"].value == pytest.approx(share, abs=1e-3)
        assert found["response"].value == pytest.approx(share, abs=5e-3)


def test_images_of_a_slice_are_twins(images: Mapping[Condition, list[ShearedField]]) -> None:
    for condition in SLICES:
        assert twin_facts(images[condition]).problems == []


def test_the_target_is_the_brightest_source_nearby(images: Mapping[Condition, list[ShearedField]]) -> None:
    image = images[EXACT][0]
    truth = image.field.truth
    near = truth.iloc[[0, 4]].assign(redshift=[2.0, 0.0], star=[False, True], flux_r=[FLUX / 2, 2 * FLUX])
    near = near.assign(x=near["x"] + 3.0)
    field = replace(image.field)
    field.__dict__["truth"] = pd.concat([truth, near], ignore_index=True)
    # The last one is beyond the FWHM of four pixels.
    table = truth[["x", "y"]].iloc[[0, 4, 8]] + np.array([[0.5, 0.5], [0.5, 0.5], [6.0, 0.5]])

    found = Places(replace(image, field=field), 0).add(table)["redshift"].to_numpy()
    np.testing.assert_equal(found, [0.5, np.nan, np.nan])


@pytest.mark.parametrize("blended", [0.0, 0.2])
def test_light_that_follows_the_shear_of_another_slice_is_seen(blended: float) -> None:
    """Of two slices that respond by 0.8 and 0.4; a part of the second follows the shear of the first."""
    first = Truth(response=0.8, detection=0.0)
    second = replace(first, response=0.4)
    follows = replace(second, m1=blended - 1, m2=blended - 1)
    near = tables(first, fields=8, galaxies=600)[0]
    far, moved = (tables(truth, fields=8, galaxies=300)[0] for truth in (second, follows))
    numbers = ["n", "weight", "g1", "g2"]
    exact = near.assign(**{name: near[name] + far[name] for name in numbers})
    sheared = near.assign(**{name: near[name] + moved[name] for name in numbers})
    found = slice_responses(*(chosen(sums, ALL) for sums in (sheared, exact, near)), SHEAR)

    assert found["share"].value == pytest.approx(600 / 900, abs=0.02)
    assert found["responding"].value == pytest.approx(480 / 600, abs=0.02)
    apart = found["response_less_responding"]
    assert apart.value == pytest.approx(blended * 120 / 600, abs=3 * apart.error)
    assert 0 < apart.error < 0.01
