"""The exported program, in a process that knows torch and nothing of this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assets_tests.science.shapes.untrained import untrained_shapes
from deblend_assets.science.deblender.network import Deblender, deblend
from deblend_assets.science.deblender.stages import new_regressor, new_vae
from deblend_assets.science.measuring.export import export
from deblend_assets.science.measuring.measure import Model
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.settings import Profile

ALONE = """
import sys
import numpy as np
import torch

program = torch.export.load("model.pt2").module()
given = np.load("given.npz")
outputs = program(torch.from_numpy(given["electrons"]), torch.from_numpy(given["present"]))
assert not [name for name in sys.modules if name.startswith("deblend_assets")], "not without the package"
np.savez("found.npz", *[output.detach().numpy() for output in outputs])
"""


@pytest.mark.slow
def test_a_process_without_the_package_gets_the_same_numbers(profile: Profile, tmp_path: Path) -> None:
    recipe, bands, pixels = profile.recipes.training, ("u", "g", "r"), 21
    normalization = Normalization(bands, (50.0, 400.0, 900.0), 2.5)
    network = Deblender(new_vae(3, pixels, recipe), new_regressor(recipe), normalization)
    model = Model(network, untrained_shapes(bands, pixels), "0123456789ab")
    (tmp_path / "model.pt2").write_bytes(export(model))
    assert next(network.parameters()).requires_grad, "the model itself is left as it was"

    rng = np.random.default_rng(3)
    electrons = rng.normal(0, 300, size=(7, 3, pixels, pixels)).astype(np.float32)
    present = np.ones((7, 3), dtype=bool)
    present[4, 0] = False
    electrons[4, 0] = np.nan
    np.savez(tmp_path / "given.npz", electrons=electrons, present=present)
    run = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    images, mean, error = np.load(tmp_path / "found.npz").values()

    own, _ = deblend(network, electrons, present)
    found = model.shapes.measure(electrons, present)
    np.testing.assert_allclose(images, own, rtol=1e-5)
    np.testing.assert_allclose(mean, found.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(error, np.sqrt(np.einsum("nii->ni", found.covariance)), rtol=1e-5)
