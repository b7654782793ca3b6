"""The evaluation in a world: known faults come out as they are, groups partition, silent failures are counted."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.evaluation.world_tables import BANDS, estimate_table, floor_table, true_table
from deblend_assets.science.evaluation.bars import Bar, falls_short, holds, short_groups
from deblend_assets.science.evaluation.world_groups import ALL, ONE_SOURCE, all_groups, families, pair_grid
from deblend_assets.science.evaluation.world_methods import METHODS
from deblend_assets.science.evaluation.worlds import BARS, evaluate_world, galaxies, headline, shortfalls
from deblend_assets.science.statistics.regression import worse

N = 1_500


@lru_cache(maxsize=1)
def truth() -> pd.DataFrame:
    return true_table(N)


def evaluated(estimates: dict[str, pd.DataFrame], *, floor: bool = True, pairs: bool = False) -> dict[str, Any]:
    table = floor_table(truth(), every=2) if floor else None
    return evaluate_world(truth(), estimates, table, BANDS, pairs=pairs, resamples=20, seed=3)


def of_all(table: pd.DataFrame, **settings: Any) -> dict[str, Any]:
    return evaluated({"method": table}, **settings)["methods"]["method"]["groups"][ALL]


def near(measure: dict[str, float], expected: float, errors: float = 4.0) -> bool:
    return abs(measure["value"] - expected) < errors * measure["error"]


def test_a_method_at_the_floor_has_ratio_one_and_honest_intervals() -> None:
    found = of_all(estimate_table(truth()))
    for quantity in ("g", "e", "flux"):
        merit = found[quantity]
        assert near(merit["robust_over_floor"], 1.0), quantity
        assert near(merit["rms_over_floor"], 1.0)
        assert near(merit["robust_over_floor_population"], 1 / 0.9)
        assert merit["robust_over_floor"]["error"] < 0.08
        assert near(merit["pull_mean"], 0.0)
        assert near(merit["pull_rms"], 1.0)
        assert near(merit["within_68"], 0.6827)
        assert near(merit["within_95"], 0.95)
        assert merit["beyond_5"]["value"] == 0
        assert merit["failures"] == 0
    assert near(found["g"]["slope"], 1.0)
    assert found["silent"]["value"] == found["flagged"]["value"] == found["failed"]["value"] == 0
    judged = galaxies(truth())
    assert found["n"] == judged.sum() < N
    assert found["g"]["n_floor"] == (judged & (np.arange(N) % 2 == 0)).sum()


def test_slope_bias_and_pulls_are_those_that_were_put_in() -> None:
    found = of_all(estimate_table(truth(), slope=0.9, bias=0.01, size=2.0, stated=1.0, flux=0.05))
    assert near(found["g"]["slope"], 0.9)
    assert found["g"]["slope"]["error"] < 0.04
    assert near(found["e"]["mean"], 0.01)
    assert near(found["flux"]["median"], 0.05)
    exact = of_all(estimate_table(truth(), size=2.0))
    assert near(exact["g"]["pull_rms"], 2.0)
    assert near(exact["g"]["robust_over_floor"], 2.0)
    assert near(exact["e"]["within_68"], 0.3829)


def test_a_method_without_errors_has_no_pulls_and_no_silent_failures() -> None:
    found = of_all(estimate_table(truth(), stated=None))
    for name in ("pull_mean", "pull_rms", "within_68", "within_95", "beyond_5"):
        assert found["g"][name]["value"] is None
    assert found["silent"]["value"] is None
    assert found["g"]["rms"]["value"] is not None


def test_silent_failures_are_those_without_a_flag() -> None:
    table, judged = estimate_table(truth(), size=0.1), np.flatnonzero(galaxies(truth()))
    off, flagged, failed = judged[:300], judged[200:400], judged[400:500]
    table.loc[off[:150], "g1"] += 6 * table.loc[off[:150], "g1_err"]
    for band in BANDS:
        table.loc[off[150:], f"flux_{band}"] *= 3
    table.loc[flagged, "flag"] = True
    table.loc[failed, ["g1", "g2", "g1_err", "g2_err"]] = np.nan
    table["failed"] = table["g1"].isna()
    found = of_all(table)
    assert found["silent"]["value"] == pytest.approx(200 / len(judged))
    assert found["flagged"]["value"] == pytest.approx(200 / (len(judged) - 100))
    assert found["failed"]["value"] == pytest.approx(100 / len(judged))
    assert found["g"]["failures"] == 100
    assert found["g"]["used"] == len(judged) - 300
    assert found["g"]["beyond_5"]["value"] == pytest.approx(150 / 2 / (len(judged) - 300))
    assert found["flux"]["lost"]["value"] == pytest.approx(50 / (len(judged) - 200))


def test_spurious_detections_and_shreds_are_withheld_or_not_and_judged_as_no_galaxy() -> None:
    table, real = true_table(N), np.flatnonzero(galaxies(truth()))
    table.loc[real[:40], "shred"] = True
    estimates = estimate_table(truth())
    # The flux of a piece, against the truth of the whole.
    estimates.loc[real[:40], "flux_r"] *= 0.01
    estimates.loc[real[:10], "flag"] = True
    estimates.loc[real[10:15], "failed"] = True
    found = evaluate_world(table, {"m": estimates}, None, BANDS, pairs=False, resamples=20, seed=3)["methods"]["m"]
    assert found["n"] == len(real) - 40
    assert near(found["groups"][ALL]["flux"]["pull_rms"], 1.0)
    assert found["unreal"]["shred"]["n"] == 40
    assert found["unreal"]["shred"]["withheld"]["value"] == pytest.approx(15 / 40)
    assert found["unreal"]["spurious"]["n"] == 1
    assert found["unreal"]["spurious"]["withheld"]["value"] is None, "too few"


def test_the_parts_of_a_family_do_not_overlap_and_hold_all_that_is_known() -> None:
    rows = truth()[galaxies(truth())]
    for family, parts in families(rows).items():
        held = np.sum(list(parts.values()), axis=0)
        assert (held == 1).all(), family
    grid = np.sum(list(pair_grid(rows).values()), axis=0)
    close = (rows["nearest_arcsec"] <= 4).to_numpy()
    assert np.array_equal(grid, close.astype(int))
    assert len(pair_grid(rows)) == 9
    names = all_groups(rows, pairs=True)
    assert names[ALL].all()
    assert len(names) == 1 + sum(map(len, families(rows).values())) + 9


def test_thirds_are_of_the_property_that_they_name() -> None:
    rows = truth()[galaxies(truth())]
    parts = families(rows)["PSF |g|"]
    size = np.hypot(rows["psf_g1"], rows["psf_g2"]).to_numpy()
    assert size[parts["low third"]].max() < size[parts["middle third"]].min()
    assert size[parts["middle third"]].max() < size[parts["high third"]].min()
    apart = families(rows)["nearest detection"]
    assert np.isinf(rows["separation_fwhm"].to_numpy()[apart["none"]]).all()


def test_a_method_may_have_measured_the_first_targets_alone() -> None:
    table = estimate_table(truth())
    found = evaluated({"all": table, "some": table.head(500)}, pairs=True)["methods"]
    assert found["some"]["n"] == galaxies(truth())[:500].sum()
    # The thirds are those of the whole world.
    whole = all_groups(truth()[galaxies(truth())], pairs=True)["S/N: high third"][: found["some"]["n"]]
    assert found["some"]["groups"]["S/N: high third"]["n"] == whole.sum()
    assert set(found["all"]["by_separation"]) == {"brighter by > 1 mag", "within 1 mag", "fainter by > 1 mag"}
    bins = found["all"]["by_snr"]
    assert sum(b["n"] for b in bins) == found["all"]["n"]
    assert all(b["low"] <= b["middle"] < (b["high"] or np.inf) for b in bins)


def test_fluxes_a_band_are_of_detections_of_one_source() -> None:
    table = estimate_table(truth())
    blend = truth()["blend"].to_numpy()
    table.loc[blend, "flux_i"] *= 2
    table.loc[~blend, "flux_i"] *= 1.1
    found = evaluated({"method": table})["methods"]["method"]["fluxes"]
    assert near(found["i"]["median"], 0.1)
    assert found["g"]["n"] < found["r"]["n"], "an absent band asks for nothing"


def test_without_a_floor_there_are_no_ratios() -> None:
    found = of_all(estimate_table(truth()), floor=False)
    assert "robust_over_floor" not in found["g"]


def test_what_psf_knowledge_costs_is_the_ratio_of_two_floors() -> None:
    floor = floor_table(truth(), every=2)
    bright = truth()["snr"] > truth()["snr"][galaxies(truth())].quantile(2 / 3)
    for k in (1, 2):
        floor[f"sigma_g{k}_psf"] = floor[f"sigma_g{k}"] * np.where(bright, 1.2, 1.01)
    found = evaluate_world(truth(), {}, floor, BANDS, pairs=False, resamples=5, seed=1)["psf_cost"]
    assert found["all"]["value"] == pytest.approx(1.01)
    assert found["bright"]["value"] == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("value", "error", "short"),
    [(1.25, 0.01, False), (1.27, 0.011, False), (1.27, 0.009, True), (0.9, 0.0, False)],
)
def test_a_figure_falls_short_beyond_twice_its_error(value: float, error: float, short: bool) -> None:
    assert falls_short(value, error, Bar(most=1.25)) is short
    assert falls_short(-value, error, Bar(least=-1.25)) is short
    assert falls_short(value, error, Bar(least=1.3)) is (1.3 - value > 2 * error)


def test_one_group_of_a_hundred_may_fall_short() -> None:
    measures = {f"g{k}": {"value": 1.0, "error": 0.1} for k in range(100)} | {"empty": {"value": None, "error": None}}
    measures["g7"] = {"value": 2.0, "error": 0.1}
    assert short_groups(measures, Bar(most=1.25)) == ["g7"]
    assert holds(1, 100)
    assert not holds(1, 99)
    assert holds(0, 5)


def test_shortfalls_name_a_bar_and_its_groups() -> None:
    good, bad = (
        shortfalls(evaluated({"m": estimate_table(truth(), slope=slope)})["methods"]["m"]) for slope in (1.0, 0.8)
    )
    assert list(good) == list(BARS)
    short, of = bad["slope of g 1 ± 0.02"]
    assert short == of > 20
    assert good["slope of g 1 ± 0.02"][0] <= 3, "some of 25 lie beyond two errors by chance"


def test_the_ui_gets_the_numbers_of_detections_of_one_source() -> None:
    evaluation = evaluated({"sep_hsm": estimate_table(truth(), slope=0.9)})
    flat = headline({"sky": evaluation})
    group = evaluation["methods"]["sep_hsm"]["groups"][f"sources: {ONE_SOURCE}"]
    assert flat["slope_g_sep_hsm_sky"] == group["g"]["slope"]["value"]
    assert flat["sky_targets"] == N
    error = flat["silent_sep_hsm_sky_error"]
    assert error == group["silent"]["error"]
    grown = flat | {"silent_sep_hsm_sky": flat["silent_sep_hsm_sky"] + 3 * error}
    assert [text.partition(" ")[0] for text in worse(flat, grown)] == ["silent_sep_hsm_sky"], "a check that can fail"
    assert "sep_hsm" in METHODS
