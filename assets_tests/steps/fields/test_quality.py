"""The quality page of a measured field: all sections, right verdicts; its images, which other programs read."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from assets_tests.blank_figures.sitecustomize import FUNCTION, blank
from assets_tests.science.field_samples import ZERO_POINT, catalogue, detections, look_at, moffat, positions, star_field
from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.measuring.field_columns import field_columns
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.reports import field_text as text
from deblend_assets.science.reports.field_tables import FINE, LOOK, UNKNOWN, flag_table
from deblend_assets.science.reports.figures import style
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.fields.catalog import FieldCatalog
from deblend_assets.steps.fields.images import write_images
from deblend_assets.steps.fields.quality import quality_page, residual_of, typical_part

SHAPE = (420, 440)
PLACES = positions(25, SHAPE)
FLUX = np.geomspace(3000.0, 40000.0, 25)


@pytest.fixture(autouse=True)
def nobody_looks_at_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, FUNCTION, blank)


@lru_cache(maxsize=4)
def measured(bands: str = "gr", number: int = 25, wrong: bool = False) -> tuple[Field, FieldCatalog]:
    """A field of stars, exactly measured; wrong: its PSF is 10 % too narrow, and sky is left in."""
    given = moffat(0.72) if wrong else None
    field = star_field(PLACES, FLUX, SHAPE, tuple(bands), given=given, sky=0.5 if wrong else 0.0)
    look = look_at(field)
    table, sources = catalogue(field, PLACES[:number], FLUX[:number])
    for band in field.names:
        table[f"flux_{band}"] = FLUX[:number] * nanojansky(ZERO_POINT)
    return field, FieldCatalog(table, field_columns(field.names), look, detections(field, look), sources)


def verdicts(page: str) -> dict[str, str]:
    """By question, of the first table."""
    first = page[: page.index("</table>")]
    rows = re.findall(r"<tr>(.*?)</tr>", first, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    return {row[0]: row[-1] for row in cells}


def test_the_page_has_every_section_and_figure_and_the_lines() -> None:
    made = quality_page(*measured(), ["25 measured", "PSF of r: 0.80", "CHECK <b>"], injection=b"PNG")
    page = made.html.decode()
    for figure in made.figures.values():
        pickle.dumps(figure)  # they are drawn by other processes
    for title in text.SECTIONS:
        assert title in page
    assert page.count("<figure>") == len(text.FIGURES)
    for words in ("25 measured", "PSF of r: 0.80; CHECK &lt;b&gt;", "g.fits", "Limits"):
        assert words in page
    assert ">nan<" not in page
    assert "None" not in page


def test_a_field_that_is_as_given_is_fine_and_one_that_is_not_is_pointed_out() -> None:
    pages = [quality_page(*measured(wrong=bad), []).html.decode() for bad in (False, True)]
    fine, wrong = map(verdicts, pages)
    assert "<td>not seen in g, r</td>" in pages[0], "no sky left is said with the bands it was looked for in"
    assert "(ln of the stars&#x27; size over that of the given PSF)" in pages[1]
    assert fine["PSF of the stars"] == fine["sky left in the images"] == fine["noise"] == FINE
    assert wrong["PSF of the stars"] == wrong["sky left in the images"] == LOOK
    assert fine["tangential g around bright stars"] == UNKNOWN


@pytest.mark.parametrize(("bands", "number"), [("r", 0), ("z", 1), ("ugrizy", 1)])
def test_few_rows_and_bands_have_a_page(bands: str, number: int) -> None:
    page = quality_page(*measured(bands, number), []).html.decode()
    assert page.count("<figure>") == len(text.FIGURES) - 1, "all but the injection"
    assert text.INJECTION not in page
    assert ">nan<" not in page
    assert verdicts(page)["mean g1 of good rows"] == UNKNOWN


def test_rows_that_are_probably_two_sources_are_among_the_flags() -> None:
    table = measured()[1].table.copy()
    table["flags"] = np.int32(0)
    table.loc[[0, 23, 24], "flags"] = np.array([4, RowFlag.BLENDED, RowFlag.BLENDED], np.int32)
    rows = flag_table(table).rows
    assert rows[0][:3] == ["none", "0", "22"]
    assert rows[-1][:4] == ["BLENDED", "262144", "2", "8.0%"]
    assert "two sources in one detection" in str(rows[-1][4])


def test_the_residual_of_exact_sources_is_noise_alone() -> None:
    field, catalog = measured()
    _, model, residual = residual_of(field, catalog, Box(50, 60, 350, 300))
    assert model.shape == (2, 240, 300)
    assert np.isfinite(residual).all()
    on_light = model > 1.0
    assert on_light.sum() > 1000
    assert residual[on_light].std() == pytest.approx(1.0, abs=0.1)
    assert residual[on_light].mean() == pytest.approx(0.0, abs=0.1)


def test_a_sky_that_is_subtracted_is_not_in_the_residual() -> None:
    """Weights that hold the photons of the sources are lower there: a sky would leave holes."""
    plain, catalog = measured()
    bands = {}
    for band, seen in plain.bands.items():
        pixels = np.asarray(seen.image)
        bands[band] = replace(seen, image=pixels + 100, weight=1 / (1 + np.clip(pixels, 0, None) / 30))
    field = Field(bands, settings=MeasurementSettings(background="subtract"))
    _, model, residual = residual_of(field, catalog, Box(50, 60, 350, 300))
    assert residual[model > 1.0].mean() == pytest.approx(0.0, abs=0.15)


def test_the_part_that_is_shown_is_known_and_typical() -> None:
    field, catalog = measured()

    class Maps:
        factor = 1
        known = np.ones((1, *SHAPE), np.float32)

    Maps.known[:, :, :200] = 0
    box = typical_part(field.shape, Maps, catalog.table)
    assert box.x1 <= SHAPE[1]
    assert box.y1 <= SHAPE[0]
    assert Maps.known[0][box.window].mean() == max(
        Maps.known[0, :, x : x + 220].mean() for x in range(0, SHAPE[1] - 219, 110)
    )


def test_images_are_written_with_their_wcs_and_add_up(tmp_path: Path) -> None:
    field, catalog = measured()
    lines: list[str] = []
    write_images(field, catalog, tmp_path / "model.fits", tmp_path / "residual.fits", lines.append)
    with fits.open(tmp_path / "model.fits") as model, fits.open(tmp_path / "residual.fits") as residual:
        for opened in (model, residual):
            opened.verify("exception")
            assert [hdu.name for hdu in opened] == ["PRIMARY", "G", "R"]
        header = residual["R"].header
        assert header["MAGZERO"] == ZERO_POINT
        ra, dec = WCS(header).all_pix2world(PLACES[:, 0], PLACES[:, 1], 0)
        np.testing.assert_allclose(np.stack([ra, dec]), np.stack(field.sky(*PLACES.T)), atol=1e-9)
        total = model["R"].data + residual["R"].data
        np.testing.assert_allclose(total, field.bands["r"].image, atol=0.02)
        assert model["R"].data.sum() == pytest.approx(FLUX.sum(), rel=0.03)
    assert (tmp_path / "model.fits").stat().st_size % 2880 == 0
