"""The shipped networks on observed stamps: as on the same stamps in their frame, and nothing where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from deblend_assets.science.measuring.measure import Model, measure
from deblend_assets.science.measuring.observed import LIKELIHOOD, POSTERIOR, fits, measure_observed
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.stamps.observed import ObservedStamps, of_report
from deblend_assets.steps.measuring.model import shipped_model

COUNT = 3


@lru_cache(maxsize=1)
def model(survey: str) -> Model:
    return shipped_model(survey, "cpu")


@lru_cache(maxsize=1)
def report_stamps() -> ObservedStamps:
    frame, rng = model("LSST").frame, np.random.default_rng(1)
    survey = load_survey("LSST")
    images = []
    for _ in range(COUNT):
        galaxy = galsim.Exponential(half_light_radius=0.5).shear(g1=rng.uniform(-0.2, 0.2))
        images.append(
            [
                galsim.Convolve(galaxy.withFlux(10 ** (-0.4 * (23.0 - zero))), survey.btk_survey.get_filter(band).psf)
                .drawImage(nx=frame.pixels, ny=frame.pixels, scale=frame.pixel_scale)
                .array
                for band, zero in zip(frame.bands, frame.zero_points, strict=True)
            ]
        )
    noisy = np.array(images) + rng.normal(size=(COUNT, *frame.shape)) * np.array(frame.sky_sigma)[:, None, None]
    psf = np.zeros((len(frame.bands), 3, 3), dtype=np.float32)
    psf[:, 1, 1] = 1
    return of_report(noisy.astype(np.float32), frame, psf, np.full((COUNT, 2), (frame.pixels - 1) / 2))


@lru_cache(maxsize=1)
def expected() -> dict[str, NDArray[np.float64]]:
    stamps = report_stamps()
    table, _ = measure(model("LSST"), stamps.pixels)
    return {str(name): table[name].to_numpy() for name in table}


def padded(stamps: ObservedStamps, brighter: float, shift: int) -> ObservedStamps:
    """On larger stamps with other zero points, the target `shift` pixels off the middle in x."""
    margin = 4
    width = ((0, 0), (0, 0), (margin, margin), (margin + shift, margin - shift))
    unit = np.float32(10 ** (0.4 * brighter))
    return replace(
        stamps,
        pixels=np.pad(stamps.pixels * unit, width),
        inverse_variance=np.pad(stamps.inverse_variance / unit**2, width),
        mask=np.pad(stamps.mask, width),
        position=stamps.position + np.array([margin + shift, margin]),
        zero_point=stamps.zero_point + brighter,
    )


@pytest.mark.parametrize("brighter", [0.0, 1.3])
def test_the_same_stamp_has_the_same_numbers(brighter: float) -> None:
    known, unit = expected(), 10 ** (0.4 * brighter)
    found = measure_observed([model("LSST")], padded(report_stamps(), brighter, shift=2))
    for name, suffix in ((POSTERIOR, ""), (LIKELIHOOD, "_free")):
        for column in ("g1", "g2", "e1", "e2"):
            for end in ("", "_err"):
                value = found[name][f"{column}{end}"]
                np.testing.assert_allclose(value, known[f"{column}{suffix}{end}"], atol=1e-5)
        assert not found[name]["flag"].any()
    posterior = found[POSTERIOR]
    np.testing.assert_allclose(posterior["flux_i"], known["flux_i"] * unit, rtol=1e-4)
    np.testing.assert_allclose(posterior["flux_r"], np.exp(known["ln_flux"]) * unit, rtol=1e-4)
    np.testing.assert_allclose(posterior["flux_r_err"] / posterior["flux_r"], known["ln_flux_err"], rtol=1e-3)
    assert (posterior["flux_i_err"] > 0).all()
    assert found[LIKELIHOOD]["flux_r"].isna().all()


def test_what_does_not_fit_the_frame_has_no_number() -> None:
    stamps = report_stamps()
    frame = model("LSST").frame
    assert fits(frame, stamps).all()
    wide = replace(
        stamps, pixel_scale=np.full(COUNT, 0.168), jacobian=np.broadcast_to(0.168 * np.eye(2), (COUNT, 2, 2))
    )
    assert not fits(frame, wide).any()
    aside = replace(stamps, position=stamps.position + np.array([1.0, 0.0]))
    assert not fits(frame, aside).any(), "the frame's side has no room around it"
    found = measure_observed([model("LSST")], wide)
    for table in found.values():
        assert table["failed"].all()
        assert table.drop(columns=["flag", "failed"]).isna().all(axis=None)


def test_absent_bands_are_masked_and_have_no_flux() -> None:
    stamps, frame = report_stamps(), model("LSST").frame
    weight = stamps.inverse_variance.copy()
    weight[0, frame.label] = 0
    found = measure_observed([model("LSST")], replace(stamps, inverse_variance=weight))[POSTERIOR]
    assert found.loc[0, ["g1", "g2", "flux_i"]].notna().all()
    assert found.loc[0, ["e1", "e2", "flux_r"]].isna().all(), "its e is that of the label band"
    present = np.ones((COUNT, len(frame.bands)), dtype=bool)
    present[0, frame.label] = False
    table, _ = measure(model("LSST"), stamps.pixels, present)
    assert found.loc[0, "g1"] == pytest.approx(table.loc[0, "g1"], abs=1e-5)
