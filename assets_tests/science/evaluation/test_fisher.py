"""The Fisher floor against what an estimate reaches on noisy stamps, and what must hold for any such floor."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.evaluation.fisher import (
    GEOMETRY,
    NEIGHBOUR_SIGMA,
    STEPS,
    derivatives,
    fisher_floor,
    fisher_matrix,
    prior_information,
    table_floor,
    whole_floor,
)
from deblend_assets.science.simulation.renderers import new_galaxy_renderer
from deblend_assets.science.simulation.renderers.components import shear_ellipses
from deblend_assets.science.simulation.renderers.fourier import FourierRenderer
from deblend_assets.science.simulation.rendering import ShardRenderer, places
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.science.stamps.conventions import add_shear
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.settings import Profile

SHARD = Shard("train", 0, 0, 24)
SHAPES = ["sigma_g1", "sigma_g2", "sigma_e1", "sigma_e2", "sigma_ln_size"]
# Scenes of the shard of one galaxy with S/N 400, two with 220 and three with 260; all elongated.
ALONE, PAIR, TRIPLE = 6, 4, 14


@pytest.fixture(scope="module")
def table(renderer: ShardRenderer) -> pd.DataFrame:
    return renderer.scene_tables(SHARD, 0, SHARD.scenes)


@pytest.fixture(scope="module")
def floor(renderer: ShardRenderer) -> pd.DataFrame:
    return fisher_floor(renderer, SHARD, 0, SHARD.scenes)


def of_scene(table: pd.DataFrame, scene: int) -> pd.DataFrame:
    return table[table["scene"] == scene].reset_index(drop=True)


def changed(renderer: ShardRenderer, catalog: pd.DataFrame, row: int, **columns: float) -> ShardRenderer:
    """The renderer of a catalogue that differs in one galaxy."""
    other = catalog.copy()
    for name, value in columns.items():
        other[name] = other[name].where(np.arange(len(other)) != row, value)
    return ShardRenderer(other, renderer.settings, renderer.survey)


def test_the_error_of_the_flux_alone_is_the_matched_filters(
    renderer: ShardRenderer, table: pd.DataFrame, floor: pd.DataFrame
) -> None:
    scene = of_scene(table, ALONE)
    found = derivatives(renderer, scene)
    fisher = fisher_matrix(found.light, found.geometry, renderer.sky)
    truth = renderer.light(SHARD, ALONE, ALONE + 1).truth.iloc[0]
    signal = np.array([truth[f"snr_{band}"] for band in renderer.survey.bands])
    assert np.diag(fisher)[len(GEOMETRY) :] ** 0.5 == pytest.approx(signal, rel=1e-5)
    marginal = np.array([floor[f"sigma_ln_flux_{band}"][ALONE] for band in renderer.survey.bands])
    assert (marginal >= 1 / signal).all()
    assert marginal.min() < 2 / signal[marginal.argmin()], "size and shape cost some of the flux, not most of it"


def test_the_matrix_is_the_sum_over_pixels_of_all_the_scenes_photons() -> None:
    """Parameter by parameter, where the galaxies outshine the sky."""
    rng = np.random.default_rng(9)
    light, geometry = rng.uniform(1, 50, (2, 3, 4, 4)), rng.normal(0, 9, (len(GEOMETRY), 2, 3, 4, 4))
    sky = np.array([2.0, 5.0, 9.0])[:, None, None]
    stamps = []
    for member in range(2):
        stamps += list(geometry[:, member])
        stamps += [light[member] * (np.arange(3) == band)[:, None, None] for band in range(3)]
    expected = [[(p * q / (light[0] + light[1] + sky)).sum() for p in stamps] for q in stamps]
    assert fisher_matrix(light, geometry, sky) == pytest.approx(np.array(expected))


def test_a_shear_of_one_galaxy_is_that_of_all(renderer: ShardRenderer, table: pd.DataFrame) -> None:
    """What the derivatives perturb, against the ways that the renderer has always had."""
    galaxy_renderer = renderer.galaxy_renderer
    assert isinstance(galaxy_renderer, FourierRenderer)
    row, x, y, turn = places(table)
    plain = galaxy_renderer.components.ellipses(row, np.radians(turn), 0j)
    shears = np.linspace(-0.1, 0.1, len(row)) * np.exp(1j * np.arange(len(row)))
    each = shear_ellipses(plain, shears)
    for k in range(0, len(row), 9):
        alike = galaxy_renderer.components.ellipses(row, np.radians(turn), complex(shears[k]))
        np.testing.assert_allclose(each[k], alike[k], rtol=1e-13, atol=1e-15)
    drawn = galaxy_renderer.render_ellipses(row, x, y, plain, galaxy_renderer.sides(plain, x, y)).numpy()
    assert drawn.tobytes() == galaxy_renderer.render(row, x, y, turn).tobytes()


def test_both_ends_of_a_step_are_drawn_on_one_grid(
    renderer: ShardRenderer, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    galaxy_renderer = renderer.galaxy_renderer
    assert isinstance(galaxy_renderer, FourierRenderer)
    used, own, draw = [], [], galaxy_renderer.render_ellipses

    def spy(row: NDArray, x: NDArray, y: NDArray, ellipses: NDArray, sizes: NDArray) -> object:
        used.append(sizes)
        own.append(galaxy_renderer.sides(ellipses, x, y))
        return draw(row, x, y, ellipses, sizes)

    monkeypatch.setattr(galaxy_renderer, "render_ellipses", spy)
    derivatives(renderer, table)
    assert len(used) == 1 + 2 * len(GEOMETRY)
    assert all((sizes == used[0]).all() for sizes in used)
    assert any((sizes != own[0]).any() for sizes in own), "some galaxy's own grid would change on the way"


def test_a_turned_and_a_mirrored_scene_have_the_same_floor(
    renderer: ShardRenderer, table: pd.DataFrame, floor: pd.DataFrame
) -> None:
    """LSST's PSF is round: e1's error becomes that of -e1 under a quarter turn, e2's that of -e2 in a mirror."""
    x, y = (table[f"{axis}_arcsec"] for axis in "xy")
    turned = table.assign(x_arcsec=-y, y_arcsec=x, rotation_deg=table["rotation_deg"] + 90)
    components = renderer.galaxy_renderer.components
    angle = np.degrees(components.angle[table["row"].to_numpy()])
    mirrored = table.assign(y_arcsec=-y, rotation_deg=-2 * angle - table["rotation_deg"])
    for other in (turned, mirrored):
        ratio = table_floor(renderer, other) / floor
        assert (ratio.drop(columns="scene") - 1).abs().max().max() < 0.01


