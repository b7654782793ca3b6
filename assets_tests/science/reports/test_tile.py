"""A tile's page holds every figure and number, needs nothing else, and says that a simulated tile is one."""

from __future__ import annotations

import base64
import re
from html import unescape
from typing import Any

import pandas as pd
import pytest

from assets_tests.science.tile_tables import TileTables, tile_tables
from deblend_assets.science.evaluation.tile_trust import evaluate_trust
from deblend_assets.science.reports.tile import tile_report
from deblend_assets.science.reports.tile_text import FIGURES, LIMITS, READING
from deblend_assets.science.statistics.format import format_measure

PNG = b"\x89PNG\r\n\x1a\n"
ATTRITION = pd.DataFrame({"cut": ["rows returned", "snr_w > 20"], "removed": [0, 1234], "left": [2000, 766]})
REJECTIONS = {"stamp over the image's edge": 17}


def trust(noise: float = 1.0) -> dict[str, Any]:
    return evaluate_trust(tile_tables(300).shapes, {"r": 0.96}, {"r": noise}, 0.2)


def page(
    evaluation: dict[str, Any], simulated: bool = True, found: dict[str, Any] | None = None, **figures: bytes
) -> str:
    provenance = {"archive": "https://example.org/tap"}
    return tile_report(
        "DES0000+6015",
        evaluation,
        found or trust(),
        ATTRITION,
        REJECTIONS,
        figures,
        provenance,
        simulated=simulated,
    )


def words(html: str) -> str:
    text = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text))).replace("\u00a0", " ")


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    return tile_tables(300).evaluate()


def test_report_holds_every_figure_and_needs_nothing_else(evaluation: dict[str, Any]) -> None:
    given = {name: PNG + name.encode() for name in (*FIGURES, "something_new")}
    html = page(evaluation, **given)
    sources = re.findall(r'<img src="data:image/png;base64,([^"]+)"', html)
    assert sorted(base64.b64decode(source) for source in sources) == sorted(given.values())
    assert html.count("<img") == len(given)
    assert not re.search(r"<(script|link|iframe)", html)
    for text in (*READING, *LIMITS, *(caption for _, caption in FIGURES.values())):
        assert text in unescape(html)


def test_a_simulated_tile_is_called_so_in_title_and_first_line(evaluation: dict[str, Any]) -> None:
    html = page(evaluation)
    assert "<title>Shapes on simulated tile DES0000+6015</title>" in html
    main = words(html[html.index("<main>") :])
    assert main.strip().startswith("This is a simulated tile")
    real = page(tile_tables(50).evaluate(known=False), simulated=False)
    assert "<title>Shapes on tile DES0000+6015</title>" in real
    assert "This is a simulated tile" not in real


def test_report_states_the_numbers_of_the_evaluation(evaluation: dict[str, Any]) -> None:
    text = words(page(evaluation))

    def said(measure: dict[str, float]) -> str:
        return format_measure(measure).replace("\u00a0", " ")

    found, truth = evaluation["im3shape"], evaluation["truth"]
    assert f"slope of our g on im3shape's {said(found['shear']['both']['slope'])} least squares" in text
    assert f"the same, errors in variables {said(found['shear']['both']['eiv_slope'])}" in text
    assert f"slope of our e on im3shape's {said(found['distortion']['both']['slope'])} the report: 0.4 ± 0.1" in text
    assert f"slope, errors in variables {said(found['shear']['component1']['eiv_slope'])}" in text
    assert "orientation against im3shape right" in text
    assert f"im3shape, weighted and calibrated {said(evaluation['mean_shear']['im3shape_1'])}" in text
    assert f"median distance {said(truth['position']['median_total'])}" in text
    assert f"intrinsic g, component 2, all {said(truth['shapes']['g']['g2']['slope'])}" in text
    trusted = truth["trusted"]
    assert f"observed e, component 1, no flag {said(trusted['shapes']['e']['e1']['slope'])}" in text
    pull, within = (said(trusted["pulls"]["g"][name]) for name in ("pull", "within"))
    assert f"RMS pull of g, share within one error {pull}, {within} no flag" in text
    assert "rows without a flag 95.0%" in text
    assert "15 of 300 rows have a flag" in text
    assert "BAD_FIT 15 5.0% the scene does not describe the pixels under the target" in text
    assert f"z {said(truth['cutout_flux']['z']['ratio'])}" in text
    assert f"{said(truth['flux']['z']['median'])} {said(truth['flux']['z']['robust_sigma'])}" in text
    assert f"light of the cutouts over the truth's g {said(truth['cutout_flux']['g']['ratio'])}" in text
    assert "snr_w > 20 1,234 766" in text
    assert "stamp over the image's edge 17" in text
    assert "no image in band Y 6" in text
    assert "archive https://example.org/tap" in text


def test_warnings_of_an_unlike_tile_stand_in_the_headline_and_their_section(evaluation: dict[str, Any]) -> None:
    line = "noise over the weights', r: 2 against 1 (limit ±20%)"
    assert words(page(evaluation, found=trust(2.0))).count(line) == 2
    assert "no limit exceeded" in words(page(evaluation))


@pytest.mark.parametrize("galaxies", [0, 3])
@pytest.mark.parametrize("known", [True, False])
def test_report_of_hardly_any_galaxy_has_dashes(galaxies: int, known: bool) -> None:
    full = tile_tables(30)
    tables = TileTables(full.shapes[:galaxies], full.reference, full.truth, full.cutout_flux)
    text = words(page(tables.evaluate(known), simulated=known))
    assert "–" in text
    assert "None" not in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert ("Against the truth" in text) == known
