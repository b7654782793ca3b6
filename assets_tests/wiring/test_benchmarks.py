"""The table of benchmarks: ratios, bars and what becomes of a module that fails. No timing is tested."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks.cost import Rates, cost_table
from benchmarks.processes import each_from_fresh_process, in_fresh_process
from benchmarks.rows import Row, limit_row, not_measured, ratio_row, rows_of


def test_ratios_are_of_rounds_and_bars_of_their_median() -> None:
    row = ratio_row("w", "p", [1.0, 2.0, 1.0], [9.0, 10.0, 8.0], bar=8.0, detail="d")
    assert (row.ratio, row.spread, row.bar, row.met) == (8.0, (5.0, 9.0), "≥ 8", True)
    assert ratio_row("w", "p", [1.0, 1.0, 1.0], [7.9, 7.0, 20.0], bar=8.0, detail="d").met is False
    assert ratio_row("w", "p", [1.0], [7.9], bar=None, detail="d").met is None
    assert limit_row("w", "p", [1.2, 1.05, 1.0], bar=1.1, detail="d").met is True
    assert limit_row("w", "p", [1.2], bar=1.1, detail="d").met is False


def test_the_table_says_what_was_met_missed_and_not_measured() -> None:
    rows = [
        Row("fast", "peer", 1234.5, (1000.0, 1500.0), "≥ 500", True, "N = 3"),
        Row("slow", "peer", 0.51234, (0.4, 0.6), "≥ 1", False, "a | b"),
        not_measured("GPU", "peer", "≥ 1,000", "no CUDA device"),
        Row("told", "peer", 2.0, None, "", None, ""),
    ]
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in bench.table(rows).splitlines()]
    assert [line[4] for line in lines[2:]] == ["met", "MISSED", "not measured", ""]
    assert lines[2][2] == "1,234 (1,000 to 1,500)"
    assert lines[3][2] == "0.512 (0.4 to 0.6)"
    assert lines[3][5].startswith("a / b"), "one cell stays one cell"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two benchmarks, of which one fails, in this process."""

    def failing(quick: bool) -> Iterator[Row]:
        yield Row("before", "peer", 2.0, None, "≥ 1", True, "")
        raise ValueError("no\nluck")

    for name, measure in (
        ("good", lambda quick: iter([Row("good", "peer", 2.0, None, "≥ 1", True, f"quick {quick}")])),
        ("bad", failing),
    ):
        module = types.ModuleType(f"benchmarks.{name}")
        module.measure = measure
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr(bench, "MODULES", ("bad", "good"))

    monkeypatch.setattr(bench, "each_from_fresh_process", lambda function, *arguments: function(*arguments))


def test_a_module_that_fails_is_a_row_and_the_others_go_on(
    modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [row.detail for row in rows_of("good", True)] == ["quick True"]
    kept = tmp_path / "rows.json"
    assert bench.main(["--quick", "--only", "bad", "good", "--json", str(kept)]) == 1
    printed = capsys.readouterr().out
    assert "failed: ValueError: no luck" in printed
    assert "quick True" in printed
    assert "torch " in printed
    assert [row["met"] for row in json.loads(kept.read_text())["rows"]] == [True, False, True]
    assert bench.main(["--only", "good"]) == 0


def test_cost_is_number_over_rate() -> None:
    lines = cost_table(Rates(scenes=100.0, training=1000.0, measuring=10_000.0, cores=4, compression=0.5)).splitlines()
    cells = {line.split(" | ")[0].strip("| "): [cell.strip(" |") for cell in line.split(" | ")] for line in lines[3:]}
    assert cells["DES"][2:5] == ["100,000,000 galaxies", "2.8", "11"]
    assert cells["LSST"][3] == "278"
    assert cells["LSST"][5].endswith("486 TB")


def test_a_process_of_its_own_gives_its_result_or_says_that_it_died() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()
    with pytest.raises(BrokenProcessPool):
        in_fresh_process(os._exit, 1)


def one_then(end: str) -> Iterator[int]:
    yield os.getpid()
    if end == "raises":
        raise KeyError(end)
    if end == "dies":
        os._exit(1)


@pytest.mark.parametrize(("end", "error"), [("raises", KeyError), ("dies", EOFError)])
def test_results_come_one_by_one_and_those_before_a_failure_count(end: str, error: type[Exception]) -> None:
    results = each_from_fresh_process(one_then, end)
    assert next(results) != os.getpid()
    with pytest.raises(error):
        next(results)
    assert len(list(each_from_fresh_process(one_then, "ends"))) == 1
