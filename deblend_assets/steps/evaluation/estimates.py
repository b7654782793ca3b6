"""Truth and estimates side by side, one row a held-out scene: everything a report or a reader's own table needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from deblend_assets.progress import Progress
from deblend_assets.science.deblender.network import Deblender, deblend
from deblend_assets.science.deblender.stages import named_estimates
from deblend_assets.science.evaluation.deblender import WITHHELD
from deblend_assets.science.networks import DISTORTION, VAE, Regressor
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.statistics.metrics import cosine, cosine_by_band, ssim
from deblend_assets.stores.arrays import SimulatedArrays, truth_columns

# Which images are compared with the isolated truth: the raw blend, stage 1 on the isolated and on the blended
# input (the report's t1), stage 2 on the blended one (t2).
COMPARED = {
    "blend": "the blend itself",
    "stage1_noisy": "stage 1 on the noisy isolated stamp",
    "stage1_blended": "stage 1 on the blend (the report's t1)",
    "stage2": "stage 2 on the blend (the report's t2)",
}


_WITHHELD_WORDS = {"masked": "as zeros and the mask", "dark": "as zeros alone"}


def estimate_columns(bands: tuple[str, ...], components: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Unit and meaning of every column of the estimates table.

    Args:
        bands: of the survey.
        components: what the regressor estimates.
    """
    columns = truth_columns(bands)
    for name in components:
        kind = "distortion" if name in DISTORTION else "intrinsic shear-type"
        columns[f"{name}_regressor"] = ("", f"{kind} {name} by the stage-3 regressor")
        columns[f"{name}_regressor_err"] = ("", f"its expected error of {name}")
    for k in (1, 2):
        for way in WITHHELD:
            for band in bands:
                columns[f"e{k}_{way}_{band}"] = (
                    "",
                    f"distortion e{k} by the regressor, band {band} withheld {_WITHHELD_WORDS[way]}",
                )
        columns[f"e{k}_reconstruction"] = ("", f"distortion e{k}, unweighted moments of the stage-2 reconstruction")
    for name, words in COMPARED.items():
        columns[f"ssim_{name}"] = ("", f"mean SSIM over the bands, Eq. 9 space, data range 1: {words} against truth")
        columns[f"cosine_{name}"] = ("", f"cosine (Eq. 11) over all bands, Eq. 9 space: {words} against truth")
    for band in bands:
        columns[f"ssim_stage2_{band}"] = ("", f"SSIM of the stage-2 reconstruction, band {band}, Eq. 9 space")
        columns[f"cosine_stage2_{band}"] = ("", f"cosine of the stage-2 reconstruction, band {band}, Eq. 9 space")
        columns[f"flux_isolated_{band}"] = ("electron", f"sum of the noiseless isolated stamp, band {band}")
        columns[f"flux_reconstruction_{band}"] = ("electron", f"sum of the stage-2 reconstruction, band {band}")
    return columns


class DeblenderEstimator:
    """Applies the trained networks to held-out shards.

    Args:
        arrays, normalization: the simulation and Eq. 9.
        stage1, stage2, regressor: trained networks, in evaluation mode, on `device`.
        label_band: band of the distortion.
        device: where the networks are.
    """

    def __init__(
        self,
        arrays: SimulatedArrays,
        normalization: Normalization,
        stage1: VAE,
        stage2: VAE,
        regressor: Regressor,
        label_band: str,
        device: torch.device,
    ) -> None:
        self.arrays, self.normalization = arrays, normalization
        self.stage1, self.stage2, self.regressor = stage1, stage2, regressor
        self.network = Deblender(stage2, regressor, normalization)
        self.label, self.device = arrays.bands.index(label_band), device

    def estimate(self, shards: list[Shard], log: Callable[[str], None]) -> pd.DataFrame:
        """The table of `estimate_columns`, shard after shard in constant memory."""
        progress = Progress("evaluation", sum(s.scenes for s in shards), "scenes", log)
        tables = []
        for shard in shards:
            tables.append(self._shard(shard))
            progress.add(shard.scenes)
        return pd.concat(tables, ignore_index=True)

    @torch.no_grad()
    def reconstruct(self, network: VAE, images: np.ndarray) -> np.ndarray:
        """Reconstructions (N, band, y, x) in Eq. 9 space of stamps in Eq. 9 space."""
        parts = torch.from_numpy(images).split(256)
        return np.concatenate([network(p.to(self.device), all_present(p).to(self.device)).cpu().numpy() for p in parts])

    @torch.no_grad()
    def _regress(self, images: np.ndarray, withheld: int, masked: bool) -> dict[str, np.ndarray]:
        """`{component}` and `{component}_err` of stamps in Eq. 9 space, one band withheld."""
        estimates = []
        for part in torch.from_numpy(images).split(256):
            present = all_present(part)
            part = part.clone()
            part[:, withheld] = 0.0
            present[:, withheld] = not masked
            latent = self.stage2.encoder(part.to(self.device), present.to(self.device)).mean
            estimates.append(self.regressor(latent))
        return named_estimates(estimates, self.regressor.components)

    def _shard(self, shard: Shard) -> pd.DataFrame:
        isolated = self.arrays.read("isolated", shard)
        truth = self.normalization.forward(isolated)
        noisy = self.normalization.forward(self.arrays.read("noisy", shard))
        blends = self.arrays.read("blended", shard)
        blended = self.normalization.forward(blends)
        electrons, regressed = deblend(self.network, blends, np.ones(blends.shape[:2], dtype=bool))
        images = {
            "blend": blended,
            "stage1_noisy": self.reconstruct(self.stage1, noisy),
            "stage1_blended": self.reconstruct(self.stage1, blended),
            "stage2": self.normalization.forward(electrons),
        }
        moments = image_moments(electrons[:, self.label])
        columns: dict[str, np.ndarray] = {"e1_reconstruction": moments.e1, "e2_reconstruction": moments.e2}
        for name in self.regressor.components:
            columns[f"{name}_regressor"] = regressed[name]
            columns[f"{name}_regressor_err"] = regressed[f"{name}_err"]
        for k, band in enumerate(self.arrays.bands):
            for way in WITHHELD:
                without = self._regress(blended, withheld=k, masked=way == "masked")
                columns |= {f"{name}_{way}_{band}": without[name] for name in DISTORTION}
        for name, stack in images.items():
            similarity = ssim(stack, truth)
            columns[f"ssim_{name}"] = similarity.mean(axis=1)
            columns[f"cosine_{name}"] = cosine(stack, truth)
            if name == "stage2":
                per_band = cosine_by_band(stack, truth)
                for k, band in enumerate(self.arrays.bands):
                    columns[f"ssim_stage2_{band}"] = similarity[:, k]
                    columns[f"cosine_stage2_{band}"] = per_band[:, k]
        for k, band in enumerate(self.arrays.bands):
            columns[f"flux_isolated_{band}"] = isolated[:, k].sum(axis=(-2, -1), dtype=np.float64)
            columns[f"flux_reconstruction_{band}"] = electrons[:, k].sum(axis=(-2, -1), dtype=np.float64)
        return self.arrays.targets([shard]).assign(**columns)
