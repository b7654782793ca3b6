"""The tables of docs/architecture.md name every layer and every room, in the order that the imports keep."""

from __future__ import annotations

import re

from assets_tests.docs.pages import ROOT
from assets_tests.wiring.test_layers import LEVEL, ROOM_TIER

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}", 1)[1].split("\n## ", 1)[0]


def test_layers_are_all_there_from_the_top() -> None:
    named = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", section("Layers, from the top"), flags=re.MULTILINE)
    assert sorted(named) == sorted(LEVEL)
    levels = [LEVEL[name] for name in named]
    assert levels == sorted(levels, reverse=True)


def test_rooms_are_all_there_bottom_up() -> None:
    named = re.findall(r"^\| (\d+) \| `(\w+)/` \|", section("Rooms of `science/`, bottom up"), flags=re.MULTILINE)
    assert {room: int(tier) - 1 for tier, room in named} == ROOM_TIER
    assert [tier for tier, _ in named] == sorted(tier for tier, _ in named)


def test_files_that_answer_a_question_exist() -> None:
    """A file without a folder in front lies in the folder of the one before it."""
    science = ROOT / "deblend_assets" / "science"
    folder = ""
    for name in re.findall(r"`([\w/]+\.py)`", section("Where which question is answered")):
        folder = name.rpartition("/")[0] or folder
        assert (science / folder / name.rpartition("/")[2]).exists(), name
