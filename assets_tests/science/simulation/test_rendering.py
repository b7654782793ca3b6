"""Pixels: BTK's own, the noise that photons make, and a truth that describes what was drawn."""

from __future__ import annotations

import galsim
import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.rendering import RenderedScenes, ShardRenderer
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey, survey_magnitudes
from deblend_assets.settings import Profile


@pytest.fixture(scope="module")
def scenes(renderer: ShardRenderer, profile: Profile) -> RenderedScenes:
    return renderer.render(all_shards(profile.simulation)[0], 0, 16)


def test_survey_numbers_are_surveycodexs_not_table_1(lsst: SurveyModel) -> None:
    """Table 1 of the report swaps z and Y."""
    assert lsst.bands == ("u", "g", "r", "i", "z", "y")
    assert lsst.psf_fwhm == pytest.approx((0.90, 0.86, 0.81, 0.79, 0.77, 0.76))
    per_second = np.array(lsst.zero_point) - 2.5 * np.log10(lsst.exposure)
    assert per_second[4:] == pytest.approx((27.42, 26.59))
    # Sky of 21.2 mag/arcsec^2 in r over 0.04 arcsec^2.
    assert lsst.sky[2] == pytest.approx(10 ** (-0.4 * (21.20 - lsst.zero_point[2])) * 0.04, rel=1e-4)
    with pytest.raises(SettingsError, match="unknown survey 'LSTS'"):
        load_survey("LSTS")
    with pytest.raises(SettingsError, match="no band 'Z'"):
        lsst.band_index("Z")


def test_pixels_are_those_of_btks_generator(
    scenes: RenderedScenes, renderer: ShardRenderer, catalog: pd.DataFrame, lsst: SurveyModel
) -> None:
    """The same galaxies through BTK's CatsimGenerator, as its users run it."""
    from astropy.table import Table
    from btk.catalog import CatsimCatalog
    from btk.draw_blends import CatsimGenerator
    from btk.sampling_functions import SamplingFunction

    first = scenes.truth[scenes.truth["scene"] == scenes.truth["scene"].iloc[0]]
    rows = catalog.set_index("galtileid").loc[first["galtileid"]].reset_index()
    table = Table.from_pandas(rows.drop(columns="split"))
    table["ra"], table["dec"] = first["x_arcsec"].to_numpy(), first["y_arcsec"].to_numpy()
    for part in ("disk", "bulge"):
        table[f"pa_{part}"] = first["position_angle_deg"].to_numpy()

    class Given(SamplingFunction):
        compatible_catalogs = ("CatsimCatalog",)

        def __call__(self, _: Table) -> Table:
            return table

    generator = CatsimGenerator(
        CatsimCatalog(table),
        Given(max_number=3, stamp_size=45.5 * 0.2),
        lsst.btk_survey,
        batch_size=1,
        add_noise="none",
    )
    theirs = next(generator).isolated_images[0, 0]
    assert theirs.shape == (6, 45, 45)
    np.testing.assert_allclose(scenes.isolated[0], theirs, rtol=1e-4, atol=1e-5 * theirs.max())


def test_the_same_scene_whatever_range_it_is_asked_in(
    scenes: RenderedScenes, renderer: ShardRenderer, profile: Profile
) -> None:
    part = renderer.render(all_shards(profile.simulation)[0], 5, 8)
    for name in ("isolated", "noisy", "blended"):
        assert getattr(part, name).tobytes() == getattr(scenes, name)[5:8].tobytes()


