"""Morphologies of a population: what each has, how they are distributed, which of them train."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation import cosmos_relations as cosmos
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS
from deblend_assets.science.simulation.galaxies import BULGE, DISC, KNOTS, Galaxies, Morphology, ellipse_shapes
from deblend_assets.science.simulation.intrinsic import intrinsic_shapes
from deblend_assets.science.simulation.morphologies import (
    COSMOS_TRAINING_SHARE,
    NEW_MIX,
    TRAINING_MIX,
    in_training,
    red_bulge_shares,
    shaped_galaxies,
    with_others,
)
from deblend_assets.science.simulation.population import generate_population

N = 6_000


@pytest.fixture(scope="module")
def catalog() -> dict[str, np.ndarray]:
    population = generate_population(N, 3, i_max=25.0)
    return {name: population[name].to_numpy() for name in CATSIM_COLUMNS}


@pytest.fixture(scope="module")
def shaped(catalog: dict[str, np.ndarray]) -> dict[Morphology, Galaxies]:
    kinds = (Morphology.SERSIC, Morphology.ALIGNED, Morphology.MISALIGNED, Morphology.KNOTTED)
    few = {name: values[:600] for name, values in catalog.items()}  # knots take their time
    return {
        kind: shaped_galaxies(few if kind == Morphology.KNOTTED else catalog, {kind: 1.0}, seed=9) for kind in kinds
    }


def test_photometry_is_the_catalogues_whatever_the_shape(
    catalog: dict[str, np.ndarray], shaped: dict[Morphology, Galaxies]
) -> None:
    for galaxies in shaped.values():
        count = len(galaxies)
        wanted = np.stack([catalog[f"{band}_ab"][:count] for band in "ugrizy"], axis=1)
        np.testing.assert_allclose(galaxies.magnitudes(), wanted, rtol=1e-12)
        np.testing.assert_array_equal(galaxies.id, catalog["galtileid"][:count])
        np.testing.assert_array_equal(galaxies.redshift, catalog["redshift"][:count])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(catalog: dict[str, np.ndarray]) -> None:
    small = {name: values[:300] for name, values in catalog.items()}
    mix = {Morphology.SERSIC: 0.4, Morphology.KNOTTED: 0.3, Morphology.CATSIM: 0.3}
    one, same, other = (shaped_galaxies(small, mix, seed) for seed in (1, 1, 2))
    for field in fields(Galaxies):
        assert getattr(one, field.name).tobytes() == getattr(same, field.name).tobytes()
    assert one.ellipses.tobytes() != other.ellipses.tobytes()
    assert {Morphology(kind) for kind in one.morphology} == set(mix)
    np.testing.assert_array_equal(one.id, small["galtileid"])


def test_indices_and_sizes_are_distributed_as_the_fits(
    catalog: dict[str, np.ndarray], shaped: dict[Morphology, Galaxies]
) -> None:
    """Quantiles of the fits at 23.93 and around (n of all fits 1.18; 0.22 arcsec); four errors of the sample."""
    galaxies, i_mag = shaped[Morphology.SERSIC], catalog["i_ab"]
    near = np.abs(i_mag - 23.93) < 0.4
    share = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    error = 4 * np.sqrt(share * (1 - share) / near.sum())
    index, (radius, shape) = galaxies.n[near, 0], ellipse_shapes(galaxies.ellipses[near, DISC])
    for values, table in (
        (index, cosmos.SERSIC_INDEX[4]),
        (np.log(radius), cosmos.LN_RADIUS[4]),
        ((1 - abs(shape)) / (1 + abs(shape)), cosmos.AXIS_RATIO[4]),
    ):
        below = np.array([(values < q).mean() for q in cosmos.quantile(table, share)])
        assert (np.abs(below - share) < error + 0.02).all(), (values, table)
    assert 0.3 <= galaxies.n[:, 0].min() < 0.5
    assert galaxies.n[:, 0].max() == pytest.approx(6.0)


def test_sizes_of_two_profiles_are_those_of_one(
    catalog: dict[str, np.ndarray], shaped: dict[Morphology, Galaxies]
) -> None:
    """The whole galaxy's half-light radius follows the same relation, in round galaxies exactly."""
    near = np.flatnonzero(np.abs(catalog["i_ab"] - 23.93) < 0.4)[:300]
    hlr = intrinsic_shapes(shaped[Morphology.ALIGNED][near], band="i").hlr
    assert np.median(np.log(hlr)) == pytest.approx(cosmos.LN_RADIUS[4][6], abs=0.12)


def test_bulges_are_redder_than_their_discs(shaped: dict[Morphology, Galaxies]) -> None:
    for kind in (Morphology.ALIGNED, Morphology.MISALIGNED, Morphology.KNOTTED):
        flux = shaped[kind].flux
        near = shaped[kind].redshift < 1.5
        bulge, disc = (flux[near, 1, c] / flux[near, 4, c] for c in (BULGE, DISC))  # g over z
        assert (bulge <= disc * (1 + 1e-9)).mean() > 0.95
        assert np.median(bulge / disc) < 0.6


def test_the_share_of_a_bulge_is_given_in_i_and_never_all_of_the_light() -> None:
    magnitudes = np.array([[25.0, 24.5, 24.0, 23.5, 23.2, 23.0], [22.0, 22.0, 22.0, 22.0, 22.0, 22.0]])
    shares = red_bulge_shares(np.array([0.4, 0.8]), np.array([0.5, 0.5]), magnitudes)
    np.testing.assert_allclose(shares[:, 3], [0.4, 0.8])
    assert shares.max() == 0.98, "a galaxy flat in frequency is bluer than an elliptical: its bulge would exceed it"
    assert (np.diff(shares[0]) > 0).all()


