"""The generated population against the relations it is drawn from, computed here by other means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from deblend_assets.errors import SettingsError
from deblend_assets.science.reports.figures.population import catalog_overview
from deblend_assets.science.simulation import relations, seds
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS, validate_catalog
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.population_checks import PopulationCheck, check_population

Change = Callable[[pd.DataFrame], pd.DataFrame]

# Medians of g - i, g - r, r - i, i - z [mag] and their errors, in bins of half a magnitude from i = 20: VVDS-Deep,
# secure redshifts above 0.01, ugriz of CFHTLS (Le Fevre et al. 2013, 1307.0545).
# N = 117, 203, 348, 511, 712, 863, 911, 730, 216.
VVDS = (
    ((1.30, 0.80, 0.50, 0.25), (0.08, 0.04, 0.03, 0.01)),
    ((1.47, 0.86, 0.55, 0.26), (0.07, 0.04, 0.03, 0.01)),
    ((1.32, 0.76, 0.56, 0.24), (0.05, 0.03, 0.02, 0.01)),
    ((1.23, 0.70, 0.60, 0.22), (0.04, 0.02, 0.02, 0.01)),
    ((1.11, 0.61, 0.55, 0.21), (0.02, 0.01, 0.02, 0.01)),
    ((1.06, 0.56, 0.52, 0.21), (0.02, 0.01, 0.01, 0.01)),
    ((0.94, 0.48, 0.46, 0.18), (0.02, 0.01, 0.01, 0.01)),
    ((0.87, 0.40, 0.45, 0.18), (0.02, 0.01, 0.01, 0.01)),
    ((0.83, 0.38, 0.40, 0.18), (0.04, 0.02, 0.02, 0.02)),
)


@pytest.fixture(scope="module")
def population() -> pd.DataFrame:
    return generate_population(50_000, seed=20)


def test_it_is_a_catsim_catalogue(population: pd.DataFrame) -> None:
    validate_catalog(population, "generated")
    assert list(population.columns) == list(CATSIM_COLUMNS)
    assert population["galtileid"].dtype == np.int64
    assert all(dtype == np.float64 for dtype in population.dtypes.drop("galtileid"))
    assert (population["fluxnorm_agn"] == 0.0).all()
    both = population.query("fluxnorm_bulge > 0 and fluxnorm_disk > 0")
    assert len(both) > 1000
    assert (both["pa_bulge"] == both["pa_disk"]).all()


def test_the_same_seed_gives_the_same_bytes(population: pd.DataFrame) -> None:
    again = generate_population(50_000, seed=20)
    assert all(again[name].to_numpy().tobytes() == population[name].to_numpy().tobytes() for name in again)
    other = generate_population(50_000, seed=21)
    assert all(not np.array_equal(other[name], population[name]) for name in ("i_ab", "redshift", "a_d", "ra"))


def test_targets_and_neighbours_both_exist_in_numbers(population: pd.DataFrame) -> None:
    i_mag = population["i_ab"]
    assert i_mag.between(18.0, 28.0).all()
    assert (i_mag <= 24.3).sum() > 3000
    assert i_mag.between(24.3, 27.0).sum() > 15_000


def test_counts_follow_the_science_book(population: pd.DataFrame) -> None:
    assert relations.count_density(25.0) == pytest.approx(46.0)
    assert relations.count_density(27.0) / relations.count_density(26.0) == pytest.approx(10**0.31)
    low, high = relations.count_density(18.0), relations.count_density(28.0)
    assert stats.kstest((relations.count_density(population["i_ab"]) - low) / (high - low), "uniform").pvalue > 1e-3


def test_the_sky_is_the_square_that_holds_so_many_galaxies(population: pd.DataFrame) -> None:
    ra, dec = population["ra"].to_numpy() * 60.0, population["dec"].to_numpy() * 60.0
    area = (ra.max() - ra.min()) * (dec.max() - dec.min())
    brighter = (population["i_ab"] < 26.0).sum() / area
    assert brighter == pytest.approx(46.0 * 10**0.31, rel=0.05)
    assert stats.kstest((dec - dec.min()) / (dec.max() - dec.min()), "uniform").pvalue > 1e-3


def test_redshifts_at_a_magnitude_add_up_to_the_published_cumulative_distribution() -> None:
    """int p(z|i) dN over 23 < i < 26 = N(<26) P(z|<26) - N(<23) P(z|<23), LSST Science Book Eq. 3.8."""
    z = np.linspace(0.05, 5.0, 60)

    def limited(i_mag: float) -> np.ndarray:
        z0 = 0.0417 * i_mag - 0.744
        return relations.count_density(i_mag) * z**2 * np.exp(-z / z0) / (2.0 * z0**3)

    i_mag = np.linspace(23.0, 26.0, 3001)
    integrand = relations.redshift_pdf(z[:, None], i_mag) * np.gradient(relations.count_density(i_mag), i_mag)
    np.testing.assert_allclose(
        np.trapezoid(integrand, i_mag, axis=1), limited(26.0) - limited(23.0), rtol=2e-3, atol=1e-4
    )


@pytest.mark.parametrize("i_mag", [18.5, 21.0, 24.0, 28.0])
def test_redshift_density_and_distribution_belong_together(i_mag: float) -> None:
    z = np.linspace(0.0, 8.0, 40_001)
    density = relations.redshift_pdf(z, i_mag)
    assert np.all(density >= 0.0)
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0 * (z[1] - z[0]))])
    np.testing.assert_allclose(cumulative, relations.redshift_cdf(z, i_mag), atol=1e-6)
    assert cumulative[-1] == pytest.approx(1.0, abs=1e-5)


def test_redshifts_are_drawn_from_their_density(population: pd.DataFrame) -> None:
    z, i_mag = population["redshift"].to_numpy(), population["i_ab"].to_numpy()
    assert z.min() > 0.0
    assert z.max() < 6.0
    rank = relations.redshift_cdf(z, i_mag) / relations.redshift_cdf(6.0, i_mag)
    for part in (i_mag < 22.0, (i_mag > 22.0) & (i_mag < 25.0), i_mag > 25.0):
        assert stats.kstest(rank[part], "uniform").pvalue > 1e-3


def test_type_fractions_are_ilberts() -> None:
    # f exp(-k (i - 20)) at i = 24, by hand: 0.432 exp(-1.884), 0.080 exp(-1.224), 0.312 exp(-0.508).
    np.testing.assert_allclose(relations.type_fractions(24.0), [0.0657, 0.0235, 0.1877, 0.7231], atol=2e-4)
    np.testing.assert_allclose(relations.type_fractions(np.array([18.0, 20.0]))[:, 0], 0.432)


def test_types_keep_their_shares_and_early_ones_stay_at_low_redshift() -> None:
    rng = np.random.default_rng(4)
    i_mag = np.full(40_000, 23.0)
    redshift = relations.sample_redshifts(rng, i_mag)
    kind = relations.sample_types(rng, i_mag, redshift)
    shares = np.histogram(kind, [0.0, 0.5, 1.35, 2.2, 3.475])[0] / kind.size
    assert shares.sum() == pytest.approx(1.0)
    # Not equal: the two papers' redshift distributions differ.
    np.testing.assert_allclose(shares, relations.type_fractions(23.0), atol=0.04)
    assert np.percentile(redshift[kind < 0.5], 95) < 1.4 < np.percentile(redshift[kind > 2.2], 95)


def test_limits_of_types_rise_with_magnitude_from_i_20_to_25_5() -> None:
    """0.5 + w (1, 2, 3.5) by hand: w = 0.85 at i = 23; 0.67 up to i = 20; 1 from i = 25.5."""
    edges = relations.type_edges(np.array([18.0, 20.0, 23.0, 25.5, 28.0]))
    faintest = [0.0, 0.5, 1.5, 2.5, 4.0]
    brightest = [0.0, 0.5, 1.17, 1.84, 2.845]
    expected = [brightest, brightest, [0.0, 0.5, 1.35, 2.2, 3.475], faintest, faintest]
    np.testing.assert_allclose(edges, expected, atol=1e-12)


def test_median_colors_are_those_of_vvds_deep() -> None:
    """Within 0.1 mag and two errors of the published medians, at 20 <= i < 24.5, and bluer with i beyond."""
    rng, ours = np.random.default_rng(6), []
    for low in np.arange(20.0, 26.5, 0.5):
        i_mag = relations.sample_observed_magnitudes(rng, 6_000, low, low + 0.5)
        redshift = relations.sample_redshifts(rng, i_mag)
        _, g, r, i, z, _ = seds.colours(redshift, relations.sample_types(rng, i_mag, redshift)).T
        ours.append(np.median([g - i, g - r, r - i, i - z], axis=1))
    off = np.abs(np.array(ours)[: len(VVDS)] - [medians for medians, _ in VVDS])
    assert (off <= 0.1 + 2.0 * np.array([errors for _, errors in VVDS])).all(), off.round(2)
    steps = np.diff(np.array(ours)[len(VVDS) - 1 :, 0])
    assert (steps < 0.0).all(), steps
    assert (steps > -0.15).all(), steps


def test_disc_sizes_follow_miller(population: pd.DataFrame) -> None:
    assert relations.scalelength_median(23.0) == pytest.approx(0.3182, abs=1e-4)  # exp(-1.145) arcsec
    assert relations.scalelength_median(24.0) / relations.scalelength_median(23.0) == pytest.approx(np.exp(-0.269))
    disc = population[population["fluxnorm_disk"] > 0]
    x = disc["a_d"] / 1.67835 / relations.scalelength_median(disc["i_ab"])
    # p(x) ~ x exp(-(x/A)^(4/3)), integrated numerically; A from the median, 1.
    grid = np.linspace(0.0, 12.0, 60_001)
    cumulative = np.cumsum(grid * np.exp(-((grid * 1.1344) ** (4.0 / 3.0))))
    assert stats.kstest(np.interp(x, grid, cumulative / cumulative[-1]), "uniform").pvalue > 1e-3


def test_shapes_follow_miller(population: pd.DataFrame) -> None:
    disc = population[population["fluxnorm_disk"] > 0]
    g = (1.0 - disc["b_d"] / disc["a_d"]) / (1.0 + disc["b_d"] / disc["a_d"])
    grid = np.linspace(0.0, 0.804, 8001)
    published = grid * -np.expm1((grid - 0.804) / 0.2539) / ((1.0 + grid) * np.sqrt(grid**2 + 0.0256**2))
    cumulative = np.cumsum(published) / published.sum()
    assert stats.kstest(np.interp(g, grid, cumulative), "uniform").pvalue > 1e-3
    bulge = population[population["fluxnorm_disk"] == 0]
    g = (1.0 - bulge["b_b"] / bulge["a_b"]) / (1.0 + bulge["b_b"] / bulge["a_b"])
    published = grid * np.exp(-2.368 * grid - 6.691 * grid**2)
    cumulative = np.cumsum(published) / published.sum()
    assert stats.kstest(np.interp(g, grid, cumulative), "uniform").pvalue > 1e-3


def test_bulges(population: pd.DataFrame) -> None:
    both = population.query("fluxnorm_bulge > 0 and fluxnorm_disk > 0")
    fraction = both["fluxnorm_bulge"] / (both["fluxnorm_bulge"] + both["fluxnorm_disk"])
    assert fraction.min() >= 0.1
    # A half normal of width 0.1: the share above 0.2 of what is above 0.1.
    tail = stats.norm.sf(2.0) / stats.norm.sf(1.0)
    assert (fraction > 0.2).mean() == pytest.approx(tail, abs=0.02)
    assert (both["b_b"] / both["a_b"] >= both["b_d"] / both["a_d"] - 1e-12).all()
    np.testing.assert_allclose(both["a_d"] / both["a_b"], 1.67835, rtol=1e-5)
    pure = population["fluxnorm_disk"] == 0
    # Pure bulges are the class E: none of them is as blue as a disc is in the median.
    colour = population["g_ab"] - population["i_ab"]
    near = population["redshift"].between(0.3, 1.2)
    assert np.percentile(colour[pure & near], 5) > np.median(colour[~pure & near])


def test_magnitudes_are_finite_and_capped(population: pd.DataFrame) -> None:
    magnitudes = population[[f"{band}_ab" for band in "ugrizy"]]
    assert np.isfinite(magnitudes).all().all()
    assert magnitudes.max().max() <= 40.0
    far = population["redshift"] > 4.5
    assert far.sum() > 20
    assert ((population["u_ab"] - population["i_ab"])[far] > 5.0).all()


@pytest.mark.parametrize("arguments", [{"n": 0}, {"i_max": 17.0}, {"i_max": 31.0}, {"i_min": 26.0, "i_max": 25.0}])
def test_impossible_requests_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        generate_population(**({"n": 10, "seed": 0} | arguments))


def test_one_galaxy_is_a_population() -> None:
    validate_catalog(generate_population(1, seed=0, i_max=24.0), "one")


@pytest.mark.parametrize("seed", range(3))
def test_every_check_passes_on_what_is_generated(seed: int) -> None:
    checks = check_population(generate_population(20_000, seed=seed))
    assert len(checks) == 15
    assert [check for check in checks if not check.passed] == []
    assert all(check.reference and check.tolerance > 0.0 for check in checks)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda df: df[df["i_ab"] + df.index % 5 < 27.0], "slope"),
        (lambda df: df.assign(redshift=2.0 * df["redshift"]), "median redshift"),
        (lambda df: df.assign(b_d=0.6 * df["b_d"]), "disc axis ratio"),
        (lambda df: df.assign(a_d=0.4 * df["a_d"], b_d=0.4 * df["b_d"]), "disc half-light"),
        (lambda df: df.assign(fluxnorm_bulge=0.0), "share of the disc galaxies"),
        (
            lambda df: df.assign(fluxnorm_disk=np.where(df.index % 3, df["fluxnorm_disk"], 0.0)),
            "share of pure",
        ),
        (lambda df: df.assign(g_ab=df["g_ab"] - 1.0), "median g - i"),
    ],
)
def test_a_catalogue_that_departs_from_a_relation_fails_its_check(
    population: pd.DataFrame, change: Change, name: str
) -> None:
    checks = check_population(change(population))
    mine = [check for check in checks if check.name.startswith(name)]
    assert mine
    assert not all(check.passed for check in mine)
    assert any(not check.passed and abs(check.measured - check.expected) > check.tolerance for check in mine)


def test_too_few_galaxies_are_not_compared() -> None:
    few: list[PopulationCheck] = check_population(generate_population(20, seed=0))
    assert few == []


def test_the_figure_has_six_labelled_panels(population: pd.DataFrame) -> None:
    figure = catalog_overview(population)
    assert len(figure.axes) == 6
    assert all(axis.get_xlabel() and axis.get_ylabel() and axis.get_legend() for axis in figure.axes)
    for axis in (figure.axes[1], figure.axes[4]):  # densities of both magnitude bins integrate to 1
        for outline in axis.patches[:2]:
            corners = np.asarray(outline.get_path().vertices)
            area = abs(np.trapezoid(corners[:, 1], corners[:, 0]))
            assert area == pytest.approx(1.0, abs=1e-6)
    catalog_overview(population.iloc[:5])
