"""The deblender in use: from stamps in electrons to each stamp's target alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from deblend_assets.science.deblender.amplitudes import amplitudes
from deblend_assets.science.deblender.stages import named_estimates
from deblend_assets.science.networks import VAE, Regressor, ShapeEstimate
from deblend_assets.science.networks.residual_vae import ResidualDecoder
from deblend_assets.science.stamps.batches import in_batches
from deblend_assets.science.stamps.normalization import Normalization

# Stamps computed at a time: with more, the feature maps no longer fit in a core's cache; a GPU is busy with 128.
BATCH = 128


class Deblender(nn.Module):
    """Eq. 9, the encoder of stage 2, its decoder and the regressor, from electrons to electrons.

    Args:
        deblender, regressor: trained networks; they are set to evaluation mode and laid out channels last, which
            makes the convolutions 1.6 times as fast on a CPU. Without a regressor only images are estimated.
        normalization: Eq. 9.
    """

    def __init__(self, deblender: VAE, regressor: Regressor | None, normalization: Normalization) -> None:
        super().__init__()
        self.deblender, self.regressor, self.normalization = deblender, regressor, normalization
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def deblended(self, electrons: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The target of each stamp; for a residual network the brightness of each band is fitted (`amplitudes`).

        Args:
            electrons: (N, band, y, x) float32 [electron]; any value where a band is absent.
            present: (N, band) bool.

        Returns:
            The target alone, (N, band, y, x) float32 [electron], and its latent mean (N, latent).
        """
        latent = self.deblender.encoder(self.normalization.forward(electrons), present).mean
        decoder = self.deblender.decoder
        if isinstance(decoder, ResidualDecoder):
            light, sky_sigma = decoder.light(latent), decoder.units.sky_sigma
            factors = amplitudes(light, electrons / sky_sigma, present, sky_sigma)
            return light * factors[..., None, None] * sky_sigma, latent
        deblended: Tensor = self.normalization.inverse(decoder(latent))
        return deblended, latent


def deblend(
    network: Deblender, electrons: np.ndarray, present: np.ndarray, batch: int = BATCH
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The target of each stamp alone, and its ellipticities in the pixel frame.

    Args:
        network: on any device.
        electrons: (N, band, y, x) float32; any value where a band is absent.
        present: (N, band) bool.
        batch: stamps computed at a time.

    Returns:
        (N, band, y, x) float32 [electron]; `{component}`, `{component}_err` (N,) float64 from the regressor, if any.
    """
    device = next(network.parameters()).device
    images = np.empty(electrons.shape, dtype=np.float32)

    @torch.inference_mode()
    def compute(rows: slice) -> list[ShapeEstimate]:
        stamps = torch.from_numpy(np.ascontiguousarray(electrons[rows])).to(device, memory_format=torch.channels_last)
        deblended, latent = network.deblended(stamps, torch.from_numpy(present[rows]).to(device))
        images[rows] = deblended.cpu().numpy()
        return [] if network.regressor is None else [network.regressor(latent)]

    estimates = [estimate for part in in_batches(compute, len(electrons), batch, device) for estimate in part]
    return images, {} if network.regressor is None else named_estimates(estimates, network.regressor.components)
