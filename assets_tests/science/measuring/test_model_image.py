"""The model image: exact sources where they are, of the catalogue's flux, each once, whatever the windows."""

from __future__ import annotations

import galsim
import numpy as np
import pandas as pd
import pytest

from assets_tests.science.field_samples import SCALE, ZERO_POINT, OnePSF, catalogue, star_field
from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.measuring.model_image import ModelImage
from deblend_assets.science.simulation.galaxies import nanojansky

PLACES = np.array([[40.3, 50.7], [52.0, 49.5], [140.2, 77.0]])
FLUX = np.array([5000.0, 3000.0, 800.0])
PSF = OnePSF(galsim.Gaussian(fwhm=0.8))
SIDE = 49


def sample(star: bool) -> tuple[Field, pd.DataFrame, pd.DataFrame]:
    field = star_field(PLACES, FLUX, (120, 160), ("g", "r"), PSF)
    table, sources = catalogue(field, PLACES, FLUX, star)
    for band in field.names:
        table[f"flux_{band}"] = FLUX * nanojansky(ZERO_POINT)
    return field, table, sources


def rendered(field: Field, table: pd.DataFrame, sources: pd.DataFrame, box: Box | None = None) -> np.ndarray:
    psfs = dict.fromkeys(field.names, PSF)
    return ModelImage(field, psfs, SIDE, table, sources).image(box or Box(0, 0, 160, 120))


def drawn(profile: galsim.GSObject) -> np.ndarray:
    image = galsim.Image(160, 120, scale=SCALE)
    for (x, y), flux in zip(PLACES, FLUX, strict=True):
        whole = galsim.Convolve(profile, PSF.profile) if profile is not PSF.profile else profile
        whole.withFlux(flux).drawImage(image, center=galsim.PositionD(x + 1, y + 1), add_to_image=True)
    return image.array


def test_stars_are_the_psf_itself_and_overlap_once() -> None:
    found = rendered(*sample(star=True))
    expected = drawn(PSF.profile)
    assert found.shape == (2, 120, 160)
    np.testing.assert_allclose(found[0], expected, atol=2e-4 * expected.max())
    assert found.sum() == pytest.approx(2 * FLUX.sum(), rel=1e-4)


def test_galaxies_are_their_profiles_where_they_were_measured() -> None:
    field, table, sources = sample(star=False)
    # Measured a third of a pixel beside the detection.
    table["x"] -= 0.33
    sources = sources.assign(source_dx=0.33, source_g1=0.2, source_g2=-0.1)
    found = rendered(field, table, sources)
    expected = drawn(galsim.Exponential(half_light_radius=0.4).shear(g1=0.2, g2=-0.1))
    np.testing.assert_allclose(found[1], expected, atol=1e-3 * expected.max())


def test_windows_are_parts_of_the_whole() -> None:
    sampled = sample(star=False)
    whole = rendered(*sampled)
    for box in (Box(0, 0, 45, 120), Box(45, 40, 160, 120), Box(139, 76, 141, 78)):
        np.testing.assert_allclose(rendered(*sampled, box), whole[:, *box.window], atol=1e-3)


def test_bright_galaxies_are_not_cut_where_their_stamps_ended() -> None:
    field, table, sources = sample(star=False)
    sources = sources.assign(source_ln_hlr=np.log(2.0))
    faint = rendered(field, table.assign(snr=1.0), sources)
    bright = rendered(field, table, sources)
    edge = np.abs(np.arange(160) - 140) == SIDE // 2 + 2
    assert faint[0, 77, edge].max() == 0
    assert bright[0, 77, edge].min() > 0


def test_what_was_not_measured_has_no_light() -> None:
    field, table, sources = sample(star=True)
    sources.iloc[0] = np.nan
    table.loc[1, "flux_g"] = np.nan
    found = rendered(field, table, sources)
    assert found[0].sum() == pytest.approx(FLUX[2], rel=1e-3)
    assert found[1].sum() == pytest.approx(FLUX[1:].sum(), rel=1e-3)


def test_an_empty_catalogue_has_an_empty_model() -> None:
    field, table, sources = sample(star=True)
    assert not rendered(field, table.iloc[:0], sources.iloc[:0]).any()
