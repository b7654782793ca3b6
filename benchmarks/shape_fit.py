"""What the fit to the pixels adds to the shapes of the network, on fields of training galaxies: docs/shape_fit.md.

python -m benchmarks.shape_fit
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np
import pandas as pd

from deblend_assets.science.measuring import sky_scene
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.science.worlds.targets import Targets
from deblend_assets.science.worlds.world_fields import WorldFields
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import load_profile
from deblend_assets.steps.measuring.model import load_sky_model

# Numbers of the fields, which no evaluation has, and how many of each world.
_FIRST = 900
_FIELDS = {"sky_lsst": 6, "sky_des": 4, "sky_hsc": 4, "pairs": 2, "sky_wide": 4}
_GALAXIES, _PIXELS, _SALT = 60_000, 400, "gn"
_BINS = (20, 40, 80, 160, 400, np.inf)
_G = slice(QUANTITIES.index("g1"), QUANTITIES.index("g2") + 1)


def training_targets(share: float) -> list[Targets]:
    """Targets of fields of training galaxies."""
    profile = load_profile("demo")
    profile = profile.model_copy(update={"field": profile.field.model_copy(update={"pixels": _PIXELS})})
    galaxies = generate_population(_GALAXIES, profile.catalog.seed + 17)
    ids = galaxies["galtileid"].to_numpy()
    galaxies = galaxies.assign(split=assign_split(ids, profile.catalog.fractions, salt=_SALT))
    catalog = sky_catalog(galaxies, profile.catalog, "train", "training")
    return [
        WorldFields(WORLDS[name], profile, catalog).targets(_FIRST + n)
        for name, number in _FIELDS.items()
        for n in range(max(1, round(share * number)))
    ]


def measured(model: SkyModel, targets: Targets) -> pd.DataFrame:
    """True g, and means and variances of g by the network alone and with the fit, of galaxies that are no blends."""
    truth = targets.truth
    columns = {"snr": truth["snr"].to_numpy()}
    usual = sky_scene.BRIGHT
    for name, bright in (("both", usual), ("network", np.inf)):
        sky_scene.BRIGHT = bright
        posterior = measure_scenes(model, targets.stamps).targets.posterior
        columns |= {f"{name}_g{k + 1}": posterior.mean.numpy()[:, _G][:, k] for k in (0, 1)}
        columns |= {f"{name}_v{k + 1}": posterior.covariance.numpy()[:, _G, _G][:, k, k] for k in (0, 1)}
    sky_scene.BRIGHT = usual
    columns |= {"g1": truth["g1"].to_numpy(), "g2": truth["g2"].to_numpy()}
    plain = ~(truth["star"] | truth["spurious"] | truth["unrecognized"]).to_numpy(bool)
    return pd.DataFrame(columns)[plain].dropna()


def table(rows: pd.DataFrame) -> str:
    """RMS, robust sigma and slope of g in bins of S/N: network, both; RMS pull of both."""
    true = rows[["g1", "g2"]].to_numpy()
    lines = ["| S/N | N | RMS Δg | robust σ | slope | RMS pull of both |", "| --- | --- | --- | --- | --- | --- |"]
    for low, high in pairwise(_BINS):
        chosen = ((rows["snr"] >= low) & (rows["snr"] < high)).to_numpy()
        found = [rows[[f"{name}_g1", f"{name}_g2"]].to_numpy()[chosen] for name in ("network", "both")]
        off = [values - true[chosen] for values in found]
        numbers = [
            [f"{np.sqrt((d**2).mean()):.4f}" for d in off],
            [f"{float(robust_sigma(d.ravel())):.4f}" for d in off],
            [f"{(values * true[chosen]).sum() / (true[chosen] ** 2).sum():.3f}" for values in found],
        ]
        pull = np.sqrt((off[1] ** 2 / rows[["both_v1", "both_v2"]].to_numpy()[chosen]).mean())
        cells = [f"{low} to {high:g}", str(chosen.sum()), *(", ".join(pair) for pair in numbers), f"{pull:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the fields")
    share = parser.parse_args().share
    model = load_sky_model(None)
    print(table(pd.concat([measured(model, targets) for targets in training_targets(share)], ignore_index=True)))


if __name__ == "__main__":
    main()
