"""What is applied wherever a trained model measures: against its parts, batch for batch, and with what is missing."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from assets_tests.science.shapes.untrained import untrained_shapes
from deblend_assets.errors import MismatchError
from deblend_assets.science.deblender.network import Deblender, deblend
from deblend_assets.science.deblender.stages import new_regressor, new_vae
from deblend_assets.science.measuring.measure import Model, measure
from deblend_assets.science.measuring.measured import FILLED, MISSING_BAND, NOT_FINITE
from deblend_assets.science.shapes.heads import NEIGHBOURS
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.settings import Profile

BANDS = ("g", "r", "i")
PIXELS = 21


@pytest.fixture(scope="module")
def model(profile: Profile) -> Model:
    """Networks that have learnt nothing: what learning gives is not tested here."""
    # The report's network: an untrained one of ours draws nothing at all.
    changes = {"network": "report", "noise_weight": 0.0}
    recipe = profile.recipes.training.model_copy(update=changes)
    normalization = Normalization(BANDS, (400.0, 900.0, 1100.0), 2.5)
    network = Deblender(new_vae(len(BANDS), PIXELS, recipe), new_regressor(recipe), normalization)
    return Model(network, untrained_shapes(BANDS, PIXELS), "0123456789ab")


@pytest.fixture
def stamps() -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:PIXELS, :PIXELS] - PIXELS // 2
    widths = rng.uniform(1.5, 4.0, size=(12, len(BANDS), 1, 1))
    light = 2000 * np.exp(-0.5 * (x**2 + y**2) / widths**2)
    return (light + rng.normal(0, 30, light.shape)).astype(np.float32)


def test_deblend_is_eq_9_the_networks_and_eq_9_back(model: Model, stamps: np.ndarray) -> None:
    network = model.network
    present = np.ones(stamps.shape[:2], dtype=bool)
    own, found = deblend(network, stamps, present)
    with torch.no_grad():
        inputs = torch.from_numpy(network.normalization.forward(stamps.astype(np.float64)).astype(np.float32))
        latent = network.deblender.encoder(inputs, torch.from_numpy(present)).mean
        images = network.deblender.decoder(latent).numpy().astype(np.float64)
        estimate = network.regressor(latent)
    np.testing.assert_allclose(own, network.normalization.inverse(images), rtol=1e-5)
    assert own.dtype == np.float32
    for k, name in enumerate(("e1", "e2", "g1", "g2")):
        np.testing.assert_allclose(found[name], estimate.mean[:, k], atol=1e-6)
        np.testing.assert_allclose(found[f"{name}_err"], estimate.log_sigma.exp()[:, k], rtol=1e-5)


def test_batches_change_nothing(model: Model, stamps: np.ndarray) -> None:
    present = np.ones(stamps.shape[:2], dtype=bool)
    (whole, found), (parts, again) = (deblend(model.network, stamps, present, batch) for batch in (100, 5))
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    for name, values in found.items():
        np.testing.assert_allclose(again[name], values, atol=1e-6)


def test_threads_change_rounding_alone_and_are_left_as_they_were(model: Model, stamps: np.ndarray) -> None:
    before, present = torch.get_num_threads(), np.ones(stamps.shape[:2], dtype=bool)
    try:
        torch.set_num_threads(1)
        one, found = deblend(model.network, stamps, present, 2)
        torch.set_num_threads(3)
        three, again = deblend(model.network, stamps, present, 2)
        begun = []
        thread = threading.Thread(target=lambda: begun.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert torch.get_num_threads() == begun[0] == 3
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(three, one, rtol=1e-5)
    for name, values in found.items():
        np.testing.assert_allclose(again[name], values, atol=1e-6)


def test_the_table_holds_what_its_columns_say(model: Model, stamps: np.ndarray) -> None:
    table, own = measure(model, stamps)
    columns = {name: column for name, column in model.columns().items() if column.value is not None}
    assert list(table) == list(columns)
    assert {name: c.unit for name, c in columns.items() if c.unit} == {f"flux_{b}": "electron" for b in BANDS}
    np.testing.assert_allclose(table["flux_i"], own[:, 2].astype(np.float64).sum(axis=(1, 2)))
    np.testing.assert_allclose(table["e1_moments"], image_moments(own[:, 1]).e1)
    squares, overlap = (own[:, 1] ** 2).sum((1, 2)), (own[:, 1] * stamps[:, 1]).sum((1, 2))
    np.testing.assert_allclose(table["blendedness"], 1 - squares / overlap, atol=1e-4)
    odds = model.shapes.posterior(stamps, np.ones(stamps.shape[:2], dtype=bool)).log_odds[NEIGHBOURS.name]
    for name, question in (("close_chance", 'nearest galaxy within 1.5"'), ("blended_chance", "blendedness > 0.01")):
        log_odds = np.log(table[name] / (1 - table[name]))
        np.testing.assert_allclose(log_odds, odds[:, NEIGHBOURS.criteria.index(question)], rtol=1e-6)
    assert (table["flags"] == 0).all()
    assert set(table["bands_present"]) == {"gri"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -9999.0])
def test_a_pixel_that_is_no_number_costs_that_pixel(model: Model, stamps: np.ndarray, value: float) -> None:
    clean, images = measure(model, stamps)
    stamps[3, 1, 4, 5] = value
    stamps[7, :] = value
    table, own = measure(model, stamps)
    others = np.isin(np.arange(len(stamps)), (3, 7), invert=True)
    assert table["flags"][3] == clean["flags"][3] | FILLED
    assert table["flags"][7] & NOT_FINITE
    assert not (table["flags"][others] & (FILLED | NOT_FINITE)).any()
    numbers = table.drop(columns=["flags", "shape_flags", "bands_present"])
    assert numbers.loc[7].isna().all()
    assert numbers.loc[3].notna().all()
    filled = stamps[3:4].copy()
    filled[0, 1, 4, 5] = np.delete(filled[0, 1, 3:6, 4:7].ravel(), 4).mean()
    by_hand, _ = measure(model, filled)
    np.testing.assert_allclose(numbers.loc[3].astype(float), by_hand[numbers.columns].loc[0].astype(float), rtol=1e-4)
    np.testing.assert_allclose(numbers[others], clean[others][numbers.columns].astype(float), rtol=1e-5, atol=1e-6)
    assert np.isnan(own[7]).all()
    np.testing.assert_allclose(own[others], images[others], rtol=1e-5)


def test_a_band_that_has_lost_too_much_is_absent(model: Model, stamps: np.ndarray) -> None:
    stamps[2, 0, :, :9] = np.nan
    table, _ = measure(model, stamps)
    assert table["bands_present"][2] == "ri"
    assert table["flags"][2] == MISSING_BAND
    stamps[2, 0] = np.nan
    absent, _ = measure(model, stamps)
    assert absent["e1"][2] == pytest.approx(table["e1"][2], abs=1e-6)


def test_a_band_of_nan_is_absent_and_the_networks_are_told(model: Model, stamps: np.ndarray) -> None:
    stamps[2:4, 0] = np.nan
    table, _ = measure(model, stamps)
    assert table["flags"].tolist() == [MISSING_BAND if k in (2, 3) else 0 for k in range(len(stamps))]
    assert table["bands_present"][2] == "ri"
    assert table["flux_g"].isna().tolist() == [k in (2, 3) for k in range(len(stamps))]
    present = np.ones((1, len(BANDS)), dtype=bool)
    present[0, 0] = False
    masked = model.shapes.measure(np.nan_to_num(stamps[2:3]), present)
    np.testing.assert_allclose(table["e1"][2], masked.mean[0, 2], atol=1e-6)
    np.testing.assert_allclose(table["e1_err"][2], masked.errors[0, 2], atol=1e-6)


def test_networks_of_two_frames_are_refused(model: Model) -> None:
    with pytest.raises(MismatchError, match=r"bands is \['g', 'r', 'i'\], the model's .* \[deblender\]: "):
        replace(model, shapes=untrained_shapes(("g", "i", "r"), PIXELS))
    with pytest.raises(MismatchError, match=r"shape is \[3, 21, 21\], the model's \[3, 25, 25\] \[deblender\]: "):
        replace(model, shapes=untrained_shapes(BANDS, 25))