def test_components_share_an_angle_unless_they_are_misaligned(shaped: dict[Morphology, Galaxies]) -> None:
    def difference(galaxies: Galaxies) -> np.ndarray:
        _, shape = ellipse_shapes(galaxies.ellipses)
        return np.degrees(0.5 * np.abs(np.angle(shape[:, 1] * shape[:, 0].conj())))

    flat = np.abs(ellipse_shapes(shaped[Morphology.ALIGNED].ellipses)[1]).min(axis=1) > 1e-3
    assert difference(shaped[Morphology.ALIGNED])[flat].max() < 1e-3
    assert np.median(difference(shaped[Morphology.MISALIGNED])) == pytest.approx(cosmos.MISALIGNMENT[6], abs=3)
    _, shape = ellipse_shapes(shaped[Morphology.ALIGNED].ellipses)
    assert (np.abs(shape[:, BULGE]) <= np.abs(shape[:, DISC]) + 1e-9).all(), "no bulge is flatter than its disc"


def test_knots_lie_as_the_light_of_their_disc(shaped: dict[Morphology, Galaxies]) -> None:
    """Half of them are inside the half-light ellipse; their light is a part of the disc's, of its colour."""
    galaxies = shaped[Morphology.KNOTTED]
    number = galaxies.knot_count
    assert number.min() == 10
    assert number.max() == 30
    there = np.arange(galaxies.knots.shape[1]) < number[:, None]
    xx, xy, yy = np.moveaxis(galaxies.ellipses[:, DISC], -1, 0)
    inverse = np.linalg.inv(np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2))
    inside = np.einsum("gki,gij,gkj->gk", galaxies.knots, inverse, galaxies.knots) < 1
    assert inside[there].mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(there.sum()))
    assert (galaxies.knots[~there] == 0).all()
    part = galaxies.flux[:, :, KNOTS] / galaxies.flux[:, :, [DISC, KNOTS]].sum(axis=2)
    np.testing.assert_allclose(part, part[:, :1] * np.ones(6))
    assert 0.1 <= part.min() < 0.15
    assert 0.45 < part.max() <= 0.5


def test_red_galaxies_are_the_concentrated_ones(
    catalog: dict[str, np.ndarray], shaped: dict[Morphology, Galaxies]
) -> None:
    near = (catalog["redshift"] > 0.5) & (catalog["redshift"] < 0.8)
    colour = (catalog["g_ab"] - catalog["z_ab"])[near]
    index = shaped[Morphology.SERSIC].n[near, 0]
    assert np.corrcoef(np.argsort(np.argsort(colour)), np.argsort(np.argsort(index)))[0, 1] > 0.3


def test_others_take_places_at_their_magnitudes() -> None:
    """Half of the galaxies within the others' magnitudes are replaced, each by one of nearly its own magnitude."""
    population = generate_population(4000, 8, i_max=26.0)
    catalog = {name: population[name].to_numpy() for name in CATSIM_COLUMNS}
    galaxies = shaped_galaxies(catalog, {Morphology.SERSIC: 1.0}, 1)
    bright = np.flatnonzero(catalog["i_ab"] < 25.0)
    others = shaped_galaxies({n: v[bright] for n, v in catalog.items()}, {Morphology.KNOTTED: 1.0}, 2)
    mixed = with_others(galaxies, others, 0.5, np.random.default_rng(3))
    replaced = mixed.morphology == Morphology.KNOTTED
    assert len(mixed) == 4000
    assert not replaced[catalog["i_ab"] > 25.0].any()
    within = (catalog["i_ab"] >= catalog["i_ab"][bright].min()) & (catalog["i_ab"] < 25.0)
    assert replaced[within].mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(within.sum()))
    change = np.abs(mixed.magnitudes()[:, 3] - catalog["i_ab"])
    assert (change[~replaced] < 1e-9).all()
    assert np.median(change[replaced]) < 0.03
    again = with_others(galaxies, others, 0.5, np.random.default_rng(3))
    assert again.flux.tobytes() == mixed.flux.tobytes()
    for share, pool in ((1.5, others), (0.5, others[:0])):
        with pytest.raises(SettingsError, match="other galaxies"):
            with_others(galaxies, pool, share, np.random.default_rng(3))


def test_what_trains() -> None:
    kinds = np.repeat(np.array(list(Morphology), np.int8), 4000)
    ids = np.tile(np.arange(4000), len(Morphology))
    trains = in_training(kinds, ids)
    share = {kind: trains[kinds == kind].mean() for kind in Morphology}
    assert all(share[k] == 1 for k in (Morphology.CATSIM, *TRAINING_MIX))
    assert all(share[k] == 0 for k in (Morphology.REAL, *NEW_MIX))
    assert share[Morphology.COSMOS] == pytest.approx(COSMOS_TRAINING_SHARE, abs=0.03)
    order = np.random.default_rng(0).permutation(len(ids))
    np.testing.assert_array_equal(in_training(kinds[order], ids[order]), trains[order])


@pytest.mark.parametrize(
    "mix", [{Morphology.REAL: 1.0}, {Morphology.SERSIC: 0.5}, {Morphology.SERSIC: 1.5, Morphology.ALIGNED: -0.5}, {}]
)
def test_a_mixture_is_a_distribution_of_generated_morphologies(mix: dict[Morphology, float]) -> None:
    population = generate_population(10, 1)
    with pytest.raises(SettingsError, match="the mixture"):
        shaped_galaxies({name: population[name].to_numpy() for name in CATSIM_COLUMNS}, mix, 1)