def test_noise_is_that_of_photons_and_independent(scenes: RenderedScenes, lsst: SurveyModel) -> None:
    sky = np.array(lsst.sky)[:, None, None]
    noise = (scenes.noisy - scenes.isolated) / np.sqrt(np.maximum(scenes.isolated, 0) + sky)
    pixels = noise[:, 0].size
    assert noise.mean(axis=(0, 2, 3)) == pytest.approx(np.zeros(6), abs=5 / pixels**0.5)
    assert noise.var(axis=(0, 2, 3)) == pytest.approx(np.ones(6), abs=5 * (2 / pixels) ** 0.5)
    alone = scenes.truth.groupby("scene").size().to_numpy() == 1
    other = ((scenes.blended - scenes.isolated) / np.sqrt(np.maximum(scenes.isolated, 0) + sky))[alone]

    def correlation(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    limit = 5 / other[:, 0].size ** 0.5
    assert abs(correlation(noise[alone], other)) < limit, "between the two noisy arrays"
    assert abs(correlation(noise[:, 2], noise[:, 3])) < limit, "between bands"
    assert abs(correlation(noise[:-1], noise[1:])) < limit, "between scenes"


def test_flux_and_truth_agree_for_a_galaxy_within_its_stamp(scenes: RenderedScenes) -> None:
    targets = scenes.truth[scenes.truth["member"] == 0].reset_index(drop=True)
    small = (targets["hlr_disc_arcsec"] < 0.5) & (targets["hlr_bulge_arcsec"] < 0.2)
    ratio = scenes.isolated[:, 3].sum(axis=(1, 2)) / targets["flux_i"]
    assert small.sum() > 3
    # The Kolmogorov wings and the stamp's edge cost a few per cent, never a gain.
    assert ratio[small].between(0.90, 1.0).all()


def test_truth_describes_what_was_drawn(scenes: RenderedScenes) -> None:
    targets = scenes.truth[scenes.truth["member"] == 0].reset_index(drop=True)
    g, e = (np.hypot(targets[f"{n}1"], targets[f"{n}2"]).to_numpy() for n in ("g", "e"))
    assert (e < 2 * g / (1 + g**2) + 1e-3).all(), "the PSF only rounds"
    # The stamp's edge, off the galaxy's centre by the dither, turns the moments of a large galaxy.
    elongated = (g > 0.1) & (targets[["hlr_disc_arcsec", "hlr_bulge_arcsec"]].max(axis=1) < 0.8).to_numpy()
    assert elongated.sum() > 5
    turn = 0.5 * (np.arctan2(targets["e2"], targets["e1"]) - np.arctan2(targets["g2"], targets["g1"]))
    assert np.abs(np.angle(np.exp(2j * turn[elongated]))).max() < 0.1, "the same orientation"
    a, b = targets["a_arcsec"], targets["b_arcsec"]
    assert ((a**2 - b**2) / (a**2 + b**2)).to_numpy() == pytest.approx(e)
    alone = scenes.truth.groupby("scene")["member"].transform("max") == 0
    assert (scenes.truth.loc[alone, "blendedness"].abs() < 1e-12).all()
    assert (scenes.truth.loc[~alone, "blendedness"] >= 0).all()


def test_signal_to_noise_is_the_fisher_error_of_the_flux(scenes: RenderedScenes, lsst: SurveyModel) -> None:
    """Matched filter: the flux of a known profile has relative error 1 / (S/N), by its definition over pixels."""
    light = scenes.isolated[0, 2].astype(float)
    fisher = (light**2 / (np.maximum(light, 0) + lsst.sky[2])).sum()
    truth = scenes.truth[scenes.truth["member"] == 0].iloc[0]
    assert truth["snr_r"] == pytest.approx(fisher**0.5, rel=1e-4)
    assert truth["snr"] ** 2 == pytest.approx(sum(truth[f"snr_{b}"] ** 2 for b in lsst.bands))


def test_constant_shear_is_really_applied(catalog: pd.DataFrame, profile: Profile, lsst: SurveyModel) -> None:
    """The author's sampler sets g1, g2 but never `apply_shear`; here it must move pixels as GalSim does."""
    shard = all_shards(profile.simulation)[0]
    sheared = profile.simulation.model_copy(update={"shear_g1": 0.05, "shear_g2": -0.02})
    plain, lensed = (ShardRenderer(catalog, s, lsst).render(shard, 0, 6) for s in (profile.simulation, sheared))
    before, after = (t.truth[t.truth["member"] == 0].reset_index(drop=True) for t in (plain, lensed))
    for k in range(6):
        expected = galsim.Shear(g1=0.05, g2=-0.02) + galsim.Shear(g1=before["g1"][k], g2=before["g2"][k])
        assert (after["g1"][k], after["g2"][k]) == pytest.approx((expected.g1, expected.g2), abs=1e-9)
    # The response of the observed e to g is positive and below the 2 of a PSF-free distortion.
    response = np.mean(after["e1"] - before["e1"]) / 0.05, np.mean(after["e2"] - before["e2"]) / -0.02
    assert all(0.2 < r < 2 for r in response)


def test_any_survey_draws(catalog: pd.DataFrame, profile: Profile) -> None:
    des = load_survey("DES")
    settings = profile.simulation
    drawn = ShardRenderer(catalog, settings, des).render(all_shards(settings)[0], 0, 2)
    assert drawn.blended.shape == (2, 5, 45, 45)
    assert np.isfinite(drawn.blended).all()
    euclid = load_survey("Euclid_VIS")
    magnitudes = {f"{b}_ab": np.array([m]) for b, m in zip("ugrizy", (26, 25, 24, 23.5, 23.2, 23.0), strict=True)}
    assert 23.5 <= survey_magnitudes(magnitudes, euclid)[0, 0] <= 24.0
    assert survey_magnitudes(magnitudes, des)[0] == pytest.approx([25, 24, 23.5, 23.2, 23.0])
    assert euclid.attributes()["magnitudes"] == ["interpolated"]
    assert des.attributes()["magnitudes"] == ["column"] * 5
    assert set(load_survey("Euclid_NISP").attributes()["magnitudes"]) == {"extrapolated"}


def test_both_renderers_draw_the_same_scenes(
    scenes: RenderedScenes, catalog: pd.DataFrame, profile: Profile, lsst: SurveyModel
) -> None:
    """The same tables and seeds: the light agrees, and so do the photons, but where light fell on a rounding edge."""
    assert profile.simulation.renderer == "torch"
    settings = profile.simulation.model_copy(update={"renderer": "btk"})
    btk = ShardRenderer(catalog, settings, lsst).render(all_shards(settings)[0], 0, 16)
    peak = btk.isolated.max(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(scenes.isolated / peak, btk.isolated / peak, atol=1e-4)
    assert (np.abs(scenes.blended - btk.blended) > 1).mean() < 1e-3
    for column in ("e1", "e2", "snr_r", "blendedness"):
        np.testing.assert_allclose(scenes.truth[column], btk.truth[column], atol=1e-4, rtol=1e-4)
    for column in ("galtileid", "x_arcsec", "g1", "flux_i"):
        assert (scenes.truth[column] == btk.truth[column]).all()
