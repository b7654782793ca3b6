"""From stored shards to the batches of each stage, normalised once when they are loaded."""

from __future__ import annotations

import torch
from torch import Tensor

from deblend_assets.progress import Progress
from deblend_assets.science.deblender.stages import latent_means, shape_components
from deblend_assets.science.networks import VAE
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.stamps.band_masks import drop_bands
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.stamps.symmetries import ORDER
from deblend_assets.science.training.feeding import Batch, Feed
from deblend_assets.settings import Profile, Recipe
from deblend_assets.stores.arrays import SimulatedArrays


class StageData:
    """Batches of one stage over one split.

    Args:
        profile: with the memory limit.
        recipe: batch size, cut on the distortion.
        arrays: of the simulation.
        normalization: Eq. 9.
        split: "train" or "validation"; the recipe's cut applies to training only.
    """

    def __init__(
        self, profile: Profile, recipe: Recipe, arrays: SimulatedArrays, normalization: Normalization, split: str
    ) -> None:
        self.profile, self.recipe, self.arrays, self.normalization = profile, recipe, arrays, normalization
        self.split, self.shards = split, arrays.shards(split)
        self.cut = recipe.minimum_distortion if split == "train" else 0.0
        self._targets = arrays.targets(self.shards)

    @property
    def samples(self) -> int:
        """Number of scenes that pass the cut."""
        return int((self._targets["e"].to_numpy() > self.cut).sum()) if self.cut else len(self._targets)

    def _rows(self, shard: Shard) -> Tensor:
        """Rows of a shard's scenes that pass the cut."""
        targets = self._targets[self._targets["scene"].between(shard.start, shard.start + shard.scenes - 1)]
        kept = targets["e"].to_numpy() > self.cut if self.cut else slice(None)
        return torch.from_numpy(targets["scene"].to_numpy()[kept] - shard.start)

    def _stamps(self, name: str, shard: Shard) -> Tensor:
        """(N, band, y, x) in Eq. 9 space."""
        return self.normalization.forward(torch.from_numpy(self.arrays.read(name, shard)))

    def images(self, inputs: str, device: torch.device) -> Feed:
        """(input, isolated) stamps in Eq. 9 space on a device, for stages 1 and 2."""

        def load(number: int) -> Batch:
            shard = self.shards[number]
            rows = self._rows(shard)
            return self._stamps(inputs, shard)[rows], self._stamps("isolated", shard)[rows]

        _, bands, ny, nx = self.arrays.shape
        shard_bytes = 2 * 4 * bands * ny * nx * self.profile.simulation.shard_scenes
        fitting = int(self.profile.run.memory_gb * 2**30 / shard_bytes)
        # If not all fit, one group is used while the next one is read.
        group = len(self.shards) if fitting >= len(self.shards) else max(1, fitting // 2)
        return Feed(load, len(self.shards), group, self.recipe.batch_size, device)

    def latents(self, network: VAE, device: torch.device, progress: Progress) -> Feed:
        """Latent means of the blends and the labels, for stage 3; in training under the square's symmetries.

        There each symmetry of a stamp loses bands of its own, at random with a seed from recipe and shard.
        """
        components = list(shape_components(self.recipe))
        chance = self.recipe.band_dropout if self.split == "train" else 0.0
        symmetries = ORDER if self.split == "train" and self.recipe.augment else 1

        def load(number: int) -> Batch:
            shard = self.shards[number]
            rows = self._rows(shard)
            stamps = self._stamps("blended", shard)[rows]
            generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + shard.start)
            present = drop_bands(len(stamps) * ORDER, stamps.shape[1], chance, generator, torch.device("cpu"))
            there = present.unflatten(0, (len(stamps), ORDER))[:, :symmetries]
            parts = []
            for images, bands in zip(stamps.split(256), there.split(256), strict=True):
                parts.append(latent_means(network, images.to(device), bands.to(device)).cpu())
                progress.add(len(images))
            labels = (
                self._targets.set_index("scene")
                .loc[shard.start + rows.numpy(), components]
                .to_numpy("float32", copy=True)
            )
            return torch.cat(parts), torch.from_numpy(labels)

        return Feed(load, len(self.shards), len(self.shards), self.recipe.batch_size, device)