def test_a_neighbour_only_adds_to_the_errors(
    renderer: ShardRenderer, catalog: pd.DataFrame, table: pd.DataFrame
) -> None:
    target, neighbour = of_scene(table, TRIPLE).iloc[[0]], of_scene(table, TRIPLE).iloc[[1]]
    alone = table_floor(renderer, target).iloc[0].drop("scene")

    def beside(offset: float, renderer: ShardRenderer = renderer) -> pd.Series:
        near = neighbour.assign(x_arcsec=target["x_arcsec"].iloc[0] + offset, y_arcsec=target["y_arcsec"].iloc[0])
        ratio: pd.Series = table_floor(renderer, pd.concat([target, near])).iloc[0].drop("scene") / alone
        return ratio

    on_top, far = beside(0.5), beside(3.5)
    assert (on_top > 1).all()
    assert (far > 1 - 1e-9).all()
    assert (on_top[SHAPES] > 1.05).all()
    assert (on_top[SHAPES] > far[SHAPES]).all()
    # One that cannot be seen: singular without its prior, and with it harmless.
    unseen = changed(renderer, catalog, int(neighbour["row"].iloc[0]), **{f"{b}_ab": 34.0 for b in "ugrizy"})
    assert beside(0.5, unseen).to_numpy() == pytest.approx(1.0, abs=1e-3)


