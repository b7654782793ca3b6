"""Injection end to end: bright galaxies on a blank image come back, with errors that are right."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.science.images.field import Field
from deblend_assets.science.images.given import observation
from deblend_assets.science.measuring.field_columns import injection_columns
from deblend_assets.science.measuring.field_look import look_at
from deblend_assets.steps.fields.cells import OpenField, detect_field, pool_of
from deblend_assets.steps.fields.inject import Injection, inject_field, injection_files, limits_of
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.stores.field_catalogs import INJECTION, INJECTION_FIGURE

SIGMA, PSF = 2.0, galsim.Moffat(beta=3, fwhm=0.8)


@pytest.fixture(scope="module")
def field() -> Field:
    rng = np.random.default_rng(1)
    noise = {band: rng.normal(0, SIGMA, (420, 420)) for band in "gri"}
    # One bright source in a corner, so that something was there before.
    for image in noise.values():
        star = PSF.withFlux(5e4).drawImage(nx=81, ny=81, scale=0.2)
        image[:81, :81] += star.array
    return Field({band: observation(image, zero_point=30, psf=PSF, wcs=0.2) for band, image in noise.items()})


@pytest.fixture(scope="module")
def tried(field: Field) -> Injection:
    look, model, lines = look_at(field), load_sky_model(None), list[str]()
    opened = OpenField(field, look, model)
    with pool_of(opened, 1) as pool:
        before = detect_field(opened, pool, None, lines.append)
    return inject_field(field, look, model, before, 80, log=lines.append)


def test_the_limit_is_that_of_the_noise(field: Field) -> None:
    limits = limits_of(field, look_at(field))
    sigma = 0.8 / 0.2 / 2.3548
    expected = 30 - 2.5 * np.log10(5 * SIGMA * np.sqrt(4 * np.pi) * sigma)
    assert limits["r"] == pytest.approx(expected, abs=0.15)


def test_bright_galaxies_come_back_with_right_fluxes_and_errors(tried: Injection) -> None:
    table = tried.table
    bright = table[(table["true_mag_r"] < table["true_mag_r"].median()) & ~table["on_source"]]
    assert bright["found"].mean() > 0.95
    good = bright[bright["found"] & (bright["flags"] == 0)]
    assert len(good) > 20
    truth = 10 ** (0.4 * (31.4 - good["true_mag_r"]))
    pulls = (good["flux_r"] - truth) / good["flux_r_err"]
    # 20 to 40 numbers: the standard error of their RMS is some 0.13.
    assert np.sqrt((pulls**2).mean()) < 1.5
    g = np.concatenate([(good[f"g{k}"] - good[f"true_g{k}"]) / np.sqrt(good[f"g_cov_{k}{k}"]) for k in (1, 2)])
    assert 0.6 < np.sqrt((g**2).mean()) < 1.5
    assert np.corrcoef(good["g1"], good["true_g1"])[0, 1] > 0.8


def test_fainter_ones_are_found_less_often(tried: Injection) -> None:
    table = tried.table
    faint = table["true_mag_r"] > table["true_mag_r"].quantile(0.75)
    assert table.loc[faint, "found"].mean() < table.loc[~faint, "found"].mean()
    assert tried.lines[0].startswith(f"Injected {len(table)} galaxies")


def test_table_and_figure_are_files(tried: Injection, field: Field) -> None:
    files = injection_files(tried, field.names)
    assert set(files) == {INJECTION, INJECTION_FIGURE}
    assert files[INJECTION_FIGURE][:8] == b"\x89PNG\r\n\x1a\n"


def test_every_column_is_described(tried: Injection, field: Field) -> None:
    assert list(tried.table) == [name for name in injection_columns(field.names) if name in tried.table]
    assert {"true_g1", "found", "flux_r", "flags"} <= set(tried.table)
