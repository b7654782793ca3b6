"""Detection of fields as users of other tools met it: masks, crowded blocks, noise alone, bright stars."""

from __future__ import annotations

import numpy as np
import pytest
import sep

from assets_tests.science.detection.images import FWHM, correlated_noise, sources
from assets_tests.science.images.samples import PSF, SCALE, drawn, field_of, flux_of, galaxy, grid, noise
from deblend_assets.errors import MismatchError
from deblend_assets.science.detection import extraction
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.detection.extraction import OVERFLOW
from deblend_assets.science.images.cells import cells_of
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_cells import detect_cell, overlap
from deblend_assets.science.measuring.field_look import look_at
from deblend_assets.settings import DetectionSettings


def found_in(field: Field) -> np.ndarray:
    """x, y, crowded of the detections of a field of one cell, (N, 3)."""
    look = look_at(field)
    (cell,) = cells_of(field.shape, overlap(look))
    return detect_cell(field, look, cell)[["x", "y", "crowded"]].to_numpy(np.float64)


def test_white_noise_alone_has_hardly_a_detection() -> None:
    """1024² pixels at 5σ: at most 2."""
    image = noise((1, 1024, 1024), 1).astype(np.float32)
    assert len(detect(image, np.ones_like(image), [FWHM], ["r"]).table) <= 2


def test_smoothed_noise_without_a_map_has_hardly_a_detection() -> None:
    """400² pixels, whose level and correlation are measured first."""
    image = correlated_noise((400, 400), 1.0, np.random.default_rng(1))[0]
    assert len(found_in(field_of({"r": image}, weight=None))) <= 1


def test_noise_as_a_number_or_a_map() -> None:
    """Galaxies of S/N 6 to 12; the threshold is in σ either way."""
    x, y = grid(300, 34)
    profile = galaxy()
    image = drawn((300, 300), x, y, np.linspace(6, 12, len(x)) * flux_of(1, profile, 2.0), profile)
    image += noise(image.shape, 2, 2.0)
    one = found_in(field_of({"r": image}, weight=0.25))
    np.testing.assert_array_equal(one, found_in(field_of({"r": image}, weight=np.full(image.shape, 0.25))))
    bright = np.hypot(one[:, 0] - x[len(x) // 2 :, None], one[:, 1] - y[len(x) // 2 :, None]).min(axis=1) < 2
    assert bright.mean() > 0.75
    assert len(one) <= len(x) + 1


def test_a_lost_pixel_belongs_to_no_source() -> None:
    image, weight = np.zeros((1, 41, 41), np.float32), np.ones((1, 41, 41), np.float32)
    image[0, 16:25, 16:25] = 20
    weight[0, 20, 20:] = 0
    found = detect(image, weight, [3.0], ["r"], DetectionSettings(background_pixels=0))
    assert len(found.table) == 1
    assert found.segments.max() == 1
    assert not found.segments[20, 20:].any()
    assert found.table["masked_fraction"][0] == pytest.approx(5 / 81, abs=0.03)
    assert found.table["pixels"][0] == (found.segments == 1).sum()


def crowd(times: int, across: int) -> tuple[Field, np.ndarray, np.ndarray]:
    """Gaussian peaks 5 pixels apart, `times` as bright, beside 20 galaxies alone; x and y of the galaxies."""
    shape = (300, 320)
    x, y = (part.ravel() for part in np.meshgrid(250 + np.arange(2) * 40.0, 30 + np.arange(10) * 26.0))
    profile = galaxy()
    image = drawn(shape, x, y, flux_of(40, profile), profile) + noise(shape, 5)
    places = 20 + 5.0 * np.arange(across)
    block = sources(320, *(part.ravel().tolist() for part in np.meshgrid(places, places)), [300.0] * across**2, 3.53)
    return field_of({"r": image + times * block[:300]}), x, y


def test_a_crowded_block_is_flagged_and_leaves_the_others_alone() -> None:
    """25 × 25 peaks; those of 40 × 40 with a contrast of 10⁻⁴ are flagged alike."""
    across = 25
    plain = found_in(crowd(0, across)[0])
    field, x, y = crowd(1, across)
    found = found_in(field)
    block = found[:, 0] < 225
    assert block.sum() > 0.8 * across**2
    assert found[block, 2].mean() > 0.98
    assert not found[~block, 2].any()
    near = np.hypot(found[~block, 0] - x[:, None], found[~block, 1] - y[:, None])
    assert (near.min(axis=1) < 1).all()
    assert len(found[~block]) == len(plain) == 20
    assert np.abs(found[~block, :2] - plain[:, :2]).max() < 0.1


def test_a_blend_over_the_limits_of_sep_does_not_lose_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    monkeypatch.setattr(extraction, "_SUB_OBJECTS", 64)
    field, x, y = crowd(1, 20)
    found = found_in(field)
    near = np.hypot(found[:, 0] - x[:, None], found[:, 1] - y[:, None])
    assert (near.min(axis=1) < 1).all()
    crowded = found[found[:, 2] > 0]
    assert 1 <= len(crowded) <= 3
    assert (crowded[:, :2] < 130).all()
    assert (found[:, 0] > 225).sum() == 20
    assert len(found) - len(crowded) <= 21
    image, weight = (np.stack([plane]) for plane in field.bands["r"].read((slice(0, 300), slice(0, 320)))[:2])
    table = detect(image, weight, [FWHM], ["r"]).table
    assert ((table["sep_flags"] & OVERFLOW) > 0).sum() == len(crowded)
    assert detect(image, weight, [FWHM], ["r"]).segments.max() == len(table)
    assert (sep.get_extract_pixstack(), sep.get_sub_object_limit()) == limits, "of others in this process"


@pytest.mark.parametrize("photon_noise", [False, True])
def test_nothing_is_found_in_the_halo_of_a_bright_star(photon_noise: bool) -> None:
    """from_the_field #6: flux 1e7 over σ = 10, its PSF as a stamp of 51²: nothing where the stamp ends."""
    side, middle = 181, 90.3
    star = PSF.withFlux(1e7).drawImage(nx=side, ny=side, scale=SCALE, offset=(0.3, 0.3)).array.astype(np.float64)
    variance = 100 + photon_noise * np.clip(star, 0, None)
    image = star + np.sqrt(variance) * noise(star.shape, 6)
    stamp = PSF.drawImage(nx=51, ny=51, scale=SCALE).array
    found = found_in(field_of({"r": image}, weight=0.01, psf=stamp))
    assert len(found) == 1
    np.testing.assert_allclose(found[0, :2], middle, atol=0.1)


def test_where_sep_fails_on_everything_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object, **options: object) -> None:
        raise Exception("internal pixel buffer full")

    monkeypatch.setattr(extraction.sep, "extract", fails)
    with pytest.raises(MismatchError, match=r"SEP failed \(internal pixel buffer full\).*raise thresh"):
        detect(np.ones((1, 30, 30), np.float32), np.ones((1, 30, 30), np.float32), [FWHM], ["r"])