def test_halved_steps_give_the_same_floor(renderer: ShardRenderer, table: pd.DataFrame, floor: pd.DataFrame) -> None:
    half = table_floor(renderer, table, {name: step / 2 for name, step in STEPS.items()})
    difference = (half / floor - 1).abs().drop(columns="scene")
    # Only where the floor is beyond any use (here |g| to 0.5) does float32's rounding show.
    useful = floor["sigma_g1"] < 0.2
    assert useful.sum() > 20
    assert difference[useful].max().max() < 0.01
    assert difference.max().max() < 0.02


def btk_derivatives(renderer: ShardRenderer, scene: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Light and derivatives after GEOMETRY by GalSim, each perturbation an argument of BTK's own."""
    catalog, magnitudes, survey, pixels, _ = renderer.simulated_light
    row, x, y, turn = places(scene)

    def drawn(shear: complex = 0j, dx: float = 0.0, dy: float = 0.0, ln_size: float = 0.0) -> NDArray:
        axes = {name: np.exp(ln_size) * catalog[name] for name in ("a_d", "b_d", "a_b", "b_b")}
        galaxy_renderer = new_galaxy_renderer("btk", {**catalog, **axes}, magnitudes, survey, pixels, shear)
        return galaxy_renderer.render(row, x + dx, y + dy, turn).astype(float)

    h = 0.02
    pairs = [(drawn(h), drawn(-h)), (drawn(1j * h), drawn(-1j * h)), (drawn(dx=h), drawn(dx=-h))]
    pairs += [(drawn(dy=h), drawn(dy=-h)), (drawn(ln_size=h), drawn(ln_size=-h))]
    return drawn(), np.stack([(up - down) / (2 * h) for up, down in pairs])


@pytest.mark.parametrize("number", [ALONE, PAIR, TRIPLE])
def test_a_linear_fit_of_noisy_stamps_reaches_the_floor(
    renderer: ShardRenderer, table: pd.DataFrame, floor: pd.DataFrame, number: int
) -> None:
    """One Gauss-Newton step from the truth, with GalSim's derivatives and least squares, on 4,000 exposures."""
    scene, draws, bands = of_scene(table, number), 4000, len(renderer.survey.bands)
    light, geometry = btk_derivatives(renderer, scene)
    columns, prior = [], []
    for member in range(len(scene)):
        by_band = np.zeros((bands, *light.shape[1:]))
        by_band[np.arange(bands), np.arange(bands)] = light[member]
        columns += [*geometry[:, member], *by_band]
        sigma = [NEIGHBOUR_SIGMA[name] for name in GEOMETRY] + [NEIGHBOUR_SIGMA["ln_flux"]] * bands
        prior += [0.0 if member == 0 else 1 / s for s in sigma]
    mean = np.maximum(light.sum(axis=0) + renderer.sky, 0.0)
    rng = np.random.default_rng(5)
    noise = ((rng.poisson(mean, (draws, *mean.shape)) - mean) / np.sqrt(mean)).reshape(draws, -1)
    model = np.stack([(column / np.sqrt(mean)).ravel() for column in columns], axis=1)
    # What is known beforehand is one more measurement of each parameter, with an error of its own.
    noise = np.concatenate([noise, rng.standard_normal((draws, len(prior)))], axis=1)
    q, r = np.linalg.qr(np.concatenate([model, np.diag(prior)]))
    fitted = np.linalg.solve(r, q.T @ noise.T).T
    shear, (dx, dy, ln_size) = fitted[:, 0] + 1j * fitted[:, 1], fitted[:, 2:5].T

    truth = renderer.light(SHARD, number, number + 1).truth.iloc[0]
    g = np.array([add_shear(np.array(truth["g1"] + 1j * truth["g2"]), s) for s in shear])
    galaxy_renderer = renderer.galaxy_renderer
    assert isinstance(galaxy_renderer, FourierRenderer)
    row, x, y, turn = (np.repeat(values[:1], draws) for values in places(scene))
    ellipses = galaxy_renderer.components.ellipses(row, np.radians(turn), 0j)
    shapes = np.exp(2 * ln_size)[:, None, None] * shear_ellipses(ellipses, shear)
    stamps = galaxy_renderer.render_ellipses(row, x + dx, y + dy, shapes, galaxy_renderer.sides(ellipses, x, y)).numpy()
    seen = image_moments(stamps[:, renderer.label_band])
    estimates = {"g1": g.real, "g2": g.imag, "e1": seen.e1, "e2": seen.e2, "ln_size": ln_size}
    estimates |= {f"ln_flux_{band}": fitted[:, 5 + b] for b, band in enumerate(renderer.survey.bands)}
    for name, values in estimates.items():
        sigma = floor[f"sigma_{name}"][number]
        assert values.std() / sigma == pytest.approx(1.0, abs=3 / (2 * draws) ** 0.5), name
        true = truth.get(name, 0.0)
        assert values.mean() == pytest.approx(true, abs=4 * sigma / draws**0.5), name


def test_a_target_of_agn_light_alone_has_no_floor(
    renderer: ShardRenderer, catalog: pd.DataFrame, table: pd.DataFrame
) -> None:
    scene = of_scene(table, PAIR)
    point = {"fluxnorm_disk": 0.0, "fluxnorm_bulge": 0.0, "fluxnorm_agn": 1.0}
    target, neighbour = (changed(renderer, catalog, int(row), **point) for row in scene["row"])
    assert table_floor(target, scene).iloc[0].drop("scene").isna().all()
    assert np.isfinite(table_floor(neighbour, scene).to_numpy()).all(), "a neighbour may be a point"


def test_a_band_without_light_has_no_flux_to_measure(
    renderer: ShardRenderer, catalog: pd.DataFrame, table: pd.DataFrame, floor: pd.DataFrame
) -> None:
    scene = of_scene(table, ALONE)
    found = table_floor(changed(renderer, catalog, int(scene["row"].iloc[0]), u_ab=60.0), scene).iloc[0]
    assert found.index[found.isna()].tolist() == ["sigma_ln_flux_u"]
    assert (found[SHAPES] >= floor.loc[ALONE, SHAPES]).all()
    assert found[SHAPES].to_numpy() == pytest.approx(floor.loc[ALONE, SHAPES].to_numpy(), rel=0.2)


def test_the_prior_is_the_neighbours_alone() -> None:
    prior = prior_information(3, 6).reshape(3, 11)
    assert (prior[0] == 0).all()
    assert prior[1] == pytest.approx(prior[2])
    assert prior[1] == pytest.approx([1 / 0.09] * 2 + [4.0] * 2 + [1 / 0.49] + [1.0] * 6)


def test_a_shard_is_the_same_in_any_chunks(renderer: ShardRenderer) -> None:
    shard = Shard("test", 1, 100, 30)
    whole = pickle.loads(pickle.dumps(whole_floor))(renderer, shard)
    assert whole["scene"].tolist() == list(range(100, 130))
    parts = [fisher_floor(renderer, shard, first, first + 10) for first in (0, 10, 20)]
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True))


def test_btk_is_refused(catalog: pd.DataFrame, profile: Profile, lsst: SurveyModel) -> None:
    settings = profile.simulation.model_copy(update={"renderer": "btk"})
    with pytest.raises(SettingsError, match="torch renderer alone"):
        fisher_floor(ShardRenderer(catalog, settings, lsst), SHARD, 0, 1)
