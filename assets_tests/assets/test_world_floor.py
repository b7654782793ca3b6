"""Which targets of a world have a floor, and what its store trusts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import MissingDataError
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.worlds.floor import floor_columns
from deblend_assets.steps.worlds.floor import chosen_fields
from deblend_assets.stores.world_floors import FloorStore


def world(fields: int, targets: int) -> pd.DataFrame:
    field = np.repeat(np.arange(fields) * 3, targets)
    return pd.DataFrame({"field": field, "row": np.tile(np.arange(targets) * 2, fields)})


def test_the_floor_is_of_as_many_targets_as_asked_from_some_thirty_fields() -> None:
    truth = world(100, 50)
    chosen = chosen_fields("pairs", truth, 400, seed=1)
    assert sum(task.scenes for task in chosen) == 400
    assert len(chosen) == 30
    known = set(zip(truth["field"], truth["row"], strict=True))
    pairs = [(task.field, row) for task in chosen for row in task.rows]
    assert len(set(pairs)) == 400
    assert set(pairs) <= known
    assert chosen == chosen_fields("pairs", truth, 400, seed=1)
    assert chosen != chosen_fields("pairs", truth, 400, seed=2)


def test_more_fields_are_taken_where_thirty_have_too_few_targets_and_all_of_a_small_world() -> None:
    assert sum(task.scenes for task in chosen_fields("pairs", world(100, 5), 400, seed=1)) == 400
    small = chosen_fields("pairs", world(4, 5), 400, seed=1)
    assert sum(task.scenes for task in small) == 20


def test_floors_of_other_targets_are_not_taken_for_those_asked_for(tmp_path: Path) -> None:
    store = FloorStore(tmp_path)
    table = pd.DataFrame(np.nan, index=range(2), columns=["field", "row", *floor_columns(CATSIM_BANDS)])
    table["field"], table["row"], table["sigma_g1"] = 7, [0, 3], [0.1, 0.2]
    with store.lock():
        store.write(7, [0, 3], table, {})
    assert store.is_done(7, [0, 3])
    assert store.read([(7, [0, 3])])["sigma_g1"].tolist() == [0.1, 0.2]
    assert not store.is_done(7, [0, 1, 3])
    assert not store.is_done(8, [0])
    with pytest.raises(MissingDataError, match="other targets"):
        store.read([(7, [0])])
