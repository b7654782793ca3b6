"""The losses of the report, with every sum and mean explicit.

    L = β D_KL(q(z|x) || p(z)) + L_recon                            (Eq. 6)

`D_KL` is in nats, summed over the latent; p(z) is N(0, 1) (Eq. 5), or a learned prior in stage 2. `L_recon` is the
squared (or absolute) difference to the clean isolated galaxy in Eq. 9 space, per stamp either **summed** over bands and
pixels (ours: Eq. 3 as printed) or their **mean** (the report's published code). Both are then averaged over the batch.
At 6 x 45 x 45 the two differ by a factor of 12,150: with the mean and β = 1e-3, a nat of information costs as much as
12 in the summed difference, and the latent keeps about 3.7 nats; with the sum and β = 1e-2 it costs 0.01.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from deblend_assets.science.networks import ShapeEstimate
from deblend_assets.science.training.photons import photon_variance

# The likelihood's weight beside the squared error. Its gradient reaches only the head of the errors, so it does not
# balance the two: it makes their changes similar in size for the choice of the best epoch.
_ERROR_WEIGHT = 1e-2
# ν of `noise_loss`; the χ² of a galaxy's fitted parameters is a tenth of it.
_DEGREES = 100.0


def reconstruction_loss(
    reconstruction: Tensor, target: Tensor, kind: Literal["l2", "l1"], reduction: Literal["sum", "mean"]
) -> Tensor:
    """Difference per stamp, averaged over the batch.

    Args:
        reconstruction, target: (N, band, y, x) in Eq. 9 space.
        kind: "l2" squares the difference, "l1" takes its absolute value.
        reduction: over bands and pixels of one stamp.

    Returns:
        A scalar.
    """
    penalty = functional.mse_loss if kind == "l2" else functional.l1_loss
    if reduction == "mean":
        return penalty(reconstruction, target)
    return penalty(reconstruction, target, reduction="sum") / len(target)


def noise_loss(reconstruction: Tensor, target: Tensor, sky_sigma: Tensor) -> Tensor:
    """Minus the log likelihood of the target under the reconstruction, with the variance of the photon noise.

    The relaxed normalisation that section 5 of the report suggests: nothing is compressed, and every pixel has the
    weight of its photon noise. With χ² the squared difference over that variance, summed over a stamp, it is
    ν/2 ln(1 + χ²/ν), Student's: χ²/2 where that is small, so that a bright galaxy does not dominate a batch.

    Args:
        reconstruction, target: (N, band, y, x) in units of the sky's noise.
        sky_sigma: (band, 1, 1), root of the sky's electrons a pixel.

    Returns:
        A scalar, mean over the batch [nats].
    """
    chi2 = ((reconstruction - target).square() / photon_variance(target, sky_sigma)).sum(dim=(1, 2, 3))
    return 0.5 * _DEGREES * torch.log1p(chi2 / _DEGREES).mean()


def vae_losses(difference: Tensor, kl: Tensor, kl_weight: float) -> dict[str, Tensor]:
    """Eq. 6 from a mean difference and each stamp's KL [nats], (N,).

    Returns:
        `total`, `reconstruction` (the difference) and `kl`, each a scalar mean over the batch.
    """
    mean = kl.mean()
    return {"total": difference + kl_weight * mean, "reconstruction": difference, "kl": mean}


def shape_losses(estimate: ShapeEstimate, label: Tensor) -> dict[str, Tensor]:
    """Squared error of the means, and Gaussian likelihood of the residuals under the expected errors.

    Args:
        estimate: (N, component) means and log errors.
        label: (N, component); NaN where a galaxy has no shape (AGN light alone has no intrinsic g).

    Returns:
        `total`, `squared_error` (mean over galaxies and components) and `error_nll` [nats a component, without the
        constant], each a scalar.
    """
    known = torch.isfinite(label)
    difference = torch.where(known, estimate.mean - label, torch.zeros_like(label))
    count = known.sum().clamp(min=1)
    squared = difference.square().sum() / count
    pull = difference.detach() / estimate.log_sigma.exp()
    nll = (torch.where(known, estimate.log_sigma, torch.zeros_like(label)) + 0.5 * pull.square()).sum() / count
    return {"total": squared + _ERROR_WEIGHT * nll, "squared_error": squared, "error_nll": nll}
