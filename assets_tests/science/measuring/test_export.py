"""The exported program, in a process that knows torch and nothing of this package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assets_tests.science.sky_shapes.samples import observed
from assets_tests.science.sky_shapes.test_model import calibrated_model
from deblend_assets.science.measuring.export import export
from deblend_assets.science.sky_shapes.centring import shifts_to_light
from deblend_assets.science.sky_shapes.inputs import SIDE, central, measured_psfs
from deblend_assets.science.sky_shapes.quantities import units_of
from deblend_assets.science.stamps.observed import ObservedStamps

ALONE = """
import sys
import numpy as np
import torch

program = torch.export.load("model.pt2").module()
given = np.load("given.npz")
outputs = program(*(torch.from_numpy(given[name]) for name in given.files))
assert not [name for name in sys.modules if name.startswith("deblend_assets")], "not without the package"
np.savez("found.npz", *[output.detach().numpy() for output in outputs])
"""


def inputs_of(stamps: ObservedStamps) -> dict[str, np.ndarray]:
    """What the program takes of stamps, in its order."""
    cut = central(stamps)
    psf = measured_psfs(stamps.psf, (cut.weight > 0).any(axis=(2, 3)))
    middle = stamps.noise_correlation.shape[-1] // 2
    lags = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2))
    inputs = {
        "pixels": cut.pixels,
        "inverse_variance": cut.weight,
        "psf": np.stack([psf.fwhm, psf.g1, psf.g2, psf.wings, psf.kurtosis], axis=2),
        "noise": np.stack([stamps.noise_correlation[:, :, middle + y, middle + x] for x, y in lags], axis=2),
        "position": stamps.position - cut.first,
        "others": stamps.others - cut.first[:, None],
        "pixel_scale": stamps.pixel_scale,
    }
    return {name: np.ascontiguousarray(values, np.float32) for name, values in inputs.items()}


@pytest.mark.slow
def test_a_process_without_the_package_gets_the_same_numbers(tmp_path: Path) -> None:
    model, stamps = calibrated_model(), observed(7)
    stamps = replace(stamps, position=stamps.position + shifts_to_light(stamps, units_of(stamps).fwhm))
    inputs = inputs_of(stamps)
    assert (inputs["inverse_variance"].reshape(7, len(model.bands), -1).max(axis=2) == 0).any(), "some band is absent"
    assert np.isfinite(inputs["others"]).any()
    assert (np.abs(inputs["position"] - SIDE // 2) <= 0.5).all()
    (tmp_path / "model.pt2").write_bytes(export(model))
    np.savez(tmp_path / "given.npz", **inputs)
    run = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    mean, covariance, star, blend = np.load(tmp_path / "found.npz").values()

    own = model.measure(stamps, exact=True)
    errors = own.posterior.errors.numpy()
    np.testing.assert_allclose(mean, own.posterior.mean.numpy(), atol=1e-4 * float(errors.max()), rtol=1e-4)
    scale = errors[:, :, None] * errors[:, None, :]
    np.testing.assert_allclose(covariance / scale, own.posterior.covariance.numpy() / scale, atol=1e-3)
    np.testing.assert_allclose(star, own.star, atol=1e-4)
    np.testing.assert_allclose(blend, own.blend, atol=1e-4)
