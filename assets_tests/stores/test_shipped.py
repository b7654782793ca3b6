"""The shipped weights: whole, small, and good at what has a known answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import galsim
import numpy as np
import pytest
import torch

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.science.deblender.network import deblend
from deblend_assets.science.measuring.measure import Model, measure
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.steps.measuring.model import shipped_model
from deblend_assets.stores import shipped as module
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.shipped import FOLDER, ship, shipped, shipped_fingerprint, surveys


@pytest.fixture(scope="module")
def model() -> Model:
    return shipped_model("LSST", "cpu")


def test_all_of_them_are_whole_and_small() -> None:
    assert surveys() == {"LSST": ["deblender", "shapes"], "every": ["redshift", "sky"]}
    for survey, kinds in surveys().items():
        for kind in kinds:
            assert shipped(survey, kind).weights
            assert shipped_fingerprint(survey, kind) == shipped(survey, kind).fingerprint
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 20 * 2**20


def test_a_file_that_is_not_the_one_shipped_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(module, "FOLDER", folder)
    monkeypatch.setattr(module._index, "__defaults__", (folder,))
    path = folder / "LSST_shapes.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"not the file that was shipped .*LSST_shapes\.pt"):
        shipped("LSST", "shapes")
    path.unlink()
    with pytest.raises(CorruptDataError):
        shipped("LSST", "shapes")
    for survey in ("HSC", "DES"):
        with pytest.raises(MissingDataError, match=rf"no shapes of {survey} is shipped .*LSST.* make lsst .*DES .*"):
            shipped(survey, "shapes")
    with pytest.raises(MissingDataError, match=r"no shapes of HSC is shipped"):
        shipped_fingerprint("HSC", "shapes")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"LSST_shapes": {}}',
        b'{"LSST_shapes": 3}',
        b'{"LSST_shapes": {"sha256": 1}}',
    ],
)
def test_a_damaged_index_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "index.json").write_bytes(content)
    monkeypatch.setattr(module._index, "__defaults__", (tmp_path,))
    for look in (surveys, lambda: shipped("LSST", "shapes")):
        with pytest.raises(
            CorruptDataError, match=r"not the index of the shipped weights .*index\.json.*install"
        ) as caught:
            look()
        assert len(str(caught.value).splitlines()) == 1


def test_what_is_shipped_comes_back_in_single_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"large": torch.randn(50, 50), "small": torch.randn(3), "whole": torch.tensor(3)}
    ship(Checkpoint(weights, {"a": 1}, [{"epoch": 1.0}], "x"), "X", "shapes", tmp_path)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module._index, "__defaults__", (tmp_path,))
    back = shipped("X", "shapes")
    assert torch.equal(back.weights["small"], weights["small"])
    assert torch.equal(back.weights["whole"], weights["whole"])
    assert back.weights["large"].dtype == torch.float32
    torch.testing.assert_close(back.weights["large"], weights["large"], rtol=1e-3, atol=1e-6)
    assert back.card == {"a": 1}


def bright_galaxies(model: Model, shears: list[tuple[float, float]]) -> np.ndarray:
    """Noiseless round exponentials of i = 21, sheared, seen through LSST's PSF: (N, band, y, x) [electron]."""
    survey = load_survey("LSST")
    stamps = []
    for g1, g2 in shears:
        galaxy = galsim.Exponential(half_light_radius=0.8).shear(g1=g1, g2=g2)
        bands = []
        for k in range(len(model.frame.bands)):
            magnitude = (22.9, 22.3, 21.4, 21.0, 20.75, 20.6)[k]
            seen = galsim.Convolve(galaxy, survey.btk_survey.get_filter(survey.bands[k]).psf)
            flux = 10 ** (0.4 * (model.frame.zero_points[k] - magnitude))
            image = seen.withFlux(flux).drawImage(
                nx=model.frame.pixels, ny=model.frame.pixels, scale=model.frame.pixel_scale
            )
            bands.append(image.array)
        stamps.append(bands)
    return np.asarray(stamps, dtype=np.float32)


def test_a_bright_galaxy_without_noise_is_recovered(model: Model) -> None:
    shears = [(0.2, 0.0), (-0.1, 0.15), (0.0, -0.25), (0.05, 0.05)]
    stamps = bright_galaxies(model, shears)
    found = model.shapes.measure(stamps, np.ones(stamps.shape[:2], dtype=bool))
    np.testing.assert_allclose(found.mean[:, :2], shears, atol=0.02)


def test_size_and_light_of_a_bright_galaxy_are_recovered(model: Model) -> None:
    """Means of ten exposures. Noise there must be: a sky without any is brighter to the networks by a sixth."""
    (light,) = bright_galaxies(model, [(0.1, 0.0)])
    sky, rng = np.asarray(model.shapes.frame.sky_sigma)[:, None, None], np.random.default_rng(1)
    noise = np.sqrt(sky**2 + light.clip(0)) * rng.normal(size=(10, *light.shape))
    stamps = (light + noise).astype(np.float32)
    present = np.ones(stamps.shape[:2], dtype=bool)
    found, label = model.shapes.measure(stamps, present).mean.numpy().mean(axis=0), model.frame.label
    assert found[0] == pytest.approx(0.1, abs=0.01)
    assert found[1] == pytest.approx(0.0, abs=0.01)
    assert np.exp(found[4]) == pytest.approx(0.8, rel=0.05)
    assert np.exp(found[5]) == pytest.approx(float(light[label].sum()), rel=0.05)
    images, _ = deblend(model.network, stamps, present)
    assert images[:, label].sum(axis=(1, 2)).mean() == pytest.approx(float(light[label].sum()), rel=0.05)


def test_a_faint_galaxy_close_by_is_told(model: Model) -> None:
    """Alone, and with a galaxy of an eighth of its light 1.2" away, which blends into one: means of eight exposures."""
    (light,) = bright_galaxies(model, [(0.0, 0.0)])
    near = light + 0.125 * np.roll(light, round(1.2 / model.frame.pixel_scale), axis=2)
    sky, rng = np.asarray(model.shapes.frame.sky_sigma)[:, None, None], np.random.default_rng(1)
    odds = []
    for scene in (light, near):
        stamps = scene + np.sqrt(sky**2 + scene.clip(0)) * rng.normal(size=(8, *scene.shape))
        table, _ = measure(model, stamps.astype(np.float32))
        chance = table[["close_chance", "blended_chance"]].mean()
        odds.append(chance / (1 - chance))
    assert (odds[0] < 0.25).all()
    assert (odds[1] > 4 * odds[0]).all()


def test_a_stamp_turned_by_90_degrees_has_the_opposite_shape(model: Model) -> None:
    stamps = bright_galaxies(model, [(0.2, 0.1)])
    present = np.ones(stamps.shape[:2], dtype=bool)
    there, turned = (
        model.shapes.measure(s, present).mean[0] for s in (stamps, np.ascontiguousarray(np.rot90(stamps, axes=(2, 3))))
    )
    np.testing.assert_allclose(turned[:4], -there[:4], atol=2e-5)
    np.testing.assert_allclose(turned[4:], there[4:], atol=2e-5)
