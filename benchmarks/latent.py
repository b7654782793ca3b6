"""What a nat of the latent buys: stage 1 over a sweep of β, with N(0, 1) and with a flow as prior; validation galaxies.

    DEBLEND_PROFILE=demo python -m benchmarks.latent --figure docs/images/latent_sweep.png

Each β begins with the weights that the profile starts from and goes on at that β for so many epochs of the profile's
stored training galaxies (noisy, isolated), in batches of 128 and bfloat16; then a flow is fitted to its latent. Beside
Eq. 9's squared error, once, the photons' likelihood alone. Rate: KL in nats under either prior; distortion: squared
error in Eq. 9 space, summed over bands and pixels; shape error: RMS of the observed distortion e of the reconstruction,
label band, a component; round bias: Wasserstein distance of |e| from the true galaxies'; flux: error of the label
band's. No test galaxy is used.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.reports.figures.latent import rate_distortion
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.settings import Profile, StageSettings, load_profile, storage_root
from deblend_assets.steps.training.fit import fit_stage
from deblend_assets.steps.training.latent_flow import evaluate_priors, fit_flow
from deblend_assets.steps.training.models import latent_flow_of
from deblend_assets.stores.project import STAGES, ProjectStore

BETAS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
Evaluation = dict[str, Any]


def variant(profile: Profile, beta: float, reconstruction: str, epochs: int) -> Profile:
    """The profile with another β; its checkpoints lie beside the profile's own."""
    changes = {
        "kl_weight": beta,
        "reconstruction": reconstruction,
        "stage1": StageSettings(epochs=epochs, learning_rate=3e-4),
        "batch_size": 128,
        "bfloat16": "everywhere",
    }
    recipe = profile.recipes.training.model_copy(update=changes)
    return profile.model_copy(update={"recipes": profile.recipes.model_copy(update={"training": recipe})})


def evaluated(store: ProjectStore) -> dict[str, Evaluation]:
    """By prior, `round_bias.latent_comparison`; what is not fitted yet is."""
    device, stage1 = torch.device("cpu"), store.checkpoint("training", STAGES[0])
    if not stage1.finished:
        stage1.finish(fit_stage(store, "training", STAGES[0], device, RenderingWorkers(), lambda line: None)[0])
    if not store.latent_flow().finished:
        store.latent_flow().finish(fit_flow(store, device, lambda line: None)[0])
    return evaluate_priors(store, latent_flow_of(store.latent_flow().read(), store.profile.recipes.training))[0]


def main(betas: list[float], epochs: int, figure: Path | None) -> None:
    profile = load_profile()
    sweeps: dict[str, dict[float, Evaluation]] = {"N(0, 1)": {}, "flow": {}}
    runs = [(beta, "l2") for beta in betas] + [(profile.recipes.training.kl_weight, "noise")]
    for beta, reconstruction in runs:
        found = evaluated(ProjectStore(storage_root(), variant(profile, beta, reconstruction, epochs)))
        print(
            json.dumps({"beta": beta, "reconstruction": reconstruction, "epochs": epochs, "priors": found}), flush=True
        )
        if reconstruction == "l2":
            for prior, numbers in found.items():
                sweeps[prior][beta] = numbers
    if figure is not None:
        figure.write_bytes(to_png(rate_distortion(sweeps), dpi=100))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--betas", type=float, nargs="+", default=list(BETAS))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--figure", type=Path, help="write the sweep's figure here")
    arguments = parser.parse_args()
    main(arguments.betas, arguments.epochs, arguments.figure)
