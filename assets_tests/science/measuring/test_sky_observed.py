"""The model for every sky as a method of the worlds: the tables hold what it measures, and nothing that it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from assets_tests.science.sky_shapes.samples import observed
from assets_tests.science.sky_shapes.test_model import model  # noqa: F401 - a fixture
from deblend_assets.science.evaluation.world_methods import METHODS
from deblend_assets.science.measuring.sky_observed import SKY_LIKELIHOOD, SKY_POSTERIOR, measure_sky
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.measuring.trust import trust_of
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import BLOCKS
from deblend_assets.science.stamps.columns import per_band
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.estimates import ESTIMATE_COLUMNS

BLOCK = {block.names[0]: number for number, block in enumerate(BLOCKS)}


def test_the_tables_are_the_measurement(model: SkyModel) -> None:  # noqa: F811
    stamps = observed(40)
    weight = stamps.inverse_variance.copy()
    weight[5] = 0
    weight[6, CATSIM_BANDS.index("r")] = 0
    stamps = replace(stamps, inverse_variance=weight)
    tables, scene = measure_sky(model, stamps), measure_scenes(model, stamps)
    found, likelihood = scene.targets, scene.targets.likelihood
    assert set(tables) == {SKY_POSTERIOR, SKY_LIKELIHOOD} <= set(METHODS)
    assert likelihood.flags is not None
    for name, posterior in ((SKY_POSTERIOR, found.posterior), (SKY_LIKELIHOOD, likelihood)):
        table = tables[name]
        assert set(table) == set(per_band(ESTIMATE_COLUMNS, CATSIM_BANDS))
        mean, errors = posterior.mean.numpy(), posterior.errors.numpy()

        def given(block: str, name: str = name) -> np.ndarray:
            known = np.arange(len(stamps)) != 5
            return known if name == SKY_POSTERIOR else known & ((likelihood.flags >> BLOCK[block]) % 2 == 0)

        for k, column in enumerate(("g1", "g2", "e1", "e2")):
            rows = given(f"{column[0]}1")
            np.testing.assert_array_equal(table[column].notna(), rows)
            np.testing.assert_allclose(table[column][rows], mean[rows, k])
            np.testing.assert_allclose(table[f"{column}_err"][rows], errors[rows, k])
        np.testing.assert_array_equal(table["failed"], ~given("g1"))
        np.testing.assert_array_equal(table["flag"], trust_of(stamps, scene).flags != 0)
        assert table.loc[5, "flag"]
    # Both kinds of rows are among them.
    assert 0 < tables[SKY_LIKELIHOOD]["failed"].mean() < 1
    for k, band in enumerate(CATSIM_BANDS):
        np.testing.assert_array_equal(tables[SKY_POSTERIOR][f"flux_{band}"], scene.fluxes.flux[:, 0, k])
        np.testing.assert_array_equal(tables[SKY_POSTERIOR][f"flux_{band}_err"], scene.fluxes.error[:, 0, k])
        assert tables[SKY_LIKELIHOOD][f"flux_{band}"].isna().all()
    absent = tables[SKY_POSTERIOR]["flux_r"].isna()
    assert absent[[5, 6]].all()
    assert not absent.drop([5, 6]).any()
