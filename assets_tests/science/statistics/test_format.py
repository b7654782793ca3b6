"""Numbers and tables as text: the same cells in the terminal, in Markdown and on a page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deblend_assets.science.statistics.format import Table, format_cell, format_measure, format_number

PM = "\u00a0±\u00a0"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.123456, 0.00234, f"0.1235{PM}0.0023"),
        (-0.0123, 0.0123, f"−0.012{PM}0.012"),
        (123.4, 45.6, f"123{PM}46"),
        (1234.5, 99.6, f"1,234{PM}100"),
        (0.93244, 0.00131, f"0.9324{PM}0.0013"),
        (-0.5, 0.0996, f"−0.50{PM}0.10"),
        (12.3, 4.56, f"12.3{PM}4.6"),
        (1.0, None, "1"),
        (0.25, 0.0, "0.25"),
        (0.5, None, "0.5"),
        (0.5, float("nan"), "0.5"),
        (-0.25, 0.0, "−0.25"),
        (None, None, "–"),
        (float("nan"), 0.1, "–"),
    ],
)
def test_a_value_has_as_many_places_as_its_error(value: Any, error: Any, text: str) -> None:
    assert format_measure({"value": value, "error": error}) == text


def test_a_factor_scales_value_and_error() -> None:
    assert format_measure({"value": -0.0034, "error": 0.0019}, 1e3) == f"−3.4{PM}1.9"
    assert format_measure(None) == "–"


def test_no_measure_can_be_broken_over_two_lines() -> None:
    text = format_measure({"value": -1.5, "error": 0.25})
    assert not set(text) & set(" -")


@pytest.mark.parametrize(
    ("number", "text"),
    [(1234, "1,234"), (np.int64(1234), "1,234"), (12345.6, "12,346"), (0.123456, "0.1235"), (-2.0, "−2"), (None, "–")],
)
def test_numbers_without_an_error(number: Any, text: str) -> None:
    assert format_number(number) == text


def test_cells_are_told_by_their_kind() -> None:
    assert [format_cell(cell) for cell in ("a", True, 1000, 0.5, None, {"value": 1.0, "error": 0.1})] == [
        "a",
        "yes",
        "1,000",
        "0.5",
        "–",
        f"1.00{PM}0.10",
    ]


TABLE = Table.of({"e": {"N": 1200, "|Δ|": {"value": 0.02, "error": 0.001}}}, "kind", "A caption", "A note, < 1.")


def test_the_same_cells_in_three_forms() -> None:
    cell = f"0.0200{PM}0.0010"
    assert TABLE.text() == f"A caption\nkind  N      |Δ|\ne     1,200  {cell}\nA note, < 1."
    assert TABLE.markdown().splitlines() == [
        "**A caption**",
        "",
        "| kind | N     | \\|Δ\\| |",
        "| ---- | ----- | --- |",
        f"| e    | 1,200 | {cell} |",
        "",
        "A note, < 1.",
    ]
    page = TABLE.html()
    assert f'<tr><th scope="row">e</th><td>1,200</td><td>{cell}</td></tr>' in page
    assert '<p class="note">A note, &lt; 1.</p>' in page


@pytest.mark.parametrize(
    ("text", "kept"),
    [("N = 370", "N = 370"), ("g1, 68 %", "g1, 68 %"), ("blendedness > 0.05", "blendedness &gt; 0.05")],
)
def test_numbers_on_a_page_stay_with_their_sign_and_unit(text: str, kept: str) -> None:
    page = Table((text,), [(text,)], text, text).html()
    assert page.count(kept) == 4


def test_a_table_without_rows_has_its_headings() -> None:
    assert Table(("a", "b"), []).markdown().splitlines() == ["| a   | b |", "| --- | --- |"]
